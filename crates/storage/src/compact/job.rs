//! One pass over the base of one group, in steps: first the keys of what is new go into the map, then the files are
//! read from the first on and what is left of them is written into new ones.
//!
//! A step reads about a megabyte and gives back what is to be written; nothing is written here. Between two steps the
//! owner waits for as long as its rate asks for.
use crate::EntryHead;
use crate::EntryKind;
use crate::compact::judge::{Judge, RecordCounts, Verdict};
use crate::compact::offset_map::OffsetMap;
use crate::compact::walk::{FileWalk, clean_seed};
use crate::disk_op::{DiskError, DiskErrorKind, DiskRead};
use crate::error::Damage;
use crate::frame::{FRAME_HEADER, Frame, encode_header};
use crate::frame_reader::{FrameReader, Next};
use crate::segment::{Clean, Segment, cleaned_number, log_name};
use crate::sparse_index::{IndexRow, SparseIndex};
use bytes::{Bytes, BytesMut};
use model::{GroupKey, Offset};
use records::BatchHeader;
use std::ops::Range;

/// Bytes of sources that a step reads, and of a new file that are written at once.
const STEP: u64 = 1 << 20;
const INTERVAL: u32 = 4096;

/// A file of the base.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) segment: Segment,
    /// It follows the one before without a file between them that is left out.
    pub(crate) adjoins: bool,
}

/// A file that takes the place of some.
#[derive(Debug)]
pub(crate) struct Output {
    /// The numbers of those files.
    pub(crate) sources: Vec<u64>,
    pub(crate) segment: Segment,
    pub(crate) index: SparseIndex,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanStats {
    /// Bytes read: the new part twice.
    pub bytes_read: u64,
    /// Bytes of new files.
    pub bytes_written: u64,
    /// Bytes of the files that they replace.
    pub bytes_replaced: u64,
    /// Records.
    pub records: RecordCounts,
}

/// What a step came to.
#[derive(Debug)]
pub struct CleanStep {
    /// Bytes that it read.
    pub read: u64,
    /// Path, position and bytes that are to be written, in this order.
    pub writes: Vec<(String, u64, Bytes)>,
    /// What follows.
    pub end: CleanEnd,
}

/// What follows a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanEnd {
    /// The next one.
    More,
    /// Everything is written, and is to be made durable.
    Done,
    /// A file cannot be read; its number, and what is wrong with it. The pass is void.
    Damaged(u64, Damage),
    /// A file is not there any more. The pass is void.
    Gone(String),
}

/// Why a step ends early.
enum Stop {
    Damaged(u64, Damage),
    Gone(String),
}

#[derive(Debug)]
enum Phase {
    /// Keys are taken in: the source, the position in it, and the frames so far.
    Maps(usize, u64, FileWalk),
    /// Files are written: the first source of the next one.
    Writes(usize),
    Over,
}

/// The file that is written.
#[derive(Debug)]
struct Writing {
    group: Range<usize>,
    /// The source that is read, and where.
    at: usize,
    pos: u64,
    walk: FileWalk,
    segment: Segment,
    index: SparseIndex,
    path: String,
    chain: u32,
    buffer: BytesMut,
    flushed: u64,
    changed: bool,
}

/// A pass: see the module.
#[derive(Debug)]
pub struct CleanJob {
    pub(crate) id: u64,
    pub(crate) key: GroupKey,
    dir: String,
    sources: Vec<Source>,
    from: Offset,
    limit: u64,
    next_generation: u32,
    map: OffsetMap,
    /// What the map is to be made for, by the first step: that much memory is not touched by whoever begins a pass.
    map_size: Option<(u64, u64)>,
    judge: Judge,
    phase: Phase,
    writing: Option<Writing>,
    pub(crate) outputs: Vec<Output>,
    /// Files that were begun and are of no use.
    pub(crate) useless: Vec<String>,
    stats: CleanStats,
}

/// Where a job begins.
pub(crate) struct CleanStart {
    pub(crate) id: u64,
    pub(crate) key: GroupKey,
    pub(crate) dir: String,
    pub(crate) sources: Vec<Source>,
    /// The first offset whose key was not looked at by an earlier pass.
    pub(crate) from: Offset,
    /// Bytes of a file that is put together of several.
    pub(crate) limit: u64,
    pub(crate) next_generation: u32,
    pub(crate) map_bytes: u64,
    pub(crate) judge: Judge,
}

