//! What is said and counted of transactions: by their coordinators here, and by the partitions led here.
use crate::metrics::names;
use crate::metrics::render::{Snapshot, labels};
use crate::observe::{MOST_ROWS, Named};
use crate::shared::Shared;
use coordinator::txn::{MarkerOutcome, TxnEvent};
use model::ErrorCode;
use node::{HangingEvent, HangingTransaction};

/// Transactions that hang and are named in one scrape; all are counted.
const NAMED: usize = 100;

pub(crate) fn on_txn_event(shared: &Shared, event: TxnEvent) {
    count(shared, &event);
    match event {
        TxnEvent::TimedOut { transactional_id, producer_id, producer_epoch } => tracing::info!(
            transactional_id = %transactional_id,
            producer_id,
            producer_epoch,
            "a transaction reached its timeout and is aborted; its producer is fenced"
        ),
        TxnEvent::Fenced { transactional_id, producer_epoch } => tracing::info!(
            transactional_id = %transactional_id,
            producer_epoch,
            "a producer began anew: its open transaction is aborted, the earlier producer is fenced"
        ),
        TxnEvent::Ended { transactional_id, commit } => {
            tracing::debug!(transactional_id = %transactional_id, commit, "transaction ended");
        }
        TxnEvent::LateEnd { transactional_id, commit } => tracing::info!(
            transactional_id = %transactional_id,
            commit,
            "the end of an earlier transaction came late, by a connection that its client had given up: it is refused"
        ),
        TxnEvent::Expired { count } => tracing::info!(count, "unused transactional ids expired"),
        TxnEvent::Refused { bound, transactional_id, principal } => tracing::debug!(
            transactional_id = %transactional_id,
            principal = principal.as_deref().unwrap_or_default(),
            bound = bound.name(),
            "a request about a transaction is refused: a bound is reached"
        ),
        TxnEvent::MarkersAgain { transactional_id, partitions } => tracing::debug!(
            transactional_id = %transactional_id,
            partitions,
            "markers are asked for again"
        ),
        TxnEvent::PartitionLeftOut { transactional_id, partition, why } => tracing::info!(
            transactional_id = %transactional_id,
            topic = %partition.topic,
            partition = partition.partition,
            ?why,
            "a partition is left out of the end of a transaction"
        ),
        TxnEvent::CoordinatorFenced { transactional_id, partition } => tracing::info!(
            transactional_id = %transactional_id,
            topic = %partition.topic,
            partition = partition.partition,
            "a partition knows a newer coordinator of this transaction"
        ),
    }
}

/// A transaction that nobody will end, with its owner, and what came of the marker that was to end it.
pub(crate) fn on_hanging(shared: &Shared, hanging: &HangingTransaction, what: HangingEvent) {
    match what {
        HangingEvent::Found(aborts) => tracing::warn!(
            partition = %Named(shared, hanging.key),
            offset = hanging.open.first_offset,
            transactional_id = hanging.open.transactional_id,
            producer_id = hanging.open.producer_id,
            producer_epoch = hanging.open.epoch,
            principal = hanging.open.principal,
            client_id = hanging.open.client_id,
            aborts,
            "a transaction hangs: it is open at this partition and its coordinator knows nothing of it; readers of committed \
             records wait at its first offset (`plimsoll txn abort` ends it, plimsoll.transaction.hanging.policy=abort all such)"
        ),
        HangingEvent::Aborted(ErrorCode::None) => {
            shared.metrics.transactions.hanging_aborted.increment(1);
            tracing::warn!(
                partition = %Named(shared, hanging.key),
                offset = hanging.open.first_offset,
                transactional_id = hanging.open.transactional_id,
                producer_id = hanging.open.producer_id,
                principal = hanging.open.principal,
                client_id = hanging.open.client_id,
                "a transaction that hung is aborted at this partition"
            );
        }
        HangingEvent::Aborted(code) => tracing::warn!(
            partition = %Named(shared, hanging.key),
            producer_id = hanging.open.producer_id,
            %code,
            "a transaction that hangs could not be aborted, it is tried again"
        ),
    }
}

fn count(shared: &Shared, event: &TxnEvent) {
    let counters = &shared.metrics.transactions;
    match event {
        TxnEvent::TimedOut { .. } => counters.cut_short[0].increment(1),
        TxnEvent::Fenced { .. } => counters.cut_short[1].increment(1),
        TxnEvent::Ended { commit, .. } => counters.ended[usize::from(!commit)].increment(1),
        TxnEvent::Refused { bound, principal, .. } => {
            counters.bound_reached(bound.name(), principal.as_deref().unwrap_or_default());
        }
        TxnEvent::LateEnd { .. } => counters.late_ends.increment(1),
        TxnEvent::MarkersAgain { partitions, .. } => counters.markers_again.increment(*partitions as u64),
        TxnEvent::PartitionLeftOut { why, .. } => {
            counters.left_out[usize::from(*why != MarkerOutcome::Gone)].increment(1);
        }
        TxnEvent::Expired { .. } | TxnEvent::CoordinatorFenced { .. } => {}
    }
}

