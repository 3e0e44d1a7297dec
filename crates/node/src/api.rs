//! What goes into a node and what comes out. Calls are methods of [`crate::Node`]; answers that must
//! wait come as [`Effect::Reply`] under the caller's token.
use crate::leaders::LeaderBatch;
use crate::liveness::Heartbeat;
use crate::recovery::RecoverAsk;
use crate::recovery_plan::{RecoveryPlan, ReplicaState};
use crate::txn_hanging::{HangingEvent, HangingTransaction};
use crate::txn_host::TxnAsk;
use crate::txn_markers::MarkersFor;
use bytes::Bytes;
use cluster::{
    AlterResource, DeletedTopic, IncrementalResource, ItemResult, NewPartitions, NewTopic, PartitionTarget,
    TopicOutcome, TopicRef,
};
use consensus::PeerMessage;
use coordinator::txn::TopicPartition;
use model::{ErrorCode, GroupKey, NodeId, ProducerEpoch, ProducerId};
use partition::{AppendError, Appended, ListOffsetOutcome};
use std::collections::BTreeMap;
use storage::{DirectoryConfig, DiskOp, FileRange};

/// Names a request of the shell; opaque here, echoed in the answer. The highest bit stays 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// Names a read that the node asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReadToken(pub u64);

/// Something for the shell to do.
#[derive(Debug)]
pub enum Effect {
    /// For the disk.
    Disk(DiskOp),
    /// Read this range (`storage::read_range`) and hand the result to [`crate::Node::on_read`].
    Read(ReadToken, FileRange),
    /// For another node: hand it to its [`crate::Node::on_peer`].
    Peer(NodeId, PeerOut),
    /// The answer to a call.
    Reply(Token, Reply),
    /// Something worth a log line or a counter.
    Event(Event),
}

/// What nodes say to one another.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerOut {
    /// Of a replica to another of its group. May be lost.
    Raft {
        /// Which group.
        key: GroupKey,
        /// Opaque here.
        message: PeerMessage,
    },
    /// On the liveness connection, every 100 ms. May be lost.
    Heartbeat(Heartbeat),
    /// Who leads what. When one is lost, say so with [`crate::Node::on_peer_missed`].
    Leaders(LeaderBatch),
    /// A command of the metadata group, for its leader. May be lost.
    Propose {
        /// The sender's.
        token: u64,
        /// An encoded command.
        command: Bytes,
    },
    /// The end of it, or why there is none.
    Proposed {
        /// As in the question.
        token: u64,
        /// [`ErrorCode::None`] when it is committed.
        code: ErrorCode,
    },
    /// For the leader of a partition: the replica on `to` is to lead it. May be lost.
    HandOver {
        /// Which partition.
        key: GroupKey,
        /// Who is to lead.
        to: NodeId,
    },
    /// From the leader of the metadata: what does the other node have of this partition? May be lost.
    AskReplica {
        /// Which partition.
        key: GroupKey,
        /// The answer repeats it.
        inquiry: u64,
    },
    /// The answer. May be lost.
    ReplicaState {
        /// Which partition.
        key: GroupKey,
        /// As in the question.
        inquiry: u64,
        /// What there is.
        state: Box<ReplicaState>,
    },
    /// The chain value of the sender's log after an entry that is committed. May be lost.
    Chain {
        /// Which group.
        key: GroupKey,
        /// The entry.
        index: u64,
        /// The value.
        value: u32,
        /// The receiver is to say its own.
        asks: bool,
    },
    /// A partition's question to the coordinator of a transaction. May be lost.
    TxnAsk {
        /// The answer repeats it.
        number: u64,
        /// The question.
        ask: Box<TxnAsk>,
    },
    /// The answer. May be lost.
    TxnAnswer {
        /// As in the question.
        number: u64,
        /// [`ErrorCode::None`]: the transaction holds the partition.
        code: ErrorCode,
    },
    /// The end of a transaction, for partitions that the receiver leads. May be lost.
    Markers {
        /// The answers repeat it.
        number: u64,
        /// What to write, and where.
        markers: Box<MarkersFor>,
    },
    /// What became of markers; of those that are not named nothing is known yet. May be lost.
    Marked {
        /// As in the question.
        number: u64,
        /// [`ErrorCode::None`]: committed.
        partitions: Vec<(TopicPartition, ErrorCode)>,
    },
    /// Of a replica that is brought up from a checkpoint. May be lost.
    Install {
        /// Which group.
        key: GroupKey,
        /// What is said.
        said: InstallSaid,
    },
}

