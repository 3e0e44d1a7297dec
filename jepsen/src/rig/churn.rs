//! Many members of one group that come, leave, die and stand still: rebalances without end. Every record below what the
//! group has committed was handed to somebody, and what is committed never goes back.
use crate::load::{Phase, Shared};
use crate::readers::committed;
use crate::report::ms;
use crate::rng::Rng;
use client_lite::{Consumer, FetchOptions, GroupMember, MemberOptions, Place, Reset};
use jepsen::history::{History, Line};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) const GROUP: &str = "rig-churn";
/// The process under which all of them commit: the group has one offset for each partition.
pub(crate) const PROCESS: u32 = 900_000;
const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(8);
const RETRY_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Inner {
    processed: BTreeSet<(u32, i64)>,
    deliveries: u64,
    /// How long each poll took that came back with another generation.
    rebalances: Vec<Duration>,
    lives: u64,
    refused: u64,
}

/// What the members have done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Churn(Arc<Mutex<Inner>>);

impl Churn {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with what they did, and figures.
    pub(crate) fn judge(&self, history: &History) -> (Vec<String>, Vec<String>) {
        let mut inner = self.lock();
        if inner.lives == 0 {
            return (Vec::new(), Vec::new());
        }
        let mut committed: BTreeMap<u32, i64> = BTreeMap::new();
        for line in &history.rest {
            if let Line::Commit { process: PROCESS, key, offset, .. } = line {
                let highest = committed.entry(*key).or_default();
                *highest = (*highest).max(*offset);
            }
        }
        let there: BTreeSet<(u32, i64)> = history
            .polls
            .iter()
            .flat_map(|poll| &poll.records)
            .map(|(key, offset, _)| (*key, *offset))
            .collect();
        let passed = |(key, offset): &&(u32, i64)| committed.get(key).is_some_and(|end| offset < end);
        let missed: Vec<_> = there.iter().filter(passed).filter(|at| !inner.processed.contains(at)).collect();
        let mut problems = Vec::new();
        if let Some((key, offset)) = missed.first() {
            problems.push(format!(
                "churn: {} records below the group's offsets were handed to nobody, the first at key {key}, offset {offset}",
                missed.len()
            ));
        }
        if inner.processed.is_empty() {
            problems.push("churn: liveness: no member was ever handed a record".to_owned());
        }
        inner.rebalances.sort_unstable();
        let at = |share: f64| {
            let at = (inner.rebalances.len().saturating_sub(1) as f64 * share).round() as usize;
            ms(inner.rebalances.get(at).copied().unwrap_or_default())
        };
        let figure = format!(
            "{} members' lives, {} times a member came into another generation, which took {} median, {} p99, {} at most; {} \
             commits of members that were none any more refused; {} records handed out, {} of them again",
            inner.lives,
            inner.rebalances.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            inner.refused,
            inner.deliveries,
            inner.deliveries - inner.processed.len() as u64
        );
        (problems, vec![figure])
    }
}

/// One member after the other.
pub(crate) async fn member(shared: Shared, churn: Churn, number: u32) {
    let mut rng = Rng::new(u64::from(number));
    tokio::time::sleep(Duration::from_millis(rng.below(3000))).await;
    while shared.phase() == Phase::Work {
        churn.lock().lives += 1;
        let consumer = live(&shared, &churn, &mut rng).await;
        if rng.below(2) == 0 {
            // The others of them die: the group hears nothing of it.
            let _ = consumer.close().await;
        }
        tokio::time::sleep(Duration::from_millis(rng.below(500))).await;
    }
}

async fn live(shared: &Shared, churn: &Churn, rng: &mut Rng) -> Consumer {
    let client = shared.client_that_retries(RETRY_FOR);
    // Each try of a commit is a line of the history: an earlier one may arrive after a later one was answered.
    let committing = shared.client();
    let options = MemberOptions {
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        ..MemberOptions::new(GROUP, &[&shared.plan.topic])
    };
    let fetch = FetchOptions { max_wait: Duration::from_millis(200), ..FetchOptions::default() };
    let member = GroupMember::new(client.clone(), options);
    let mut consumer = Consumer::in_group(client.clone(), member, Reset::Earliest, fetch);
    let (born, mut generation) = (Instant::now(), -1);
    let life = rng.between(Duration::from_secs(8), Duration::from_secs(40));
    while shared.phase() == Phase::Work && born.elapsed() < life {
        let begun = Instant::now();
        let found = consumer.poll().await;
        let known = consumer.member().map_or(-1, GroupMember::generation);
        if known != generation {
            generation = known;
            churn.lock().rebalances.push(begun.elapsed());
        }
        let Ok(found) = found else { continue };
        if found.is_empty() {
            continue;
        }
        let mut offsets: BTreeMap<Place, i64> = BTreeMap::new();
        for record in &found {
            let mut inner = churn.lock();
            inner.deliveries += 1;
            inner.processed.insert((record.partition as u32, record.record.offset));
            offsets.insert((record.topic.clone(), record.partition), record.record.offset + 1);
        }
        if rng.below(60) == 0 {
            // Long enough that the group goes on without it.
            tokio::time::sleep(SESSION + Duration::from_millis(rng.below(4000))).await;
        }
        let Some(member) = consumer.member() else { break };
        let done = committing.commit(GROUP, member.committer(), &offsets).await;
        committed(shared, PROCESS, &offsets, done.is_ok());
        churn.lock().refused += u64::from(done.is_err_and(|error| error.code().is_some()));
    }
    consumer
}

#[cfg(test)]
mod tests {
    use super::{Churn, PROCESS};
    use jepsen::history::{Builder, Line};

    #[test]
    fn a_record_below_the_groups_offset_that_nobody_was_handed_is_a_problem() {
        let mut builder = Builder::default();
        let records = vec![(0, 0, 1), (0, 1, 2), (0, 2, 3)];
        builder.push(Line::Poll { start: 1, time: 2, process: 1, records, txn: None }).unwrap();
        builder.push(Line::Commit { time: 3, process: PROCESS, key: 0, offset: 2 }).unwrap();
        let history = builder.finish();
        let churn = Churn::default();
        (churn.lock().lives, churn.lock().deliveries) = (1, 1);
        churn.lock().processed.insert((0, 0));
        assert_eq!(churn.judge(&history).0.len(), 1, "offset 1");
        churn.lock().processed.insert((0, 1));
        churn.lock().deliveries = 2;
        assert!(churn.judge(&history).0.is_empty(), "offset 2 is not committed");
    }
}
