//! What storage asks of a disk, and what a disk answers. Nothing here touches a file.
//!
//! Fields: `file` names an open file, `token` the completion, `path` a file, `pos` a byte position.
//!
//! All paths are relative to the data directory and use `/`. Operations of one data directory are
//! carried out in the order they were submitted, except that a [`DiskOp::Sync`] runs beside the
//! writes that follow it, and reads and recoveries run beside everything.
use crate::compact::{CleanJob, CleanedAside};
use crate::error::RecoverError;
use crate::install::{Aside, AsideJob};
use crate::recovery::{RecoverJob, Recovered};
use bytes::Bytes;
use std::fmt;

/// No index file is larger.
pub(crate) const MAX_INDEX_BYTES: usize = 1 << 20;

/// A file opened for writing; chosen by the core, never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileId(pub u64);

/// Names a completion; chosen by the core, never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OpToken(pub u64);

/// Where a new file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// The file system.
    New,
    /// The pool, where it has more than it makes ahead: overwriting a used file costs less than growing one.
    Used,
    /// The pool, which makes others: it pays where writes are synced one by one.
    Pool,
}

/// One thing for the disk to do.
#[allow(missing_docs)] // The variants' docs name their fields.
#[derive(Debug)]
pub enum DiskOp {
    /// Creates `path` (with its parent directory) for writing, from `source` where that has a file. The name is
    /// durable with the next sync of the file.
    Create { file: FileId, path: String, source: FileSource },
    /// Opens an existing file for writing on.
    Open { file: FileId, path: String },
    /// Writes `bufs` one after the other from `pos` on.
    Write { file: FileId, pos: u64, bufs: Vec<Bytes> },
    /// Writes the `len` bytes that `file` holds from `pos` on once more, so that the next sync covers them.
    Rewrite { file: FileId, pos: u64, len: u64 },
    /// Completes with [`Completion::Written`] when every write submitted before it reached the
    /// operating system.
    Barrier { token: OpToken },
    /// Makes everything written to `files` before this durable, names included; completes with
    /// [`Completion::Synced`]. Never retried after an error (the directory is fenced). Syncs run one after the
    /// other, but those that are `behind` (nobody waits for them) run beside the others.
    Sync { files: Vec<FileId>, token: OpToken, behind: bool },
    /// Syncs (if dirty) and closes.
    Close { file: FileId },
    /// Replaces `path` by `bytes` under a temporary name and renames it. `durable`: file and directory are
    /// synced; otherwise a power cut may lose or tear it. Completes with [`Completion::Put`].
    Put { path: String, bytes: Bytes, token: OpToken, durable: bool },
    /// Writes `bytes` at `pos` of a file beside the groups' own, made with its directory where it is not there.
    /// Nothing is synced. Completes with [`Completion::Put`].
    PutAt { path: String, pos: u64, bytes: Bytes, token: OpToken },
    /// Makes every file of a directory durable, names included; completes with [`Completion::Put`]. Where that fails the
    /// directory is gone: nobody may go on with what only seems to be there.
    SyncDir { path: String, token: OpToken },
    /// Makes files that were put aside durable, names included; completes with [`Completion::Put`]. One for which that
    /// fails is gone.
    SyncFiles { paths: Vec<String>, token: OpToken },
    /// A step of compaction, which reads alone: runs [`CleanJob::step`] beside the writer; completes with
    /// [`Completion::Cleaned`].
    Clean { job: Box<CleanJob>, token: OpToken },
    /// Looks at what was put aside: runs [`crate::install::look`] beside the writer; completes with
    /// [`Completion::Looked`].
    Look { job: Box<AsideJob>, token: OpToken },
    /// Removes files, into the pool where it has room and `recycle` is set (after the last reader).
    Remove { paths: Vec<String>, recycle: bool },
    /// Removes a directory of a deleted group with everything in it, durably; completes with
    /// [`Completion::Removed`].
    RemoveDir { path: String, token: OpToken },
    /// Cuts a file to `len` bytes where it is longer: what lies behind is no part of a log.
    Cut { path: String, len: u64 },
    /// Frees what is kept back for a full disk: only what makes room is written now.
    SpendReserve,
    /// Recovers a group: runs [`crate::recovery::recover`] beside the writer; completes with
    /// [`Completion::Recovered`].
    Recover { job: Box<RecoverJob>, token: OpToken },
}

/// The end of an operation.
#[allow(missing_docs)] // The variants' docs name their fields.
#[derive(Debug)]
pub enum Completion {
    /// A [`DiskOp::Barrier`] was reached.
    Written { token: OpToken, result: Result<(), DiskError> },
    /// A [`DiskOp::Sync`] ended; `micros` is how long it took, for the metrics.
    Synced { token: OpToken, result: Result<(), DiskError>, micros: u64 },
    /// A [`DiskOp::Put`], [`DiskOp::PutAt`], [`DiskOp::SyncDir`] or [`DiskOp::SyncFiles`] ended.
    Put { token: OpToken, result: Result<(), DiskError> },
    /// A [`DiskOp::Recover`] ended.
    Recovered { token: OpToken, result: Box<Result<Recovered, RecoverError>> },
    /// A [`DiskOp::Look`] ended.
    Looked { token: OpToken, result: Box<Result<Aside, RecoverError>> },
    /// A [`DiskOp::Clean`] ended.
    Cleaned { token: OpToken, done: Box<CleanedAside> },
    /// A [`DiskOp::RemoveDir`] ended.
    Removed { token: OpToken, result: Result<(), DiskError> },
    /// Free space fell below the reserve (`low`) or rose above it. Unasked.
    Space { low: bool },
}

/// Why the disk could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What the caller should make of it.
    pub kind: DiskErrorKind,
    /// Path, operation and the system's words.
    pub detail: String,
}

/// Classes of disk errors, by what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// No space: refused before anything was acknowledged; heals by itself.
    Full,
    /// No such file.
    NotFound,
    /// Anything else: the directory is fenced.
    Io,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for DiskError {}

/// Positioned reads, as recovery, cold fetches and offline tools use them. Implemented by the real
/// directory (`disk/`), the simulated disk and in-memory test disks.
pub trait DiskRead {
    /// Names of the entries of a directory, sorted; empty when there is no such directory.
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError>;
    /// Length of a file in bytes; `None` when there is no such file.
    fn len(&self, path: &str) -> Result<Option<u64>, DiskError>;
    /// Up to `len` bytes from `pos`; shorter only at the end of the file.
    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError>;

    /// As `read`; `seen` is called with all that is here as soon as more of it is. A real disk reads in steps
    /// that the processor's own cache holds: bytes that are looked at at once are looked at for less.
    fn read_in_steps(
        &self,
        path: &str,
        pos: u64,
        len: usize,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<Bytes, DiskError> {
        let bytes = self.read(path, pos, len)?;
        seen(&bytes);
        Ok(bytes)
    }

    /// The bytes of an index file that passed [`crate::index_is_whole`]; `None` when it is missing or
    /// damaged (it is rebuilt from the log). A real disk maps it and checks it once.
    fn index(&self, path: &str) -> Option<Bytes> {
        let len = usize::try_from(self.len(path).ok()??).ok()?;
        let bytes = self.read(path, 0, len.min(MAX_INDEX_BYTES)).ok()?;
        crate::index_is_whole(&bytes).then_some(bytes)
    }

    /// Takes a rebuilt index in place of a missing or damaged one, or ignores it.
    fn offer_index(&self, _path: &str, _bytes: Bytes) {}
}
