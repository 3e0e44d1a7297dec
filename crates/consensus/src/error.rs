//! Why a proposal was refused.
use crate::members::Misfit;

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

/// Why a change of the membership was not proposed; nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This replica does not lead the group, or has not confirmed yet that it does.
    #[error("this replica does not lead the group")]
    NotLeader,
    /// Another change is not applied yet.
    #[error("another change of the membership is on its way")]
    Pending,
    /// It does not fit the membership.
    #[error("the change does not fit: {0}")]
    Misfit(#[from] Misfit),
    /// raft dropped it, as while leadership is being handed over.
    #[error("the group does not take proposals at the moment")]
    Dropped,
}
