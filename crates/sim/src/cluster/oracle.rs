//! What clients were told, and what must follow from it.
use crate::oracle::{Value, Violation};
use crate::workload::MARKER;
use model::{GroupKey, LeaderEpoch, Offset};
use std::collections::{BTreeMap, BTreeSet};

/// Names of the checkers of what clients see.
pub const CHECKERS: &[&str] = &[
    "acked-lost",
    "value-changed",
    "duplicate",
    "refused-visible",
    "producer-order",
    "idempotence-broken",
    "high-watermark-regressed",
    "log-start-regressed",
    "beyond-high-watermark",
    "offsets-not-dense",
    "topic-lost",
    "producer-id-reused",
    "stale-read",
    "liveness",
];

/// The epoch of a leader and the number of its process: a lost term may be used again by a replica that is all
/// of its group.
pub(crate) type Reign = (LeaderEpoch, u64);

#[derive(Debug, Default)]
struct Log {
    /// By offset: what was acknowledged by all, or read, there.
    known: BTreeMap<Offset, Value>,
    /// Acknowledged by all.
    acked: BTreeSet<Value>,
    /// Acknowledged by the leader of a reign alone.
    acked_by_one: Vec<(Offset, Value, Reign)>,
    /// By epoch: the highest watermark and log start that its leader told.
    told: BTreeMap<LeaderEpoch, (Offset, Offset)>,
}

/// Everything that clients know.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    logs: BTreeMap<GroupKey, Log>,
    /// By value: where it stands.
    places: BTreeMap<Value, (GroupKey, Offset)>,
    /// Refused for good: they must never be seen.
    refused: BTreeSet<Value>,
    producer_ids: BTreeSet<i64>,
    /// Partitions of compacted topics: other rules hold there.
    compacted: BTreeSet<GroupKey>,
    /// Partitions that are being deleted: nothing is promised of them.
    doomed: BTreeSet<GroupKey>,
    pub(crate) violations: Vec<Violation>,
}

