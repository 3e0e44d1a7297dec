//! The walk over a group's frames from its checkpoint to its end.
use crate::checkpoint::Checkpoint;
use crate::disk_op::{DiskError, DiskRead};
use crate::epoch::EpochTable;
use crate::error::{Damage, RecoverError};
use crate::frame::{EntryKind, FRAME_HEADER, Frame, FrameError};
use crate::frame_reader::{FrameReader, Next};
use crate::recovery::{EntryBody, RecoverJob, RecoveredBatch, RecoveredEntry};
use crate::segment::{Active, Segment, index_name, log_name};
use crate::sparse_index::SparseIndex;
use bytes::Bytes;
use model::planted::{Bug, planted};
use std::collections::{BTreeSet, VecDeque};

const INTERVAL: u32 = 4096;
const OFFLINE: &str = "the partition stays offline and its files as they are: restore them from a replica or a \
                       backup (`plimsoll log verify` shows what is readable)";

pub(crate) struct Scan<'a> {
    job: &'a RecoverJob,
    disk: &'a dyn DiskRead,
    names: &'a BTreeSet<String>,
    /// At or below, bytes are durable and are not written again.
    durable: u64,
    pub(crate) index: u64,
    pub(crate) chain: u32,
    pub(crate) next_offset: i64,
    pub(crate) terms: Vec<(u64, u64)>,
    pub(crate) epochs: EpochTable,
    pub(crate) segments: Vec<Segment>,
    pub(crate) active: Option<Active>,
    pub(crate) points: VecDeque<Segment>,
    pub(crate) entries: Vec<RecoveredEntry>,
    pub(crate) base_damage: Vec<Damage>,
    pub(crate) rewrite: Vec<(u64, u64, u64)>,
    pub(crate) lost_indexes: Vec<(Segment, SparseIndex)>,
    pub(crate) scanned_bytes: u64,
    /// Where and why the walk stopped.
    stop: (String, u64, &'static str),
}

fn damaged(file: String, pos: u64, why: &str) -> RecoverError {
    RecoverError::Damaged(Damage { file, pos, detail: format!("{why}; {OFFLINE}") })
}