/// What is said of a replica that is brought up from a checkpoint: docs/replication.md, "Install". A file is named
/// as in `storage::aside_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallSaid {
    /// A leader's newest checkpoint.
    Offer {
        /// The leader's term.
        term: u64,
        /// The checkpoint.
        index: u64,
        /// The term of its entry.
        index_term: u64,
        /// The last entry of the leader's log.
        last_index: u64,
        /// The replica asked for it: it is damaged.
        repair: bool,
    },
    /// The sender's replica is damaged: whoever leads is to offer a checkpoint.
    Ask {
        /// The term that the replica was in.
        term: u64,
    },
    /// What was pulled is not what the checkpoint says.
    Bad,
    /// Asks for part of a file.
    Pull {
        /// Of which checkpoint.
        index: u64,
        /// The file.
        file: u64,
        /// Its first byte that is wanted.
        pos: u64,
        /// How many.
        length: u32,
    },
    /// Part of a file.
    Piece {
        /// As asked.
        index: u64,
        /// As asked.
        file: u64,
        /// As asked.
        pos: u64,
        /// As many as there are; none where the file is gone.
        bytes: Bytes,
    },
    /// The replica's log ends here now.
    Done {
        /// Its last entry.
        last_index: u64,
    },
}

/// Answers by kind of call.
#[derive(Debug)]
pub enum Reply {
    /// To [`crate::Node::produce`].
    Produce(Result<Appended, AppendError>),
    /// To [`crate::Node::watch`]: plan the fetch again.
    Watched,
    /// To [`crate::Node::list_offset`].
    ListOffset(Result<ListOffsetOutcome, ErrorCode>),
    /// To [`crate::Node::epoch_end`]: epoch and its end offset, -1 and -1 when unknown.
    EpochEnd(Result<(i32, i64), ErrorCode>),
    /// To [`crate::Node::delete_records`]: the new log start.
    DeleteRecords(Result<i64, ErrorCode>),
    /// To [`crate::Node::admin`].
    Admin(AdminReply),
    /// To [`crate::Node::init_producer_id`].
    ProducerId(Result<(ProducerId, ProducerEpoch), ErrorCode>),
    /// To [`crate::Node::group`].
    Group(coordinator::Reply),
    /// To [`crate::Node::group`]: descriptions, in the order asked.
    GroupsDescribed(Vec<coordinator::DescribedGroup>),
    /// Of [`GroupRequest::DescribeConsumers`].
    ConsumersDescribed(Vec<coordinator::DescribedConsumerGroup>),
    /// To [`crate::Node::list_groups`].
    GroupsListed(Result<Vec<coordinator::ListedGroup>, ErrorCode>),
    /// To [`crate::Node::group`]: there is no coordinator that could answer.
    GroupRefused(ErrorCode),
    /// To [`crate::Node::transaction`].
    Transaction(coordinator::txn::Reply),
    /// To [`crate::Node::describe_transaction`].
    TransactionDescribed(Box<coordinator::txn::DescribedTxn>),
    /// To [`crate::Node::list_transactions`].
    TransactionsListed(Result<Vec<coordinator::txn::ListedTxn>, ErrorCode>),
    /// To [`crate::Node::transaction`] and [`crate::Node::describe_transaction`]: there is no coordinator that could answer.
    TransactionRefused(ErrorCode),
    /// To [`crate::Node::write_marker`].
    Marker(ErrorCode),
}

/// A change of the metadata, as a client asks for it.
#[derive(Debug, Clone)]
pub enum AdminRequest {
    /// Creates topics.
    CreateTopics {
        /// What to create.
        topics: Vec<NewTopic>,
        /// Only check.
        validate_only: bool,
    },
    /// Creates topics with the broker's defaults: a client asked for metadata of them.
    AutoCreate(Vec<String>),
    /// Deletes topics.
    DeleteTopics(Vec<TopicRef>),
    /// Raises partition counts.
    CreatePartitions {
        /// What to add.
        topics: Vec<NewPartitions>,
        /// Only check.
        validate_only: bool,
    },
    /// Changes the replicas of partitions (AlterPartitionReassignments).
    Reassign {
        /// What each is to have.
        targets: Vec<PartitionTarget>,
        /// The number of replicas of each must stay.
        keep_factor: bool,
    },
    /// What it would cost to go on with the replicas of a partition that are left; and, if that is accepted, to do so.
    Recover(RecoverAsk),
    /// What a node had is lost; it may come back with another directory (UnregisterBroker).
    Unregister(NodeId),
    /// Replaces all dynamic configs of resources.
    AlterConfigs {
        /// Resources with their new configs.
        resources: Vec<AlterResource>,
        /// Only check.
        validate_only: bool,
    },
    /// A node that has found its cluster asks to be let in.
    Register {
        /// Who asks.
        node: NodeId,
        /// An encoded command.
        registration: Bytes,
    },
    /// Changes levels of features, all of them or none.
    UpdateFeatures {
        /// Which.
        updates: Vec<cluster::FeatureUpdate>,
        /// Only check.
        validate_only: bool,
    },
    /// A registered node is to vote on the metadata, or is not to any more.
    SetVoter {
        /// Of which cluster the request speaks, if it says so.
        cluster_id: Option<String>,
        /// Which node.
        node: NodeId,
        /// Its data directory; all zeros stand for any.
        directory: [u8; 16],
        /// Whether it is to vote.
        voter: bool,
    },
    /// Edits single configs.
    IncrementalAlterConfigs {
        /// Resources with their edits.
        resources: Vec<IncrementalResource>,
        /// Only check.
        validate_only: bool,
    },
}

