//! The order of acknowledged offsets: along each client's sends, and along real time.
use super::log::Logs;
use super::{Kind, Verdict};
use crate::history::{History, Outcome, Send};
use std::collections::{BTreeMap, HashMap};

pub(super) fn check(history: &History, logs: &Logs, verdict: &mut Verdict) {
    sessions(history, logs, verdict);
    let mut keys: BTreeMap<u32, Vec<(&Send, i64)>> = BTreeMap::new();
    for send in &history.sends {
        if let Outcome::Ok(Some(offset)) = send.outcome {
            keys.entry(send.key).or_default().push((send, offset));
        }
    }
    for (key, acked) in &keys {
        realtime(*key, acked, verdict);
        twice(*key, acked, verdict);
    }
}

/// One client's sends to a key lie in the order in which it sent them, read or acknowledged.
fn sessions(history: &History, logs: &Logs, verdict: &mut Verdict) {
    let mut last: HashMap<(u32, u32), (usize, u64, Option<u64>)> = HashMap::new();
    for send in &history.sends {
        let Some(log) = logs.keys.get(&send.key) else { continue };
        // What a new epoch of its producer sent again stands earlier too, there behind what the leader of before lost.
        let index = match send.outcome {
            Outcome::Ok(Some(offset)) => log.index(offset),
            _ => log.first_index(send.value),
        };
        let Some(index) = index else { continue };
        let now = (index, send.value, send.txn);
        let Some((before, value, txn)) = last.insert((send.process, send.key), now) else {
            continue;
        };
        // Within one transaction it has a name of its own (`txn.rs`).
        if index < before && (send.txn.is_none() || send.txn != txn) {
            let told = || {
                let (key, process, later) = (send.key, send.process, send.value);
                format!(
                    "key {key}: process {process} sent {value} (index {before}), then {later} (index {index})"
                )
            };
            verdict.found(Kind::NonmonotonicSend, told);
        }
    }
}

/// An offset lies above every one that was acknowledged before its send began.
fn realtime(key: u32, acked: &[(&Send, i64)], verdict: &mut Verdict) {
    let mut ends: Vec<(u64, i64)> = acked.iter().map(|(send, offset)| (send.end, *offset)).collect();
    ends.sort_unstable();
    let mut ended = ends.iter().peekable();
    let mut highest = -1;
    // `acked` is in the order in which sends began.
    for (send, offset) in acked {
        while let Some((_, offset)) = ended.next_if(|(end, _)| *end < send.start) {
            highest = highest.max(*offset);
        }
        if *offset <= highest {
            let told = || {
                format!(
                    "key {key}: {} got offset {offset}; {highest} was acknowledged before it was sent",
                    send.value
                )
            };
            verdict.found(Kind::StaleAppend, told);
        }
    }
}

fn twice(key: u32, acked: &[(&Send, i64)], verdict: &mut Verdict) {
    let mut by_offset: Vec<(i64, u64)> = acked.iter().map(|(send, offset)| (*offset, send.value)).collect();
    by_offset.sort_unstable();
    for pair in by_offset.windows(2) {
        if pair[0].0 == pair[1].0 {
            let told = || format!("key {key}: offset {} to {} and to {}", pair[0].0, pair[0].1, pair[1].1);
            verdict.found(Kind::OffsetAckedTwice, told);
        }
    }
}
