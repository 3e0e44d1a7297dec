//! The state of a group at one index, and the file that holds it.
use bytes::Bytes;
use model::GroupKey;
pub use proto::storage::{BaseFile, Checkpoint, EpochStart, Replica, ReplicaKind};

/// Where the machines on a log stand when a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedPoint {
    /// Applied index: the commit index last told to the log, or above; at or below the durable index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The next offset after it.
    pub next_offset: i64,
    /// The committed log start.
    pub log_start: i64,
}

/// The checkpoint with which a group is born: index 1, term 1, offset 0.
pub fn birth(key: GroupKey, members: Vec<Replica>) -> Checkpoint {
    let chain = crate::log::chain_seed(key);
    Checkpoint {
        index: 1,
        term: 1,
        chain,
        members,
        first_index: 2,
        prev_term: 1,
        prev_chain: chain,
        producers: Bytes::new(),
        ..Checkpoint::default()
    }
}
