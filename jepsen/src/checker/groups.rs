//! What a group reads in transactions that commit its offsets: each record once, and none left out; and that what
//! is passed on from record to record neither grows nor shrinks.
use super::log::Logs;
use super::{Kind, Verdict};
use crate::history::{History, Line, Outcome};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(super) fn check(history: &History, logs: &Logs, verdict: &mut Verdict) {
    if history.txns.is_empty() {
        return;
    }
    let positions: BTreeMap<u32, i64> = history
        .rest
        .iter()
        .filter_map(|line| match line {
            Line::Position { key, offset, .. } => Some((*key, *offset)),
            _ => None,
        })
        .collect();
    let consumed = consumed(history, verdict);
    skipped(logs, &positions, &consumed, verdict);
    behind(&positions, &consumed, verdict);
    money(history, logs, &positions, verdict);
}

/// Key and offset of what was read in transactions, and whether one of these is surely committed.
type Consumed = BTreeMap<(u32, i64), bool>;

fn consumed(history: &History, verdict: &mut Verdict) -> Consumed {
    let mut by: BTreeMap<(u32, i64), u64> = BTreeMap::new();
    let mut consumed = Consumed::new();
    for poll in &history.polls {
        let Some((id, txn)) = poll.txn.and_then(|id| Some((id, history.txns.get(&id)?))) else { continue };
        let sure = match txn.outcome {
            Outcome::Ok(_) => true,
            Outcome::Fail => continue,
            Outcome::Info => false,
        };
        for (key, offset, value) in &poll.records {
            *consumed.entry((*key, *offset)).or_default() |= sure;
            if !sure {
                continue;
            }
            if let Some(other) = by.insert((*key, *offset), id).filter(|other| *other != id) {
                let told = || {
                    format!(
                        "key {key}: {value} (offset {offset}) was read in transactions {other} and {id}, both committed"
                    )
                };
                verdict.found(Kind::ConsumedTwice, told);
            }
        }
    }
    consumed
}

/// Every record below the group's position was read in a transaction that may have been committed.
fn skipped(logs: &Logs, positions: &BTreeMap<u32, i64>, consumed: &Consumed, verdict: &mut Verdict) {
    for (key, end) in positions {
        let Some(log) = logs.keys.get(key) else { continue };
        for (offset, value) in log.seen.iter().take_while(|(offset, _)| offset < end) {
            if !consumed.contains_key(&(*key, *offset)) {
                let told = || {
                    format!(
                        "key {key}: {value} (offset {offset}) is below the group's {end}, and no committed transaction read it"
                    )
                };
                verdict.found(Kind::ConsumedNever, told);
            }
        }
    }
}

/// The group's position is not below what a committed transaction has read.
fn behind(positions: &BTreeMap<u32, i64>, consumed: &Consumed, verdict: &mut Verdict) {
    for (key, end) in positions {
        let of_key = consumed.range((*key, i64::MIN)..=(*key, i64::MAX));
        if let Some(((_, offset), _)) = of_key.rev().find(|(_, sure)| **sure).filter(|((_, at), _)| at >= end)
        {
            let told =
                || format!("key {key}: the group is at {end}, and offset {offset} was read and committed");
            verdict.found(Kind::CommittedOffsetRegressed, told);
        }
    }
}

/// Where values are passed on, each that is consumed has one successor, and each that is not has none.
fn money(history: &History, logs: &Logs, positions: &BTreeMap<u32, i64>, verdict: &mut Verdict) {
    let passed: HashMap<u64, u64> =
        history.sends.iter().filter_map(|send| Some((send.value, send.from?))).collect();
    if passed.is_empty() || positions.is_empty() {
        return;
    }
    let mut successors: HashMap<u64, u64> = HashMap::new();
    let mut begun: BTreeSet<u64> = BTreeSet::new();
    for value in logs.keys.values().flat_map(|log| &log.read) {
        match passed.get(value) {
            Some(from) => *successors.entry(*from).or_default() += 1,
            None => {
                begun.insert(*value);
            }
        }
    }
    let mut live = 0;
    for (key, log) in &logs.keys {
        let Some(end) = positions.get(key) else { continue };
        for (offset, value) in log.seen.iter().filter(|(_, value)| log.was_read(*value)) {
            let (wanted, count) =
                (u64::from(offset < end), successors.get(value).copied().unwrap_or_default());
            live += 1 - wanted;
            let told = || {
                let state = if wanted == 1 { "consumed" } else { "not consumed" };
                format!("key {key}: {value} (offset {offset}) is {state} and was passed on {count} times")
            };
            match count.cmp(&wanted) {
                std::cmp::Ordering::Less => verdict.found(Kind::MoneyLost, told),
                std::cmp::Ordering::Greater => verdict.found(Kind::MoneyMade, told),
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    (verdict.figures.money_paid_in, verdict.figures.money) = (begun.len() as u64, live);
}
