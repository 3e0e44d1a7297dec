//! What clients were told, and the checkers. Each violation names its checker.
use model::GroupKey;
use std::collections::{BTreeMap, BTreeSet};

/// A checker's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which checker.
    pub checker: &'static str,
    /// What it saw.
    pub detail: String,
}

/// Names of all checkers, in the order of docs/simulation.md.
pub const CHECKERS: &[&str] = &[
    "acked-lost",
    "value-changed",
    "duplicate",
    "high-watermark-regressed",
    "beyond-high-watermark",
    "log-start-regressed",
    "offsets-not-dense",
    "committed-offset-regressed",
    "idempotence-broken",
    "topic-lost",
    "liveness",
];

/// The number that stands in a record's value; unique in a run.
pub(crate) type Value = u64;

#[derive(Debug, Default)]
struct Log {
    /// By offset: what was acknowledged or read there.
    known: BTreeMap<i64, Value>,
    acked: BTreeSet<Value>,
    high_watermark: i64,
    log_start: i64,
    /// Bits of it were flipped: reads may be refused, never wrong.
    damaged: bool,
}

/// Everything that must stay true.
#[derive(Debug, Default)]
pub struct Oracle {
    logs: BTreeMap<GroupKey, Log>,
    /// By value: the offset at which it stands.
    places: BTreeMap<Value, (GroupKey, i64)>,
    /// By (group, partition): acknowledged and attempted offset.
    commits: BTreeMap<(usize, i32), (i64, i64)>,
    /// What was found.
    pub violations: Vec<Violation>,
}

impl Oracle {
    pub(crate) fn violate(&mut self, checker: &'static str, detail: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { checker, detail });
        }
    }

    pub(crate) fn damage(&mut self, key: GroupKey) {
        self.logs.entry(key).or_default().damaged = true;
    }

    pub(crate) fn is_damaged(&self, key: GroupKey) -> bool {
        self.logs.get(&key).is_some_and(|log| log.damaged)
    }

    /// Acknowledged from the page cache, and then the power went: everything may be gone. What is still there
    /// stands where it stood.
    pub(crate) fn power_lost(&mut self) {
        for log in self.logs.values_mut() {
            *log = Log { damaged: log.damaged, ..Log::default() };
        }
    }

    /// `values` were acknowledged at `base` and on.
    pub(crate) fn acked(&mut self, key: GroupKey, base: i64, values: &[Value]) {
        for (offset, value) in (base..).zip(values) {
            self.place(key, offset, *value);
            self.logs.entry(key).or_default().acked.insert(*value);
        }
    }

    fn place(&mut self, key: GroupKey, offset: i64, value: Value) {
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
    }

    /// A fetch was answered with these watermarks.
    pub(crate) fn watermarks(&mut self, key: GroupKey, high_watermark: i64, log_start: i64) {
        let log = self.logs.entry(key).or_default();
        let (hw, start) = (log.high_watermark, log.log_start);
        log.high_watermark = hw.max(high_watermark);
        log.log_start = start.max(log_start);
        if high_watermark < hw {
            let detail = format!("{key}: {hw} became {high_watermark}");
            self.violate("high-watermark-regressed", detail);
        }
        if log_start < start {
            self.violate("log-start-regressed", format!("{key}: {start} became {log_start}"));
        }
    }

    /// A read from `from` returned these records; `next` is where the batches end.
    pub(crate) fn read(&mut self, key: GroupKey, from: i64, high_watermark: i64, records: &[(i64, Value)]) {
        let mut expected: Option<i64> = None;
        for (offset, value) in records {
            if *offset >= high_watermark {
                let detail = format!("{key}@{offset} was readable at {high_watermark}");
                self.violate("beyond-high-watermark", detail);
            }
            if expected.is_some_and(|e| e != *offset) || (expected.is_none() && *offset > from) {
                let detail = format!("{key}: after {expected:?} (from {from}) came {offset}");
                self.violate("offsets-not-dense", detail);
            }
            expected = Some(offset + 1);
            self.place(key, *offset, *value);
        }
    }

    /// The whole log from `log_start` to `high_watermark` was read: nothing acknowledged is missing.
    pub(crate) fn complete(&mut self, key: GroupKey, log_start: i64, end: i64, seen: &BTreeMap<i64, Value>) {
        let Some(log) = self.logs.get(&key) else { return };
        let lost: Vec<String> = log
            .known
            .range(log_start..)
            .filter(|(offset, value)| {
                (**offset >= end && log.acked.contains(value))
                    || (**offset < end && seen.get(offset) != Some(value))
            })
            .map(|(offset, value)| format!("{key}@{offset}: {value}"))
            .collect();
        if let Some(first) = lost.first() {
            let detail = format!("{} records, the first {first}; the log ends at {end}", lost.len());
            self.violate("acked-lost", detail);
        }
    }

    /// Keys of all logs that clients know of.
    pub(crate) fn keys(&self) -> Vec<GroupKey> {
        self.logs.keys().copied().collect()
    }

    pub(crate) fn commit_tried(&mut self, group: usize, partition: i32, offset: i64) {
        let entry = self.commits.entry((group, partition)).or_insert((-1, -1));
        entry.1 = entry.1.max(offset);
    }

    pub(crate) fn committed(&mut self, group: usize, partition: i32, offset: i64) {
        let entry = self.commits.entry((group, partition)).or_insert((-1, -1));
        entry.0 = entry.0.max(offset);
    }

    pub(crate) fn fetched_offset(&mut self, group: usize, partition: i32, offset: i64) {
        let (acked, tried) = self.commits.get(&(group, partition)).copied().unwrap_or((-1, -1));
        if offset < acked || offset > tried {
            let detail =
                format!("group {group} partition {partition}: {offset}, acked {acked}, tried {tried}");
            self.violate("committed-offset-regressed", detail);
        }
    }
}
