//! One group's log on one data directory: base, window, active file, tail.
//!
//! `segments` holds every sealed file, base first; the window begins at `first_index`. The active file, if
//! there is one, follows. Reading is in `log_read.rs`, checkpoints and deletion in `log_checkpoint.rs`.
use crate::checkpoint::Checkpoint;
use crate::compact::Compaction;
use crate::config::{LogConfig, WORTH_POOLING};
use crate::disk_op::{DiskOp, FileSource};
use crate::epoch::EpochTable;
use crate::error::Damage;
use crate::frame::{EntryHead, EntryKind, FRAME_HEADER, encode_header};
use crate::fx::{PutKind, StorageFx};
use crate::log_checkpoint::PendingCheckpoint;
use crate::recovery::Recovered;
use crate::segment::{Active, Segment, log_name};
use crate::tail_cache::TailSlot;
use bytes::Bytes;
use model::planted::{Bug, planted};
use model::{GroupKey, Now};
use std::collections::VecDeque;

/// The directory of a group's files, relative to the data directory.
pub fn group_dir(key: GroupKey) -> String {
    format!("groups/{key}")
}

/// The chain value before a group's first entry: its topic id and partition.
pub(crate) fn chain_seed(key: GroupKey) -> u32 {
    let mut bytes = [0u8; 20];
    bytes[..16].copy_from_slice(&key.topic.0);
    bytes[16..].copy_from_slice(&key.partition.to_be_bytes());
    crc_fast::crc32_iso_hdlc(&bytes)
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Last index.
    pub index: u64,
    /// Chain value of the last entry.
    pub chain: u32,
    /// First index of the file that holds it (the file's name); 0 where there is no file.
    pub segment: u64,
    /// Bytes of that file up to its end.
    pub pos: u64,
}

/// One data file, for descriptions and tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Relative to the data directory.
    pub path: String,
    /// First offset; the next offset where it holds no data.
    pub first_offset: i64,
    /// The offset after its last.
    pub next_offset: i64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Largest timestamp, ms; -1 where it holds no data.
    pub max_timestamp: i64,
    /// Whether it is still written.
    pub active: bool,
}

/// One group's log. All methods are synchronous; what must happen on disk goes to `fx.ops`.
#[derive(Debug)]
pub struct Log {
    pub(crate) key: GroupKey,
    pub(crate) dir: String,
    pub(crate) cfg: LogConfig,
    pub(crate) log_start: i64,
    pub(crate) next_offset: i64,
    pub(crate) first_index: u64,
    pub(crate) first_offset: i64,
    pub(crate) prev_chain: u32,
    pub(crate) last_index: u64,
    pub(crate) last_chain: u32,
    pub(crate) commit: u64,
    /// (first index, term); the first row stands at first_index - 1.
    pub(crate) terms: Vec<(u64, u64)>,
    pub(crate) epochs: EpochTable,
    pub(crate) segments: Vec<Segment>,
    pub(crate) active: Option<Box<Active>>,
    /// The active file as it was after each entry from the commit index on: where a checkpoint may be taken.
    pub(crate) points: VecDeque<Segment>,
    pub(crate) tail: Option<TailSlot>,
    pub(crate) uncheckpointed_bytes: u64,
    pub(crate) checkpoint_index: u64,
    /// Checkpoint files on disk, oldest first; the birth checkpoint has none.
    pub(crate) checkpoint_files: Vec<u64>,
    pub(crate) pending_checkpoint: Option<PendingCheckpoint>,
    pub(crate) base_damage: Vec<Damage>,
    /// The tail above the mark is being written again.
    pub(crate) rewriting: bool,
    /// Frames may stand behind the end of the last sealed file that link to it: see [`Active::was_longer`].
    pub(crate) loose_end: bool,
    /// Entries were given up, and what follows must wait: files (their first indexes) to be removed then.
    pub(crate) waits: Option<Vec<u64>>,
    /// The checkpoint that is being sent to another replica: what it stands for stays.
    pub(crate) pinned: Option<u64>,
    /// What compaction has come to; `None`: never compacted.
    pub(crate) compaction: Option<Box<Compaction>>,
}

impl Log {
    /// A group never touched on this disk: nothing is on disk until the first append.
    pub fn born(key: GroupKey, dir: String, birth: Checkpoint, cfg: LogConfig) -> Log {
        Log {
            key,
            dir,
            cfg,
            log_start: birth.log_start,
            next_offset: birth.next_offset,
            first_index: birth.index + 1,
            first_offset: birth.next_offset,
            prev_chain: birth.chain,
            last_index: birth.index,
            last_chain: birth.chain,
            commit: birth.index,
            terms: vec![(birth.index, birth.term)],
            epochs: EpochTable::default(),
            segments: Vec::new(),
            active: None,
            points: VecDeque::new(),
            tail: None,
            uncheckpointed_bytes: 0,
            checkpoint_index: birth.index,
            checkpoint_files: Vec::new(),
            pending_checkpoint: None,
            base_damage: Vec::new(),
            rewriting: false,
            loose_end: false,
            waits: None,
            pinned: None,
            compaction: Compaction::of(&birth).map(Box::new),
        }
    }

