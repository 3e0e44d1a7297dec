//! Transactions that hang: a begin mark is open at a partition led here for longer than any transaction may be, and the
//! coordinator of its transactional id, asked, knows of no open transaction of that producer there. Nobody will end it, and
//! readers of committed records wait at its first offset.
//!
//! It is the coordinator's word that counts, and only a definite one: a coordinator that cannot be asked is asked again.
use crate::admin::Internal;
use crate::api::{Effect, Event, PeerOut, Token, TxnRequest};
use crate::groups::Slot;
use crate::machines::{HostRequest, Machine};
use crate::node::Node;
use crate::txn_host::TxnAsk;
use crate::txn_markers::MarkerFor;
use coordinator::txn::TopicPartition;
use model::{ErrorCode, GroupKey, Mono, NodeId, Now, Offset, ProducerId};
use partition::{Marker, NAME_BYTES, OpenTransaction};
use std::collections::{BTreeMap, BTreeSet};

/// How often open transactions are looked through, ms.
const LOOK_EVERY_MS: i64 = 10_000;
/// Beyond `transaction.max.timeout.ms` nobody is asked about a transaction for so long, ms: its coordinator ends most.
const SLACK_MS: i64 = 10_000;
/// Transactions that are asked about at once, and that are remembered; others have their turn when these have ended.
const MOST: usize = 1_000;

/// A transaction that hangs at a partition led here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HangingTransaction {
    /// The partition.
    pub key: GroupKey,
    /// What is open there, and whose it is.
    pub open: OpenTransaction,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangingEvent {
    /// Its coordinator does not know it; said once. `true`: it is being aborted.
    Found(bool),
    /// It was aborted (NONE), or was not.
    Aborted(ErrorCode),
}

/// What was asked about.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    key: GroupKey,
    producer_id: ProducerId,
    first_offset: Offset,
    /// What the producer wrote last when it was asked.
    last_sequence: i32,
}

/// What is known of transactions that hang.
#[derive(Debug, Default)]
pub(crate) struct Hanging {
    /// When it is looked next, and whether that alone is worth waking up for.
    due: Mono,
    armed: bool,
    asked: BTreeMap<u64, Suspect>,
    found: BTreeMap<(GroupKey, ProducerId), HangingTransaction>,
}

impl Hanging {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.armed.then_some(self.due)
    }

    /// A transaction began here: it may be one that hangs some day.
    pub(crate) fn arm(&mut self) {
        self.armed = true;
    }
}

impl Node {
    /// Transactions that hang at partitions led here: no more than a thousand of them are known at a time.
    pub fn hanging_transactions(&self) -> impl Iterator<Item = &HangingTransaction> {
        self.txn.hanging.found.values()
    }

    /// Looks through what is open, and asks about what is open for too long.
    pub(crate) fn tick_hanging(&mut self, now: Now) {
        if self.stopping() {
            self.txn.hanging.armed = false;
        }
        if now.mono < self.txn.hanging.due || self.stopping() {
            return;
        }
        // What was not answered since the last look is asked anew.
        self.txn.hanging.asked.clear();
        self.txn.hanging.due = now.mono.after_ms(LOOK_EVERY_MS);
        let longest = i64::from(self.metadata.image().broker_config().transaction_max_timeout_ms);
        let begun_before = now.wall.saturating_sub(longest).saturating_sub(SLACK_MS);
        let (mut any, mut old) = (false, Vec::new());
        for (key, slot) in &self.groups {
            let Slot::Open(open) = slot else { continue };
            let partition = &open.partition;
            if !partition.is_leader() || partition.open_count() == 0 {
                continue;
            }
            any = true;
            if partition.oldest_begun_at().is_some_and(|begun| begun <= begun_before) {
                let open = partition.open_transactions().filter(|open| open.begun_at <= begun_before);
                old.extend(open.take(MOST - old.len()).map(|open| (*key, open)));
            }
            if old.len() == MOST {
                break;
            }
        }
        self.txn.hanging.armed = any;
        let still: BTreeSet<_> = old.iter().map(|(key, open)| (*key, open.producer_id)).collect();
        self.txn.hanging.found.retain(|which, _| still.contains(which));
        for (key, open) in old {
            self.ask_whether_known(now, key, &open);
        }
    }

    /// Asks the coordinator of a transaction whether it knows that it is open at the partition.
    fn ask_whether_known(&mut self, now: Now, key: GroupKey, open: &OpenTransaction) {
        let id = &open.transactional_id;
        // A longer one was cut: its coordinator is not known.
        if id.is_empty() || id.len() + char::MAX.len_utf8() > NAME_BYTES {
            return;
        }
        let image = self.metadata.image();
        let Some(topic) = image.topic_by_id(key.topic) else { return };
        let Some(coordinator) = self.transaction_key(id) else { return };
        let Some(leader) = self.leader_of(coordinator).1 else { return };
        let ask = Box::new(TxnAsk {
            transactional_id: id.clone(),
            producer: (open.producer_id, open.epoch),
            topic: topic.name.to_string(),
            partition: key.partition,
            verify: true,
            known: true,
        });
        let number = self.txn.verifying.new_number();
        let suspect = Suspect {
            key,
            producer_id: open.producer_id,
            first_offset: open.first_offset,
            last_sequence: self.last_sequence(key, open.producer_id),
        };
        self.txn.hanging.asked.insert(number, suspect);
        if leader == self.cfg.node_id {
            self.look_whether_known(now, coordinator, None, number, ask);
        } else {
            self.fx.push(Effect::Peer(leader, PeerOut::TxnAsk { number, ask }));
        }
    }

