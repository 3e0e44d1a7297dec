//! What goes into a partition and what comes out.
use crate::compaction::CleaningConfig;
use bytes::Bytes;
use consensus::PeerMessage;
use model::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, WallMs};
use records::{BatchError, CompressionTarget, RecordIssue, TimestampBounds, TimestampType};
use storage::{Checkpoint, FileRange, LogConfig, ReadPlan, Recovered};

/// Settings of one partition: its topic's configs, and the broker's where a topic has none.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// Files and checkpoints.
    pub log: LogConfig,
    /// `max.message.bytes`, of a whole batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.{before,after}.max.ms`.
    pub timestamp_bounds: TimestampBounds,
    /// `compression.type`.
    pub compression: CompressionTarget,
    /// `cleanup.policy` names `compact`: every record needs a key.
    pub compact: bool,
    /// How it is compacted; `None`: not at all, or not yet.
    pub cleaning: Option<CleaningConfig>,
    /// `cleanup.policy` names `delete`: retention and DeleteRecords may remove records.
    pub delete: bool,
    /// `plimsoll.validate.records`: walk the records of every batch.
    pub validate_records: bool,
    /// The most bytes that the records of a walked batch may take decompressed.
    pub walk_cap: usize,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_ms: i64,
    /// `retention.ms`; -1 for no limit.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 for no limit.
    pub retention_bytes: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// Producers remembered at most; beyond it the longest silent ones are forgotten.
    pub max_producers: usize,
    /// `write.caching`: entries count as persisted when they are written.
    pub write_caching: bool,
    /// Payload bytes that may wait for commit, or for the start of the group, before appends are refused.
    pub max_uncommitted_bytes: u64,
    /// Whether transactional batches and markers are taken: every node of the cluster can read what they leave in a log
    /// (`plimsoll.version` 4).
    pub transactions: bool,
    /// Transactions that may be open at a time; further ones are refused with COORDINATOR_LOAD_IN_PROGRESS.
    pub max_open_transactions: usize,
    /// Whether a machine lives on this log: it gets [`PartitionFx::Committed`], and its checkpoints are
    /// taken by [`crate::Partition::checkpoint`] alone.
    pub machine: bool,
}

impl Default for PartitionConfig {
    fn default() -> PartitionConfig {
        PartitionConfig {
            log: LogConfig::default(),
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_bounds: TimestampBounds { before_max_ms: i64::MAX, after_max_ms: 3_600_000 },
            compression: CompressionTarget::Producer,
            compact: false,
            cleaning: None,
            delete: true,
            validate_records: false,
            walk_cap: 256 << 20,
            min_insync_replicas: 1,
            replica_lag_ms: 30_000,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            producer_expiration_ms: 24 * 3600 * 1000,
            max_producers: 100_000,
            write_caching: false,
            max_uncommitted_bytes: 64 << 20,
            transactions: false,
            max_open_transactions: 10_000,
            machine: false,
        }
    }
}

/// Where a partition starts from.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // lives for one call
pub enum Start {
    /// Never touched on this disk.
    Born(Checkpoint),
    /// Read back from it.
    Recovered(Box<Recovered>),
    /// The same; and this replica was made all of its group: what others it had is given up with all changes of the
    /// membership in entries below `from_term`. It leads in that term or a later one.
    Reset {
        /// What was read back.
        recovered: Box<Recovered>,
        /// The term.
        from_term: u64,
        /// The node that it is on.
        node: NodeId,
    },
}

/// What a machine needs to rebuild itself: its checkpoint, then the commands after it up to the commit
/// index. Later ones arrive as [`PartitionFx::Committed`]. (Coordinators read their data from the log.)
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The machine's bytes of the checkpoint; empty at birth.
    pub machine: Bytes,
    /// Payloads of the machine's commands with their indexes, in order.
    pub commands: Vec<(u64, Bytes)>,
    /// The checkpoint or an entry that this version cannot read. The partition refuses everything; mark the
    /// replica failed in the directory.
    pub failed: Option<String>,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: one batch, every check.
    Client,
    /// A coordinator of this node: any number of well-formed batches.
    Coordinator,
}