impl<'a> Scan<'a> {
    /// Stands at the checkpoint. The files that it lists must be there: those of the base fail alone.
    pub(crate) fn begin(
        job: &'a RecoverJob,
        disk: &'a dyn DiskRead,
        names: &'a BTreeSet<String>,
        checkpoint: &Checkpoint,
    ) -> Result<Scan<'a>, RecoverError> {
        let mut terms = vec![(checkpoint.first_index - 1, checkpoint.prev_term)];
        for run in &checkpoint.terms {
            if terms.last().is_some_and(|(_, term)| *term != run.term) {
                terms.push((run.index, run.term));
            }
        }
        let mut epochs = EpochTable::default();
        checkpoint.epochs.iter().for_each(|e| epochs.record_epoch(e.epoch, e.start_offset));
        let mut scan = Scan {
            job,
            disk,
            names,
            durable: job.mark.map_or(0, |m| m.durable_index).max(checkpoint.index),
            index: checkpoint.index,
            chain: checkpoint.chain,
            next_offset: checkpoint.next_offset,
            terms,
            epochs,
            segments: Vec::new(),
            active: None,
            points: VecDeque::new(),
            entries: Vec::new(),
            base_damage: Vec::new(),
            rewrite: Vec::new(),
            lost_indexes: Vec::new(),
            scanned_bytes: 0,
            stop: (String::new(), 0, "no file"),
        };
        scan.take_files(checkpoint)?;
        scan.check_chain_at_mark()?;
        Ok(scan)
    }

    fn take_files(&mut self, checkpoint: &Checkpoint) -> Result<(), RecoverError> {
        for row in &checkpoint.files {
            if let Err(damage) = self.file_of(row) {
                self.base_damage.push(damage);
            }
            self.segments.extend(Segment::from_row(row));
        }
        for row in &checkpoint.window_files {
            let segment = self.file_of(row).map_err(RecoverError::Damaged)?;
            self.segments.push(segment);
        }
        if let Some(row) = &checkpoint.active {
            let segment = self.file_of(row).map_err(RecoverError::Damaged)?;
            let index = SparseIndex::decode(&checkpoint.active_index, &segment.indexed());
            let mut active = Active::new(segment);
            active.since = active.segment.max_append_time;
            active.partly_indexed = index.is_none();
            active.index = index.unwrap_or_default();
            self.points.push_back(active.segment.clone());
            self.active = Some(active);
        }
        Ok(())
    }

    fn file_of(&self, row: &crate::BaseFile) -> Result<Segment, Damage> {
        let file = format!("{}/{}", self.job.dir, row.name);
        let bad = |pos, why: &str| Damage { file: file.clone(), pos, detail: format!("{why}; {OFFLINE}") };
        let segment =
            Segment::from_row(row).ok_or_else(|| bad(0, "its row in the checkpoint is impossible"))?;
        match self.disk.len(&file) {
            Ok(Some(len)) if len >= row.size => Ok(segment),
            Ok(Some(len)) => Err(bad(len, "the file is shorter than the checkpoint says")),
            // Compaction left nothing of it: who was sent the others has not made it.
            Ok(None) if segment.clean.is_some() && segment.size == 0 => Ok(segment),
            Ok(None) => Err(bad(0, "the file is missing")),
            Err(e) => Err(bad(0, &e.detail)),
        }
    }

    pub(crate) fn last_term(&self) -> u64 {
        self.terms.last().map_or(0, |(_, term)| *term)
    }

    fn path(&self, first_index: u64) -> String {
        format!("{}/{}", self.job.dir, log_name(first_index))
    }

    /// Takes frames, file by file, until one does not follow.
    pub(crate) fn run(&mut self) -> Result<(), RecoverError> {
        loop {
            let (file, pos) =
                self.active.as_ref().map_or((self.index + 1, 0), |a| (a.segment.first_index, a.segment.size));
            self.run_file(file, pos)?;
            let next = self.index + 1;
            if self.active.is_none() || file == next || !self.begins_file(next)? {
                return Ok(());
            }
            self.seal();
        }
    }

    fn run_file(&mut self, file: u64, pos: u64) -> Result<(), RecoverError> {
        let path = self.path(file);
        let Some(len) = self.len_of(file, &path)? else {
            self.stop = (path, pos, "the file is missing");
            return Ok(());
        };
        let mut reader = FrameReader::new(self.disk, path, pos, len);
        loop {
            let at = reader.pos();
            let next = reader.next()?;
            match next {
                Next::Frame(frame) if self.follows(&frame) => self.take(file, at, &frame)?,
                Next::Frame(_) => {
                    self.stop = (self.path(file), at, "a frame that does not follow the one before");
                    return Ok(());
                }
                Next::Bad(error) => {
                    let follows = reader.claimed_link() == Some((self.index + 1, self.chain));
                    return self.stop_at(file, at, error, follows);
                }
            }
        }
    }

    fn len_of(&self, file: u64, path: &str) -> Result<Option<u64>, DiskError> {
        if self.names.contains(&log_name(file)) { self.disk.len(path) } else { Ok(None) }
    }

    /// A frame of the future stops the replica wherever it stands; anything else ends the walk.
    fn stop_at(&mut self, file: u64, at: u64, error: FrameError, follows: bool) -> Result<(), RecoverError> {
        let why = match error {
            FrameError::Unknown { .. } if follows => {
                return Err(damaged(self.path(file), at, &error.to_string()));
            }
            FrameError::Short { .. } => "the file ends",
            FrameError::Checksum => "a frame with a wrong checksum",
            FrameError::Batch => "a frame with a damaged batch",
            FrameError::NotAFrame | FrameError::Unknown { .. } => "no frame",
        };
        self.stop = (self.path(file), at, why);
        Ok(())
    }

    fn follows(&self, frame: &Frame) -> bool {
        let header = &frame.header;
        header.prev_crc == self.chain
            && header.head.index == self.index + 1
            && header.head.base_offset == self.next_offset
            && header.head.term >= self.last_term()
    }

    /// Whether the frame at the start of file `first_index` follows.
    fn begins_file(&self, first_index: u64) -> Result<bool, RecoverError> {
        let path = self.path(first_index);
        let Some(len) = self.len_of(first_index, &path)? else { return Ok(false) };
        Ok(matches!(FrameReader::new(self.disk, path, 0, len).next()?, Next::Frame(f) if self.follows(&f)))
    }

    fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        let indexed = self.names.contains(&index_name(active.segment.first_index));
        if !indexed && !active.partly_indexed {
            self.lost_indexes.push((active.segment.clone(), active.index));
        }
        self.segments.push(active.segment);
    }

    fn take(&mut self, file: u64, at: u64, frame: &Frame) -> Result<(), RecoverError> {
        let head = frame.header.head;
        let bytes = frame.raw.len() as u64;
        if head.term != self.last_term() {
            self.terms.push((head.index, head.term));
            if let Ok(epoch) = i32::try_from(head.term) {
                self.epochs.record_epoch(epoch, head.base_offset);
            }
        }
        if head.index > self.durable && self.active.is_none() {
            self.rewrite_end()?;
        }
        let (offset, term, chain) = (self.next_offset, self.last_term(), self.chain);
        let active =
            self.active.get_or_insert_with(|| Active::new(Segment::new(head.index, offset, term, chain)));
        active.add(INTERVAL, &head, frame.header.crc, bytes, frame.max_timestamp());
        self.points.push_back(active.segment.clone());
        self.index = head.index;
        self.chain = frame.header.crc;
        self.next_offset = head.next_offset();
        self.scanned_bytes += bytes;
        self.entries.push(RecoveredEntry { head, body: body_of(frame) });
        if head.index > self.durable {
            match self.rewrite.last_mut().filter(|(f, _, _)| *f == file) {
                Some((_, _, len)) => *len += bytes,
                None => self.rewrite.push((file, at, bytes)),
            }
        }
        self.check_chain_at_mark()
    }

    /// What ends the last sealed file may be in the page cache alone, as the frames of the next one may.
    fn rewrite_end(&mut self) -> Result<(), DiskError> {
        let Some((file, end)) = self.segments.last().map(|s| (s.first_index, s.size)) else { return Ok(()) };
        let len = self.len_of(file, &self.path(file))?.unwrap_or(0);
        let bytes = len.saturating_sub(end).min(FRAME_HEADER as u64);
        match self.rewrite.last_mut().filter(|(f, _, _)| *f == file) {
            Some((_, _, len)) => *len += bytes,
            None if bytes > 0 => self.rewrite.push((file, end, bytes)),
            None => {}
        }
        Ok(())
    }

    /// At the marked index the chain must be the marked one: whole files of another history are damage too.
    fn check_chain_at_mark(&self) -> Result<(), RecoverError> {
        match self.job.mark {
            Some(mark)
                if mark.durable_index == self.index
                    && mark.chain != self.chain
                    && !planted(Bug::TruncateBelowMark) =>
            {
                let (file, pos) = (self.path(mark.segment), mark.pos);
                Err(damaged(file, pos, "the frames up to the mark are not those that were marked"))
            }
            _ => Ok(()),
        }
    }

    /// The report of a log that ends below its mark.
    pub(crate) fn ends_below(&self, marked: u64) -> Damage {
        let (file, pos, why) = self.stop.clone();
        let detail = format!(
            "{why}, but entries up to index {marked} were made durable and only those up to {} are readable; \
             {OFFLINE}",
            self.index
        );
        Damage { file, pos, detail }
    }
}

fn body_of(frame: &Frame) -> EntryBody {
    if frame.header.head.kind != EntryKind::Data {
        return EntryBody::Whole(Bytes::copy_from_slice(&frame.payload));
    }
    let batch = |(range, header): (std::ops::Range<usize>, records::BatchHeader)| RecoveredBatch {
        control: header.is_control().then(|| Bytes::copy_from_slice(&frame.payload[range])),
        header,
    };
    EntryBody::Data(records::batches(&frame.payload).flatten().map(batch).collect())
}
