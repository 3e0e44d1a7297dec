//! What is known of one transactional id, and the steps from one state to the next.
use model::{ProducerEpoch, ProducerId, WallMs};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The highest epoch: the coordinator's own, to fence a producer that has the last epoch of a client.
pub(crate) const LAST_EPOCH: ProducerEpoch = ProducerEpoch::MAX;

/// A partition of a transaction, by its topic's name, as Kafka's log has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// That partition of that topic.
    pub fn new(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from(topic), partition }
    }
}

/// `transaction.version`, of the cluster or of a client's request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum TxnVersion {
    /// Kafka before 4.0, and what its clients are.
    #[default]
    V0,
    /// The same for clients; the log's values have tagged fields.
    V1,
    /// KIP-890 part 2: every end raises the epoch.
    V2,
}

impl TxnVersion {
    /// The feature's level.
    pub fn level(self) -> i16 {
        self as i16
    }

    /// The version of that level, if known.
    pub fn from_level(level: i16) -> Option<TxnVersion> {
        [TxnVersion::V0, TxnVersion::V1, TxnVersion::V2].into_iter().find(|v| v.level() == level)
    }

    /// Whether every end raises the epoch.
    pub fn raises_epoch(self) -> bool {
        self == TxnVersion::V2
    }
}

/// The state of a transactional id, with Kafka's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TxnState {
    /// A producer, and no transaction yet.
    Empty = 0,
    /// A transaction is open.
    Ongoing = 1,
    /// It commits: certain, markers are on their way.
    PrepareCommit = 2,
    /// It aborts: certain, markers are on their way.
    PrepareAbort = 3,
    /// It is committed everywhere.
    CompleteCommit = 4,
    /// It is aborted everywhere.
    CompleteAbort = 5,
}

impl TxnState {
    /// Every state, in the order of Kafka's numbers.
    pub const ALL: [TxnState; 6] = [
        TxnState::Empty,
        TxnState::Ongoing,
        TxnState::PrepareCommit,
        TxnState::PrepareAbort,
        TxnState::CompleteCommit,
        TxnState::CompleteAbort,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            TxnState::Empty => "Empty",
            TxnState::Ongoing => "Ongoing",
            TxnState::PrepareCommit => "PrepareCommit",
            TxnState::PrepareAbort => "PrepareAbort",
            TxnState::CompleteCommit => "CompleteCommit",
            TxnState::CompleteAbort => "CompleteAbort",
        }
    }

    /// Whether the end is decided and its markers are not all committed.
    pub fn is_prepare(self) -> bool {
        matches!(self, TxnState::PrepareCommit | TxnState::PrepareAbort)
    }

    /// Whether a transaction is open or ending.
    pub fn is_open(self) -> bool {
        self == TxnState::Ongoing || self.is_prepare()
    }
}

/// A transactional id as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnValue {
    /// The producer's id.
    pub producer_id: ProducerId,
    /// Its id before the last step: another one only right after a change of ids; -1 in old records.
    pub previous_producer_id: ProducerId,
    /// While an end that used up the epochs is under way: the id that follows; else -1.
    pub next_producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// An epoch of two-phase commit (KIP-939) that another program stored; -1 here.
    pub next_producer_epoch: ProducerEpoch,
    /// `transaction.timeout.ms` of the client.
    pub timeout_ms: i32,
    /// The state.
    pub state: TxnState,
    /// The partitions of the open transaction.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the last step was.
    pub last_update: WallMs,
    /// When the transaction began, or -1.
    pub start: WallMs,
    /// What the client spoke at its last step.
    pub client_version: TxnVersion,
}

/// A producer epoch after which a client has to get a new producer id.
pub(crate) fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch >= LAST_EPOCH - 1
}

impl TxnValue {
    /// A new transactional id; its first step gives it its first epoch.
    pub(crate) fn created(producer_id: ProducerId) -> TxnValue {
        TxnValue {
            producer_id,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: -1,
            next_producer_epoch: -1,
            timeout_ms: 0,
            state: TxnState::Empty,
            partitions: BTreeSet::new(),
            last_update: 0,
            start: -1,
            client_version: TxnVersion::V0,
        }
    }

    /// Whether a client at this epoch has to get a new producer id.
    pub(crate) fn exhausted(&self) -> bool {
        is_exhausted(self.producer_epoch)
    }

    fn step(&self, state: TxnState, wall: WallMs) -> TxnValue {
        TxnValue {
            previous_producer_id: self.producer_id,
            next_producer_epoch: -1,
            state,
            last_update: wall,
            ..self.clone()
        }
    }

    /// InitProducerId: a producer under this id and epoch, without a transaction.
    pub(crate) fn initialised(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timeout_ms: i32,
        wall: WallMs,
    ) -> TxnValue {
        TxnValue {
            producer_id,
            producer_epoch,
            timeout_ms,
            partitions: BTreeSet::new(),
            start: -1,
            ..self.step(TxnState::Empty, wall)
        }
    }

    /// More partitions; a transaction begins if none is open.
    pub(crate) fn with_partitions(
        &self,
        added: impl IntoIterator<Item = TopicPartition>,
        version: TxnVersion,
        wall: WallMs,
    ) -> TxnValue {
        let mut next = self.step(TxnState::Ongoing, wall);
        if self.state != TxnState::Ongoing {
            next.start = wall;
        }
        next.partitions.extend(added);
        next.client_version = version;
        next
    }

    /// The end is decided. `raise` raises the epoch: of a TV2 end, or of an abort that fences. `next_id` is the
    /// producer id that follows where the epochs are used up, else -1.
    pub(crate) fn prepared(
        &self,
        commit: bool,
        raise: bool,
        version: TxnVersion,
        next_id: ProducerId,
        wall: WallMs,
    ) -> TxnValue {
        let state = if commit { TxnState::PrepareCommit } else { TxnState::PrepareAbort };
        let mut next = self.step(state, wall);
        if raise && self.producer_epoch < LAST_EPOCH {
            next.producer_epoch += 1;
        }
        if !self.state.is_open() {
            // An abort without a transaction (TV2) needs a start all the same.
            next.start = wall;
        }
        next.next_producer_id = next_id;
        next.client_version = version;
        next
    }

    /// All markers are committed.
    pub(crate) fn completed(&self, wall: WallMs) -> TxnValue {
        let state = match self.state {
            TxnState::PrepareCommit => TxnState::CompleteCommit,
            _ => TxnState::CompleteAbort,
        };
        let mut next = self.step(state, wall);
        (next.producer_id, next.producer_epoch) = self.after_end();
        next.next_producer_id = -1;
        next.partitions.clear();
        next
    }

    /// The producer that the client goes on as, once the end that is under way is through.
    pub(crate) fn after_end(&self) -> (ProducerId, ProducerEpoch) {
        if self.client_version.raises_epoch() && self.next_producer_id != -1 {
            (self.next_producer_id, 0)
        } else {
            (self.producer_id, self.producer_epoch)
        }
    }
}
