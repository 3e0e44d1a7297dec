//! One data file: what is known about it without reading it.
use crate::checkpoint::{BaseFile, MAX_POSITION};
use crate::fx::WriteRun;
use crate::sparse_index::{IndexRow, IndexedFile, SparseIndex};
use crate::{EntryHead, EntryKind, FileId};

/// No data file comes near this: the sum over all of a log's files cannot overflow.
const MAX_SIZE: u64 = 1 << 40;

/// Summary of the frames of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of its first frame: its name.
    pub(crate) first_index: u64,
    pub(crate) end_index: u64,
    pub(crate) end_term: u64,
    pub(crate) end_chain: u32,
    pub(crate) first_offset: i64,
    pub(crate) next_offset: i64,
    /// Bytes of frames.
    pub(crate) size: u64,
    /// Largest timestamp; -1 without data.
    pub(crate) max_timestamp: i64,
    /// Base offset of the data entry that has it.
    pub(crate) max_timestamp_offset: i64,
    pub(crate) max_append_time: i64,
    /// Of a file that compaction wrote in place of others.
    pub(crate) clean: Option<Box<Clean>>,
}

/// What is known of a file that compaction wrote. Its place in the log (indexes, term, chain value and offsets) is that
/// of the files which it replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    /// Counts the files that compaction wrote for the group; never used twice.
    pub(crate) generation: u32,
    /// Chain value after its last frame, in the file's own chain.
    pub(crate) chain: u32,
    /// The offset after the last batch that is left; the file's first one where none is.
    pub(crate) data_end: i64,
}

/// The numbers of files that compaction wrote: no index comes near.
const CLEANED: u64 = 1 << 63;

/// Whether compaction wrote the file of this number.
pub(crate) fn is_cleaned(number: u64) -> bool {
    number >= CLEANED
}

/// The number of the file that compaction wrote as its `generation`th.
pub(crate) fn cleaned_number(generation: u32) -> u64 {
    CLEANED | u64::from(generation)
}

/// Name of the file whose first frame has `index`, or of that number.
pub(crate) fn log_name(index: u64) -> String {
    format!("{index:020}.log")
}

/// Name of its index file.
pub(crate) fn index_name(index: u64) -> String {
    format!("{index:020}.idx")
}

/// The number in a name with this ending.
pub(crate) fn number_of(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

impl Segment {
    /// A file that begins after (`index` - 1, `offset`).
    pub(crate) fn new(index: u64, offset: i64, prev_term: u64, prev_chain: u32) -> Segment {
        Segment {
            first_index: index,
            end_index: index - 1,
            end_term: prev_term,
            end_chain: prev_chain,
            first_offset: offset,
            next_offset: offset,
            size: 0,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            max_append_time: 0,
            clean: None,
        }
    }

    /// What its name is made of: its first index, or a number of its own where compaction wrote it.
    pub(crate) fn number(&self) -> u64 {
        self.clean.as_ref().map_or(self.first_index, |clean| cleaned_number(clean.generation))
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        log_name(self.number())
    }

    /// The name of its index file.
    pub(crate) fn index_name(&self) -> String {
        index_name(self.number())
    }

    /// The offset after its last batch: behind it only a later file has data. 0 where it has none.
    pub(crate) fn data_end(&self) -> i64 {
        match &self.clean {
            Some(clean) if self.size > 0 => clean.data_end,
            None if self.has_data() => self.next_offset,
            _ => 0,
        }
    }

    /// Takes in the next frame of `bytes` bytes.
    pub(crate) fn add(&mut self, head: &EntryHead, chain: u32, bytes: u64, max_timestamp: i64) {
        self.end_index = head.index;
        self.end_term = head.term;
        self.end_chain = chain;
        self.next_offset = head.next_offset();
        self.size += bytes;
        self.max_append_time = self.max_append_time.max(head.append_time);
        if head.kind == EntryKind::Data && max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.max_timestamp_offset = head.base_offset;
        }
    }

    /// What an index of it, sealed as it is, belongs to.
    pub(crate) fn indexed(&self) -> IndexedFile {
        IndexedFile {
            first_index: self.number(),
            first_offset: self.first_offset,
            size: self.size,
            end_chain: self.clean.as_ref().map_or(self.end_chain, |clean| clean.chain),
        }
    }

    pub(crate) fn has_data(&self) -> bool {
        self.next_offset > self.first_offset
    }

    /// The time that retention compares: a client's timestamp in the future does not keep data for ever.
    pub(crate) fn retention_time(&self) -> i64 {
        if self.max_timestamp < 0 {
            self.max_append_time
        } else {
            self.max_timestamp.min(self.max_append_time)
        }
    }

    pub(crate) fn to_row(&self) -> BaseFile {
        BaseFile {
            name: self.name(),
            first_offset: self.first_offset,
            last_offset: self.next_offset - 1,
            clean_generation: self.clean.as_ref().map_or(0, |clean| clean.generation),
            size: self.size,
            hash: self.clean.as_ref().map_or(0, |clean| clean.chain),
            end_index: self.end_index,
            end_term: self.end_term,
            end_chain: self.end_chain,
            max_timestamp: self.max_timestamp,
            max_append_time: self.max_append_time,
            max_timestamp_offset: self.max_timestamp_offset,
            first_index: self.first_index,
            data_end: self.clean.as_ref().map_or(0, |clean| clean.data_end),
        }
    }

    /// `None` for a row that contradicts itself.
    pub(crate) fn from_row(row: &BaseFile) -> Option<Segment> {
        let next_offset = row.last_offset.checked_add(1)?;
        let (generation, chain, data_end) = (row.clean_generation, row.hash, row.data_end);
        let clean = (generation > 0).then(|| Box::new(Clean { generation, chain, data_end }));
        let number = if generation > 0 { cleaned_number(generation) } else { row.first_index };
        let good = row.first_index > 0
            && row.end_index >= row.first_index
            && row.first_offset >= 0
            && next_offset >= row.first_offset
            && row.end_index < MAX_POSITION
            && next_offset.unsigned_abs() < MAX_POSITION
            && row.size < MAX_SIZE
            && number_of(&row.name, ".log") == Some(number);
        let good = good && (clean.is_none() || (row.first_offset..=next_offset).contains(&row.data_end));
        good.then_some(Segment {
            first_index: row.first_index,
            end_index: row.end_index,
            end_term: row.end_term,
            end_chain: row.end_chain,
            first_offset: row.first_offset,
            next_offset,
            size: row.size,
            max_timestamp: row.max_timestamp,
            max_timestamp_offset: row.max_timestamp_offset,
            max_append_time: row.max_append_time,
            clean,
        })
    }
}