/// A successful append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The append time where the topic uses it, ms; else -1.
    pub log_append_time: WallMs,
    /// The log start.
    pub log_start: Offset,
    /// The batch had been appended before; these are its offsets from then.
    pub duplicate: bool,
}

/// A refused append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For people.
    pub message: Option<String>,
    /// The records at fault (KIP-467).
    pub issues: Vec<RecordIssue>,
    /// The log start.
    pub log_start: Offset,
}

impl AppendError {
    /// A refusal that says why.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> AppendError {
        AppendError { code, message: Some(message.into()), issues: Vec::new(), log_start: -1 }
    }

    /// A refusal of which the code says all.
    pub fn bare(code: ErrorCode) -> AppendError {
        AppendError { code, message: None, issues: Vec::new(), log_start: -1 }
    }
}

impl From<BatchError> for AppendError {
    fn from(error: BatchError) -> AppendError {
        AppendError { issues: error.issues(), ..AppendError::new(error.code(), error.to_string()) }
    }
}

/// An entry that is committed, for the machine on this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Its index.
    pub index: u64,
    /// The token of the proposal, where this process proposed it.
    pub token: Option<u64>,
    /// What it is.
    pub body: CommittedBody,
}

/// What a committed entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedBody {
    /// Batches with these offsets.
    Data {
        /// Offset of the first record.
        base_offset: Offset,
        /// The offset after the last.
        next_offset: Offset,
    },
    /// A command of the machine.
    Command(Bytes),
    /// The end of a producer's transaction (KIP-98).
    Marker {
        /// Whose.
        producer_id: ProducerId,
        /// The marker's epoch.
        producer_epoch: ProducerEpoch,
        /// Its records count; else they are void.
        commit: bool,
        /// Of the coordinator that decided.
        coordinator_epoch: i32,
        /// The marker's.
        offset: Offset,
    },
}

/// What a partition wants of its owner. All effects concern the partition that was called.
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionFx {
    /// The end of [`crate::Partition::append`].
    AppendDone {
        /// The caller's.
        token: u64,
        /// The outcome.
        result: Result<Appended, AppendError>,
    },
    /// A command was not, or will not be known to be, committed. (A committed one is a `Committed`.)
    CommandFailed {
        /// The caller's.
        token: u64,
        /// Why.
        code: ErrorCode,
    },
    /// The end of [`crate::Partition::delete_records`]: the log start.
    LogStartDone {
        /// The caller's.
        token: u64,
        /// The outcome.
        result: Result<Offset, ErrorCode>,
    },
    /// For the machine on this log, in index order. Only with [`PartitionConfig::machine`].
    Committed(CommittedEntry),
    /// The high watermark moved: waiting fetches may be planned again.
    HighWatermark(Offset),
    /// The log start moved.
    LogStart(Offset),
    /// The end of [`crate::Partition::confirm`]: whether this replica leads at present.
    Confirmed {
        /// The caller's.
        token: u64,
        /// It does; or why it cannot be said.
        result: Result<(), ErrorCode>,
    },
    /// Something waits for a confirmation: call [`crate::Partition::begin_round`] at the end of the turn.
    WantsRound,
    /// Serves as leader under this epoch from now on.
    Became(LeaderEpoch),
    /// The replica had been restrained, see [`crate::Partition::is_restrained`], and is no more.
    Freed {
        /// A majority was restrained and this replica leads now: what was acknowledged and is in no log is gone.
        lost: bool,
    },
    /// Leads no more. Everything unanswered was answered.
    Resigned,
    /// Who is a member changed: see [`crate::Partition::members`].
    Members,
    /// The replica is broken and stays so; mark it failed in the directory.
    Failed(String),
    /// For the replica on another node.
    Send {
        /// Where it is.
        node: NodeId,
        /// What to hand to its [`crate::Partition::step`].
        message: PeerMessage,
    },
    /// Entries that a follower is behind by: read them and call [`crate::Partition::on_entries`].
    ReadEntries {
        /// Names the wish.
        number: u64,
        /// What to read.
        range: Box<FileRange>,
    },
    /// A replica needs entries from before this leader's window: it is to be brought up from a checkpoint.
    Lags {
        /// Where it is.
        node: NodeId,
    },
    /// A leader counts on what this replica acknowledged in an earlier life: it is to be told where the log ends.
    Forgot {
        /// Where the leader is.
        node: NodeId,
    },
    /// A message of another replica was refused: it contradicts what is here.
    Refused {
        /// Whose.
        node: NodeId,
        /// Why.
        why: String,
    },
}

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// A fetch of one partition.
#[derive(Clone, Copy, Debug)]
pub struct FetchInput {
    /// Where to read.
    pub offset: Offset,
    /// Bytes wanted; the first batch comes whole whatever its size.
    pub max_bytes: usize,
    /// The leader epoch that the client knows; -1 for none.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record that it has; -1 for none.
    pub last_fetched_epoch: LeaderEpoch,
    /// What it may see.
    pub isolation: Isolation,
    /// The client takes answers of followers (KIP-392).
    pub at_follower: bool,
}

