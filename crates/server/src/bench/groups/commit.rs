//! OffsetCommit over many groups without members: at a rate for as long as it takes, or each group once.
use super::ask::Asking;
use super::route::{self, Route};
use crate::bench::TopicArgs;
use crate::bench::report::{Codes, Figures, Latencies};
use crate::bench::setup::ensure_topic;
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::rc::Rc;
use std::time::{Duration, Instant};
use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::{ApiKey, OffsetCommitRequest, OffsetCommitResponse, Str};

/// The last version that nothing of KIP-848 is in.
const VERSION: i16 = 8;
/// How often what was refused is committed again, where each group commits once.
const PASSES: usize = 50;
const BETWEEN_PASSES: Duration = Duration::from_millis(100);
/// Offsets committed are the number of the commit, so that none is 0.
const FIRST_OFFSET: i64 = 1;

/// Who commits, and how often.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommitArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    /// Groups, PREFIX-0 and so on, in turn.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Beginning of their ids.
    #[arg(long, default_value = "bench-group")]
    prefix: String,
    /// Only groups of the coordinator partition that has this group; others are passed over, and as many are found.
    #[arg(long, value_name = "GROUP")]
    beside: Option<String>,
    /// Partitions whose offsets are in one commit: the topic has as many at least.
    #[arg(long, default_value_t = 1)]
    offsets: i32,
    /// Each group commits once, what is refused again and again; without it until time is up.
    #[arg(long)]
    once: bool,
    /// Commits a second of all connections together; 0 for as fast as it goes.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Connections to each coordinator, one commit in flight on each.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How long, seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// `requests` are commits; latencies count from the intended send.
#[derive(Debug, Serialize)]
struct CommitFigures {
    #[serde(flatten)]
    figures: Figures,
    groups: usize,
    /// Partitions that were refused, by code; with --once they were committed later.
    refused: Codes,
}

/// What one connection did.
#[derive(Debug, Default)]
struct Tally {
    figures: Figures,
    latencies: Latencies,
    refused: Codes,
    /// Groups to be committed again.
    again: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.figures.records += other.figures.records;
        self.figures.requests += other.figures.requests;
        self.figures.errors += other.figures.errors;
        self.figures.first_error = self.figures.first_error.or(other.figures.first_error);
        self.latencies.merge(other.latencies);
        self.refused.merge(other.refused);
        self.again.extend(other.again);
    }

    /// Takes an answer; `once` says whether a refusal is to be asked again or is an error.
    fn take(&mut self, group: &str, answer: &OffsetCommitResponse, once: bool) {
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let mut refused = None;
        for code in rows.map(|row| row.error_code).filter(|code| *code != 0) {
            self.refused.count(code);
            refused = Some(code);
        }
        let Some(code) = refused else { return };
        if once && route::is_retriable(code) {
            self.again.push(group.to_owned());
        } else {
            self.figures.errors += 1;
            self.figures.first_error.get_or_insert(code);
        }
    }
}

/// A commit of offset `offset` for the first partitions of the topic.
fn commit(args: &CommitArgs, group: &str, offset: i64) -> OffsetCommitRequest {
    let partitions = (0..args.offsets).map(|partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some(Str::default()),
        ..Default::default()
    });
    let topic = OffsetCommitRequestTopic {
        name: Str::from(&args.topic.topic),
        partitions: partitions.collect(),
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: Str::from(group),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

/// What one connection commits.
struct Share {
    address: String,
    groups: Vec<String>,
    /// Commits a second; 0 for no limit.
    rate: f64,
}

/// One connection: a commit waits for the answer to the one before, because brokers take one at a time.
async fn drive(args: Rc<CommitArgs>, mut conn: Asking, share: Share, until: Instant) -> Result<Tally> {
    let (mut tally, start) = (Tally::default(), Instant::now());
    for turn in 0.. {
        let Some(group) = share.groups.get(turn % share.groups.len().max(1)) else { break };
        if args.once && turn >= share.groups.len() {
            break;
        }
        let mut intended = Instant::now();
        if share.rate > 0.0 {
            intended = start + Duration::from_secs_f64(turn as f64 / share.rate);
            tokio::time::sleep_until(intended.into()).await;
        }
        // What is late then is not sent any more: the number of commits says that the rate was not reached.
        if intended.max(Instant::now()) >= until {
            break;
        }
        let request = commit(&args, group, FIRST_OFFSET + turn as i64);
        let answer = conn.ask(ApiKey::OffsetCommit.code(), VERSION, &request).await.context("commit")?;
        tally.latencies.push(intended.elapsed());
        tally.figures.records += u64::from(args.offsets.unsigned_abs());
        tally.figures.requests += 1;
        tally.take(group, &answer, args.once);
    }
    Ok(tally)
}

/// Groups by connection.
fn shares(args: &CommitArgs, route: &Route) -> Vec<Share> {
    let mut shares = Vec::new();
    for (address, groups) in &route.by_coordinator {
        let connections = args.connections.clamp(1, groups.len().max(1));
        let rate = args.rate * groups.len() as f64 / route.groups().max(1) as f64 / connections as f64;
        for connection in 0..connections {
            let groups = groups.iter().skip(connection).step_by(connections).cloned().collect();
            shares.push(Share { address: address.clone(), groups, rate });
        }
    }
    shares
}

/// All connections on one thread; returns how long the commits took, too.
fn pass(args: &CommitArgs, groups: &[String]) -> Result<(Tally, Duration)> {
    let route = Route::find(args.topic.broker.all_addresses(), groups)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (args, mut ready) = (Rc::new(args.clone()), Vec::new());
        for share in shares(&args, &route) {
            ready.push((Asking::connect(&share.address).await?, share));
        }
        let start = Instant::now();
        let until = start + Duration::from_secs_f64(if args.once { 86_400.0 } else { args.seconds });
        let spawn = |(conn, share)| tokio::task::spawn_local(drive(args.clone(), conn, share, until));
        let tasks: Vec<_> = ready.into_iter().map(spawn).collect();
        let mut total = Tally::default();
        for task in tasks {
            total.add(task.await.context("a committing task panicked")??);
        }
        Ok((total, start.elapsed()))
    })
}