/// The file that is written.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) segment: Segment,
    pub(crate) index: SparseIndex,
    /// The index lacks rows of the file's beginning: reads begin there, and it is not kept beyond memory, so
    /// that the first reader of the sealed file makes a whole one.
    pub(crate) partly_indexed: bool,
    /// Frames may stand behind its end that the log held before: they would link to the same entries, were these
    /// appended once more.
    pub(crate) was_longer: bool,
    /// Append time of its first data entry, ms; -1 before it. A no-op has no append time.
    pub(crate) since: i64,
    /// Open for writing; `None` until the first append after a start.
    pub(crate) file: Option<FileId>,
    pub(crate) run: WriteRun,
}

impl Active {
    pub(crate) fn new(segment: Segment) -> Active {
        Active {
            segment,
            index: SparseIndex::default(),
            partly_indexed: false,
            was_longer: false,
            since: -1,
            file: None,
            run: WriteRun::default(),
        }
    }

    /// A sealed file that is written again from where it stood at `point`.
    pub(crate) fn again(point: Segment) -> Active {
        let since = if point.has_data() { point.max_append_time } else { -1 };
        Active { since, partly_indexed: true, was_longer: true, ..Active::new(point) }
    }

    /// Goes back to where the file stood at `point`.
    pub(crate) fn cut(&mut self, point: Segment) {
        self.index.cut(point.size);
        if !point.has_data() {
            self.since = -1;
        }
        self.segment = point;
        self.was_longer = true;
        // The next write joins none before it.
        self.run = WriteRun::default();
    }

    /// Takes in the next frame.
    pub(crate) fn add(
        &mut self,
        interval: u32,
        head: &EntryHead,
        chain: u32,
        bytes: u64,
        max_timestamp: i64,
    ) {
        let segment = &mut self.segment;
        if self.since < 0 && head.kind == EntryKind::Data {
            self.since = head.append_time;
        }
        if let (Ok(rel_offset), Ok(rel_index), Ok(pos)) = (
            u32::try_from(head.base_offset - segment.first_offset),
            u32::try_from(head.index - segment.first_index),
            u32::try_from(segment.size),
        ) {
            let row = IndexRow { rel_offset, rel_index, pos, max_timestamp: segment.max_timestamp };
            self.index.note(interval, row);
        }
        segment.add(head, chain, bytes, max_timestamp);
    }
}
