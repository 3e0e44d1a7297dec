//! Errors, named for what the caller does about them.
use crate::disk_op::DiskError;
use std::fmt;

/// Bytes on disk that are not what was made durable there. Never repaired by shortening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// File, relative to the data directory.
    pub file: String,
    /// Byte position of the first bad frame, record or section.
    pub pos: u64,
    /// What was found there, and what to do.
    pub detail: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.pos, self.detail)
    }
}

/// Why a data directory cannot be opened. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The disk could not be read.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// `meta` or the state log is damaged.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The directory belongs to another cluster or node, or to a newer version of this program.
    #[error("{0}")]
    Foreign(String),
}

/// Why a group cannot be recovered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The disk could not be read: the group stays closed, nothing was changed.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// The window is damaged at or below the mark: the partition stays offline, its files untouched.
    #[error("damaged: {0}")]
    Damaged(Damage),
}

/// Why a range cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log start or above the bound.
    #[error("offset {offset} is outside {start}..={end}")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// The log start.
        start: i64,
        /// The bound.
        end: i64,
    },
    /// The range is damaged (`CORRUPT_MESSAGE`); ranges beside it are not.
    #[error("damaged: {0}")]
    Damaged(Damage),
}
