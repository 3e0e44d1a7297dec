//! DescribeTransactions, ListTransactions, and what metrics and the command line ask.
use super::coordinator::TxnCoordinator;
use super::value::{TopicPartition, TxnState, TxnValue};
use model::{ErrorCode, Now, ProducerId, WallMs};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes that a compiled pattern of a client may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// A transactional id as DescribeTransactions shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedTxn {
    /// The transactional id.
    pub transactional_id: String,
    /// TRANSACTIONAL_ID_NOT_FOUND and the like; the rest is empty then.
    pub error: ErrorCode,
    /// Kafka's name of the state, or empty.
    pub state: &'static str,
    /// Milliseconds.
    pub timeout_ms: i32,
    /// When the transaction began, or -1.
    pub start: WallMs,
    /// The producer's id, or 0.
    pub producer_id: ProducerId,
    /// The producer's epoch, or 0.
    pub producer_epoch: i16,
    /// The partitions of an open transaction; of one that ends, those whose marker is missing.
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// ListTransactions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListTxnsRequest {
    /// Names of states to keep; empty keeps all.
    pub states: Vec<String>,
    /// Producer ids to keep; empty keeps all.
    pub producer_ids: Vec<ProducerId>,
    /// Keep what began more than so many milliseconds ago; negative keeps all (v1 and above). What never began
    /// counts as old, as in Kafka.
    pub duration_ms: i64,
    /// Keep ids that match this as a whole (v2 and above).
    pub pattern: Option<String>,
}

impl Default for ListTxnsRequest {
    fn default() -> ListTxnsRequest {
        ListTxnsRequest { states: Vec::new(), producer_ids: Vec::new(), duration_ms: -1, pattern: None }
    }
}

/// A ListTransactions request made ready; one serves all coordinators of a node.
#[derive(Clone, Debug)]
pub struct ListFilter {
    /// `None` keeps all.
    states: Option<Vec<TxnState>>,
    producer_ids: BTreeSet<ProducerId>,
    duration_ms: i64,
    pattern: Option<Regex>,
    /// States that the request names and nobody knows, for the answer.
    pub unknown_states: Vec<String>,
}

impl ListFilter {
    /// The filter of a request; INVALID_REGULAR_EXPRESSION for a pattern that does not parse or is too large.
    pub fn new(request: &ListTxnsRequest) -> Result<ListFilter, ErrorCode> {
        let known = |name: &String| TxnState::ALL.into_iter().find(|state| state.name() == name);
        // Kafka knows two more, in which no id is ever listed.
        let never_listed = |name: &String| matches!(name.as_str(), "Dead" | "PrepareEpochFence");
        let unknown = request.states.iter().filter(|name| known(name).is_none() && !never_listed(name));
        let states = request.states.iter().filter_map(known).collect();
        Ok(ListFilter {
            states: (!request.states.is_empty()).then_some(states),
            producer_ids: request.producer_ids.iter().copied().collect(),
            duration_ms: request.duration_ms,
            pattern: request.pattern.as_deref().filter(|p| !p.is_empty()).map(compile).transpose()?,
            unknown_states: unknown.cloned().collect(),
        })
    }

    fn keeps(&self, now: Now, id: &str, value: &TxnValue) -> bool {
        let young = self.duration_ms >= 0 && now.wall.saturating_sub(value.start) <= self.duration_ms;
        self.states.as_ref().is_none_or(|states| states.contains(&value.state))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&value.producer_id))
            && !young
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

/// A pattern that matches whole texts, in time linear in the text.
fn compile(pattern: &str) -> Result<Regex, ErrorCode> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build();
    // Alone first: within the group that follows, `a)|(b` would be another pattern.
    let whole = build(pattern).and_then(|_| build(&format!(r"\A(?:{pattern})\z")));
    whole.map_err(|_| ErrorCode::InvalidRegularExpression)
}

/// Ends that are decided and not through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MarkersWaiting {
    /// Partitions without their marker, over all such ends.
    pub partitions: usize,
    /// For how long the oldest of these ends is decided, milliseconds.
    pub oldest_ms: Option<i64>,
}

/// One row of a ListTransactions answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedTxn {
    /// The transactional id.
    pub transactional_id: String,
    /// The producer's id.
    pub producer_id: ProducerId,
    /// Kafka's name of the state.
    pub state: &'static str,
}

fn by_topic<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> Vec<(Arc<str>, Vec<i32>)> {
    let mut topics: Vec<(Arc<str>, Vec<i32>)> = Vec::new();
    for at in partitions {
        match topics.last_mut().filter(|(topic, _)| *topic == at.topic) {
            Some((_, partitions)) => partitions.push(at.partition),
            None => topics.push((at.topic.clone(), vec![at.partition])),
        }
    }
    topics
}