/// What a fetch may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOk {
    /// How to get the batches.
    pub plan: ReadPlan,
    /// High watermark.
    pub high_watermark: Offset,
    /// Last stable offset.
    pub last_stable_offset: Offset,
    /// Log start.
    pub log_start: Offset,
    /// For readers of committed transactions: (producer id, first offset) of the aborted ones in the range, in the
    /// order of the offsets. Of a plan that reads a file there may be some from behind what it will give.
    pub aborted: Vec<(ProducerId, Offset)>,
    /// The client's log differs from ours: truncate to this (epoch, end offset); nothing is read.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Answered by a follower.
    pub at_follower: bool,
    /// A follower does not know yet that the log reaches so far: OFFSET_NOT_AVAILABLE, if that stays so.
    pub not_yet: bool,
    /// The replica that the client shall ask instead; nothing is read.
    pub preferred: Option<NodeId>,
}

/// A refused fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// High watermark.
    pub high_watermark: Offset,
    /// Log start.
    pub log_start: Offset,
}

/// ListOffsets of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetAsk {
    /// A time in ms, or one of Kafka's sentinels -1 to -6.
    pub timestamp: i64,
    /// The leader epoch that the client knows; -1 for none.
    pub current_leader_epoch: LeaderEpoch,
    /// What it may see.
    pub isolation: Isolation,
}

/// The answer to it; all -1 where there is no such record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetOutcome {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp; -1 for sentinels other than "max timestamp".
    pub timestamp: WallMs,
    /// The leader epoch at that offset.
    pub leader_epoch: LeaderEpoch,
}

/// A step of ListOffsets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // lives for one call
pub enum ListOffsetStep {
    /// The answer.
    Done(ListOffsetOutcome),
    /// Read this, then call [`crate::Partition::list_offset_read`] with what was found and `search`.
    Read {
        /// What to read.
        range: FileRange,
        /// Hand back.
        search: ListOffsetSearch,
    },
}

/// What a ListOffsets step looks for in the bytes it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetSearch {
    pub(crate) ask: ListOffsetAsk,
    /// The first record at least this late is the answer.
    pub(crate) timestamp: i64,
    /// Where the last step began to read; the next begins above it.
    pub(crate) from: Offset,
    pub(crate) upto: Offset,
    /// It looks for the largest timestamp; what was found so far.
    pub(crate) largest: Option<ListOffsetOutcome>,
}

/// One producer, as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Producer id.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch or marker, ms.
    pub last_timestamp: WallMs,
    /// Of its last marker; -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins; -1 for none.
    pub current_txn_start_offset: Offset,
}

/// Counted since the partition was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batch bytes appended by clients.
    pub bytes_in: u64,
    /// Records appended by clients.
    pub records_in: u64,
    /// Batches that had been appended before.
    pub duplicates: u64,
    /// Appends refused.
    pub refused: u64,
    /// Of these, and of [`crate::Partition::verification`]: too many transactions are open, or too many questions under
    /// way.
    pub transactions_refused: u64,
    /// Bytes handed to readers.
    pub bytes_out: u64,
    /// Records handed to readers.
    pub records_out: u64,
    /// Bytes of entries that this replica appended to its log, as a leader or a follower.
    pub bytes_appended: u64,
}
