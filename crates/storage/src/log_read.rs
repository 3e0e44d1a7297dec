//! Read plans of a log: where the batches of a fetch are.
use crate::error::ReadError;
use crate::log::Log;
use crate::read::{FileRange, ReadPlan, TimestampPlan};
use crate::segment::Segment;

/// Read beside what was asked for: frame headers, and what the index leaves to skip.
const SLACK: u64 = 16 << 10;
/// One answer holds no more, unless its first batch does.
const MAX_READ: u64 = 8 << 20;

impl Log {
    /// Plan for reading batches from `from` up to (excluding) `upto`, at least one batch if there is any.
    pub fn read_plan(&self, from: i64, upto: i64, max_bytes: usize) -> Result<ReadPlan, ReadError> {
        let upto = upto.min(self.next_offset);
        if from < self.log_start || from > upto {
            return Err(ReadError::OutOfRange { offset: from, start: self.log_start, end: upto });
        }
        if from == upto {
            return Ok(ReadPlan::Empty);
        }
        if let Some(batches) = self.tail.as_ref().and_then(|t| t.read(from, upto, max_bytes)) {
            return Ok(ReadPlan::Memory(batches));
        }
        // Compaction may have left nothing up to the bound.
        let segment = self.segment_of(from).filter(|s| s.first_offset < upto);
        let Some(segment) = segment else { return Ok(ReadPlan::Empty) };
        let mut range = self.range(segment, from, upto, max_bytes);
        if let Some(damage) = self.base_damage.iter().find(|d| d.file == range.path) {
            return Err(ReadError::Damaged(damage.clone()));
        }
        match self.active.as_deref().filter(|a| a.segment.first_index == segment.first_index) {
            Some(active) => range.seek(active.index.seek_offset(from - active.segment.first_offset)),
            None => range.index = Some((self.path(&segment.index_name()), segment.indexed())),
        }
        Ok(ReadPlan::File(range))
    }

    /// The first offset of the file that holds the record at `offset`; `None` where no file reaches so far.
    pub fn file_start(&self, offset: i64) -> Option<i64> {
        self.segment_of(offset).map(|segment| segment.first_offset)
    }

    /// The file that holds the record at `offset`, or the first one above it.
    fn segment_of(&self, offset: i64) -> Option<&Segment> {
        let sealed = self.segments.partition_point(|s| s.next_offset <= offset);
        let active = || self.active.as_deref().map(|a| &a.segment).filter(|s| s.data_end() > offset);
        // Compaction may have left nothing at or above the offset in some.
        self.segments[sealed..].iter().find(|s| s.data_end() > offset).or_else(active)
    }

    pub(crate) fn range(&self, segment: &Segment, from: i64, upto: i64, max_bytes: usize) -> FileRange {
        let max_bytes = u32::try_from((max_bytes as u64).min(MAX_READ)).expect("MAX_READ fits");
        let mut range = FileRange {
            key: self.key,
            path: self.path(&segment.name()),
            pos: 0,
            len: 0,
            file_end: segment.size,
            from,
            upto,
            max_bytes,
            index: None,
            min_timestamp: None,
            entries: None,
            raw: false,
        };
        range.seek(0);
        range
    }

    /// Plan for finding the first record at or above `from` and below `upto` with a timestamp of at least
    /// `ts`.
    pub fn offset_for_timestamp(&self, ts: i64, from: i64, upto: i64) -> TimestampPlan {
        let from = from.max(self.log_start);
        let upto = upto.min(self.next_offset);
        let candidate = |s: &&Segment| s.data_end() > from && s.first_offset < upto && s.max_timestamp >= ts;
        let Some(segment) = self.all_segments().find(candidate) else { return TimestampPlan::None };
        let mut range = self.range(segment, from.max(segment.first_offset), upto, 1);
        range.min_timestamp = Some(ts);
        match self.active.as_deref().filter(|a| a.segment.first_index == segment.first_index) {
            Some(active) => {
                let by_offset = |offset| active.index.seek_offset(offset - active.segment.first_offset);
                // Not above the bound: frames there may be on their way to the file.
                let by_time = active.index.seek_timestamp(ts).min(by_offset(upto - 1));
                range.seek(by_offset(range.from).max(by_time));
            }
            None => range.index = Some((self.path(&segment.index_name()), segment.indexed())),
        }
        TimestampPlan::File(range)
    }

    /// The largest timestamp in [log start, `upto`) and the base offset of the first entry that has it (read
    /// from there to find the record). A file whose latest record lies outside that range is passed over.
    pub fn max_timestamp(&self, upto: i64) -> Option<(i64, i64)> {
        let within = |s: &&Segment| {
            s.max_timestamp >= 0 && s.max_timestamp_offset >= self.log_start && s.max_timestamp_offset < upto
        };
        let mut best: Option<(i64, i64)> = None;
        for s in self.all_segments().filter(within) {
            if best.is_none_or(|(ts, _)| s.max_timestamp > ts) {
                best = Some((s.max_timestamp, s.max_timestamp_offset));
            }
        }
        best
    }
}

impl FileRange {
    /// Takes no more than `bytes` of the file, wherever it begins.
    pub fn bound(&mut self, bytes: u32) {
        self.max_bytes = self.max_bytes.min(bytes.saturating_sub(SLACK as u32));
        self.len = self.len.min(bytes);
    }

    /// Begins the range at `pos`, as long as what was asked for.
    pub(crate) fn seek(&mut self, pos: u64) {
        self.pos = pos.min(self.file_end);
        let len = (u64::from(self.max_bytes) + SLACK).min(self.file_end - self.pos);
        self.len = u32::try_from(len).unwrap_or(u32::MAX);
    }
}