    /// From recovery. Where [`Recovered::needs_rewrite`], emits the writes; call
    /// [`crate::Directory::reopened`] next and start the group at its `Persisted`.
    pub fn from_recovered(r: Recovered, cfg: LogConfig, fx: &mut StorageFx) -> Log {
        let checkpoint = &r.checkpoint;
        let mut log = Log::born(r.key, r.found.dir.clone(), checkpoint.clone(), cfg);
        log.next_offset = r.next_offset;
        log.first_index = r.found.first_index;
        log.first_offset = r.found.first_offset;
        log.prev_chain = r.found.prev_chain;
        log.last_index = r.last_index;
        log.last_chain = r.found.chain;
        log.commit = r.commit;
        log.terms = r.found.terms;
        log.epochs = r.found.epochs;
        log.segments = r.found.segments;
        log.active = r.found.active.map(Box::new);
        log.loose_end = log.active.is_none();
        if let Some(active) = &mut log.active {
            active.was_longer = true;
        }
        log.points = r.found.points;
        log.checkpoint_files = r.found.checkpoint_files;
        log.uncheckpointed_bytes = r.found.scanned_bytes;
        log.base_damage = r.base_damage;
        log.restore_replaced(r.found.replaced);
        if r.needs_rewrite && !planted(Bug::TailNotWrittenAgain) {
            log.rewrite(r.found.rewrite, fx);
        }
        // First: an index put below may use the name of a temporary file that is among these.
        if !r.found.orphans.is_empty() {
            let paths = r.found.orphans.iter().map(|name| log.path(name)).collect();
            fx.ops.push(DiskOp::Remove { paths, recycle: false });
        }
        for (segment, index) in r.found.lost_indexes {
            let path = log.path(&segment.index_name());
            fx.put(path, index.encode(&segment.indexed()), PutKind::Index);
        }
        log
    }

    /// Writes the bytes that were kept above the mark again, in place: they may be in no more than the page
    /// cache of a process that died.
    fn rewrite(&mut self, parts: Vec<(u64, u64, u64)>, fx: &mut StorageFx) {
        self.rewriting = true;
        for (segment, pos, len) in parts {
            let file = fx.file();
            fx.ops.push(DiskOp::Open { file, path: self.path(&log_name(segment)) });
            fx.rewrite(Some(self.key), file, pos, len);
            fx.note_dirty(self.key, file);
            match self.active.as_deref_mut().filter(|a| a.segment.first_index == segment) {
                Some(active) => active.file = Some(file),
                None => fx.retire(self.key, segment, file),
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// The group.
    pub fn key(&self) -> GroupKey {
        self.key
    }

    /// First index of the window.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Last index.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Term of the last entry.
    pub fn last_term(&self) -> u64 {
        self.terms.last().map_or(0, |(_, term)| *term)
    }

    /// Term of the entry at `index`: from first_index - 1 to last_index.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index > self.last_index {
            return None;
        }
        let upto = self.terms.partition_point(|(first, _)| *first <= index);
        upto.checked_sub(1).map(|i| self.terms[i].1)
    }

    /// (first index, term) of each run in the window; the first row is at first_index - 1.
    pub fn term_runs(&self) -> &[(u64, u64)] {
        &self.terms
    }

    /// Chain value of the last entry.
    pub fn chain(&self) -> u32 {
        self.last_chain
    }

    /// Chain value of entry `index`: of those from the commit index on, and of the last of each file. Equal
    /// values at equal indexes say that all entries up to there are equal.
    pub fn chain_at(&self, index: u64) -> Option<u32> {
        if index == self.last_index {
            return Some(self.last_chain);
        }
        let files = self.points.iter().chain(&self.segments);
        files.into_iter().find(|s| s.end_index == index).map(|s| s.end_chain)
    }

    /// The offset of the next record.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The committed log start.
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// Bytes of all data files, headers of frames included.
    pub fn size_bytes(&self) -> u64 {
        self.all_segments().map(|s| s.size).sum()
    }

    /// Where it ends.
    pub fn end(&self) -> LogEnd {
        let last = self.all_segments().last();
        let (segment, pos) = last.map_or((0, 0), |s| (s.number(), s.size));
        LogEnd { index: self.last_index, chain: self.last_chain, segment, pos }
    }

    /// Leader epochs; kept by `append`, a row for each new term (the epoch is the term).
    pub fn epochs(&self) -> &EpochTable {
        &self.epochs
    }

    /// Records an epoch that has no entry yet.
    pub fn record_epoch(&mut self, epoch: i32, start_offset: i64) {
        self.epochs.record_epoch(epoch, start_offset);
    }

    /// Changed settings apply from the next append on.
    pub fn set_config(&mut self, cfg: LogConfig) {
        self.cfg = cfg;
    }

    /// Whether the tail is being written again: see [`crate::Directory::reopened`].
    pub fn rewriting(&self) -> bool {
        self.rewriting
    }

    /// Damaged ranges of the base.
    pub fn base_damage(&self) -> &[Damage] {
        &self.base_damage
    }

    pub(crate) fn all_segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().chain(self.active.as_deref().map(|a| &a.segment))
    }