impl CleanJob {
    pub(crate) fn new(start: CleanStart) -> CleanJob {
        let CleanStart { id, key, dir, sources, from, limit, next_generation, map_bytes, judge } = start;
        let fresh = |s: &&Source| s.segment.next_offset > from;
        let span = |s: &Source| (s.segment.next_offset - s.segment.first_offset.max(from)).unsigned_abs();
        let map_size = Some((map_bytes, sources.iter().filter(fresh).map(span).sum()));
        let first = sources.iter().position(|s| s.segment.next_offset > from).unwrap_or(sources.len());
        let phase = match sources.get(first) {
            Some(source) => Phase::Maps(first, 0, FileWalk::of(&source.segment)),
            None => Phase::Writes(0),
        };
        CleanJob {
            id,
            key,
            dir,
            sources,
            from,
            limit,
            next_generation,
            map: OffsetMap::new(0, 0),
            map_size,
            judge,
            phase,
            writing: None,
            outputs: Vec::new(),
            useless: Vec::new(),
            stats: CleanStats::default(),
        }
    }

    /// Does a megabyte's worth. Reads alone, and may block.
    pub fn step(&mut self, disk: &dyn DiskRead) -> CleanStep {
        let before = self.stats.bytes_read;
        let mut writes = Vec::new();
        if let Some((bytes, keys)) = self.map_size.take() {
            self.map = OffsetMap::new(bytes, keys);
        }
        let done = match self.phase {
            Phase::Maps(at, pos, walk) => self.map_some(disk, at, pos, walk),
            Phase::Writes(first) => self.write_some(disk, first, &mut writes),
            Phase::Over => Ok(()),
        };
        let end = match done {
            Err(Stop::Damaged(number, damage)) => CleanEnd::Damaged(number, damage),
            Err(Stop::Gone(why)) => CleanEnd::Gone(why),
            Ok(()) if matches!(self.phase, Phase::Over) => CleanEnd::Done,
            Ok(()) => CleanEnd::More,
        };
        if matches!(end, CleanEnd::Damaged(..) | CleanEnd::Gone(_)) {
            self.give_up();
        }
        if matches!(self.phase, Phase::Over) {
            self.map = OffsetMap::new(0, 0);
        }
        CleanStep { read: self.stats.bytes_read - before, writes, end }
    }

    /// Nothing of what was written is of use.
    pub(crate) fn give_up(&mut self) {
        self.phase = Phase::Over;
        let begun = self.writing.take().map(|w| w.path);
        let written = std::mem::take(&mut self.outputs);
        let paths = written.iter().map(|output| format!("{}/{}", self.dir, output.segment.name()));
        self.useless.extend(paths.chain(begun));
    }