impl Oracle {
    pub(crate) fn violate(&mut self, checker: &'static str, detail: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { checker, detail });
        }
    }

    /// The topic is being deleted: nothing is known of it any more.
    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.doomed.insert(key);
        self.logs.remove(&key);
        self.places.retain(|_, (at, _)| *at != key);
    }

    /// An operator has accepted that what was acknowledged from `from` on is lost. How many records that may be.
    pub(crate) fn lose(&mut self, key: GroupKey, from: Offset) -> usize {
        let Some(log) = self.logs.get_mut(&key) else { return 0 };
        let given_up = log.known.split_off(&from).len();
        log.acked_by_one.retain(|(offset, ..)| *offset < from);
        log.told.clear();
        let lost = |at: &(GroupKey, Offset)| at.0 == key && at.1 >= from;
        let gone: Vec<Value> = self.places.iter().filter(|(_, at)| lost(at)).map(|(v, _)| *v).collect();
        for value in gone {
            self.places.remove(&value);
            log.acked.remove(&value);
        }
        given_up
    }

    /// Acknowledged with acks=all, by the leader of `epoch`, or nobody knows by which where it is -1.
    pub(crate) fn acked(&mut self, key: GroupKey, epoch: LeaderEpoch, base: Offset, values: &[Value]) {
        if self.doomed.contains(&key) {
            return;
        }
        if epoch >= 0 {
            let told = self.logs.entry(key).or_default().told.entry(epoch).or_default();
            told.0 = told.0.max(base + values.len() as Offset);
        }
        for (offset, value) in (base..).zip(values) {
            self.place(key, offset, *value);
            self.logs.entry(key).or_default().acked.insert(*value);
        }
    }

    /// Acknowledged with acks=1 by the leader of `reign`.
    pub(crate) fn acked_by_one(&mut self, key: GroupKey, reign: Reign, base: Offset, values: &[Value]) {
        if self.doomed.contains(&key) {
            return;
        }
        let log = self.logs.entry(key).or_default();
        log.acked_by_one.extend((base..).zip(values).map(|(offset, value)| (offset, *value, reign)));
    }

    /// These were refused for good.
    pub(crate) fn refused(&mut self, values: &[Value], why: &str) {
        for value in values {
            self.refused.insert(*value);
            if let Some((key, offset)) = self.places.get(value) {
                let detail = format!("{value} stands at {key}@{offset} and was refused: {why}");
                self.violate("refused-visible", detail);
            }
        }
    }

    pub(crate) fn producer_id(&mut self, id: i64) {
        if !self.producer_ids.insert(id) {
            self.violate("producer-id-reused", format!("{id} was handed out twice"));
        }
    }

    fn place(&mut self, key: GroupKey, offset: Offset, value: Value) {
        if self.doomed.contains(&key) {
            return;
        }
        let log = self.logs.entry(key).or_default();
        if let Some(before) = log.known.insert(offset, value)
            && before != value
        {
            self.violate("value-changed", format!("{key}@{offset}: {before} became {value}"));
        }
        if let Some((k, o)) = self.places.insert(value, (key, offset))
            && (k, o) != (key, offset)
        {
            self.violate("duplicate", format!("{value} stands at {k}@{o} and at {key}@{offset}"));
        }
        if self.refused.contains(&value) {
            self.violate("refused-visible", format!("{value} was refused and stands at {key}@{offset}"));
        }
    }

    /// The leader of `epoch` told its watermarks. A leader of an older epoch may be late; one of a later
    /// epoch knows all that was told before.
    pub(crate) fn told(&mut self, key: GroupKey, epoch: LeaderEpoch, high: Offset, start: Offset) {
        if self.doomed.contains(&key) {
            return;
        }
        let log = self.logs.entry(key).or_default();
        let before = log.told.range(..=epoch);
        let (h, s) = before.fold((0, 0), |(h, s), (_, (high, start))| (h.max(*high), s.max(*start)));
        log.told.insert(epoch, (h.max(high), s.max(start)));
        if high < h {
            let detail = format!("{key}: {h} was told, the leader of epoch {epoch} says {high}");
            self.violate("high-watermark-regressed", detail);
        }
        if start < s {
            let detail = format!("{key}: {s} was told, the leader of epoch {epoch} says {start}");
            self.violate("log-start-regressed", detail);
        }
    }

    /// A read from `from` returned these records.
    pub(crate) fn read(&mut self, key: GroupKey, from: Offset, high: Offset, records: &[(Offset, Value)]) {
        let mut expected: Option<Offset> = None;
        for (offset, value) in records {
            if *offset >= high {
                self.violate("beyond-high-watermark", format!("{key}@{offset} was readable at {high}"));
            }
            if expected.is_some_and(|e| e != *offset) || (expected.is_none() && *offset > from) {
                let detail = format!("{key}: after {expected:?} (from {from}) came {offset}");
                self.violate("offsets-not-dense", detail);
            }
            expected = Some(offset + 1);
            if *value != MARKER {
                self.place(key, *offset, *value);
            }
        }
    }

    /// The whole log was read at the leader of `reign`: nothing acknowledged is missing, and each producer's
    /// values stand in the order in which it sent them.
    pub(crate) fn complete(
        &mut self,
        key: GroupKey,
        reign: Reign,
        start: Offset,
        seen: &BTreeMap<Offset, Value>,
        producer_of: &BTreeMap<Value, usize>,
    ) {
        let Some(log) = self.logs.get(&key) else { return };
        let mut lost: Vec<String> = Vec::new();
        for (offset, value) in log.known.range(start..) {
            if seen.get(offset) != Some(value) {
                lost.push(format!("{key}@{offset}: {value}"));
            }
        }
        for (offset, value, at) in &log.acked_by_one {
            if *at == reign && *offset >= start && seen.get(offset) != Some(value) {
                lost.push(format!("{key}@{offset}: {value}, by the leader of {at:?} alone"));
            }
        }
        if let Some(first) = lost.first() {
            self.violate("acked-lost", format!("{} records, the first {first}", lost.len()));
        }
        let mut last: BTreeMap<usize, Value> = BTreeMap::new();
        for (offset, value) in seen {
            let Some(producer) = producer_of.get(value) else { continue };
            if let Some(before) = last.insert(*producer, *value)
                && before >= *value
            {
                let detail = format!("{key}@{offset}: {value} of producer {producer} after {before}");
                self.violate("producer-order", detail);
            }
        }
    }

    /// How far the log reaches at least, as anybody can know by now.
    pub(crate) fn floor(&self, key: GroupKey) -> Offset {
        let Some(log) = self.logs.get(&key) else { return 0 };
        log.told.values().map(|(high, _)| *high).max().unwrap_or(0)
    }

    /// Whether the partition is being deleted.
    pub(crate) fn is_doomed(&self, key: GroupKey) -> bool {
        self.doomed.contains(&key)
    }

    /// The partition is of a compacted topic.
    pub(crate) fn is_compacted(&mut self, key: GroupKey) {
        self.compacted.insert(key);
    }

    /// Partitions that clients know something of, whose records stay.
    pub(crate) fn keys(&self) -> Vec<GroupKey> {
        self.logs.keys().filter(|key| !self.compacted.contains(key)).copied().collect()
    }
}
