//! Bounds that only rise, and what is compared when all is healed.
use super::{Kind, Verdict};
use crate::history::{History, Line};
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn check(history: &History, verdict: &mut Verdict) {
    watermarks(history, verdict);
    committed(history, verdict);
    healed(history, verdict);
}

/// What one client is told only rises; the answer that is judged began after the earlier one had come.
fn watermarks(history: &History, verdict: &mut Verdict) {
    struct Seen {
        time: u64,
        high_watermark: i64,
        log_start: i64,
        last_stable: i64,
    }
    let mut last: HashMap<(u32, u32), Seen> = HashMap::new();
    for line in &history.rest {
        let Line::Bounds { start, time, process, key, high_watermark, log_start, read_to, last_stable } =
            line
        else {
            continue;
        };
        if read_to > high_watermark {
            let told = || format!("key {key}: read up to {read_to}, high watermark {high_watermark}");
            verdict.found(Kind::BeyondHighWatermark, told);
        }
        if *last_stable >= 0 && read_to > last_stable {
            let told = || format!("key {key}: read up to {read_to}, last stable offset {last_stable}");
            verdict.found(Kind::BeyondLastStable, told);
        }
        let (high, log_start, last_stable) = (*high_watermark, *log_start, *last_stable);
        let now = Seen { time: *time, high_watermark: high, log_start, last_stable };
        let Some(before) = last.insert((*process, *key), now) else { continue };
        if before.time > *start {
            continue;
        }
        if *high_watermark < before.high_watermark {
            let told = || {
                format!(
                    "key {key}: process {process} saw {} and then {high_watermark}",
                    before.high_watermark
                )
            };
            verdict.found(Kind::HighWatermarkRegressed, told);
        }
        if last_stable >= 0 && last_stable < before.last_stable {
            let told =
                || format!("key {key}: process {process} saw {} and then {last_stable}", before.last_stable);
            verdict.found(Kind::LastStableRegressed, told);
        }
        if log_start >= 0 && log_start < before.log_start {
            let told =
                || format!("key {key}: process {process} saw {} and then {log_start}", before.log_start);
            verdict.found(Kind::LogStartRegressed, told);
        }
    }
}

fn committed(history: &History, verdict: &mut Verdict) {
    let mut acked: HashMap<(u32, u32), Vec<(u64, i64)>> = HashMap::new();
    for line in &history.rest {
        if let Line::Commit { time, process, key, offset } = line {
            acked.entry((*process, *key)).or_default().push((*time, *offset));
        }
    }
    for commits in acked.values_mut() {
        commits.sort_unstable();
        // From here on: the highest offset that was acknowledged up to that time.
        let mut highest = i64::MIN;
        for (_, offset) in commits.iter_mut() {
            highest = highest.max(*offset);
            *offset = highest;
        }
    }
    // What may have been carried out late, when others had been acknowledged.
    let late: HashSet<(u32, u32, i64)> = history
        .rest
        .iter()
        .filter_map(|line| match line {
            Line::CommitUnknown { process, key, offset, .. } => Some((*process, *key, *offset)),
            _ => None,
        })
        .collect();
    for line in &history.rest {
        let Line::Committed { start, process, key, offset } = line else { continue };
        let Some(commits) = acked.get(&(*process, *key)) else { continue };
        let earlier = commits.partition_point(|(time, _)| time < start);
        let Some((_, known)) = earlier.checked_sub(1).map(|at| commits[at]) else { continue };
        if *offset < known && !late.contains(&(*process, *key, *offset)) {
            let told = || format!("key {key}: {offset} was read after {known} had been acknowledged");
            verdict.found(Kind::CommittedOffsetRegressed, told);
        }
    }
}

/// One node's last entry and sum of a partition.
type Digest<'a> = (u32, u64, u64, &'a str);

fn healed(history: &History, verdict: &mut Verdict) {
    let mut replicas: BTreeMap<u32, Vec<Digest<'_>>> = BTreeMap::new();
    for line in &history.rest {
        match line {
            Line::End { key, high_watermark, reached: false, .. } => {
                let told = || format!("key {key}: not read to {high_watermark}");
                verdict.found(Kind::FinalReadIncomplete, told);
            }
            Line::Replica { node, key, first, last, digest } => {
                replicas.entry(*key).or_default().push((*node, *first, *last, digest));
            }
            _ => {}
        }
    }
    for (key, digests) in replicas {
        let Some((node, first, last, digest)) = digests.first().copied() else { continue };
        for (other, from, to, sum) in &digests {
            if (*from, *to, *sum) != (first, last, digest) {
                let told = || {
                    format!(
                        "key {key}: node {node} has {first} to {last} ({digest}), node {other} {from} to {to} ({sum})"
                    )
                };
                verdict.found(Kind::ReplicasDiffer, told);
            }
        }
    }
}
