//! What leaves a coordinator besides its return values.
use crate::replies::Reply;
use crate::requests::{InTransaction, Token};
use bytes::Bytes;
use model::WallMs;

/// The coordinator's name for one append. Grows, and is never used twice by one instance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct BatchId(pub u64);

/// A record of `__consumer_offsets`; no value is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The key, with its version.
    pub key: Bytes,
    /// The value, with its version.
    pub value: Option<Bytes>,
}

/// Something for the caller to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Answer a request. Each token is answered exactly once.
    Reply {
        /// Whose answer.
        token: Token,
        /// The answer.
        reply: Reply,
    },
    /// Append these records as one batch, after every earlier one, and report the outcome.
    Append {
        /// Its name in `on_committed` and `on_append_failed`.
        batch: BatchId,
        /// Its records, never none.
        records: Vec<Record>,
    },
    /// The same for records of a producer's transaction.
    AppendInTransaction {
        /// Its name in `on_committed` and `on_append_failed`.
        batch: BatchId,
        /// Its records, never none.
        records: Vec<Record>,
        /// Whose.
        transaction: Box<InTransaction>,
    },
    /// Worth a log line or a counter; nothing depends on it.
    Event(GroupEvent),
}

/// The list that a coordinator pushes effects to, in the order they are to be done.
pub type Effects = Vec<Effect>;

/// What began a rebalance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum CauseKind {
    /// A new member joined.
    MemberJoined,
    /// A member joined again with other metadata, or the leader asked for a new assignment.
    MemberRejoined,
    /// A static member came back under a new id in a way that changes the assignment.
    StaticMemberReplaced,
    /// A member said that it leaves, or an administrator removed it.
    MemberLeft,
    /// A member's session ran out.
    SessionExpired,
    /// Members did not ask for their assignment in time.
    SyncExpired,
    /// The assignment could not be stored.
    StoreFailed,
    /// A loaded group is larger than `group.max.size` now allows.
    OverCapacity,
    /// A member of a consumer group did not give its partitions up in time.
    RevocationExpired,
    /// Topics that a consumer group subscribes to came, went or grew.
    TopicsChanged,
}

impl CauseKind {
    /// A short word for tables and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            CauseKind::MemberJoined => "member-joined",
            CauseKind::MemberRejoined => "member-rejoined",
            CauseKind::StaticMemberReplaced => "static-member-replaced",
            CauseKind::MemberLeft => "member-left",
            CauseKind::SessionExpired => "session-expired",
            CauseKind::SyncExpired => "sync-expired",
            CauseKind::StoreFailed => "store-failed",
            CauseKind::OverCapacity => "over-capacity",
            CauseKind::RevocationExpired => "revocation-expired",
            CauseKind::TopicsChanged => "topics-changed",
        }
    }
}

/// Why one rebalance happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RebalanceCause {
    /// When.
    pub at: WallMs,
    /// The generation that it ended.
    pub generation_id: i32,
    /// Who set it off, or empty.
    pub member_id: String,
    /// What set it off.
    pub kind: CauseKind,
    /// The client's own words or ours, at most 256 bytes.
    pub reason: String,
}

/// An event of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupEvent {
    /// A rebalance began.
    RebalanceStarted {
        /// The group.
        group_id: String,
        /// Why.
        cause: RebalanceCause,
    },
    /// All members have joined; the leader is to assign.
    GenerationStarted {
        /// The group.
        group_id: String,
        /// The new generation.
        generation_id: i32,
        /// Its members.
        members: usize,
    },
    /// The assignment is stored and handed out.
    RebalanceCompleted {
        /// The group.
        group_id: String,
        /// The generation.
        generation_id: i32,
        /// Its members.
        members: usize,
    },
    /// A member's session ran out, or it never came back with its id.
    MemberExpired {
        /// The group.
        group_id: String,
        /// The member.
        member_id: String,
    },
    /// A static member's id was taken over by a newer process with the same instance id.
    MemberFenced {
        /// The group.
        group_id: String,
        /// The id that lost.
        member_id: String,
    },
    /// Offsets reached the end of their retention.
    OffsetsExpired {
        /// The group.
        group_id: String,
        /// How many.
        count: usize,
    },
    /// The group is gone.
    GroupDeleted {
        /// The group.
        group_id: String,
    },
}
