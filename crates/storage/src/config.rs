//! Settings, with what each one bounds.
use crate::checkpoint::Replica;
use crate::disk_op::FileSource;

/// Physical size of one file of the pool, and of a segment where `segment_bytes` is larger.
pub const FILE_BYTES: u64 = 32 << 20;

/// A used file is worth keeping for the pool from this size on: little is to be added to it.
pub const WORTH_POOLING: u64 = FILE_BYTES / 8 * 7;

/// Settings of one log; changeable while it runs ([`crate::Log::set_config`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a file is rolled at the smaller of this and `file_bytes`.
    pub segment_bytes: u64,
    /// Bytes of a file on disk whatever `segment_bytes` allows; pooled files have this size.
    pub file_bytes: u64,
    /// `segment.ms`: a file whose first entry is older is rolled at the next append.
    pub segment_ms: i64,
    /// Compaction wants what `segment_ms` seals: it leaves the window at once.
    pub cleaned: bool,
    /// `index.interval.bytes`: a row of the sparse index at least this far from the last.
    pub index_interval_bytes: u32,
    /// Sealed files leave the window above this many bytes (or earlier, when they are to be deleted).
    pub window_bytes: u64,
    /// A checkpoint is due this many bytes after the last.
    pub checkpoint_bytes: u64,
    /// Where files after the first come from, unless `segment_bytes` leaves most of a pooled file empty.
    pub files: FileSource,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            file_bytes: FILE_BYTES,
            segment_ms: 7 * 24 * 3600 * 1000,
            cleaned: false,
            index_interval_bytes: 4096,
            window_bytes: 1 << 30,
            checkpoint_bytes: 64 << 20,
            files: FileSource::Pool,
        }
    }
}

/// Settings of one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Written into `meta` at the first open where the founders are known, else when the node has found its place;
    /// another one later is refused. Empty: any.
    pub cluster_id: String,
    /// Written into `meta` at the first open; another one later is refused.
    pub node_id: i32,
    /// For a new directory: the first members of the metadata group and this node's replica among them. Empty:
    /// not known yet, see [`crate::Directory::join`]. One that knows them goes on with those.
    pub founders: (Vec<Replica>, u64),
    /// 16 random bytes for a new directory; ignored when it has an id.
    pub new_directory_id: [u8; 16],
    /// The kernel's boot id (any 16 bytes that change with each boot).
    pub boot_id: [u8; 16],
    /// Bytes of batches kept in memory for readers at the tail, all groups together.
    pub tail_cache_bytes: usize,
    /// How long entries of `write.caching` groups may wait for their sync, ms: by then the kernel has begun to
    /// write them out by itself.
    pub relaxed_sync_ms: i64,
    /// After so many bytes they are synced earlier: a start after a kill reads again what no sync covered.
    pub relaxed_sync_bytes: u64,
    /// Bytes written ahead into a new state log file.
    pub state_log_bytes: u64,
    /// An operator's command: go on with what precedes damage in the state log. Marks after it are lost,
    /// so what they claimed is no longer proved.
    pub accept_state_log_damage: bool,
}

impl Default for DirectoryConfig {
    fn default() -> DirectoryConfig {
        DirectoryConfig {
            cluster_id: String::new(),
            node_id: 0,
            founders: (Vec::new(), 0),
            new_directory_id: [0; 16],
            boot_id: [0; 16],
            tail_cache_bytes: 64 << 20,
            relaxed_sync_ms: 30_000,
            relaxed_sync_bytes: 1 << 30,
            state_log_bytes: 1 << 20,
            accept_state_log_damage: false,
        }
    }
}
