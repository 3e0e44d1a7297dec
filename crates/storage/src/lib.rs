//! One log: frames, segments, indexes, recovery, retention, checkpoints, the state log, and the disk.
//!
//! Everything but `disk/` is a synchronous machine: it takes inputs and emits [`DiskOp`]s. The bytes are
//! described in `docs/log-format.md`. Must not know: raft, producers, the wire, the meaning of a command.
//! Start reading at `log.rs` (one group) and `directory.rs` (one data directory).
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod checkpoint;
pub mod compact;
mod config;
mod directory;
pub mod disk;
mod disk_op;
mod entries;
mod epoch;
mod error;
mod failed;
mod flush;
mod founding;
pub mod frame;
mod frame_reader;
mod fx;
mod give_up;
mod group_rows;
pub mod inspect;
pub mod install;
mod log;
mod log_checkpoint;
mod log_read;
mod read;
pub mod recovery;
mod rounds;
mod scan;
mod segment;
mod sparse_index;
mod stall;
mod state_log;
mod state_record;
mod tail_cache;
#[cfg(any(test, feature = "test-util"))]
pub mod test_data;
#[cfg(any(test, feature = "test-util"))]
pub mod test_disk;
#[cfg(test)]
mod tests;

pub use checkpoint::{AppliedPoint, BaseFile, Checkpoint, EpochStart, Replica, ReplicaKind, birth};
pub use compact::{
    AbortedRange, CleanBounds, CleanEnd, CleanInput, CleanJob, CleanProgress, CleanRun, CleanStats, Cleaned,
    Dirtiness,
};
pub use config::{DirectoryConfig, FILE_BYTES, LogConfig, WORTH_POOLING};
pub use directory::{DirEvent, Directory, GroupState, HardState, Mark, UNKNOWN_FLOOR, read_meta};
pub use disk_op::{Completion, DiskError, DiskErrorKind, DiskOp, DiskRead, FileId, FileSource, OpToken};
pub use entries::{ChainPlan, EntriesPlan, EntryRange};
pub use epoch::EpochTable;
pub use error::{Damage, OpenError, ReadError, RecoverError};
pub use failed::FAILED;
pub use frame::{EntryHead, EntryKind};
pub use fx::StorageFx;
pub use give_up::Removal;
pub use install::{Aside, AsideDone, AsideJob, MissingPart, aside_path, generation_dir, parse_group_dir};
pub use log::{FileInfo, Log, LogEnd, group_dir};
pub use read::{
    ExtractError, Extracted, FileRange, ReadPlan, TimestampPlan, extract, find_timestamp, read_range,
};
pub use recovery::{EntryBody, RecoverJob, Recovered, RecoveredBatch, RecoveredEntry};
pub use sparse_index::{IndexedFile, index_is_whole};