    /// Appends one entry at last_index + 1 (asserted, as is base_offset == next_offset). Rolls the file when
    /// due. `max_timestamp` is the largest timestamp of its batches (-1 unless data).
    pub fn append(
        &mut self,
        now: Now,
        head: &EntryHead,
        payload: Bytes,
        max_timestamp: i64,
        fx: &mut StorageFx,
    ) {
        let allocation = payload.len();
        self.append_sized(now, head, payload, max_timestamp, allocation, fx);
    }

    /// As `append`; `allocation` is how many bytes of memory stay alive because of `payload` (its buffer's
    /// capacity, divided among the payloads cut from it). Below a quarter of it the cache keeps a copy.
    pub fn append_sized(
        &mut self,
        now: Now,
        head: &EntryHead,
        payload: Bytes,
        max_timestamp: i64,
        allocation: usize,
        fx: &mut StorageFx,
    ) {
        assert!(self.waits.is_none(), "nothing is overwritten before the lower mark is durable");
        assert_eq!(head.index, self.last_index + 1, "indexes are dense");
        assert_eq!(head.base_offset, self.next_offset, "offsets are dense");
        assert!(head.term >= self.last_term(), "terms never go back");
        let bytes = (FRAME_HEADER + payload.len()) as u64;
        self.roll_if_due(now, fx);
        if self.is_full(head, bytes) {
            self.roll(fx);
        }
        let (header, chain) = encode_header(head, &payload, self.last_chain);
        let header = fx.header(&header);
        let interval = self.cfg.index_interval_bytes;
        let (key, file) = (self.key, self.open_active(fx));
        let Some(active) = self.active.as_deref_mut() else { return };
        let entry = Some((key, head.index));
        fx.write(&mut active.run, entry, file, active.segment.size, [header, payload.clone()]);
        fx.note_dirty(key, file);
        active.add(interval, head, chain, bytes, max_timestamp);
        self.points.push_back(active.segment.clone());
        self.last_index = head.index;
        self.last_chain = chain;
        self.next_offset = head.next_offset();
        self.uncheckpointed_bytes += bytes;
        self.note_term(head);
        if head.kind == EntryKind::Data {
            let tail = self.tail.get_or_insert_with(|| fx.cache.slot());
            tail.admit(head, payload, allocation);
        }
    }

    fn note_term(&mut self, head: &EntryHead) {
        if self.last_term() == head.term {
            return;
        }
        self.terms.push((head.index, head.term));
        if let Ok(epoch) = i32::try_from(head.term) {
            self.epochs.record_epoch(epoch, head.base_offset);
        }
    }

    fn is_full(&self, head: &EntryHead, bytes: u64) -> bool {
        let Some(active) = self.active.as_deref().filter(|a| a.segment.size > 0) else { return false };
        let limit = self.cfg.segment_bytes.min(self.cfg.file_bytes).min(u64::from(u32::MAX));
        let span = head.next_offset() - active.segment.first_offset;
        active.segment.size + bytes > limit || span > i64::from(i32::MAX)
    }

    /// Seals the active file where `segment.ms` says so.
    pub fn roll_if_due(&mut self, now: Now, fx: &mut StorageFx) {
        let due = self.active.as_deref().is_some_and(|a| {
            a.segment.has_data() && a.since >= 0 && now.wall.saturating_sub(a.since) >= self.cfg.segment_ms
        });
        if !due {
            return;
        }
        self.roll(fx);
        let sealed = self.segments.last().filter(|s| self.active.is_none() && s.size < WORTH_POOLING);
        // The rest of a pooled file is room that is taken and that no figure shows.
        if let Some(sealed) = sealed {
            fx.ops.push(DiskOp::Cut { path: self.path(&sealed.name()), len: sealed.size });
        }
        if self.cfg.cleaned {
            self.leave_window_for_cleaning();
        }
    }