/// Commits and prints what came of it.
pub(super) fn run(args: &CommitArgs) -> Result<()> {
    ensure_topic(&args.topic)?;
    let beside = args.beside.as_deref();
    let groups = route::names(args.topic.broker.all_addresses(), &args.prefix, args.groups, beside)?;
    let (mut total, mut taken) = pass(args, &groups)?;
    for _ in 0..if args.once { PASSES } else { 0 } {
        let again = std::mem::take(&mut total.again);
        if again.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN_PASSES);
        let (more, longer) = pass(args, &again)?;
        total.add(more);
        taken += longer;
    }
    total.figures.errors += total.again.len() as u64;
    let Tally { mut figures, latencies, refused, .. } = total;
    figures.complete(taken, latencies);
    let figures = CommitFigures { figures, groups: groups.len(), refused };
    print(&figures, args.topic.broker.for_scripts())
}

#[allow(clippy::print_stdout)]
fn print(figures: &CommitFigures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(figures)?);
        return Ok(());
    }
    let of = &figures.figures;
    println!("{:>12.0} commits/s of {} groups", of.requests_per_s, figures.groups);
    println!("{:>12} commits, {} errors", of.requests, of.errors);
    println!("{:>12} {}", "", of.quantiles());
    println!("{:>12} offsets refused: {}", figures.refused.total(), figures.refused);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::collections::BTreeMap;
    use wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CommitArgs,
    }

    fn answer(codes: &[i16]) -> OffsetCommitResponse {
        let row = |(at, code): (usize, &i16)| OffsetCommitResponsePartition {
            partition_index: at as i32,
            error_code: *code,
        };
        let partitions = codes.iter().enumerate().map(row).collect();
        let topic = OffsetCommitResponseTopic { partitions, ..Default::default() };
        OffsetCommitResponse { topics: vec![topic], ..Default::default() }
    }

    #[test]
    fn a_commit_names_its_group_and_as_many_offsets_as_it_should() {
        let args = Line::parse_from(["commit", "--offsets", "3"]).args;
        let request = commit(&args, "g", 7);
        let rows = &request.topics[0].partitions;
        assert_eq!((&*request.group_id, rows.len()), ("g", 3));
        assert!(rows.iter().all(|row| row.committed_offset == 7));
    }

    #[test]
    fn every_group_has_one_connection_and_the_rate_is_shared_by_all() {
        let mut args = Line::parse_from(["commit", "--connections", "3", "--rate", "100"]).args;
        let of = |names: std::ops::Range<u8>| names.map(|n| n.to_string()).collect::<Vec<_>>();
        let by_coordinator = BTreeMap::from([("a".to_owned(), of(0..8)), ("b".to_owned(), of(8..10))]);
        let route = Route { by_coordinator };
        let all = shares(&args, &route);
        assert_eq!(all.len(), 3 + 2, "no connection without a group");
        let mut groups: Vec<String> = all.iter().flat_map(|share| share.groups.clone()).collect();
        groups.sort_by_key(|name| name.parse::<u8>().unwrap());
        assert_eq!(groups, of(0..10));
        assert!((all.iter().map(|share| share.rate).sum::<f64>() - 100.0).abs() < 1e-9);
        args.rate = 0.0;
        assert!(shares(&args, &route).iter().all(|share| share.rate == 0.0));
    }

    #[test]
    fn what_is_refused_is_counted_and_committed_again_only_where_each_group_counts_once() {
        let mut tally = Tally::default();
        tally.take("a", &answer(&[0, 0]), true);
        tally.take("b", &answer(&[14, 14]), true);
        assert_eq!((tally.again.as_slice(), tally.figures.errors), (&["b".to_owned()][..], 0));
        tally.take("c", &answer(&[0, 14]), false);
        tally.take("d", &answer(&[3]), true);
        assert_eq!((tally.figures.errors, tally.figures.first_error), (1, Some(14)));
        assert_eq!(tally.refused.to_string(), "3 COORDINATOR_LOAD_IN_PROGRESS, 1 UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(tally.again.len(), 2, "that a topic is unknown may pass");
    }
}
