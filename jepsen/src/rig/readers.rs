//! Those of our clients that read: at the tail, from the start, a group's offsets, who leads.
use crate::load::{Phase, Shared};
use crate::recorder::now;
use client_lite::{Client, Committer, FetchFrom, FetchOptions, Fetched, Place};
use jepsen::history::Line;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);
const GROUP: &str = "rig-group";
/// How long a final read may take, and how long the log must not grow for it to be the end.
const FINAL_PATIENCE: Duration = Duration::from_secs(100);
const SETTLED: Duration = Duration::from_secs(2);

fn options(shared: &Shared) -> FetchOptions {
    let read_committed = shared.plan.workload.has_transactions();
    FetchOptions { max_wait: POLL, read_committed, ..FetchOptions::default() }
}

/// Where one reader is in a key.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    offset: i64,
    /// The highest leader epoch that it has been told. As Kafka's clients it goes to no older leader: one that
    /// nobody has told yet that it leads no longer would show it an older watermark.
    epoch: i32,
}

/// Reads one key once, and moves its position. What was read is in the history; the high watermark.
async fn poll(shared: &Shared, client: &Client, process: u32, key: u32, at: &mut Position) -> Option<i64> {
    let (_, epoch) = client.leader(&shared.plan.topic, key as i32).await.ok()?;
    if epoch < at.epoch {
        client.forget_topic(&shared.plan.topic);
        return None;
    }
    let offset = at.offset;
    let from = FetchFrom { topic: shared.plan.topic.clone(), partition: key as i32, offset };
    let start = now();
    let fetched = client.fetch(&[from], &options(shared)).await.ok()?;
    let answer = fetched.into_iter().next()?;
    if answer.check().is_err() {
        return None;
    }
    let next = taken(shared, process, key, start, &answer)?;
    *at = Position { offset: next, epoch };
    Some(answer.high_watermark)
}

fn taken(shared: &Shared, process: u32, key: u32, start: u64, answer: &Fetched) -> Option<i64> {
    let (found, next) = match answer.decode() {
        Ok(decoded) => decoded,
        Err(error) => {
            let error = format!("key {key} at {}: {error}", answer.offset);
            shared.recorder.push(Line::Broken { time: now(), process, error });
            return None;
        }
    };
    let records: Vec<(u32, i64, u64)> = found
        .iter()
        .map(|record| {
            let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
            // What is no number was written by nobody here: the checker calls it a phantom.
            (key, record.offset, text.parse().unwrap_or(u64::MAX))
        })
        .collect();
    shared.recorder.push(Line::Bounds {
        start,
        time: now(),
        process,
        key,
        high_watermark: answer.high_watermark,
        log_start: answer.log_start_offset,
        read_to: if records.is_empty() { -1 } else { next },
        last_stable: if options(shared).read_committed { answer.last_stable_offset } else { -1 },
    });
    if !records.is_empty() {
        shared.recorder.push(Line::Poll { start, time: now(), process, records, txn: None });
    }
    Some(next)
}

/// Reads all keys in turn, each from where the last poll of it ended; begins anew now and then.
pub(crate) async fn read(shared: Shared) {
    while shared.phase() == Phase::Work {
        let process = shared.process();
        let (mut client, born) = (shared.client(), Instant::now());
        let mut positions = vec![Position::default(); shared.plan.keys as usize];
        shared.recorder.push(Line::Assign { time: now(), process });
        while shared.phase() == Phase::Work && born.elapsed() < Duration::from_secs(60) {
            for (key, position) in (0..).zip(&mut positions) {
                if poll(&shared, &client, process, key, position).await.is_none() {
                    client = shared.client();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// When all is healed: reads a key from its start to its end.
pub(crate) async fn final_read(shared: Shared, key: u32) {
    // What a transaction still sends and commits is to be read too.
    while shared.phase() == Phase::Work || shared.phase() == Phase::Final && shared.in_transactions() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let process = shared.process();
    shared.recorder.push(Line::Assign { time: now(), process });
    let mut client = shared.client();
    let (begun, mut grew) = (Instant::now(), Instant::now());
    let (mut position, mut end, mut reached) = (Position::default(), -1, false);
    while shared.phase() == Phase::Final && begun.elapsed() < FINAL_PATIENCE {
        let before = position.offset;
        match poll(&shared, &client, process, key, &mut position).await {
            Some(watermark) => {
                if position.offset > before || watermark > end {
                    grew = Instant::now();
                }
                end = watermark;
                reached = position.offset >= end;
            }
            None => {
                // Whoever is not answered now is not at the end either.
                reached = false;
                grew = Instant::now();
                client = shared.client();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if reached && grew.elapsed() > SETTLED {
            break;
        }
    }
    shared.recorder.push(Line::End { time: now(), process, key, high_watermark: end, reached });
}

/// Offsets of a group were committed, or nobody knows.
pub(crate) fn committed(shared: &Shared, process: u32, offsets: &BTreeMap<Place, i64>, known: bool) {
    let time = now();
    for ((_, partition), offset) in offsets {
        let (key, offset) = (*partition as u32, *offset);
        shared.recorder.push(if known {
            Line::Commit { time, process, key, offset }
        } else {
            Line::CommitUnknown { time, process, key, offset }
        });
    }
}

/// Commits ever higher offsets and reads them back.
pub(crate) async fn commit(shared: Shared) {
    let process = shared.process();
    let (mut client, mut next) = (shared.client(), 1);
    while shared.phase() == Phase::Work {
        let place = |key: u32| -> Place { (shared.plan.topic.clone(), key as i32) };
        let offsets: BTreeMap<Place, i64> = (0..shared.plan.keys).map(|key| (place(key), next)).collect();
        let done = client.commit(GROUP, Committer::NOBODY, &offsets).await;
        committed(&shared, process, &offsets, done.is_ok());
        if done.is_ok() {
            next += 1;
        } else {
            client = shared.client();
        }
        read_committed(&shared, &client, GROUP, process).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..100 {
        client = shared.client();
        if shared.phase() == Phase::Stop || read_committed(&shared, &client, GROUP, process).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads what a group has committed, whose members' commits are those of this process.
pub(crate) async fn follow(shared: Shared, group: &'static str, process: u32) {
    let mut client = shared.client();
    while shared.phase() == Phase::Work {
        if !read_committed(&shared, &client, group, process).await {
            client = shared.client();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn read_committed(shared: &Shared, client: &Client, group: &str, process: u32) -> bool {
    let start = now();
    let Ok(found) = client.committed(group, None).await else { return false };
    for key in 0..shared.plan.keys {
        let place = (shared.plan.topic.clone(), key as i32);
        let offset = found.get(&place).map_or(-1, |committed| committed.offset);
        shared.recorder.push(Line::Committed { start, process, key, offset });
    }
    true
}

/// Keeps in mind who leads what, for the nemesis, until the final read.
pub(crate) async fn watch(shared: Shared) {
    let mut client: Arc<Client> = shared.client();
    while shared.phase() != Phase::Stop {
        let told = client.refresh(&[&shared.plan.topic]).await;
        match told.ok().and_then(|cluster| cluster.topic(&shared.plan.topic).cloned()) {
            Some(topic) => {
                for row in &topic.partitions {
                    shared.recorder.set_partition(row);
                }
            }
            None => client = shared.client(),
        }
        if shared.phase() == Phase::Final {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
