//! Batches at the tail, kept in memory for readers and for followers that are behind, all groups of a directory under one byte budget.
use crate::frame::{EntryHead, FRAME_HEADER};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an entry takes beside its bytes: its rows here, and the bookkeeping of its buffer.
const ENTRY_BYTES: usize = 160;

#[derive(Debug)]
struct Cached {
    head: EntryHead,
    charge: usize,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entries: VecDeque<Cached>,
}

#[derive(Debug, Default)]
struct Inner {
    limit: usize,
    used: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Oldest first: whose oldest entry goes next. Rows of freed slots are stale by their generation.
    order: VecDeque<(u32, u32)>,
}

/// The cache of one directory; clones are handles.
#[derive(Clone, Debug)]
pub(crate) struct TailCache {
    inner: Arc<Mutex<Inner>>,
}

/// One log's part of the cache: contiguous offsets, oldest evicted first.
#[derive(Debug)]
pub(crate) struct TailSlot {
    cache: TailCache,
    slot: u32,
}

impl TailCache {
    pub(crate) fn new(limit: usize) -> TailCache {
        TailCache { inner: Arc::new(Mutex::new(Inner { limit, ..Inner::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slot(&self) -> TailSlot {
        let mut inner = self.lock();
        let slot = inner.free.pop().unwrap_or_else(|| {
            inner.slots.push(Slot::default());
            u32::try_from(inner.slots.len() - 1).expect("fewer logs than 2^32")
        });
        drop(inner);
        TailSlot { cache: self.clone(), slot }
    }

    /// Bytes charged.
    pub(crate) fn used(&self) -> usize {
        self.lock().used
    }
}

impl Inner {
    fn evict(&mut self) {
        while self.used > self.limit {
            let Some((slot, generation)) = self.order.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(slot as usize) else { continue };
            if slot.generation == generation
                && let Some(gone) = slot.entries.pop_front()
            {
                self.used -= gone.charge;
            }
        }
    }

    fn clear(&mut self, slot: u32) {
        let Some(slot) = self.slots.get_mut(slot as usize) else { return };
        self.used -= slot.entries.iter().map(|e| e.charge).sum::<usize>();
        slot.entries = VecDeque::new();
        slot.generation = slot.generation.wrapping_add(1);
    }
}

impl TailSlot {
    /// Admits the batches of one entry. `allocation` bytes of memory live as long as `bytes`; below a quarter
    /// of it a copy is kept instead.
    pub(crate) fn admit(&self, head: &EntryHead, bytes: Bytes, allocation: usize) {
        let copied = bytes.len() < allocation / 4;
        let bytes = if copied { Bytes::copy_from_slice(&bytes) } else { bytes };
        let charge = ENTRY_BYTES + if copied { bytes.len() } else { allocation.max(bytes.len()) };
        let mut inner = self.cache.lock();
        let slot = &mut inner.slots[self.slot as usize];
        if slot.entries.back().is_some_and(|last| last.head.next_offset() != head.base_offset) {
            inner.clear(self.slot);
        }
        let slot = &mut inner.slots[self.slot as usize];
        slot.entries.push_back(Cached { head: *head, charge, bytes });
        let generation = slot.generation;
        inner.order.push_back((self.slot, generation));
        inner.used += charge;
        inner.evict();
    }

    /// Whole batches from the one that holds `from` up to `upto`, at least one, then up to `max_bytes`;
    /// `None` when `from` is not in memory.
    pub(crate) fn read(&self, from: i64, upto: i64, max_bytes: usize) -> Option<Vec<Bytes>> {
        let inner = self.cache.lock();
        let entries = &inner.slots[self.slot as usize].entries;
        let first = entries.partition_point(|e| e.head.next_offset() <= from);
        if entries.get(first)?.head.base_offset > from {
            return None;
        }
        let mut out = Vec::new();
        let mut size = 0;
        for entry in entries.range(first..) {
            let (part, complete) = whole_batches(&entry.bytes, from, upto, max_bytes, &mut size);
            if !part.is_empty() {
                out.push(part);
            }
            if !complete {
                break;
            }
        }
        Some(out)
    }
}

impl TailSlot {
    /// Forgets what lies wholly below `offset`.
    pub(crate) fn forget_below(&self, offset: i64) {
        let mut inner = self.cache.lock();
        let slot = &mut inner.slots[self.slot as usize];
        let (count, generation) =
            (slot.entries.partition_point(|e| e.head.next_offset() <= offset), slot.generation);
        let freed: usize = slot.entries.drain(..count).map(|e| e.charge).sum();
        inner.used -= freed;
        let mut rows = count;
        inner.order.retain(|row| {
            let gone = rows > 0 && *row == (self.slot, generation);
            rows -= usize::from(gone);
            !gone
        });
    }

    /// Entries [`low`, `high`), as far as they follow one another here and together are no longer than `max_bytes`
    /// as frames (the first one whatever its size); none where `low` is not here.
    pub(crate) fn entries(&self, low: u64, high: u64, max_bytes: usize) -> Vec<(EntryHead, Bytes)> {
        let inner = self.cache.lock();
        let entries = &inner.slots[self.slot as usize].entries;
        let first = entries.partition_point(|e| e.head.index < low);
        let (mut found, mut size) = (Vec::new(), 0);
        // Entries of other kinds are not kept: there the run ends.
        for (index, entry) in (low..high).zip(entries.range(first..)) {
            size += FRAME_HEADER + entry.bytes.len();
            if entry.head.index != index || (!found.is_empty() && size > max_bytes) {
                break;
            }
            found.push((entry.head, entry.bytes.clone()));
        }
        found
    }
}

impl Drop for TailSlot {
    fn drop(&mut self) {
        let mut inner = self.cache.lock();
        inner.clear(self.slot);
        inner.free.push(self.slot);
    }
}

/// The part of `payload` (whole batches) that overlaps [from, upto) and fits, and whether its end was
/// reached; `size` counts over calls, and the first batch fits always.
pub(crate) fn whole_batches(
    payload: &Bytes,
    from: i64,
    upto: i64,
    max_bytes: usize,
    size: &mut usize,
) -> (Bytes, bool) {
    let (mut start, mut end, mut complete) = (None, 0, true);
    for batch in records::batches(payload) {
        let Ok((range, header)) = batch else { break };
        if header.next_offset() <= from {
            continue;
        }
        if header.base_offset >= upto || (*size > 0 && *size + range.len() > max_bytes) {
            complete = false;
            break;
        }
        *size += range.len();
        start.get_or_insert(range.start);
        end = range.end;
    }
    (start.map_or_else(Bytes::new, |start| payload.slice(start..end)), complete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::batch;

    fn head(index: u64, base_offset: i64) -> EntryHead {
        let kind = crate::EntryKind::Data;
        EntryHead { index, term: 1, kind, flags: 0, offset_count: 3, base_offset, append_time: 0 }
    }

    impl TailSlot {
        fn take(&self, base: i64, allocation: usize) {
            self.admit(&head(base as u64 / 3, base), entry(base), allocation);
        }
    }

    fn entry(base: i64) -> Bytes {
        Bytes::from([batch(base, 2, 0), batch(base + 2, 1, 0)].concat())
    }

    #[test]
    fn gives_whole_batches_and_at_least_one() {
        let slot = TailCache::new(1 << 20).slot();
        (0..4).for_each(|n| slot.take(n * 3, 0));
        let one = batch(0, 2, 0).len();
        assert_eq!(slot.read(1, 99, 1).unwrap().concat(), batch(0, 2, 0));
        assert_eq!(slot.read(2, 5, 1 << 20).unwrap().concat(), [batch(2, 1, 0), batch(3, 2, 0)].concat());
        assert_eq!(slot.read(2, 99, one * 2 + 1).unwrap().concat().len(), one * 2);
        assert_eq!(slot.read(12, 99, 1), None);
    }

    #[test]
    fn the_oldest_entry_of_any_log_goes_first() {
        let size = ENTRY_BYTES + entry(0).len();
        let cache = TailCache::new(size * 3);
        let (a, b) = (cache.slot(), cache.slot());
        a.take(0, 0);
        b.take(0, 0);
        a.take(3, 0);
        b.take(3, 0);
        assert!(a.read(0, 9, 1).is_none() && a.read(3, 9, 1).is_some() && b.read(0, 9, 1).is_some());
        drop(b);
        assert_eq!(cache.used(), size);
    }

    #[test]
    fn what_is_forgotten_leaves_the_others_their_turn() {
        let size = ENTRY_BYTES + entry(0).len();
        let cache = TailCache::new(size * 3);
        let (a, b) = (cache.slot(), cache.slot());
        a.take(0, 0);
        a.take(3, 0);
        a.take(6, 0);
        a.forget_below(4);
        assert!(a.read(0, 9, 1).is_none() && a.read(4, 9, 1).is_some());
        assert_eq!(cache.used(), 2 * size);
        b.take(0, 0);
        b.take(3, 0);
        assert!(a.read(3, 9, 1).is_none() && a.read(6, 9, 1).is_some() && b.read(0, 9, 1).is_some());
    }

    #[test]
    fn a_small_part_of_a_large_buffer_is_copied() {
        let cache = TailCache::new(1 << 20);
        let slot = cache.slot();
        slot.take(0, 1 << 16);
        assert_eq!(cache.used(), ENTRY_BYTES + entry(0).len());
        slot.take(3, entry(3).len() * 3);
        assert_eq!(cache.used(), 2 * ENTRY_BYTES + entry(0).len() * 4);
    }

    #[test]
    fn a_gap_in_offsets_empties_a_log_before() {
        let slot = TailCache::new(1 << 20).slot();
        slot.take(0, 0);
        slot.take(6, 0);
        assert!(slot.read(0, 9, 1).is_none() && slot.read(6, 9, 1).is_some());
    }

    #[test]
    fn entries_for_a_follower_follow_one_another() {
        let slot = TailCache::new(1 << 20).slot();
        [0, 3, 6].into_iter().for_each(|base| slot.take(base, 0));
        // An entry without offsets stood between them.
        slot.admit(&head(4, 9), entry(9), 0);
        let indexes = |low, high, max| -> Vec<u64> {
            slot.entries(low, high, max).iter().map(|(head, _)| head.index).collect()
        };
        assert_eq!((indexes(0, 9, 1 << 20), indexes(1, 2, 1 << 20)), (vec![0, 1, 2], vec![1]));
        assert_eq!((indexes(3, 9, 1 << 20), indexes(4, 9, 1 << 20)), (vec![], vec![4]));
        let size = FRAME_HEADER + entry(0).len();
        assert_eq!((indexes(0, 9, 1), indexes(0, 9, 2 * size)), (vec![0], vec![0, 1]));
        assert_eq!(slot.entries(1, 2, 1)[0].1, entry(3));
    }
}