/// The outcome of an [`AdminRequest`], item by item in the order asked.
#[derive(Debug)]
pub enum AdminReply {
    /// Of CreateTopics and AutoCreate.
    Topics(Vec<TopicOutcome>),
    /// Of DeleteTopics.
    Deleted(Vec<DeletedTopic>),
    /// Of the rest: nothing but success or failure an item.
    Done(Vec<ItemResult<()>>),
    /// Of Recover: what was found, and is given up where that was accepted.
    Recovery(Box<RecoveryPlan>),
    /// Nothing was decided: the metadata group cannot take it now.
    Refused(ErrorCode),
}

/// A request to the coordinator of one group.
#[derive(Debug, Clone)]
pub enum GroupRequest {
    /// JoinGroup.
    Join(coordinator::JoinRequest),
    /// SyncGroup.
    Sync(coordinator::SyncRequest),
    /// Heartbeat.
    Heartbeat(coordinator::HeartbeatRequest),
    /// LeaveGroup.
    Leave(coordinator::LeaveRequest),
    /// OffsetCommit.
    Commit(coordinator::CommitRequest),
    /// TxnOffsetCommit.
    CommitInTransaction(coordinator::TxnCommitRequest),
    /// OffsetFetch of one group.
    Fetch(coordinator::FetchRequest),
    /// OffsetDelete.
    DeleteOffsets(coordinator::DeleteOffsetsRequest),
    /// DeleteGroups, all of one coordinator.
    DeleteGroups(Vec<String>),
    /// DescribeGroups, all of one coordinator.
    Describe(Vec<String>),
    /// ConsumerGroupHeartbeat.
    ConsumerHeartbeat(Box<coordinator::ConsumerHeartbeatRequest>),
    /// ConsumerGroupDescribe, all of one coordinator.
    DescribeConsumers(Vec<String>),
}

/// A request to the coordinator of one transactional id.
#[derive(Debug, Clone)]
pub enum TxnRequest {
    /// InitProducerId.
    Init(coordinator::txn::InitRequest),
    /// AddPartitionsToTxn of one id.
    AddPartitions(coordinator::txn::AddPartitionsRequest),
    /// AddOffsetsToTxn.
    AddOffsets(coordinator::txn::AddOffsetsRequest),
    /// EndTxn.
    End(coordinator::txn::EndRequest),
    /// DescribeTransactions of one id.
    Describe(String),
}

