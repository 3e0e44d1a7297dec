//! Why a proposal was refused.

/// Why an entry was not proposed; nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead the group.
    #[error("this replica does not lead the group")]
    NotLeader,
    /// The group has as many uncommitted bytes as it may.
    #[error("{uncommitted} bytes wait for commit, the limit is {limit}")]
    Busy {
        /// Payload bytes appended and not yet committed.
        uncommitted: u64,
        /// The group's limit, bytes.
        limit: u64,
    },
    /// raft dropped it, as while leadership is being handed over.
    #[error("the group does not take proposals at the moment")]
    Dropped,
}
