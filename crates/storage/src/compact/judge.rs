//! What compaction keeps of a batch: the rules of Kafka's cleaner, with one more. What deletes (tombstones, markers)
//! goes only below the horizon that the partition has committed.
use crate::compact::offset_map::OffsetMap;
use bytes::Bytes;
use model::planted::{Bug, planted};
use model::{Offset, ProducerId, WallMs};
use records::{BatchError, BatchHeader, Record};
use std::collections::{BTreeMap, BTreeSet};

/// A batch whose records come to more is not cleaned.
const MOST_UNPACKED: usize = 256 << 20;

/// A transaction that was aborted: whose, its first offset, and that of its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// The producer.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of the marker that ended it.
    pub last_offset: Offset,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays as it is.
    Same,
    /// This takes its place.
    New(Bytes),
    /// Nothing is left of it.
    Gone,
}

/// What was met, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Looked at.
    pub seen: u64,
    /// Let go: superseded, aborted, without a key, or deleted for long.
    pub dropped: u64,
}

/// The rules of one pass.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) now: WallMs,
    pub(crate) delete_retention_ms: i64,
    /// Above it nothing is judged: the map knows no more.
    pub(crate) end: Offset,
    /// Committed: what deletes may go below it.
    pub(crate) horizon: Offset,
    /// From here on what deletes stays in this pass: a file before could not be read, and may hold what it deletes.
    pub(crate) barrier: Offset,
    pub(crate) aborted: BTreeMap<ProducerId, Vec<AbortedRange>>,
    /// The last offset of each producer's last batch.
    pub(crate) producers: BTreeMap<ProducerId, Offset>,
    /// Producers with data of a transaction whose marker has not come yet.
    pub(crate) open: BTreeSet<ProducerId>,
    /// The first of what deletes whose time has not come.
    pub(crate) undecided: Offset,
    /// What deletes whose time has come, and that waits for the horizon.
    pub(crate) waiting: u64,
    pub(crate) counts: RecordCounts,
}

impl Judge {
    /// Whether a batch belongs to a transaction that was aborted.
    pub(crate) fn is_aborted(&self, header: &BatchHeader) -> bool {
        let of = self.aborted.get(&header.producer_id).filter(|_| header.is_transactional());
        let within =
            |range: &AbortedRange| (range.first_offset..range.last_offset).contains(&header.base_offset);
        of.is_some_and(|ranges| ranges.iter().any(within))
    }

    /// Takes the keys of a batch into `map`, from offset `from` on; the offset of the record for which there is no room.
    pub(crate) fn map(
        &self,
        map: &mut OffsetMap,
        from: Offset,
        batch: &Bytes,
        header: &BatchHeader,
    ) -> Result<Option<Offset>, BatchError> {
        if header.is_control() || self.is_aborted(header) || header.last_offset() < from {
            return Ok(None);
        }
        for record in records::records(batch, MOST_UNPACKED)? {
            let record = record?;
            let key = record.key.as_ref().filter(|_| record.offset >= from);
            if key.is_some_and(|key| !map.put(key, record.offset)) {
                return Ok(Some(record.offset));
            }
        }
        Ok(None)
    }

    /// Whether what deletes at `offset` may go, in a batch that says so from `due` on.
    fn may_go(&mut self, offset: Offset, due: Option<WallMs>) -> bool {
        if planted(Bug::DeletedKeyRevived) {
            return true;
        }
        if due.is_none_or(|due| due > self.now) || offset >= self.barrier {
            self.undecided = self.undecided.min(offset);
            return false;
        }
        self.waiting += u64::from(offset >= self.horizon);
        offset < self.horizon
    }

    /// What is left of a batch without records.
    fn nothing(&self, batch: &Bytes, header: &BatchHeader) -> Verdict {
        if self.producers.get(&header.producer_id) != Some(&header.last_offset()) {
            return Verdict::Gone;
        }
        let empty = records::emptied_batch(batch).freeze();
        if empty == *batch { Verdict::Same } else { Verdict::New(empty) }
    }

    /// Judges a batch; in the order of the log.
    pub(crate) fn judge(
        &mut self,
        map: &OffsetMap,
        batch: &Bytes,
        header: &BatchHeader,
    ) -> Result<Verdict, BatchError> {
        if header.is_control() {
            return self.judge_marker(batch, header);
        }
        if header.is_transactional() {
            self.open.insert(header.producer_id);
        }
        if header.base_offset >= self.end {
            return Ok(Verdict::Same);
        }
        self.counts.seen += u64::from(header.record_count.unsigned_abs());
        if self.is_aborted(header) {
            self.counts.dropped += u64::from(header.record_count.unsigned_abs());
            return Ok(self.nothing(batch, header));
        }
        let (mut kept, mut count, mut deletes) = (Vec::new(), 0, false);
        for record in records::records(batch, MOST_UNPACKED)? {
            let record = record?;
            count += 1;
            if self.stays(map, header, &record) {
                deletes |= record.value.is_none() && record.offset < self.end;
                kept.push(record);
            }
        }
        self.counts.dropped += (count - kept.len()) as u64;
        if kept.is_empty() {
            return Ok(self.nothing(batch, header));
        }
        let horizon = self.horizon_of(header, deletes);
        if kept.len() == count && horizon.is_none() {
            return Ok(Verdict::Same);
        }
        Ok(Verdict::New(records::thinned_batch(header, &kept, horizon)?.freeze()))
    }

    /// When what deletes in a batch may go, where that is to be written now.
    fn horizon_of(&self, header: &BatchHeader, deletes: bool) -> Option<WallMs> {
        let fresh = deletes && header.delete_horizon().is_none();
        fresh.then(|| self.now.saturating_add(self.delete_retention_ms))
    }

    fn stays(&mut self, map: &OffsetMap, header: &BatchHeader, record: &Record) -> bool {
        if record.offset >= self.end {
            return true;
        }
        // A topic may have been made a compacted one later.
        let Some(key) = &record.key else { return false };
        if map.last(key).is_some_and(|last| last > record.offset) {
            return false;
        }
        record.value.is_some() || !self.may_go(record.offset, header.delete_horizon())
    }

    /// Whether readers of what is committed are told of the transaction that this marker ends: they leave out what its
    /// producer wrote until they meet it, so it stays for as long as they are.
    fn ends_a_listed_one(&self, header: &BatchHeader) -> bool {
        let of = self.aborted.get(&header.producer_id);
        of.is_some_and(|ranges| ranges.iter().any(|range| range.last_offset == header.base_offset))
    }

    /// A marker stays for as long as there is data of its transaction, and then for as long as a tombstone would.
    fn judge_marker(&mut self, batch: &Bytes, header: &BatchHeader) -> Result<Verdict, BatchError> {
        let has_data = self.open.remove(&header.producer_id);
        if header.base_offset >= self.end || has_data || self.ends_a_listed_one(header) {
            return Ok(Verdict::Same);
        }
        if header.record_count == 0 {
            return Ok(self.nothing(batch, header));
        }
        if self.may_go(header.base_offset, header.delete_horizon()) {
            self.counts.dropped += 1;
            return Ok(self.nothing(batch, header));
        }
        let Some(horizon) = self.horizon_of(header, true) else { return Ok(Verdict::Same) };
        let kept: Vec<Record> = records::records(batch, MOST_UNPACKED)?.collect::<Result<_, _>>()?;
        Ok(Verdict::New(records::thinned_batch(header, &kept, Some(horizon))?.freeze()))
    }
}
