//! What a coordinator is asked: the requests of the Kafka protocol without their wire versions.
use bytes::Bytes;
use model::{ProducerEpoch, ProducerId, TopicId};

/// The caller's name for a request that waits for its answer. Each request needs its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// One assignor that a member supports, with its opaque metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// The assignor's name.
    pub name: String,
    /// What the member tells the leader; the coordinator reads only the topics of type `consumer`.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JoinRequest {
    /// The group.
    pub group_id: String,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// `group.instance.id` of a static member (v5 and above).
    pub instance_id: Option<String>,
    /// The request header's client id.
    pub client_id: String,
    /// The peer's address as Kafka prints it, `/127.0.0.1`.
    pub client_host: String,
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// Milliseconds a rebalance waits for this member; negative (v0) means the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` and so on.
    pub protocol_type: String,
    /// Supported assignors, best first.
    pub protocols: Vec<Protocol>,
    /// v4 and above: a new dynamic member is given an id and must come back with it.
    pub require_known_member_id: bool,
    /// v9 and above: the leader may be told that no assignment is wanted.
    pub supports_skip_assignment: bool,
    /// Why the client joins (v8 and above).
    pub reason: Option<String>,
}

/// SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// v5 and above: refused when it differs from the group's.
    pub protocol_type: Option<String>,
    /// v5 and above: refused when it differs from the group's.
    pub protocol_name: Option<String>,
    /// From the leader: assignment by member id. From others: empty.
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The generation that the member is in.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
}

/// One member of a LeaveGroup.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeavingMember {
    /// Empty to name a static member by its instance id alone.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Why it leaves (v5 and above).
    pub reason: Option<String>,
}

/// LeaveGroup; versions below 3 name one member.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaveRequest {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One partition of an OffsetCommit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommitPartition {
    /// The partition.
    pub index: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: Option<String>,
}

/// One topic of an OffsetCommit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommitTopic {
    /// The topic's name: offsets are kept by name.
    pub name: String,
    /// The topic's id, zero if unknown; stored along and echoed.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// OffsetCommit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommitRequest {
    /// The group; may be empty, as in Kafka.
    pub group_id: String,
    /// Empty for a consumer without group management.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The generation, or -1 without group management.
    pub generation_id: i32,
    /// v2 to v4: lifetime of these offsets; `None` (or -1 on the wire) for the broker's.
    pub retention_ms: Option<i64>,
    /// v9 and above: a missing group is GROUP_ID_NOT_FOUND, below it is ILLEGAL_GENERATION.
    pub knows_group_id_not_found: bool,
    /// What to commit.
    pub topics: Vec<CommitTopic>,
}

/// TxnOffsetCommit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TxnCommitRequest {
    /// What to commit, and for whom.
    pub commit: CommitRequest,
    /// The transaction.
    pub transaction: InTransaction,
}

/// Whose transaction an append belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InTransaction {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Of the client, as far as it can be seen: from 2 on the coordinator of the transaction is asked to add the partition,
    /// below to verify that it was added (KIP-890); from 1 on it knows TRANSACTION_ABORTABLE.
    pub version: i16,
    /// Who authenticated.
    pub principal: String,
    /// As the client called itself.
    pub client_id: String,
}

/// One topic of an OffsetFetch or OffsetDelete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicPartitions {
    /// The topic's name.
    pub name: String,
    /// Echoed in the answer.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// One group of an OffsetFetch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchRequest {
    /// The group; may be empty, as in Kafka.
    pub group_id: String,
    /// `None` asks for every partition with an offset.
    pub topics: Option<Vec<TopicPartitions>>,
    /// The answer waits for commits of this group that are under way.
    pub require_stable: bool,
    /// The member that asks (v9 and above), `None` for an administrator.
    pub member_id: Option<String>,
    /// Its epoch, or -1.
    pub member_epoch: i32,
}

/// OffsetDelete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group_id: String,
    /// What to delete.
    pub topics: Vec<TopicPartitions>,
}

/// ListGroups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListRequest {
    /// States to keep, in any case; empty keeps all.
    pub states: Vec<String>,
    /// Types to keep, in any case; empty keeps all.
    pub types: Vec<String>,
}