    /// The new files, which are to be made durable.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.outputs.iter().map(|output| format!("{}/{}", self.dir, output.segment.name())).collect()
    }

    /// What it did so far.
    pub fn stats(&self) -> CleanStats {
        CleanStats { records: self.judge.counts, ..self.stats }
    }

    /// Up to where the keys of everything are in the map: the next pass begins there.
    pub(crate) fn end(&self) -> Offset {
        self.judge.end
    }

    /// Where the first file begins that is left out.
    pub(crate) fn barrier(&self) -> Offset {
        self.judge.barrier
    }

    /// The horizon below which everything that deletes may go by its time, where something waits for that.
    pub(crate) fn wanted_horizon(&self) -> Option<Offset> {
        let horizon = self.judge.undecided.min(self.judge.end).min(self.judge.barrier);
        (self.judge.waiting > 0 && horizon > self.judge.horizon).then_some(horizon)
    }

    pub(crate) fn next_generation(&self) -> u32 {
        self.next_generation
    }

    fn damaged(&self, s: &Segment, pos: u64, why: impl std::fmt::Display) -> Stop {
        let file = format!("{}/{}", self.dir, s.name());
        Stop::Damaged(s.number(), Damage { file, pos, detail: format!("it cannot be cleaned: {why}") })
    }

    fn unread(&self, s: &Segment, pos: u64, error: &DiskError) -> Stop {
        match error.kind {
            DiskErrorKind::NotFound => Stop::Gone(error.to_string()),
            DiskErrorKind::Full | DiskErrorKind::Io => self.damaged(s, pos, error),
        }
    }

    /// The next frame of a file, which follows the one before.
    fn frame(&self, s: &Segment, reader: &mut FrameReader<'_>, walk: &mut FileWalk) -> Result<Frame, Stop> {
        let pos = reader.pos();
        match reader.next() {
            Ok(Next::Frame(frame)) if walk.follows(&frame.header) => {
                walk.pass(&frame.header);
                if reader.pos() == s.size && !walk.ends(s) {
                    return Err(self.damaged(s, pos, "its last frame is not the one that was written"));
                }
                Ok(frame)
            }
            Ok(Next::Frame(_)) => Err(self.damaged(s, pos, "a frame that does not follow the one before")),
            Ok(Next::Bad(error)) => Err(self.damaged(s, pos, error)),
            Err(error) => Err(self.unread(s, pos, &error)),
        }
    }

    fn map_some(&mut self, disk: &dyn DiskRead, at: usize, pos: u64, walk: FileWalk) -> Result<(), Stop> {
        let (segment, mut walk) = (self.sources[at].segment.clone(), walk);
        let path = format!("{}/{}", self.dir, segment.name());
        let mut reader = FrameReader::new(disk, path, pos, segment.size);
        while reader.pos() < segment.size && reader.pos() - pos < STEP {
            let start = reader.pos();
            let frame = self.frame(&segment, &mut reader, &mut walk)?;
            self.stats.bytes_read += frame.raw.len() as u64;
            if frame.header.head.kind != EntryKind::Data {
                continue;
            }
            for (range, header) in records::batches(&frame.payload).flatten() {
                let batch = frame.payload.slice(range);
                let full = self.judge.map(&mut self.map, self.from, &batch, &header);
                if let Some(offset) = full.map_err(|error| self.damaged(&segment, start, error))? {
                    self.judge.end = offset;
                    self.phase = Phase::Writes(0);
                    return Ok(());
                }
            }
        }
        self.phase = if reader.pos() < segment.size {
            Phase::Maps(at, reader.pos(), walk)
        } else if let Some(next) = self.sources.get(at + 1) {
            Phase::Maps(at + 1, 0, FileWalk::of(&next.segment))
        } else {
            Phase::Writes(0)
        };
        Ok(())
    }

    /// Sources from `first` on whose remains go into one file.
    fn group(&self, first: usize) -> Range<usize> {
        let (mut end, mut size) = (first, 0);
        let start = self.sources[first].segment.first_offset;
        let start_index = self.sources[first].segment.first_index;
        while let Some(Source { segment, adjoins }) = self.sources.get(end) {
            size += segment.size;
            let fits = *adjoins
                && size <= self.limit
                && segment.next_offset - start <= i64::from(i32::MAX)
                && segment.end_index - start_index <= u64::from(u32::MAX)
                && segment.first_offset < self.judge.end;
            if end > first && !fits {
                break;
            }
            end += 1;
        }
        first..end
    }

    fn begin(&mut self, first: usize) -> Writing {
        let group = self.group(first);
        let (one, last) = (&self.sources[group.start].segment, &self.sources[group.end - 1].segment);
        let number = cleaned_number(self.next_generation);
        let clean =
            Clean { generation: self.next_generation, chain: clean_seed(number), data_end: one.first_offset };
        let sources = self.sources[group.clone()].iter();
        let segment = Segment {
            first_index: one.first_index,
            end_index: last.end_index,
            end_term: last.end_term,
            end_chain: last.end_chain,
            first_offset: one.first_offset,
            next_offset: last.next_offset,
            size: 0,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            max_append_time: sources.map(|s| s.segment.max_append_time).max().unwrap_or(0),
            clean: Some(Box::new(clean)),
        };
        self.next_generation += 1;
        Writing {
            at: group.start,
            pos: 0,
            walk: FileWalk::of(&self.sources[group.start].segment),
            changed: group.len() > 1,
            group,
            segment,
            index: SparseIndex::default(),
            path: format!("{}/{}", self.dir, log_name(number)),
            chain: clean_seed(number),
            buffer: BytesMut::new(),
            flushed: 0,
        }
    }

    fn write_some(
        &mut self,
        disk: &dyn DiskRead,
        first: usize,
        writes: &mut Vec<(String, u64, Bytes)>,
    ) -> Result<(), Stop> {
        let beyond = |s: &Source| s.segment.first_offset >= self.judge.end;
        if self.writing.is_none() && self.sources.get(first).is_none_or(beyond) {
            self.phase = Phase::Over;
            return Ok(());
        }
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => self.begin(first),
        };
        let read = self.write_file(disk, &mut writing);
        let ended = writing.at == writing.group.end;
        if writing.buffer.len() as u64 >= STEP
            || ended && (!writing.buffer.is_empty() || writing.flushed == 0)
        {
            let bytes = writing.buffer.split().freeze();
            let pos = writing.flushed;
            writing.flushed += bytes.len() as u64;
            writes.push((writing.path.clone(), pos, bytes));
        }
        if read.is_ok() && ended {
            self.phase = Phase::Writes(writing.group.end);
            self.end_file(writing);
        } else {
            self.writing = Some(writing);
        }
        read
    }

    /// Reads on in the sources of the file that is written.
    fn write_file(&mut self, disk: &dyn DiskRead, writing: &mut Writing) -> Result<(), Stop> {
        let source = self.sources[writing.at].segment.clone();
        let path = format!("{}/{}", self.dir, source.name());
        let mut reader = FrameReader::new(disk, path, writing.pos, source.size);
        while reader.pos() < source.size && reader.pos() - writing.pos < STEP {
            let start = reader.pos();
            let frame = self.frame(&source, &mut reader, &mut writing.walk)?;
            self.stats.bytes_read += frame.raw.len() as u64;
            if frame.header.head.kind != EntryKind::Data {
                continue;
            }
            for (range, header) in records::batches(&frame.payload).flatten() {
                let batch = frame.payload.slice(range);
                let verdict = self.judge.judge(&self.map, &batch, &header);
                match verdict.map_err(|error| self.damaged(&source, start, error))? {
                    Verdict::Same => writing.take(&frame.header.head, &header, &batch),
                    Verdict::New(batch) => {
                        let header = BatchHeader::parse(&batch)
                            .map_err(|error| self.damaged(&source, start, error))?;
                        writing.changed = true;
                        writing.take(&frame.header.head, &header, &batch);
                    }
                    Verdict::Gone => writing.changed = true,
                }
            }
        }
        writing.pos = reader.pos();
        if writing.pos == source.size {
            writing.at += 1;
            writing.pos = 0;
            if writing.at < writing.group.end {
                writing.walk = FileWalk::of(&self.sources[writing.at].segment);
            }
        }
        Ok(())
    }

    fn end_file(&mut self, writing: Writing) {
        let Writing { group, mut segment, index, path, chain, changed, .. } = writing;
        if !changed {
            self.useless.push(path);
            return;
        }
        if let Some(clean) = &mut segment.clean {
            clean.chain = chain;
        }
        let sources = &self.sources[group];
        self.stats.bytes_written += segment.size;
        self.stats.bytes_replaced += sources.iter().map(|s| s.segment.size).sum::<u64>();
        let sources = sources.iter().map(|s| s.segment.number()).collect();
        self.outputs.push(Output { sources, segment, index });
    }
}