impl TxnCoordinator {
    /// DescribeTransactions for one id. What is committed is shown: ask only when the lead is confirmed.
    pub fn describe(&self, transactional_id: &str) -> DescribedTxn {
        let mut described = DescribedTxn {
            transactional_id: transactional_id.to_owned(),
            error: ErrorCode::None,
            state: "",
            timeout_ms: 0,
            start: 0,
            producer_id: 0,
            producer_epoch: 0,
            topics: Vec::new(),
        };
        if let Err(error) = self.serving_id(transactional_id) {
            described.error = error;
            return described;
        }
        let found = self.entries.get(transactional_id).and_then(|e| Some((e, e.committed.as_ref()?)));
        let Some((entry, value)) = found else {
            described.error = ErrorCode::TransactionalIdNotFound;
            return described;
        };
        described.state = value.state.name();
        (described.timeout_ms, described.start) = (value.timeout_ms, value.start);
        (described.producer_id, described.producer_epoch) = (value.producer_id, value.producer_epoch);
        described.topics = match &entry.round {
            Some(round) => by_topic(round.open()),
            None => by_topic(value.partitions.iter()),
        };
        described
    }

    /// ListTransactions. What is committed is shown: ask only when the lead is confirmed.
    pub fn list(&self, now: Now, filter: &ListFilter) -> Result<Vec<ListedTxn>, ErrorCode> {
        self.serving()?;
        let kept = self.transactions().filter(|(id, value)| filter.keeps(now, id, value));
        Ok(kept
            .map(|(id, value)| ListedTxn {
                transactional_id: id.to_owned(),
                producer_id: value.producer_id,
                state: value.state.name(),
            })
            .collect())
    }

    /// Every transactional id with what is committed of it.
    pub fn transactions(&self) -> impl Iterator<Item = (&str, &TxnValue)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id.as_ref(), entry.committed.as_ref()?)))
    }

    /// What is committed of one transactional id.
    pub fn get(&self, transactional_id: &str) -> Option<&TxnValue> {
        self.value(transactional_id)
    }

    /// Who owns a producer id, counting the id before and the one that follows a change.
    pub fn find_producer(&self, producer_id: ProducerId) -> Option<(&str, &TxnValue)> {
        self.transactions()
            .find(|(_, v)| [v.producer_id, v.previous_producer_id, v.next_producer_id].contains(&producer_id))
    }

    /// Whether this coordinator knows of an open or ending transaction of that producer at that partition. A
    /// begin mark of which no coordinator knows hangs.
    pub fn knows_open(&self, producer_id: ProducerId, partition: &TopicPartition) -> bool {
        self.transactions().any(|(_, v)| {
            v.state.is_open() && v.producer_id == producer_id && v.partitions.contains(partition)
        })
    }

    /// Whether the producer's transaction under this id, at whatever epoch, is open or ending and holds the partition:
    /// NONE, or TRANSACTION_ABORTABLE where it is not, or INVALID_PRODUCER_ID_MAPPING where the id is unknown or another
    /// producer's. What is committed counts: ask only when the lead is confirmed. Other codes say nothing of it.
    pub fn open_there(
        &self,
        transactional_id: &str,
        producer_id: ProducerId,
        partition: &TopicPartition,
    ) -> ErrorCode {
        if let Err(error) = self.serving_id(transactional_id) {
            return error;
        }
        match self.value(transactional_id) {
            Some(v) if v.producer_id != producer_id => ErrorCode::InvalidProducerIdMapping,
            Some(v) if v.state.is_open() && v.partitions.contains(partition) => ErrorCode::None,
            Some(_) => ErrorCode::TransactionAbortable,
            None if self.is_busy(transactional_id) => ErrorCode::ConcurrentTransactions,
            None => ErrorCode::InvalidProducerIdMapping,
        }
    }

    /// How many ids are in each state, in the order of [`TxnState::ALL`].
    pub fn state_counts(&self) -> [(TxnState, usize); 6] {
        TxnState::ALL.map(|state| (state, self.counts[state as usize]))
    }

    /// Markers that are not known to be committed, of every end that is decided.
    pub fn markers_waiting(&self, now: Now) -> MarkersWaiting {
        let mut waiting = MarkersWaiting::default();
        let open = self.open.iter().filter_map(|(_, id)| self.entries.get(id));
        for entry in open {
            let Some(value) = entry.committed.as_ref().filter(|v| v.state.is_prepare()) else { continue };
            // Before the first round all are missing.
            waiting.partitions += entry.round.as_ref().map_or(value.partitions.len(), |r| r.open().count());
            let age = now.wall.saturating_sub(value.last_update).max(0);
            waiting.oldest_ms = waiting.oldest_ms.max(Some(age));
        }
        waiting
    }

    /// How many transactions are open or ending.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// For how long the oldest open or ending transaction is so, in milliseconds, and whose it is.
    pub fn oldest_open(&self, now: Now) -> Option<(i64, &str)> {
        self.open.first().map(|(start, id)| (now.wall.saturating_sub(*start).max(0), id.as_ref()))
    }
}
