//! One group's log on one data directory: base, window, active file, tail.
use crate::checkpoint::{AppliedPoint, Checkpoint, Replica};
use crate::config::LogConfig;
use crate::epoch::EpochTable;
use crate::error::ReadError;
use crate::frame::EntryHead;
use crate::fx::StorageFx;
use crate::read::{ReadPlan, TimestampPlan};
use crate::recovery::Recovered;
use bytes::Bytes;
use model::{GroupKey, Now};

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
    /// First index of the file that holds it (the file's name).
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
    key: GroupKey,
    epochs: EpochTable,
}

#[allow(unused_variables)]
impl Log {
    /// A group never touched on this disk: nothing is on disk until the first append.
    pub fn born(key: GroupKey, dir: String, birth: Checkpoint, cfg: LogConfig) -> Log {
        panic!("signature only")
    }

    /// From recovery. Where [`Recovered::needs_rewrite`], emits the writes; call
    /// [`crate::Directory::reopened`] next and start the group at its `Persisted`.
    pub fn from_recovered(r: Recovered, cfg: LogConfig, fx: &mut StorageFx) -> Log {
        panic!("signature only")
    }

    /// The group.
    pub fn key(&self) -> GroupKey {
        self.key
    }
    /// First index of the window.
    pub fn first_index(&self) -> u64 {
        panic!("signature only")
    }
    /// Last index.
    pub fn last_index(&self) -> u64 {
        panic!("signature only")
    }
    /// Term of the last entry.
    pub fn last_term(&self) -> u64 {
        panic!("signature only")
    }
    /// Term of the entry at `index`: from first_index - 1 to last_index.
    pub fn term(&self, index: u64) -> Option<u64> {
        panic!("signature only")
    }
    /// (first index, term) of each run in the window; the first row is at first_index - 1.
    pub fn term_runs(&self) -> &[(u64, u64)] {
        panic!("signature only")
    }
    /// Chain value of the last entry.
    pub fn chain(&self) -> u32 {
        panic!("signature only")
    }
    /// The offset of the next record.
    pub fn next_offset(&self) -> i64 {
        panic!("signature only")
    }
    /// The committed log start.
    pub fn log_start(&self) -> i64 {
        panic!("signature only")
    }
    /// Bytes of all data files, headers of frames included.
    pub fn size_bytes(&self) -> u64 {
        panic!("signature only")
    }
    /// Where it ends.
    pub fn end(&self) -> LogEnd {
        panic!("signature only")
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
        panic!("signature only")
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
        panic!("signature only")
    }

    /// The commit index, for marks, sealing and checkpoints. Never goes back.
    pub fn set_commit(&mut self, index: u64) {
        panic!("signature only")
    }

    /// Plan for reading batches from `from` up to (excluding) `upto`, at least one batch if there is any.
    pub fn read_plan(&self, from: i64, upto: i64, max_bytes: usize) -> Result<ReadPlan, ReadError> {
        panic!("signature only")
    }

    /// Plan for finding the first record at or above `from` and below `upto` with a timestamp of at least
    /// `ts`.
    pub fn offset_for_timestamp(&self, ts: i64, from: i64, upto: i64) -> TimestampPlan {
        panic!("signature only")
    }

    /// The largest timestamp below `upto` and the base offset of the first batch that has it (read that
    /// batch to find the record).
    pub fn max_timestamp(&self, upto: i64) -> Option<(i64, i64)> {
        panic!("signature only")
    }

    /// The log start that retention wants (a committed command should set it): whole files only, below
    /// `upto`. -1 stands for no limit.
    pub fn retention_start(
        &self,
        now: Now,
        retention_ms: i64,
        retention_bytes: i64,
        upto: i64,
    ) -> Option<i64> {
        panic!("signature only")
    }

    /// A committed move of the log start. Files wholly below go after the next checkpoint is durable;
    /// `wants_checkpoint` says so.
    pub fn apply_log_start(&mut self, offset: i64, fx: &mut StorageFx) {
        panic!("signature only")
    }

    /// Whether a checkpoint is due: enough bytes, files to let go, or the window too large.
    pub fn wants_checkpoint(&self) -> bool {
        panic!("signature only")
    }

    /// Whether anything was appended since the last checkpoint (for a clean stop).
    pub fn checkpoint_is_stale(&self) -> bool {
        panic!("signature only")
    }

    /// Takes a checkpoint at `at` (whose index is at or below the durable index). `false`: one is being
    /// written, or `at` lies below the commit index; ask again later. The end is
    /// [`crate::DirEvent::CheckpointDone`]; hand it to `checkpoint_done`.
    pub fn checkpoint(
        &mut self,
        producers: Bytes,
        machine: Bytes,
        members: Vec<Replica>,
        at: AppliedPoint,
        fx: &mut StorageFx,
    ) -> bool {
        panic!("signature only")
    }

    /// The checkpoint at `index` is durable (`ok`) or failed: files that it lets go are removed.
    pub fn checkpoint_done(&mut self, index: u64, ok: bool, fx: &mut StorageFx) {
        panic!("signature only")
    }

    /// Seals the active file, when it holds anything.
    pub fn roll(&mut self, fx: &mut StorageFx) {
        panic!("signature only")
    }

    /// Whether `segment.ms` says that the active file is to be rolled.
    pub fn roll_due(&self, now: Now) -> bool {
        panic!("signature only")
    }

    /// The data files, oldest first.
    pub fn files(&self) -> Vec<FileInfo> {
        panic!("signature only")
    }

    /// Removes everything (the group is deleted); [`crate::Directory::forget`] too.
    pub fn delete(self, fx: &mut StorageFx) {
        panic!("signature only")
    }

    /// Closes its file without a trace (the partition failed or stops).
    pub fn close(self, fx: &mut StorageFx) {
        panic!("signature only")
    }
}
