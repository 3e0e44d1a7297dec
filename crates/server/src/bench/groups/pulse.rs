//! One member that beats and commits all the time, through whatever happens to its coordinator.
#![allow(clippy::print_stdout)]
use crate::bench::TopicArgs;
use crate::bench::pulse::{Until, wall_ms};
use crate::bench::setup::ensure_topic;
use anyhow::{Context, Result};
use clap::Args;
use client_lite::{Beat, Client, ClientOptions, Committer, ConnOptions, GroupMember, MemberOptions};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct PulseArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    /// The group's id.
    #[arg(long, default_value = "bench-pulse")]
    group: String,
    /// Heartbeats a second, and commits; the next one waits for the answer to the one before.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// How long, seconds; 0 for as long as standard input is open.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long one is tried before it counts as an error, seconds.
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
    /// Print a line for each answer: `heartbeat` or `commit` and the moment, ms since 1970; and `coordinator` with its
    /// address whenever it is another.
    #[arg(long)]
    moments: bool,
}

/// What a run saw.
#[derive(Debug, Default, Serialize)]
struct Figures {
    heartbeats: u64,
    commits: u64,
    /// What was given up, and why the first was.
    errors: u64,
    first_error: Option<String>,
    /// How often the member had to join again.
    rejoins: u64,
    /// The longest time between two answers.
    longest_heartbeat_gap_ms: f64,
    longest_commit_gap_ms: f64,
}

impl Figures {
    fn error(&mut self, error: &dyn std::fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// Who the member is, and what was seen.
#[derive(Default)]
struct Shared {
    id: String,
    generation: i32,
    coordinator: String,
    figures: Figures,
}

fn options(args: &PulseArgs) -> ClientOptions {
    // A broker that does not answer at all must not hold up the search for the next.
    let conn = ConnOptions { connect_timeout: Duration::from_secs(1), ..ConnOptions::default() };
    ClientOptions {
        conn,
        retry_for: Duration::from_secs_f64(args.patience),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
    }
}

fn beat(args: &PulseArgs) -> tokio::time::Interval {
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate.max(0.01)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    beat
}

/// Notes an answer; returns how long it is since the one before, ms.
fn answered(args: &PulseArgs, what: &str, last: &mut Option<f64>) -> f64 {
    let now = wall_ms();
    if args.moments {
        println!("{what} {now:.3}");
    }
    last.replace(now).map_or(0.0, |last| now - last)
}

async fn joined(member: &mut GroupMember, shared: &RefCell<Shared>) -> Result<()> {
    member.join().await?;
    let mut shared = shared.borrow_mut();
    shared.id = member.id().to_owned();
    shared.generation = member.generation();
    Ok(())
}

async fn heartbeats(
    args: PulseArgs,
    client: Arc<Client>,
    mut member: GroupMember,
    shared: Rc<RefCell<Shared>>,
    until: Until,
) -> Result<()> {
    let (mut beat, mut last) = (beat(&args), None);
    while !until.over() {
        beat.tick().await;
        match member.heartbeat().await {
            Ok(Beat::Steady) => {
                let gap = answered(&args, "heartbeat", &mut last);
                let figures = &mut shared.borrow_mut().figures;
                figures.heartbeats += 1;
                figures.longest_heartbeat_gap_ms = figures.longest_heartbeat_gap_ms.max(gap);
            }
            Ok(Beat::Rejoin) => {
                shared.borrow_mut().figures.rejoins += 1;
                joined(&mut member, &shared).await?;
            }
            Err(error) => shared.borrow_mut().figures.error(&error),
        }
        let Ok(coordinator) = client.coordinator(&args.group).await else { continue };
        let (address, mut shared) = (coordinator.address(), shared.borrow_mut());
        if args.moments && shared.coordinator != address {
            println!("coordinator {address}");
            shared.coordinator = address.to_owned();
        }
    }
    member.leave().await?;
    Ok(())
}

async fn commits(args: PulseArgs, client: Client, shared: Rc<RefCell<Shared>>, until: Until) {
    let (mut beat, mut last) = (beat(&args), None);
    for offset in 0.. {
        if until.over() {
            break;
        }
        beat.tick().await;
        let (id, generation) = {
            let shared = shared.borrow();
            (shared.id.clone(), shared.generation)
        };
        let who = Committer { member: &id, generation, instance: None };
        let offsets = BTreeMap::from([((args.topic.topic.clone(), 0), offset)]);
        let committed = client.commit(&args.group, who, &offsets).await;
        let figures = &mut shared.borrow_mut().figures;
        match committed {
            Ok(()) => {
                let gap = answered(&args, "commit", &mut last);
                figures.commits += 1;
                figures.longest_commit_gap_ms = figures.longest_commit_gap_ms.max(gap);
            }
            Err(error) => figures.error(&error),
        }
    }
}

async fn pulse(args: &PulseArgs) -> Result<Figures> {
    let shared = Rc::new(RefCell::new(Shared::default()));
    let client = Arc::new(Client::connect(args.topic.broker.all_addresses(), options(args)).await?);
    let committing = Client::connect(args.topic.broker.all_addresses(), options(args)).await?;
    let member = MemberOptions::new(&args.group, &[args.topic.topic.as_str()]);
    let mut member = GroupMember::new(client.clone(), member);
    joined(&mut member, &shared).await.context("join")?;
    let until = Until::new(args.seconds);
    let commits = tokio::task::spawn_local(commits(args.clone(), committing, shared.clone(), until.clone()));
    heartbeats(args.clone(), client, member, shared.clone(), until).await?;
    commits.await.context("the committing task panicked")?;
    Ok(std::mem::take(&mut shared.borrow_mut().figures))
}

/// Runs the member and prints what it saw.
pub(super) fn run(args: &PulseArgs) -> Result<()> {
    ensure_topic(&args.topic)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = tokio::task::LocalSet::new().block_on(&runtime, pulse(args))?;
    if args.topic.broker.for_scripts() {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    println!("{:>12} heartbeats, {} commits, {} errors", figures.heartbeats, figures.commits, figures.errors);
    if let Some(error) = &figures.first_error {
        println!("{:>12} first error: {error}", "");
    }
    println!("{:>12} times joined again", figures.rejoins);
    println!("{:>12.1} ms was the longest gap between heartbeats", figures.longest_heartbeat_gap_ms);
    println!("{:>12.1} ms was the longest gap between commits", figures.longest_commit_gap_ms);
    Ok(())
}
