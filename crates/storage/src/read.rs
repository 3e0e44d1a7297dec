//! Read plans, and what turns bytes of a file back into whole batches.
use crate::disk_op::{DiskError, DiskRead};
use crate::error::Damage;
use bytes::Bytes;
use model::GroupKey;

/// How to get the batches of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// Nothing to read: the offset is the bound.
    Empty,
    /// Whole batches from memory, in order; an element may hold several.
    Memory(Vec<Bytes>),
    /// A range of a file: [`read_range`], on a thread that may block.
    File(FileRange),
}

/// Bytes of a segment that hold the wanted batches. Stays valid while the log goes on; when its file is
/// gone or reused, reading fails cleanly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The group.
    pub key: GroupKey,
    /// The segment.
    pub path: String,
    /// First byte to read: the start of a frame.
    pub pos: u64,
    /// Bytes to read.
    pub len: u32,
    /// Bytes of the file that hold frames.
    pub file_end: u64,
    /// First offset wanted (the batch that holds it is returned whole).
    pub from: i64,
    /// Batches at or above are not returned.
    pub upto: i64,
    /// Batches are returned up to this size; the first one whatever its size.
    pub max_bytes: u32,
    /// Index file that knows a better `pos`; `None` where `pos` is the best.
    pub index: Option<String>,
    /// Only batches whose largest timestamp is at least this.
    pub min_timestamp: Option<i64>,
}

/// How to look for a timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampPlan {
    /// No batch below the bound is that late.
    None,
    /// Read this ([`read_range`] returns the first batch that is late enough), then [`find_timestamp`]. Where
    /// nothing is found, plan again from [`Extracted::next_offset`].
    File(FileRange),
}

/// Whole batches out of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Whole batches; an element may hold several.
    pub batches: Vec<Bytes>,
    /// Where to go on reading.
    pub next_offset: i64,
    /// `Some(bytes)`: not even the first batch fitted; read so many from the range's `pos` instead.
    pub need_more: Option<u32>,
}

/// Why a range gave no batches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// Bad bytes: `CORRUPT_MESSAGE` for this range.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The disk could not be read, or the file is gone (retention went past it: plan again).
    #[error("{0}")]
    Disk(#[from] DiskError),
}

/// Cuts whole batches out of `data`, read at `range.pos`; checks frames, their chain and every batch's CRC.
pub fn extract(_range: &FileRange, _data: Bytes) -> Result<Extracted, ExtractError> {
    panic!("signature only")
}

/// Reads a range: finds the position by the index file, reads, extracts, reads more where needed.
/// Blocks: for reader threads, the simulator and tools.
pub fn read_range(_disk: &dyn DiskRead, _range: &FileRange) -> Result<Extracted, ExtractError> {
    panic!("signature only")
}

/// The first record in `batches` with a timestamp of at least `ts`: (timestamp, offset, leader epoch).
pub fn find_timestamp(_batches: &[Bytes], _ts: i64) -> Option<(i64, i64, i32)> {
    panic!("signature only")
}
