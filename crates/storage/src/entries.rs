//! Entries read back for a follower that is behind: whole, of every kind, as they were appended.
use crate::directory::Directory;
use crate::frame::{EntryHead, FrameHeader};
use crate::log::Log;
use crate::read::{ExtractError, FileRange, Walk};
use crate::segment::Segment;
use bytes::Bytes;

/// How to get entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntriesPlan {
    /// The first of them left the window: only a checkpoint helps.
    Compacted,
    /// The first of them is not in its file yet: ask again after the group's next
    /// [`crate::DirEvent::Written`].
    NotYet,
    /// A range of a file: [`crate::read_range`], on a thread that may block.
    File(FileRange),
}

/// How to learn a chain value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainPlan {
    /// It is in memory.
    Known(u32),
    /// It comes back as [`crate::Extracted::chain`] of this range, which holds that entry alone.
    File(FileRange),
    /// The entry is not committed here, or its file is gone, or compaction has rewritten it.
    Unknown,
}

/// The entries that a [`FileRange`] is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRange {
    /// First index wanted.
    pub low: u64,
    /// First index that is not wanted any more.
    pub high: u64,
    /// What is wrong above this index is no damage: the log may have given the entry up since.
    pub settled: u64,
}

impl Log {
    /// The entries [`low`, `high`) as far as they are in memory, together no longer than `max_bytes` as frames (the
    /// first one whatever its size); none where `low` is not: then see [`Log::entries_plan`].
    pub fn entries_in_memory(&self, low: u64, high: u64, max_bytes: usize) -> Vec<(EntryHead, Bytes)> {
        let high = high.min(self.last_index + 1);
        let tail = self.tail.as_ref().filter(|_| low >= self.first_index);
        tail.map_or_else(Vec::new, |tail| tail.entries(low, high, max_bytes))
    }

    /// Plan for reading the entries [`low`, `high`), as far as they are in one file and together no longer than
    /// `max_bytes` as frames (the first one whatever its size): it comes back as [`crate::Extracted::entries`],
    /// checked frame by frame and linked by index and chain. Ask again from there for the rest, and ask
    /// [`Log::holds`] before the entries are used.
    pub fn entries_plan(&self, low: u64, high: u64, max_bytes: usize, dir: &Directory) -> EntriesPlan {
        if low < self.first_index {
            return EntriesPlan::Compacted;
        }
        let unwritten = dir.unwritten_from(self.key).unwrap_or(self.last_index + 1);
        let high = high.min(unwritten).min(self.last_index + 1);
        let sealed = self.segments.partition_point(|s| s.end_index < low);
        let segment = self.segments.get(sealed).or(self.active.as_deref().map(|a| &a.segment));
        let Some(segment) = segment.filter(|_| low < high) else { return EntriesPlan::NotYet };
        EntriesPlan::File(self.entry_range(segment, low, high, max_bytes))
    }

    fn entry_range(&self, segment: &Segment, low: u64, high: u64, max_bytes: usize) -> FileRange {
        let mut range = self.range(segment, segment.first_offset, i64::MAX, max_bytes);
        range.entries = Some(EntryRange { low, high, settled: self.commit });
        let active = self.active.as_deref();
        let active = active.filter(|a| a.segment.first_index == segment.first_index);
        match (self.begin_of(low, segment), active) {
            (Some(pos), _) => range.seek(pos),
            (None, Some(active)) => range.seek(active.index.seek_index(low - segment.first_index)),
            (None, None) => {
                range.index = Some((self.path(&segment.index_name()), segment.indexed()));
            }
        }
        range
    }

    /// How to learn the chain value after a committed entry, of the base as well: see [`Log::chain_at`].
    pub fn chain_plan(&self, index: u64, dir: &Directory) -> ChainPlan {
        let unwritten = dir.unwritten_from(self.key);
        if index > self.commit || unwritten.is_some_and(|first| first <= index) {
            return ChainPlan::Unknown;
        }
        if let Some(chain) = self.chain_at(index) {
            return ChainPlan::Known(chain);
        }
        match self.all_segments().find(|s| s.end_index >= index) {
            Some(segment) if segment.first_index <= index && segment.clean.is_none() => {
                ChainPlan::File(self.entry_range(segment, index, index + 1, 1))
            }
            _ => ChainPlan::Unknown,
        }
    }

    /// Where entry `index` begins in `segment`, if that is known.
    fn begin_of(&self, index: u64, segment: &Segment) -> Option<u64> {
        if index == segment.first_index {
            return Some(0);
        }
        let at = self.points.partition_point(|p| p.end_index + 1 < index);
        let point = self.points.get(at).filter(|p| p.end_index + 1 == index)?;
        (point.first_index == segment.first_index).then_some(point.size)
    }

    /// Whether entries that were read back are those of this log still: it may have given them up since they
    /// were planned. An entry is known by its index and term.
    pub fn holds(&self, entries: &[(EntryHead, Bytes)]) -> bool {
        entries.iter().all(|(head, _)| self.term(head.index) == Some(head.term))
    }
}

impl Walk<'_> {
    /// Takes the entry here, of `size` bytes as a frame, where it is wanted; `Ok(Some(bytes))` when it is cut off.
    pub(crate) fn entry(
        &mut self,
        ask: EntryRange,
        header: &FrameHeader,
        size: usize,
    ) -> Result<Option<usize>, ExtractError> {
        let index = header.head.index;
        if self.next_index().map_or(index > ask.low, |due| index != due) {
            return Err(self.damaged("a frame of another entry"));
        }
        self.done = !self.entries.is_empty() && self.size + size > self.range.max_bytes as usize;
        if self.done {
            return Ok(None);
        }
        if size > self.data.len() - self.at {
            return Ok(Some(size));
        }
        let payload = self.checked(size)?;
        if index >= ask.low {
            self.entries.push((header.head, payload));
            self.size += size;
        }
        self.pass(header, size);
        Ok(None)
    }
}