    /// The active file, open for writing: created, or opened at the first append after a start.
    fn open_active(&mut self, fx: &mut StorageFx) -> crate::FileId {
        let (index, offset) = (self.last_index + 1, self.next_offset);
        let (term, chain) = (self.last_term(), self.last_chain);
        let fills_it = self.cfg.segment_bytes >= WORTH_POOLING;
        let source = if self.segments.is_empty() || !fills_it { FileSource::New } else { self.cfg.files };
        let dir = &self.dir;
        let path = |index| format!("{dir}/{}", log_name(index));
        match self.active.as_deref_mut() {
            Some(Active { file: Some(file), .. }) => *file,
            Some(active) => {
                let first = active.segment.first_index;
                let file = fx.open_again(self.key, first, path(first));
                active.file = Some(file);
                file
            }
            None => {
                if std::mem::take(&mut self.loose_end)
                    && let Some(last) =
                        self.segments.last().filter(|s| s.end_index + 1 == index && s.clean.is_none())
                {
                    let file = fx.open_again(self.key, last.first_index, path(last.first_index));
                    fx.end_frames(Some(self.key), last.end_index, file, last.size);
                    // The round of the entries in the next file makes this durable too.
                    fx.note_dirty(self.key, file);
                    fx.retire(self.key, last.first_index, file);
                }
                let file = fx.file();
                fx.ops.push(DiskOp::Create { file, path: path(index), source });
                let mut active = Active::new(Segment::new(index, offset, term, chain));
                active.file = Some(file);
                self.active = Some(Box::new(active));
                file
            }
        }
    }

    /// Seals the active file, when it holds anything: its sparse index goes to disk and out of memory.
    pub fn roll(&mut self, fx: &mut StorageFx) {
        if self.waits.is_some() {
            // The mark that is durable claims frames behind its end: no checkpoint may say that it has none.
            return;
        }
        let Some(active) = self.active.take_if(|a| a.segment.size > 0) else { return };
        let segment = active.segment;
        self.loose_end = active.was_longer;
        if let Some(file) = active.file {
            fx.retire(self.key, segment.first_index, file);
        }
        if !active.partly_indexed {
            let bytes = active.index.encode(&segment.indexed());
            fx.put(self.path(&segment.index_name()), bytes, PutKind::Index);
        }
        self.segments.push(segment);
    }

    /// The commit index, for marks, sealing and checkpoints. Never goes back.
    pub fn set_commit(&mut self, index: u64) {
        self.commit = self.commit.max(index.min(self.last_index));
        while self.points.front().is_some_and(|p| p.end_index < self.commit) {
            self.points.pop_front();
        }
        if self.points.len() < 8 && self.points.capacity() > 64 {
            self.points.shrink_to(8);
        }
    }

    /// The commit index last told.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The data files, oldest first.
    pub fn files(&self) -> Vec<FileInfo> {
        let active = self.active.as_deref().map(|a| a.segment.first_index);
        let info = |s: &Segment| FileInfo {
            path: self.path(&s.name()),
            first_offset: s.first_offset,
            next_offset: s.next_offset,
            bytes: s.size,
            max_timestamp: s.max_timestamp,
            active: active == Some(s.first_index),
        };
        self.all_segments().map(info).collect()
    }

    /// The data file that holds entry `index`.
    pub fn file_with(&self, index: u64) -> Option<String> {
        let file = self.all_segments().find(|s| (s.first_index..=s.end_index).contains(&index))?;
        Some(self.path(&file.name()))
    }

    /// Removes its files; [`crate::Directory::forget`] and [`crate::Directory::remove`] what else there is.
    pub fn delete(mut self, fx: &mut StorageFx) {
        let files: Vec<u64> = self.all_segments().chain(self.replaced()).map(Segment::number).collect();
        fx.drop_group(self.key);
        self.close_active(fx);
        self.remove_files(&files, true, fx);
    }

    /// Closes its file without a trace (the partition failed or stops).
    pub fn close(mut self, fx: &mut StorageFx) {
        self.close_active(fx);
    }

    /// Gives back the room that the active file takes behind the log's end: a torn tail, or what was written
    /// ahead. For a full disk.
    pub fn cut_tail(&self, fx: &mut StorageFx) {
        // Until the lower mark is durable, the one that is claims what lies behind.
        if let Some(active) = self.active.as_deref().filter(|_| self.waits.is_none()) {
            let path = self.path(&log_name(active.segment.first_index));
            fx.ops.push(DiskOp::Cut { path, len: active.segment.size });
        }
    }

    fn close_active(&mut self, fx: &mut StorageFx) {
        if let Some(file) = self.active.as_deref_mut().and_then(|a| a.file.take()) {
            // Without its name: whoever opens the group again finds what is there, and this may not be.
            fx.retire(self.key, 0, file);
        }
    }
}
