//! Bugs planted on purpose, so that every checker of the simulation can be seen to fail.
//!
//! Without the feature `planted` every question answers `false` and the compiler drops the branch.

/// One planted bug. Each is caught by a named checker (docs/simulation.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A group's entries count as persisted when they were written, before the sync.
    AckBeforeSync,
    /// State machines apply entries when they are appended, before they commit.
    ApplyBeforeCommit,
    /// Producer state is not rebuilt on start.
    NoDedupeAfterRestart,
    /// A bad checksum at or below the mark ends the log in silence.
    TruncateBelowMark,
    /// The high watermark is one entry too high.
    HighWatermarkTooHigh,
    /// The tail found above the mark is taken as durable without writing it again.
    TailNotWrittenAgain,
    /// Entries that were marked are overwritten while the mark that claims them still stands.
    MarkNotLowered,
    /// A vote is told to others before it is durable.
    VoteNotSynced,
    /// A follower acknowledges entries before they are durable.
    FollowerAckBeforeSync,
    /// A leader serves before an entry of its own term is committed.
    ServeUnconfirmed,
    /// A new leader knows nothing of producers.
    NewLeaderForgetsProducers,
    /// A leader that lost the lead tells that its appends failed for good, though they may yet be committed.
    LostLeadIsRefusal,
    /// A replica takes over what it was sent of another's files before they are durable.
    InstallBeforeSync,
    /// A replica that may have lost what it acknowledged under `write.caching` votes as if nothing had happened.
    LossForgotten,
    /// Applying an entry of thirteen records panics. No checker is to catch it: only the group may fail.
    PanicInApply,
    /// A witness is sent entries before every data replica that is in sync holds them.
    WitnessAhead,
    /// A leader that was confirmed once answers strong reads without asking again.
    StaleLeaseKept,
    /// A start takes what a disk that failed in the same boot may have dropped for what was written.
    FailedSyncForgotten,
    /// Replicas do not compare the chain values of their logs.
    ChainsNotCompared,
    /// Markers of a transaction are sent before its end is committed.
    MarkerBeforePrepareCommitted,
    /// A transaction counts as complete before all of its markers are committed.
    CompleteBeforeMarkers,
    /// An EndTxn of the transaction before ends the one that is open.
    LateEndTxnAccepted,
    /// The last stable offset is one too high while a transaction is open.
    LsoTooHigh,
    /// A marker ends whatever its producer has open, however old the marker's epoch is.
    MarkerWithoutEpochCheck,
    /// A member of a consumer group that does not give its partitions up in time is not fenced, and others get them.
    TwoOwners,
    /// Compaction lets go of what deletes a key at once, before its horizon is committed.
    DeletedKeyRevived,
    /// A coordinator of groups tells offsets before it has read its log.
    OffsetsBeforeLoaded,
}

impl Bug {
    /// The bugs of the transaction coordinator, which its random histories catch too (`coordinator/tests/txn`).
    pub const OF_TRANSACTIONS: [Bug; 3] =
        [Bug::MarkerBeforePrepareCommitted, Bug::CompleteBeforeMarkers, Bug::LateEndTxnAccepted];

    /// Every bug that a checker of the simulation catches, in the order of the documentation.
    pub const ALL: [Bug; 26] = [
        Bug::AckBeforeSync,
        Bug::ApplyBeforeCommit,
        Bug::NoDedupeAfterRestart,
        Bug::TruncateBelowMark,
        Bug::HighWatermarkTooHigh,
        Bug::TailNotWrittenAgain,
        Bug::MarkNotLowered,
        Bug::VoteNotSynced,
        Bug::FollowerAckBeforeSync,
        Bug::ServeUnconfirmed,
        Bug::NewLeaderForgetsProducers,
        Bug::LostLeadIsRefusal,
        Bug::InstallBeforeSync,
        Bug::StaleLeaseKept,
        Bug::LossForgotten,
        Bug::WitnessAhead,
        Bug::FailedSyncForgotten,
        Bug::ChainsNotCompared,
        Bug::MarkerBeforePrepareCommitted,
        Bug::CompleteBeforeMarkers,
        Bug::LateEndTxnAccepted,
        Bug::LsoTooHigh,
        Bug::MarkerWithoutEpochCheck,
        Bug::OffsetsBeforeLoaded,
        Bug::TwoOwners,
        Bug::DeletedKeyRevived,
    ];

    /// Whether only replicas with peers can show it, or the simulation of several nodes alone.
    pub fn needs_peers(self) -> bool {
        match self {
            Bug::AckBeforeSync
            | Bug::ApplyBeforeCommit
            | Bug::NoDedupeAfterRestart
            | Bug::TruncateBelowMark
            | Bug::HighWatermarkTooHigh
            | Bug::TailNotWrittenAgain
            | Bug::PanicInApply => false,
            Bug::MarkNotLowered
            | Bug::VoteNotSynced
            | Bug::FollowerAckBeforeSync
            | Bug::ServeUnconfirmed
            | Bug::NewLeaderForgetsProducers
            | Bug::LostLeadIsRefusal
            | Bug::InstallBeforeSync
            | Bug::LossForgotten
            | Bug::WitnessAhead
            | Bug::StaleLeaseKept
            | Bug::FailedSyncForgotten
            | Bug::ChainsNotCompared
            | Bug::MarkerBeforePrepareCommitted
            | Bug::CompleteBeforeMarkers
            | Bug::LateEndTxnAccepted
            | Bug::LsoTooHigh
            | Bug::MarkerWithoutEpochCheck
            | Bug::OffsetsBeforeLoaded
            | Bug::TwoOwners
            | Bug::DeletedKeyRevived => true,
        }
    }
}

#[cfg(feature = "planted")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants `bug` on this thread; `None` removes it.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.with(|p| p.set(bug));
    }

    /// Whether `bug` is planted on this thread.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.with(|p| p.get() == Some(bug))
    }
}

#[cfg(not(feature = "planted"))]
mod switch {
    use super::Bug;

    /// Always false in a build without the feature `planted`.
    #[inline(always)]
    pub fn planted(_: Bug) -> bool {
        false
    }
}

#[cfg(feature = "planted")]
pub use switch::plant;
pub use switch::planted;
