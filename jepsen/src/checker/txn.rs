//! Transactions: what became of each send in one, torn ones, and what is read before it may be.
use super::log::Logs;
use super::{Kind, Verdict};
use crate::history::{History, Outcome, Send};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The history with each send as its transaction has left it. Sends of a transaction that was aborted, or whose
/// commit nobody asked for, never happen, whatever they were told. One of unknown outcome must have been committed if
/// anybody read a value of it.
pub(super) fn settled(history: &History) -> Cow<'_, History> {
    if history.txns.is_empty() {
        return Cow::Borrowed(history);
    }
    let read: HashSet<u64> =
        history.polls.iter().flat_map(|poll| &poll.records).map(|(_, _, value)| *value).collect();
    let mut settled = history.clone();
    for send in &history.sends {
        let Some(txn) = send.txn.and_then(|id| settled.txns.get_mut(&id)) else { continue };
        if txn.outcome == Outcome::Info && read.contains(&send.value) {
            txn.outcome = Outcome::Ok(None);
        }
    }
    for send in &mut settled.sends {
        let Some(id) = send.txn else { continue };
        match settled.txns.get(&id).map(|txn| txn.outcome) {
            Some(Outcome::Ok(_)) => {}
            Some(Outcome::Info) if send.outcome != Outcome::Fail => send.outcome = Outcome::Info,
            _ => send.outcome = Outcome::Fail,
        }
    }
    Cow::Owned(settled)
}

/// The sends of transactions by their values.
pub(super) type Writers<'a> = HashMap<u64, &'a Send>;

pub(super) fn writers(history: &History) -> Writers<'_> {
    let of_txn = history.sends.iter().filter(|send| send.txn.is_some());
    of_txn.map(|send| (send.value, send)).collect()
}

/// Values of transactions of which others were read: where one of these is missing, the transaction is torn.
pub(super) fn partly_read(history: &History, logs: &Logs) -> BTreeSet<u64> {
    if history.txns.is_empty() {
        return BTreeSet::new();
    }
    let read = |send: &&Send| send.txn.is_some() && logs.was_read(send.key, send.value);
    history.sends.iter().filter(read).filter_map(|send| send.txn).collect()
}

pub(super) fn check(history: &History, verdict: &mut Verdict) {
    if history.txns.is_empty() {
        return;
    }
    let writers = writers(history);
    early(history, &writers, verdict);
    within(history, verdict);
}

/// Nobody reads a value before the commit of its transaction is asked for, its own client included.
fn early(history: &History, writers: &Writers<'_>, verdict: &mut Verdict) {
    for poll in &history.polls {
        for (key, offset, value) in &poll.records {
            let Some(send) = writers.get(value) else { continue };
            let Some(asked) = send.txn.and_then(|id| history.txns.get(&id)).and_then(|txn| txn.asked) else {
                // Never asked for: an aborted read, which is found there.
                continue;
            };
            if poll.end < asked || (poll.txn.is_some() && poll.txn == send.txn) {
                let (process, writer) = (poll.process, send.process);
                let told = || {
                    format!(
                        "key {key}: process {process} read {value} (offset {offset}) before process {writer} \
                         asked for its commit"
                    )
                };
                verdict.found(Kind::PrecommittedRead, told);
            }
        }
    }
}

/// What one transaction sends to a key lies there in the order in which it was sent.
fn within(history: &History, verdict: &mut Verdict) {
    let mut last: BTreeMap<(u64, u32), (i64, u64)> = BTreeMap::new();
    for send in &history.sends {
        let (Some(txn), Outcome::Ok(Some(offset))) = (send.txn, send.outcome) else { continue };
        let (key, value) = (send.key, send.value);
        if let Some((before, earlier)) =
            last.insert((txn, key), (offset, value)).filter(|(at, _)| *at > offset)
        {
            let told = || {
                format!(
                    "key {key}: transaction {txn} sent {earlier} (offset {before}), then {value} (offset {offset})"
                )
            };
            verdict.found(Kind::IntNonmonotonicSend, told);
        }
    }
}
