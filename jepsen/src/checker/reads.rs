//! What was read against what was sent: lost, unseen, aborted and phantom values; polls that skip or repeat.
use super::log::{Log, Logs};
use super::txn::partly_read;
use super::{Kind, Verdict};
use crate::history::{History, Outcome, Poll};
use std::collections::HashMap;

pub(super) fn check(history: &History, logs: &Logs, verdict: &mut Verdict) {
    writers(history, logs, verdict);
    readers(history, logs, verdict);
    successive(&history.polls, logs, verdict);
}

/// Every acknowledged value has a reader.
fn writers(history: &History, logs: &Logs, verdict: &mut Verdict) {
    let partly = partly_read(history, logs);
    for send in &history.sends {
        let Outcome::Ok(offset) = send.outcome else { continue };
        let log = logs.keys.get(&send.key);
        if log.is_some_and(|log| log.was_read(send.value)) {
            continue;
        }
        let at = offset.map_or("an unknown offset".to_owned(), |offset| format!("offset {offset}"));
        let told =
            || format!("key {}: {} at {at}, acknowledged to process {}", send.key, send.value, send.process);
        let passed = log.is_some_and(|log| match (log.first_index(send.value), log.highest_read) {
            (Some(index), Some(highest)) => index <= highest,
            _ => false,
        });
        // What a reader has passed is lost; of the rest it is only known that nobody has seen it.
        let kind = match send.txn {
            Some(txn) if partly.contains(&txn) => Kind::TornTransaction,
            _ if passed => Kind::LostWrite,
            _ => Kind::Unseen,
        };
        verdict.found(kind, told);
    }
}

/// Every value that was read has a writer that may have written it.
fn readers(history: &History, logs: &Logs, verdict: &mut Verdict) {
    let mut sent: Vec<(u32, u64, Outcome)> =
        history.sends.iter().map(|send| (send.key, send.value, send.outcome)).collect();
    sent.sort_unstable_by_key(|(key, value, _)| (*key, *value));
    for (key, log) in &logs.keys {
        for value in &log.read {
            match sent.binary_search_by_key(&(*key, *value), |(key, value, _)| (*key, *value)) {
                Ok(at) if sent[at].2 == Outcome::Fail => {
                    let told = || {
                        format!("key {key}: {value} was read, though its send failed for good or was aborted")
                    };
                    verdict.found(Kind::AbortedRead, told);
                }
                Ok(_) => {}
                Err(_) => verdict
                    .found(Kind::Phantom, || format!("key {key}: {value} was read, and nobody sent it")),
            }
        }
    }
}

/// Polls of one client follow one another, unless it was told anew where to read.
fn successive(polls: &[Poll], logs: &Logs, verdict: &mut Verdict) {
    let mut last: HashMap<(u32, u32, u32), usize> = HashMap::new();
    let mut within: HashMap<u32, ()> = HashMap::new();
    for poll in polls {
        within.clear();
        for (key, offset, _) in &poll.records {
            let Some(index) = logs.keys.get(key).and_then(|log: &Log| log.index(*offset)) else { continue };
            let internal = within.insert(*key, ()).is_some();
            let Some(before) = last.insert((poll.process, poll.assign, *key), index) else { continue };
            if index == before + 1 {
                continue;
            }
            let kind = match (index > before, internal) {
                (true, false) => Kind::PollSkip,
                (true, true) => Kind::IntPollSkip,
                (false, false) => Kind::NonmonotonicPoll,
                (false, true) => Kind::IntNonmonotonicPoll,
            };
            let told = || format!("key {key}: process {} read index {index} after {before}", poll.process);
            verdict.found(kind, told);
        }
    }
}
