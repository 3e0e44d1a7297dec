//! What a transaction coordinator is asked and what it answers, without the wire's versions.
use super::value::{TopicPartition, TxnVersion};
use model::{ErrorCode, ProducerEpoch, ProducerId};
use std::sync::Arc;

/// InitProducerId with a transactional id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InitRequest {
    /// The transactional id.
    pub transactional_id: String,
    /// `transaction.timeout.ms` of the client.
    pub timeout_ms: i32,
    /// The producer id and epoch that the client has (v3 and above, KIP-360); see [`expected_producer`].
    pub expected: Option<(ProducerId, ProducerEpoch)>,
    /// v6: two-phase commit (KIP-939), which is not enabled: TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
    pub enable_2pc: bool,
    /// v6: keep the prepared transaction, which no released Kafka does: UNSUPPORTED_VERSION.
    pub keep_prepared: bool,
    /// Who asks, for the bound by principal.
    pub principal: Option<Arc<str>>,
}

/// The producer that an InitProducerId names: none with both fields -1, INVALID_REQUEST with one of them.
pub fn expected_producer(
    id: ProducerId,
    epoch: ProducerEpoch,
) -> Result<Option<(ProducerId, ProducerEpoch)>, ErrorCode> {
    match (id, epoch) {
        (-1, -1) => Ok(None),
        (-1, _) | (_, -1) => Err(ErrorCode::InvalidRequest),
        both => Ok(Some(both)),
    }
}

/// One transaction of an AddPartitionsToTxn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddPartitionsRequest {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer's id.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// Only tell which partitions are there (v4 and above, from partition leaders).
    pub verify_only: bool,
    /// V2 for v4 and above, V0 below, as Kafka counts.
    pub version: TxnVersion,
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
}

impl AddPartitionsRequest {
    /// The same outcome for every partition.
    pub(crate) fn reply(&self, error: ErrorCode) -> Reply {
        let transactional_id = self.transactional_id.clone();
        let partitions = self.partitions.iter().map(|p| (p.clone(), error)).collect();
        Reply::AddPartitions(AddPartitionsReply { transactional_id, partitions })
    }
}

/// AddOffsetsToTxn; the host has found the group's partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddOffsetsRequest {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer's id.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// The partition of `__consumer_offsets` that holds the group.
    pub offsets_partition: TopicPartition,
}

/// EndTxn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndRequest {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer's id.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// Commit, or abort.
    pub commit: bool,
    /// V2 for v5 and above, V0 below.
    pub version: TxnVersion,
    /// The client's connection: one that was opened later has a higher number.
    pub connection: u64,
}

/// Any request that changes something or has to be answered later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// InitProducerId.
    Init(InitRequest),
    /// One transaction of an AddPartitionsToTxn.
    AddPartitions(AddPartitionsRequest),
    /// AddOffsetsToTxn.
    AddOffsets(AddOffsetsRequest),
    /// EndTxn.
    End(EndRequest),
}

impl Request {
    /// Whose request.
    pub fn transactional_id(&self) -> &str {
        match self {
            Request::Init(request) => &request.transactional_id,
            Request::AddPartitions(request) => &request.transactional_id,
            Request::AddOffsets(request) => &request.transactional_id,
            Request::End(request) => &request.transactional_id,
        }
    }

    /// The answer where no coordinator is asked.
    pub fn refusal(&self, error: ErrorCode) -> Reply {
        match self {
            Request::Init(_) => Reply::Init(ProducerReply::code(error)),
            Request::AddPartitions(request) => request.reply(error),
            Request::AddOffsets(_) => Reply::AddOffsets(error),
            Request::End(_) => Reply::End(ProducerReply::code(error)),
        }
    }
}

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To [`InitRequest`].
    Init(ProducerReply),
    /// To [`AddPartitionsRequest`].
    AddPartitions(AddPartitionsReply),
    /// To [`AddOffsetsRequest`].
    AddOffsets(ErrorCode),
    /// To [`EndRequest`]; id and epoch are -1 before TV2.
    End(ProducerReply),
}

/// A producer id and epoch, or why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerReply {
    /// The outcome.
    pub error: ErrorCode,
    /// The producer's id, or -1.
    pub producer_id: ProducerId,
    /// The producer's epoch, or -1.
    pub producer_epoch: ProducerEpoch,
}

impl ProducerReply {
    /// Success.
    pub fn of(producer_id: ProducerId, producer_epoch: ProducerEpoch) -> ProducerReply {
        ProducerReply { error: ErrorCode::None, producer_id, producer_epoch }
    }

    /// A refusal, or a success that names no producer.
    pub fn code(error: ErrorCode) -> ProducerReply {
        ProducerReply { error, producer_id: -1, producer_epoch: -1 }
    }
}

/// The outcome of each partition, in the order asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddPartitionsReply {
    /// The transactional id.
    pub transactional_id: String,
    /// Partition and outcome.
    pub partitions: Vec<(TopicPartition, ErrorCode)>,
}

impl Reply {
    /// The same answer for a request whose append failed or whose coordinator is gone.
    pub(crate) fn failed(self, error: ErrorCode) -> Reply {
        match self {
            Reply::Init(_) => Reply::Init(ProducerReply::code(error)),
            Reply::End(_) => Reply::End(ProducerReply::code(error)),
            Reply::AddOffsets(_) => Reply::AddOffsets(error),
            Reply::AddPartitions(mut reply) => {
                for (_, outcome) in &mut reply.partitions {
                    *outcome = error;
                }
                Reply::AddPartitions(reply)
            }
        }
    }

    /// The outcome; of several partitions the first that is not NONE.
    pub fn error(&self) -> ErrorCode {
        match self {
            Reply::Init(reply) | Reply::End(reply) => reply.error,
            Reply::AddOffsets(error) => *error,
            Reply::AddPartitions(reply) => {
                let outcomes = reply.partitions.iter().map(|(_, error)| *error);
                outcomes.into_iter().find(|error| !error.is_none()).unwrap_or_default()
            }
        }
    }
}

/// What a partition said to a marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkerOutcome {
    /// The marker is committed there.
    Done,
    /// No leader, no answer, not enough replicas, or an answer that is not understood: never a success.
    AskAgain,
    /// The topic or the partition is deleted.
    Gone,
    /// The producer's epoch there is above the marker's, which only an operator's marker can have done: the
    /// transaction is closed there.
    Superseded,
    /// The partition knows a newer coordinator: this one leads no more, or will soon see that it does.
    CoordinatorFenced,
}

/// The outcome that Kafka's code in a WriteTxnMarkers answer stands for. A partition that is unknown to a node
/// may only be late there: whether it is gone says the metadata.
pub fn marker_outcome(code: ErrorCode) -> MarkerOutcome {
    match code {
        ErrorCode::None => MarkerOutcome::Done,
        // Somebody has ended it there already, and otherwise: an operator.
        ErrorCode::InvalidProducerEpoch | ErrorCode::InvalidTxnState => MarkerOutcome::Superseded,
        ErrorCode::TransactionCoordinatorFenced => MarkerOutcome::CoordinatorFenced,
        _ => MarkerOutcome::AskAgain,
    }
}

/// The code for a client of this API version: PRODUCER_FENCED is INVALID_PRODUCER_EPOCH to InitProducerId below
/// v4, and to AddPartitionsToTxn, AddOffsetsToTxn and EndTxn below v2 (`fenced_from`).
pub fn client_code(code: ErrorCode, version: i16, fenced_from: i16) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if version < fenced_from => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}
