//! What leaves a transaction coordinator besides its return values.
use super::api::Reply;
use super::value::{TopicPartition, TxnVersion};
use crate::events::{BatchId, Record};
use crate::requests::Token;
use model::{ErrorCode, ProducerEpoch, ProducerId};
use std::sync::Arc;

/// The coordinator's name for the markers of one end of one transaction. Never used twice, not even by another
/// instance with another seed: with TV1 many transactions have the same epoch, and the answer to an old marker
/// must not count for a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct MarkersId {
    pub(crate) instance: u64,
    pub(crate) sequence: u64,
}

/// Markers to write: Kafka's WriteTxnMarkers for one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Markers {
    /// Comes back with each outcome.
    pub id: MarkersId,
    /// The transaction's owner.
    pub transactional_id: Arc<str>,
    /// The producer whose transaction ends; the old one where a new id was taken.
    pub producer_id: ProducerId,
    /// The epoch of the marker; with TV2 one above that of the transaction's records.
    pub producer_epoch: ProducerEpoch,
    /// Commit, or abort.
    pub commit: bool,
    /// The term in which this coordinator was loaded.
    pub coordinator_epoch: i32,
    /// What the transaction spoke when it ended (KIP-1228).
    pub version: TxnVersion,
    /// Where to.
    pub partitions: Vec<TopicPartition>,
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
        /// The answer comes from memory and is definite: a coordinator that leads no more must not give it.
        /// Confirm the lead as of now first; NOT_COORDINATOR where that fails.
        confirm: bool,
    },
    /// Append these records as one batch, after every earlier one, and report the outcome.
    Append {
        /// Its name in `on_committed` and `on_append_failed`.
        batch: BatchId,
        /// Its records, never none.
        records: Vec<Record>,
    },
    /// Write markers; report each partition's outcome by `on_marker_result`. What gets no outcome is asked
    /// for again.
    SendMarkers(Markers),
    /// Producer ids are needed: answer by `supply_producer_ids` or `refuse_producer_ids`, once.
    NeedProducerIds {
        /// How many at least.
        count: usize,
    },
    /// Worth a log line or a counter; nothing depends on it.
    Event(TxnEvent),
}

/// The list that a coordinator pushes effects to, in the order they are to be done.
pub type Effects = Vec<Effect>;

/// A bound that was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// `max_ids`.
    Ids,
    /// `max_ids_per_principal`.
    IdsPerPrincipal,
    /// `max_partitions`.
    Partitions,
    /// `max_waiting`.
    Waiting,
}

impl Bound {
    /// A short word for metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Ids => "ids",
            Bound::IdsPerPrincipal => "ids-per-principal",
            Bound::Partitions => "partitions",
            Bound::Waiting => "waiting",
        }
    }

    /// What the client is told.
    pub fn error(self) -> ErrorCode {
        match self {
            Bound::Ids | Bound::IdsPerPrincipal | Bound::Partitions => ErrorCode::PolicyViolation,
            Bound::Waiting => ErrorCode::CoordinatorLoadInProgress,
        }
    }
}

/// An event of one transactional id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnEvent {
    /// A transaction reached its timeout and is aborted.
    TimedOut {
        /// Whose.
        transactional_id: Arc<str>,
        /// Its producer.
        producer_id: ProducerId,
        /// The epoch that is fenced.
        producer_epoch: ProducerEpoch,
    },
    /// An InitProducerId found an open transaction, which is aborted.
    Fenced {
        /// Whose.
        transactional_id: Arc<str>,
        /// The epoch that is fenced.
        producer_epoch: ProducerEpoch,
    },
    /// All markers are committed and so is the end.
    Ended {
        /// Whose.
        transactional_id: Arc<str>,
        /// Commit, or abort.
        commit: bool,
    },
    /// An EndTxn before TV2 came late, by a connection that its client had given up: it is refused.
    LateEnd {
        /// Whose.
        transactional_id: Arc<str>,
        /// Commit, or abort.
        commit: bool,
    },
    /// Ids that did nothing for long are removed.
    Expired {
        /// How many.
        count: usize,
    },
    /// A request was refused because a bound is reached.
    Refused {
        /// Which bound.
        bound: Bound,
        /// Whose request.
        transactional_id: Arc<str>,
        /// Who asked, or initialised the id last, where that is known.
        principal: Option<Arc<str>>,
    },
    /// Markers had to be asked for again.
    MarkersAgain {
        /// Whose.
        transactional_id: Arc<str>,
        /// How many partitions.
        partitions: usize,
    },
    /// A partition is left out of an end.
    PartitionLeftOut {
        /// Whose.
        transactional_id: Arc<str>,
        /// The partition.
        partition: TopicPartition,
        /// [`super::MarkerOutcome::Gone`] or [`super::MarkerOutcome::Superseded`].
        why: super::MarkerOutcome,
    },
    /// A partition knows a newer coordinator than this one.
    CoordinatorFenced {
        /// Whose marker it was.
        transactional_id: Arc<str>,
        /// The partition.
        partition: TopicPartition,
    },
}
