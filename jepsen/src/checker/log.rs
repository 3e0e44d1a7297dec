//! Each key's log, as all clients together saw it.
use super::txn::writers;
use super::{Kind, Verdict};
use crate::history::{History, Line, Outcome};
use std::collections::BTreeMap;

/// Records of later epochs of their producers: key and first offset; the offset after the last, producer and epoch.
type Renumbered = BTreeMap<(u32, i64), (i64, i64, i16)>;

fn renumbered(history: &History) -> Renumbered {
    let row = |line: &Line| match *line {
        Line::Renumbered { key, offset, count, producer, epoch } => {
            Some(((key, offset), (offset.saturating_add_unsigned(count), producer, epoch)))
        }
        _ => None,
    };
    history.rest.iter().filter_map(row).collect()
}

/// The producer and its epoch, where a record is of a later one than the first.
fn epoch_at(rows: &Renumbered, key: u32, offset: i64) -> Option<(i64, i16)> {
    let (_, (end, producer, epoch)) = rows.range((key, i64::MIN)..=(key, offset)).next_back()?;
    (offset < *end).then_some((*producer, *epoch))
}

/// One key's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Offset and value of all that was acknowledged or read, in that order, each once.
    pub(crate) seen: Vec<(i64, u64)>,
    /// The offsets of `seen`, each once: what stands at `i` has the dense index `i`.
    offsets: Vec<i64>,
    /// Value and index of its first place, by value.
    indexes: Vec<(u64, usize)>,
    /// Values that somebody read, in ascending order.
    pub(crate) read: Vec<u64>,
    /// The highest index that somebody read.
    pub(crate) highest_read: Option<usize>,
}

impl Log {
    /// The dense index of an offset.
    pub(crate) fn index(&self, offset: i64) -> Option<usize> {
        self.offsets.binary_search(&offset).ok()
    }

    /// The dense index of the first place of a value.
    pub(crate) fn first_index(&self, value: u64) -> Option<usize> {
        let at = self.indexes.binary_search_by_key(&value, |(value, _)| *value).ok()?;
        Some(self.indexes[at].1)
    }

    pub(crate) fn was_read(&self, value: u64) -> bool {
        self.read.binary_search(&value).is_ok()
    }

    fn settle(&mut self, mut read: Vec<(i64, u64)>) {
        self.seen.append(&mut read.clone());
        self.seen.sort_unstable();
        self.seen.dedup();
        self.offsets = self.seen.iter().map(|(offset, _)| *offset).collect();
        self.offsets.dedup();
        let mut places: Vec<(u64, usize)> = Vec::with_capacity(self.seen.len());
        let mut index = 0;
        for (at, (offset, value)) in self.seen.iter().enumerate() {
            index += usize::from(at > 0 && self.seen[at - 1].0 != *offset);
            places.push((*value, index));
        }
        places.sort_unstable();
        places.dedup_by_key(|(value, _)| *value);
        self.indexes = places;
        self.highest_read =
            read.iter().map(|(offset, _)| *offset).max().and_then(|offset| self.index(offset));
        self.read = read.drain(..).map(|(_, value)| value).collect();
        self.read.sort_unstable();
        self.read.dedup();
    }
}

/// The logs of all keys.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    pub(crate) keys: BTreeMap<u32, Log>,
}

impl Logs {
    /// Puts together what acknowledgements and reads say. Reads always count, whatever became of the reader.
    pub fn of(history: &History) -> Logs {
        let mut keys: BTreeMap<u32, Log> = BTreeMap::new();
        for send in &history.sends {
            if let Outcome::Ok(Some(offset)) = send.outcome {
                keys.entry(send.key).or_default().seen.push((offset, send.value));
            }
        }
        let mut read: BTreeMap<u32, Vec<(i64, u64)>> = BTreeMap::new();
        for (key, offset, value) in history.polls.iter().flat_map(|poll| &poll.records) {
            read.entry(*key).or_default().push((*offset, *value));
            keys.entry(*key).or_default();
        }
        for (key, log) in &mut keys {
            log.settle(read.remove(key).unwrap_or_default());
        }
        Logs { keys }
    }

    /// Whether somebody read this value.
    pub fn was_read(&self, key: u32, value: u64) -> bool {
        self.keys.get(&key).is_some_and(|log| log.was_read(value))
    }

    /// How many different values were read.
    pub fn read_values(&self) -> u64 {
        self.keys.values().map(|log| log.read.len() as u64).sum()
    }
}

pub(super) fn check(history: &History, logs: &Logs, verdict: &mut Verdict) {
    let epochs = renumbered(history);
    // A transaction that begins anew has other values: in one nothing is sent again.
    let of_txn = writers(history);
    for (key, log) in &logs.keys {
        for pair in log.seen.windows(2) {
            let [(offset, one), (after, other)] = [pair[0], pair[1]];
            if offset == after {
                let told = || format!("key {key} offset {offset}: {one} and {other}");
                verdict.found(Kind::InconsistentOffsets, told);
            }
        }
        let mut by_value: Vec<(u64, i64)> =
            log.seen.iter().map(|(offset, value)| (*value, *offset)).collect();
        by_value.sort_unstable();
        for pair in by_value.windows(2) {
            let [(value, first), (same, second)] = [pair[0], pair[1]];
            // Sent again under another number: no broker can know it for the same.
            let renumbered = epoch_at(&epochs, *key, second).is_some_and(|later| {
                epoch_at(&epochs, *key, first).is_none_or(|(id, epoch)| id == later.0 && epoch < later.1)
            });
            if value == same && renumbered && !of_txn.contains_key(&value) {
                verdict.figures.renumbered += 1;
            } else if value == same {
                let told = || format!("key {key}: {value} stands at {first} and at {second}");
                verdict.found(Kind::Duplicate, told);
            }
        }
        // Markers and aborted records have offsets that nobody sees.
        for pair in log.offsets.windows(2).filter(|_| history.txns.is_empty()) {
            if pair[1] != pair[0] + 1 {
                let told = || format!("key {key}: nothing between {} and {}", pair[0], pair[1]);
                verdict.found(Kind::OffsetGap, told);
            }
        }
    }
}