impl Writing {
    /// Adds a batch, in a frame of its own.
    fn take(&mut self, entry: &EntryHead, header: &BatchHeader, batch: &Bytes) {
        let head = EntryHead {
            offset_count: header.last_offset_delta.unsigned_abs() + 1,
            base_offset: header.base_offset,
            ..*entry
        };
        let (frame, chain) = encode_header(&head, batch, self.chain);
        let segment = &mut self.segment;
        if let (Ok(rel_offset), Ok(rel_index), Ok(pos)) = (
            u32::try_from(head.base_offset - segment.first_offset),
            u32::try_from(head.index - segment.first_index),
            u32::try_from(segment.size),
        ) {
            let row = IndexRow { rel_offset, rel_index, pos, max_timestamp: segment.max_timestamp };
            self.index.note(INTERVAL, row);
        }
        segment.size += (FRAME_HEADER + batch.len()) as u64;
        if header.max_timestamp > segment.max_timestamp {
            (segment.max_timestamp, segment.max_timestamp_offset) = (header.max_timestamp, head.base_offset);
        }
        if let Some(clean) = &mut segment.clean {
            clean.data_end = head.next_offset();
        }
        self.buffer.extend_from_slice(&frame);
        self.buffer.extend_from_slice(batch);
        self.chain = chain;
    }
}
