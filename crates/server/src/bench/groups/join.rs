//! Many members of one group at once: how long until each has its share.
#![allow(clippy::print_stdout)]
use super::ask::Asking;
use super::board::Board;
use super::{classic, consumer};
use crate::bench::TopicArgs;
use crate::bench::report::Codes;
use crate::bench::setup::ensure_topic;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use client_lite::{Client, ClientOptions};
use model::TopicId;
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// ConsumerGroupHeartbeat, whether this build serves it or not.
pub(super) const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
/// How long a member waits before it asks a coordinator again that refused: what Kafka's clients have by default.
pub(super) const BACKOFF: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(20);
/// For people; a script reads `unserved`.
const UNSERVED: &str = "the broker does not serve ConsumerGroupHeartbeat: there is nothing to measure";

/// Of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// JoinGroup and SyncGroup.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
}

/// Who joins.
#[derive(Debug, Clone, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    /// The group's id; a new one for each run without it.
    #[arg(long)]
    group: Option<String>,
    /// Protocol of the group.
    #[arg(long, value_enum, default_value = "classic")]
    protocol: Protocol,
    /// Members; all are connected before the first joins, and then join at once.
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// Time between heartbeats of a classic member, ms; one of the new protocol does as the coordinator says.
    #[arg(long, default_value_t = 3000)]
    heartbeat_ms: u64,
    /// How long the assignment has to last before it counts, seconds.
    #[arg(long, default_value_t = 2.0)]
    hold: f64,
    /// How long to wait for it, seconds.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
}

/// What all members know.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) topic_id: TopicId,
    pub(super) partitions: i32,
    pub(super) heartbeat: Duration,
}

/// What they tell.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) board: Board,
    pub(super) requests: u64,
    pub(super) refused: Codes,
}

/// One member before it joins.
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) conn: Asking,
    pub(super) plan: Rc<Plan>,
    pub(super) seen: Rc<RefCell<Seen>>,
}

#[derive(Debug, Default, Serialize)]
struct JoinFigures {
    /// The broker lacks the protocol: nothing was measured.
    unserved: bool,
    /// From the first join to the moment since when every member has its share.
    stable_ms: f64,
    /// Generations, or member epochs, that members were in meanwhile.
    generations: usize,
    requests: u64,
    refused: Codes,
}

/// All members, connected; `None` where the broker lacks the protocol.
async fn members(args: &JoinArgs, plan: Rc<Plan>, seen: &Rc<RefCell<Seen>>) -> Result<Option<Vec<Member>>> {
    let client = Client::connect(args.topic.broker.all_addresses(), ClientOptions::default()).await?;
    let conn = client.coordinator(&plan.group).await.context("find the coordinator")?;
    let served =
        conn.features().map(|f| f.api_keys.iter().any(|row| row.api_key == CONSUMER_GROUP_HEARTBEAT));
    if args.protocol == Protocol::Consumer && served != Some(true) {
        return Ok(None);
    }
    let mut members = Vec::new();
    for number in 0..args.members {
        let conn = Asking::connect(conn.address()).await?;
        members.push(Member { number, conn, plan: plan.clone(), seen: seen.clone() });
    }
    Ok(Some(members))
}

async fn topic_id(args: &JoinArgs) -> Result<TopicId> {
    let client = Client::connect(args.topic.broker.all_addresses(), ClientOptions::default()).await?;
    Ok(client.topic(&args.topic.topic).await?.id)
}

async fn stable(args: &JoinArgs, plan: Plan) -> Result<JoinFigures> {
    let board = Board::new(args.members, usize::try_from(plan.partitions)?);
    let seen = Rc::new(RefCell::new(Seen { board, requests: 0, refused: Codes::default() }));
    let Some(members) = members(args, Rc::new(plan), &seen).await? else {
        return Ok(JoinFigures { unserved: true, ..JoinFigures::default() });
    };
    let start = Instant::now();
    let failed = Rc::new(RefCell::new(None));
    for member in members {
        let failed = failed.clone();
        let protocol = args.protocol;
        tokio::task::spawn_local(async move {
            let number = member.number;
            let lived = match protocol {
                Protocol::Classic => classic::live(member).await,
                Protocol::Consumer => consumer::live(member).await,
            };
            if let Err(error) = lived {
                failed.borrow_mut().get_or_insert(error.context(format!("member {number}")));
            }
        });
    }
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(error) = failed.borrow_mut().take() {
            return Err(error);
        }
        let seen = seen.borrow();
        if let Some(since) = seen.board.stable_since().filter(|s| s.elapsed().as_secs_f64() >= args.hold) {
            return Ok(JoinFigures {
                unserved: false,
                stable_ms: since.duration_since(start).as_secs_f64() * 1e3,
                generations: seen.board.generations(),
                requests: seen.requests,
                refused: seen.refused.clone(),
            });
        }
        if start.elapsed().as_secs_f64() > args.seconds + args.hold {
            bail!("not stable: {}; refused: {}", seen.board.describe(), seen.refused);
        }
    }
}

/// Runs all members on one thread and prints when they were done. Closing the connections leaves it to the coordinator to
/// find out that they are gone.
pub(super) fn run(args: &JoinArgs) -> Result<()> {
    let led = ensure_topic(&args.topic)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = tokio::task::LocalSet::new().block_on(&runtime, async {
        let group = args.group.clone().unwrap_or_else(|| format!("bench-{}", super::now_ms()));
        let plan = Plan {
            group,
            topic: args.topic.topic.clone(),
            topic_id: topic_id(args).await?,
            partitions: led.partitions,
            heartbeat: Duration::from_millis(args.heartbeat_ms.max(1)),
        };
        stable(args, plan).await
    })?;
    if args.topic.broker.for_scripts() {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    ensure!(!figures.unserved, UNSERVED);
    println!("{:>12.0} ms from the first join to a stable assignment", figures.stable_ms);
    println!("{:>12} generations, {} requests", figures.generations, figures.requests);
    println!("{:>12} refused: {}", figures.refused.total(), figures.refused);
    Ok(())
}