/// What is worth a log line or a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The directory takes no writes any more; the text says why.
    Fenced(String),
    /// The disk is full (true) or has room again (false).
    DiskFull(bool),
    /// So many partitions had batches for which the disk has no room: these were given up, their producers
    /// send them again.
    GivenUp(usize),
    /// So many partitions are handed to other nodes, for the disk here is full.
    LeftFullDisk(usize),
    /// A group found damage or could not be opened; it stays offline.
    GroupFailed {
        /// Which.
        key: GroupKey,
        /// File, offset and what to do.
        detail: String,
    },
    /// A sync ended.
    Synced {
        /// How long it took, microseconds.
        micros: u64,
        /// Files that it covered.
        files: u32,
        /// Groups that it made durable.
        groups: u32,
    },
    /// The group leads from now on.
    Leads {
        /// Which.
        key: GroupKey,
        /// Its confirmed epoch.
        epoch: i32,
    },
    /// A message of another node's replica was refused: it contradicts what is here.
    PeerRefused {
        /// Whose.
        node: NodeId,
        /// Of which group.
        key: GroupKey,
        /// Why.
        why: String,
    },
    /// A replica that may have lost what it acknowledged (`write.caching`, or damage) votes again.
    Freed {
        /// Of which group.
        key: GroupKey,
        /// It leads now, because a majority was in that state: what was acknowledged and is in no log is gone.
        lost: bool,
    },
    /// A topic has partitions of two replicas without a witness: they tolerate no loss.
    NoWitness {
        /// Its name.
        topic: String,
    },
    /// Bytes of a replica are not what was made durable: its peers are asked to bring it up anew.
    Suspect {
        /// Which group.
        key: GroupKey,
        /// File, position and what was found there.
        why: String,
    },
    /// An operator has accepted loss, and the replica here goes on alone.
    LossAccepted {
        /// Which group.
        key: GroupKey,
        /// What was given up, and by whom.
        recovery: Box<cluster::Recovery>,
    },
    /// A file cannot be compacted; passes go on without it.
    Uncleanable {
        /// Which group.
        key: GroupKey,
        /// File, position and what is wrong there.
        why: String,
    },
    /// Another replica's log is not the one here, though both are good in themselves.
    ChainsDiffer {
        /// Which group.
        key: GroupKey,
        /// The entry up to which they were compared.
        index: u64,
        /// Its file here.
        file: String,
        /// The chain value here.
        ours: u32,
        /// Who has another one.
        node: NodeId,
        /// That one.
        theirs: u32,
    },
    /// Of different chain values none is that of most voters: nothing is repaired.
    ChainsUndecided {
        /// Which group.
        key: GroupKey,
        /// The entry.
        index: u64,
        /// Its file here.
        file: String,
    },
    /// A replica is brought up from a checkpoint of its leader.
    Install {
        /// Which group.
        key: GroupKey,
        /// Where the leader is.
        node: NodeId,
        /// What happened.
        what: InstallEvent,
    },
    /// The members of a group led here are those that were wanted.
    Moved {
        /// Which.
        key: GroupKey,
    },
    /// A replica that is wanted no more was closed; its files are being removed.
    ReplicaGone {
        /// Of which group.
        key: GroupKey,
    },
    /// A node leads much more than the others: this one, which leads the metadata, has made another replica the
    /// preferred leader of a partition.
    LeadsTooMuch {
        /// The node.
        node: NodeId,
        /// The partition.
        key: GroupKey,
        /// Bytes a second that go with it.
        rate: u64,
        /// The node that is to lead it.
        to: NodeId,
    },
    /// Another node is not taken for alive any more: it is silent, closed the connection, or was started anew.
    NodeLost {
        /// Which.
        node: NodeId,
        /// Partitions with a replica here that it led.
        led: usize,
    },
    /// Another node is taken for alive.
    NodeHeard {
        /// Which.
        node: NodeId,
        /// It was before in the life of this process.
        again: bool,
    },
    /// The leader of the metadata does not register this node.
    NotRegistered(ErrorCode),
    /// A consumer group's coordinator says something of note.
    Group(coordinator::GroupEvent),
    /// A coordinator of transactions does.
    Transaction(coordinator::txn::TxnEvent),
    /// A transaction that hangs at a partition led here.
    Hanging(Box<HangingTransaction>, HangingEvent),
}

/// How a replica that is brought up from a checkpoint gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallEvent {
    /// It began.
    Begun {
        /// The checkpoint.
        index: u64,
        /// Files of an earlier process are here.
        resumes: bool,
    },
    /// It goes on after an interruption, with what is here.
    Resumed {
        /// The checkpoint.
        index: u64,
    },
    /// The replica is brought up.
    Finished {
        /// The checkpoint.
        index: u64,
        /// Bytes pulled by this process.
        bytes: u64,
        /// How long it took.
        ms: u64,
    },
    /// What was pulled is given up; the next offer begins anew.
    Failed {
        /// Why.
        why: String,
    },
}

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// The id that a new cluster takes; an existing one keeps its own.
    pub fresh_cluster_id: String,
    /// This process's endpoints, as clients are told.
    pub endpoints: Vec<cluster::Endpoint>,
    /// The replicas of the metadata group at its birth, with their nodes; empty where they are not known yet, see
    /// [`crate::Node::join`]. A directory that knows them goes on with those.
    pub voters: Vec<(u64, NodeId)>,
    /// Where other nodes connect to this one; `None` where they cannot.
    pub peer: Option<cluster::Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Broker configs of the file, the environment and the flags.
    pub static_configs: BTreeMap<String, String>,
    /// Rises with each start of this node.
    pub incarnation: u64,
    /// The data directory.
    pub directory: DirectoryConfig,
    /// Feeds everything that chance decides.
    pub seed: u64,
    /// The producer epoch that a new transactional id begins with: 0, but where tests want to see the epochs used up.
    pub first_transactional_epoch: ProducerEpoch,
}

/// What is known of a partition held here without touching it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The confirmed leader epoch.
    pub leader_epoch: i32,
    /// High watermark.
    pub high_watermark: i64,
    /// Last stable offset.
    pub last_stable_offset: i64,
    /// Log start offset.
    pub log_start: i64,
    /// Log end offset.
    pub log_end: i64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// What was appended and read since the partition was opened.
    pub counters: partition::Counters,
}
