//! What a coordinator answers. Each reply says all that the newest wire version can carry.
use crate::events::RebalanceCause;
use bytes::Bytes;
use model::{ErrorCode, TopicId};

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To [`crate::JoinRequest`].
    Join(JoinReply),
    /// To [`crate::SyncRequest`].
    Sync(SyncReply),
    /// To [`crate::HeartbeatRequest`].
    Heartbeat(ErrorCode),
    /// To [`crate::LeaveRequest`].
    Leave(LeaveReply),
    /// To [`crate::CommitRequest`].
    Commit(CommitReply),
    /// To [`crate::FetchRequest`].
    Fetch(FetchReply),
    /// To [`crate::DeleteOffsetsRequest`].
    DeleteOffsets(DeleteOffsetsReply),
    /// To [`crate::ConsumerHeartbeatRequest`].
    ConsumerHeartbeat(crate::consumer::ConsumerHeartbeatReply),
    /// To DeleteGroups: each group with its outcome, in the order asked.
    DeleteGroups(Vec<(String, ErrorCode)>),
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to JoinGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinReply {
    /// The outcome.
    pub error: ErrorCode,
    /// The new generation, or -1.
    pub generation_id: i32,
    /// The group's protocol type, where known.
    pub protocol_type: Option<String>,
    /// The chosen assignor; versions below 7 send an empty text for `None`.
    pub protocol_name: Option<String>,
    /// The leader's member id, or empty.
    pub leader: String,
    /// The leader need not compute an assignment (v9 and above).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// For the leader: everyone.
    pub members: Vec<JoinedMember>,
}

impl JoinReply {
    /// A refusal with Kafka's default fields.
    pub fn refused(error: ErrorCode, member_id: &str) -> JoinReply {
        JoinReply {
            error,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// The answer to SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncReply {
    /// The outcome.
    pub error: ErrorCode,
    /// The group's protocol type on success.
    pub protocol_type: Option<String>,
    /// The chosen assignor on success.
    pub protocol_name: Option<String>,
    /// The member's assignment, opaque.
    pub assignment: Bytes,
}

impl SyncReply {
    /// A refusal.
    pub fn refused(error: ErrorCode) -> SyncReply {
        SyncReply { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

/// The outcome for one leaving member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftMember {
    /// As asked.
    pub member_id: String,
    /// As asked.
    pub instance_id: Option<String>,
    /// Its own outcome; versions below 3 send the only member's outcome as the request's.
    pub error: ErrorCode,
}

/// The answer to LeaveGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveReply {
    /// The outcome of the whole.
    pub error: ErrorCode,
    /// Outcome by member.
    pub members: Vec<LeftMember>,
}

/// One topic of an OffsetCommit answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedTopic {
    /// As asked.
    pub name: String,
    /// As asked.
    pub topic_id: TopicId,
    /// Partition and outcome.
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// The answer to OffsetCommit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitReply {
    /// Outcome by topic, in the order asked.
    pub topics: Vec<CommittedTopic>,
}

/// One partition of an OffsetFetch answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub index: i32,
    /// The committed offset, or -1.
    pub offset: i64,
    /// The committed epoch, or -1.
    pub leader_epoch: i32,
    /// The committed note.
    pub metadata: String,
    /// The partition's outcome.
    pub error: ErrorCode,
}

/// One topic of an OffsetFetch answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    /// The topic.
    pub name: String,
    /// As asked, or as committed when everything was asked for.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// The answer to one group of an OffsetFetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchReply {
    /// The group's outcome.
    pub error: ErrorCode,
    /// Offsets by topic.
    pub topics: Vec<FetchedTopic>,
}

/// The answer to OffsetDelete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteOffsetsReply {
    /// The outcome of the whole.
    pub error: ErrorCode,
    /// Outcome by topic and partition.
    pub topics: Vec<(String, Vec<(i32, ErrorCode)>)>,
}

/// A member of a described group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    /// The member.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address as Kafka prints it.
    pub client_host: String,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// One group of a DescribeGroups answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedGroup {
    /// The group.
    pub group_id: String,
    /// GROUP_ID_NOT_FOUND for a missing group; versions below 6 send NONE for that.
    pub error: ErrorCode,
    /// Text for the error (v6 and above).
    pub error_message: Option<String>,
    /// Kafka's name of the state, `Dead` for a missing group.
    pub state: &'static str,
    /// The protocol type, or empty.
    pub protocol_type: String,
    /// The chosen assignor when stable, else empty.
    pub protocol_data: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
    /// The current generation.
    pub generation_id: i32,
    /// Why its last rebalances happened, oldest first. Kafka has no field for it.
    pub causes: Vec<RebalanceCause>,
}

/// One row of a ListGroups answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// The protocol type, or empty.
    pub protocol_type: String,
    /// Kafka's name of the state.
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub group_type: &'static str,
}