    /// A question of this node, or of another one, whether a coordinator here knows of a transaction.
    pub(crate) fn look_whether_known(
        &mut self,
        now: Now,
        coordinator: GroupKey,
        from: Option<NodeId>,
        number: u64,
        ask: Box<TxnAsk>,
    ) {
        let id = ask.transactional_id.clone();
        let token = Token(self.new_internal(Internal::TxnKnown { from, number, ask }));
        // It is read as a description is: when the lead is confirmed.
        self.ask_host(now, coordinator, token, HostRequest::Transaction(TxnRequest::Describe(id)));
    }

    /// The coordinator on `key` is sure to be this node's: what it knows.
    pub(crate) fn tell_whether_known(&mut self, now: Now, key: GroupKey, token: Token) {
        let Some(Internal::TxnKnown { ask, .. }) = self.internal.get(&token.0) else { return };
        let partition = TopicPartition::new(&ask.topic, ask.partition);
        let host = self.hosts.get(&key).filter(|host| host.loading.is_none());
        let code = match host.map(|host| &host.machine) {
            Some(Machine::Transactions(c)) => c.open_there(&ask.transactional_id, ask.producer.0, &partition),
            _ => ErrorCode::CoordinatorLoadInProgress,
        };
        self.partition_answered(now, token, code);
    }

    /// The coordinator's word on what was asked about; `false` where that is none of these questions.
    pub(crate) fn on_known_answer(&mut self, now: Now, number: u64, code: ErrorCode) -> bool {
        let Some(suspect) = self.txn.hanging.asked.remove(&number) else { return false };
        let hangs = match code {
            ErrorCode::TransactionAbortable | ErrorCode::InvalidProducerIdMapping => true,
            ErrorCode::None => false,
            // Nothing is known now.
            _ => return true,
        };
        let which = (suspect.key, suspect.producer_id);
        let group = self.open_group(suspect.key).filter(|group| group.partition.is_leader());
        // It may have ended in between.
        let open = group.and_then(|group| {
            let mut open = group.partition.open_transactions();
            open.find(|o| o.producer_id == suspect.producer_id && o.first_offset == suspect.first_offset)
        });
        let Some(open) = open.filter(|_| hangs) else {
            self.txn.hanging.found.remove(&which);
            return true;
        };
        let hanging = HangingTransaction { key: suspect.key, open };
        // Who writes on hangs no more: an old client's next transaction goes on under the same begin mark.
        let silent = self.last_sequence(suspect.key, suspect.producer_id) == suspect.last_sequence;
        let aborts = silent && self.metadata.image().broker_config().aborts_hanging_transactions;
        if !self.txn.hanging.found.contains_key(&which) {
            let hanging = Box::new(hanging.clone());
            self.fx.push(Effect::Event(Event::Hanging(hanging, HangingEvent::Found(aborts))));
        }
        if aborts {
            self.abort_hanging(now, &hanging);
        }
        self.txn.hanging.found.insert(which, hanging);
        true
    }

    fn last_sequence(&self, key: GroupKey, producer_id: ProducerId) -> i32 {
        let producers = self.describe_producers(key).unwrap_or_default();
        producers.iter().find(|p| p.producer_id == producer_id).map_or(-1, |p| p.last_sequence)
    }

    /// Ends it at its partition by a marker of the records' epoch, as an operator does. A leader that was replaced and
    /// has not noticed cannot commit one.
    fn abort_hanging(&mut self, now: Now, hanging: &HangingTransaction) {
        let (key, open) = (hanging.key, &hanging.open);
        let producers = self.describe_producers(key).unwrap_or_default();
        let producer = producers.into_iter().find(|p| p.producer_id == open.producer_id);
        let marker = Marker {
            producer_id: open.producer_id,
            producer_epoch: open.epoch,
            commit: false,
            coordinator_epoch: producer.map_or(0, |p| p.coordinator_epoch.max(0)),
            txn_version: 0,
        };
        self.mark(now, key, marker, MarkerFor::Hanging { key, producer_id: open.producer_id });
    }

    /// What came of such a marker.
    pub(crate) fn hanging_aborted(&mut self, key: GroupKey, producer_id: ProducerId, code: ErrorCode) {
        if let Some(hanging) = self.txn.hanging.found.get(&(key, producer_id)) {
            let hanging = Box::new(hanging.clone());
            self.fx.push(Effect::Event(Event::Hanging(hanging, HangingEvent::Aborted(code))));
        }
        if code.is_none() {
            self.txn.hanging.found.remove(&(key, producer_id));
        }
    }
}