/// Gauges of transactions.
pub(crate) fn transactions(shared: &Shared, snapshot: &mut Snapshot) {
    let counts = shared.core.look(node::Node::transaction_counts);
    let questions = shared.core.look(node::Node::verify_stats);
    let now = shared.core.now();
    let age = |begun: Option<i64>| begun.map_or(0, |begun| (now.wall - begun).max(0)) as f64 / 1e3;
    for (name, value) in [
        (names::TRANSACTIONS_OPEN, counts.open as f64),
        (names::TRANSACTION_AGE, age(counts.oldest_begun_at)),
        (names::TRANSACTIONS_REFUSED, counts.refused as f64),
        (names::ABORTED_BYTES, counts.aborted_bytes as f64),
        (names::QUESTIONS_WAITING, questions.waiting as f64),
    ] {
        snapshot.values.push((name, String::new(), value));
    }
    for (result, count) in [("asked", questions.asked), ("full", questions.full), ("late", questions.late)] {
        let result = labels([("result", result)].into_iter());
        snapshot.values.push((names::QUESTIONS, result, count as f64));
    }
    coordinators(shared, snapshot);
    hanging(shared, snapshot);
    let image = shared.core.image();
    for (key, status) in
        shared.core.look(|node| node.partitions_with_open().take(MOST_ROWS).collect::<Vec<_>>())
    {
        let Some(topic) = image.topic_by_id(key.topic) else { continue };
        let place = labels([("topic", &*topic.name), ("partition", &key.partition.to_string())].into_iter());
        snapshot.values.push((names::PARTITION_STABLE_LAG, place, status.lag as f64));
        let Some(oldest) = status.oldest else { continue };
        let row = labels(
            [
                ("topic", &*topic.name),
                ("partition", &key.partition.to_string()),
                ("transactional_id", &oldest.transactional_id),
                ("principal", &oldest.principal),
                ("client_id", &oldest.client_id),
            ]
            .into_iter(),
        );
        snapshot.values.push((names::PARTITION_TRANSACTION_AGE, row, age(Some(oldest.begun_at))));
    }
}

/// Transactions that hang, the first of them by name.
fn hanging(shared: &Shared, snapshot: &mut Snapshot) {
    let (image, now) = (shared.core.image(), shared.core.now());
    let all: Vec<HangingTransaction> =
        shared.core.look(|node| node.hanging_transactions().cloned().collect());
    snapshot.values.push((names::TRANSACTIONS_HANGING, String::new(), all.len() as f64));
    for HangingTransaction { key, open } in all.iter().take(NAMED) {
        let Some(topic) = image.topic_by_id(key.topic) else { continue };
        let row = labels(
            [
                ("topic", &*topic.name),
                ("partition", &key.partition.to_string()),
                ("producer_id", &open.producer_id.to_string()),
                ("transactional_id", &open.transactional_id),
                ("principal", &open.principal),
                ("client_id", &open.client_id),
            ]
            .into_iter(),
        );
        let age = (now.wall - open.begun_at).max(0) as f64 / 1e3;
        snapshot.values.push((names::HANGING_AGE, row, age));
    }
}

/// What this node coordinates.
fn coordinators(shared: &Shared, snapshot: &mut Snapshot) {
    let now = shared.core.now();
    let each = shared.core.look(|node| node.coordinator_counts(now));
    let seconds = |ms: Option<i64>| ms.unwrap_or_default() as f64 / 1e3;
    for (at, state) in coordinator::txn::TxnState::ALL.into_iter().enumerate() {
        let ids: usize = each.iter().map(|c| c.states[at].1).sum();
        let state = labels([("state", state.name())].into_iter());
        snapshot.values.push((names::TRANSACTIONAL_IDS, state, ids as f64));
    }
    for c in &each {
        let partition = labels([("partition", &*c.partition.to_string())].into_iter());
        snapshot.values.push((names::COORDINATED_OPEN, partition, c.open as f64));
    }
    let oldest = each.iter().filter_map(|c| c.oldest_ms).max();
    let markers: usize = each.iter().map(|c| c.markers.partitions).sum();
    let decided = each.iter().filter_map(|c| c.markers.oldest_ms).max();
    for (name, value) in [
        (names::COORDINATED_AGE, seconds(oldest)),
        (names::MARKERS_WAITING, markers as f64),
        (names::MARKERS_AGE, seconds(decided)),
    ] {
        snapshot.values.push((name, String::new(), value));
    }
}
