//! What the coordinators of transactions are asked: one for each partition of `__transaction_state` that leads here, hosted
//! by `hosts.rs`. docs/transactions.md has the states.
use crate::admin::{INTERNAL_BIT, Internal};
use crate::api::{Effect, Event, PeerOut, Reply, Token, TxnRequest};
use crate::hosts::transactions_topic;
use crate::machines::{HostFx, HostRequest, Machine};
use crate::node::Node;
use crate::panics::guarded;
use crate::strong::StrongRead;
use crate::txn_hanging::Hanging;
use crate::txn_markers::MarkerMail;
use crate::txn_verify::Verifying;
use cluster::Image;
use coordinator::coordinator_partition_for;
use coordinator::txn::{
    AddPartitionsRequest, Effect as TxnEffect, Reply as TxnReply, TopicPartition, TxnCoordinator, TxnVersion,
};
use model::{ErrorCode, GroupKey, Mono, NodeId, Now};
use std::collections::{BTreeMap, BTreeSet};

/// What of transactions goes on between this node and others.
#[derive(Debug)]
pub(crate) struct Transacting {
    /// Coordinators that wait for producer ids, and for how many.
    pub(crate) without_ids: BTreeMap<GroupKey, usize>,
    /// When producer ids are asked for again.
    ids_due: Option<Mono>,
    pub(crate) verifying: Verifying,
    /// Questions of partitions' leaders, here and elsewhere, that coordinators here have not answered yet: what is asked
    /// again meanwhile is not handed on again.
    asking: BTreeSet<(NodeId, u64)>,
    pub(crate) mail: MarkerMail,
    pub(crate) hanging: Hanging,
}

impl Transacting {
    /// Of a process whose start is `incarnation`: an answer to an earlier one is none to this one.
    pub(crate) fn new(incarnation: u64) -> Transacting {
        let first = incarnation.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        Transacting {
            without_ids: BTreeMap::new(),
            ids_due: None,
            verifying: Verifying::new(first),
            asking: BTreeSet::new(),
            mail: MarkerMail::new(first),
            hanging: Hanging::default(),
        }
    }

    /// Whether this question is not at a coordinator here already.
    pub(crate) fn asks(&mut self, node: NodeId, number: u64) -> bool {
        self.asking.insert((node, number))
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let asking = [self.verifying.next_deadline(), self.ids_due, self.hanging.next_deadline()];
        asking.into_iter().flatten().min()
    }
}

/// Producer ids that did not come are asked for again after this, ms.
const IDS_AGAIN_MS: i64 = 1_000;

/// A question between nodes: does the transaction hold the partition, or may it be added?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnAsk {
    /// The transactional id.
    pub transactional_id: String,
    /// Its producer and the producer's epoch.
    pub producer: (model::ProducerId, model::ProducerEpoch),
    /// The partition.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Only tell.
    pub verify: bool,
    /// Only tell whether a transaction of the producer, of whatever epoch, is open or ending there.
    pub known: bool,
}

impl From<TxnAsk> for AddPartitionsRequest {
    fn from(ask: TxnAsk) -> AddPartitionsRequest {
        AddPartitionsRequest {
            transactional_id: ask.transactional_id,
            producer_id: ask.producer.0,
            producer_epoch: ask.producer.1,
            verify_only: ask.verify,
            version: TxnVersion::V2,
            partitions: vec![TopicPartition::new(&ask.topic, ask.partition)],
        }
    }
}

/// Why `request`, which begins a transaction or adds to one, is refused: partitions do not take the markers of its end as
/// long as the cluster has nodes that cannot read them. Who has a producer already got it from a coordinator that knew
/// of the level, so that it is this node which does not know of it yet.
fn begins_too_early(image: &Image, request: &TxnRequest) -> Option<ErrorCode> {
    let code = match request {
        TxnRequest::Init(_) => ErrorCode::UnsupportedVersion,
        TxnRequest::AddPartitions(_) | TxnRequest::AddOffsets(_) => ErrorCode::CoordinatorNotAvailable,
        TxnRequest::End(_) | TxnRequest::Describe(_) => return None,
    };
    (!cluster::takes_transactions(image)).then_some(code)
}

impl Node {
    /// Hands a request to the coordinator of `transactional_id`. Ends with [`Reply::Transaction`],
    /// [`Reply::TransactionDescribed`] or [`Reply::TransactionRefused`].
    pub fn transaction(&mut self, now: Now, token: Token, transactional_id: &str, request: TxnRequest) {
        match self.transaction_key(transactional_id) {
            Some(key) => self.ask_host(now, key, token, HostRequest::Transaction(request)),
            None => self.refuse_transaction(now, token, ErrorCode::CoordinatorNotAvailable),
        }
        self.settle(now);
    }

    /// The partition that holds a transactional id, once there is one.
    pub(crate) fn transaction_key(&self, transactional_id: &str) -> Option<GroupKey> {
        let image = self.metadata.image();
        let topic = transactions_topic(&image)?;
        let partition = coordinator_partition_for(transactional_id, topic.partitions.len() as i32);
        Some(GroupKey { topic: topic.id, partition })
    }

    /// Asks a coordinator that is loaded. A description must be current: it waits until this node is sure to lead.
    pub(crate) fn ask_transaction(&mut self, now: Now, key: GroupKey, token: Token, request: TxnRequest) {
        if let TxnRequest::Describe(transactional_id) = request {
            return self.read_strongly(now, key, StrongRead::Described { token, transactional_id });
        }
        if let Some(code) = begins_too_early(&self.metadata.image(), &request) {
            return self.refuse_transaction(now, token, code);
        }
        let host = self.hosts.get_mut(&key);
        let Some(Machine::Transactions(c)) = host.map(|host| &mut host.machine) else {
            return self.refuse_transaction(now, token, ErrorCode::CoordinatorNotAvailable);
        };
        let (t, mut fx) = (coordinator::Token(token.0), Vec::new());
        let asked = guarded(|| match request {
            TxnRequest::Init(r) => c.init_producer_id(now, t, r, &mut fx),
            // The leader of a partition has a batch that waits for this.
            TxnRequest::AddPartitions(r) if token.0 & INTERNAL_BIT != 0 => {
                c.add_partitions_when_free(now, t, r, &mut fx)
            }
            TxnRequest::AddPartitions(r) => c.add_partitions(now, t, r, &mut fx),
            TxnRequest::AddOffsets(r) => c.add_offsets(now, t, r, &mut fx),
            TxnRequest::End(r) => c.end_transaction(now, t, r, &mut fx),
            TxnRequest::Describe(_) => {}
        });
        match asked {
            Ok(()) => self.perform(now, key, HostFx::Transactions(fx)),
            Err(panic) => {
                self.host_panicked(now, key, &panic);
                self.refuse_transaction(now, token, ErrorCode::CoordinatorNotAvailable);
            }
        }
    }

    /// Describes a transactional id: its coordinator is sure to be this node's.
    pub(crate) fn describe_now(&mut self, now: Now, key: GroupKey, token: Token, transactional_id: &str) {
        if token.0 & INTERNAL_BIT != 0 {
            return self.tell_whether_known(now, key, token);
        }
        let host = self.hosts.get(&key).filter(|host| host.loading.is_none());
        let Some(Machine::Transactions(c)) = host.map(|host| &host.machine) else {
            return self.refuse_transaction(now, token, ErrorCode::CoordinatorLoadInProgress);
        };
        let described = Box::new(c.describe(transactional_id));
        self.fx.push(Effect::Reply(token, Reply::TransactionDescribed(described)));
    }

    /// Carries out what a coordinator of transactions wants.
    pub(crate) fn perform_transaction(&mut self, now: Now, key: GroupKey, effect: TxnEffect) {
        match effect {
            TxnEffect::Reply { token, reply, confirm: true } => {
                let read = StrongRead::Transaction { token: Token(token.0), reply: Box::new(reply) };
                self.read_strongly(now, key, read);
            }
            TxnEffect::Reply { token, reply, confirm: false } => {
                self.transaction_answered(now, Token(token.0), reply);
            }
            TxnEffect::Append { batch, records } => self.append_records(now, key, batch, &records),
            TxnEffect::SendMarkers(markers) => self.send_markers(now, key, markers),
            TxnEffect::NeedProducerIds { count } => {
                self.txn.without_ids.insert(key, count);
                self.txn.ids_due = Some(now.mono.after_ms(IDS_AGAIN_MS));
                self.hand_out_ids(now);
            }
            TxnEffect::Event(event) => self.fx.push(Effect::Event(Event::Transaction(event))),
        }
    }

    /// A coordinator of transactions answers: a client, a partition here, or another node.
    pub(crate) fn transaction_answered(&mut self, now: Now, token: Token, reply: TxnReply) {
        if token.0 & INTERNAL_BIT == 0 {
            return self.fx.push(Effect::Reply(token, Reply::Transaction(reply)));
        }
        self.partition_answered(now, token, reply.error());
    }

    pub(crate) fn refuse_transaction(&mut self, now: Now, token: Token, code: ErrorCode) {
        if token.0 & INTERNAL_BIT == 0 {
            return self.fx.push(Effect::Reply(token, Reply::TransactionRefused(code)));
        }
        self.partition_answered(now, token, code);
    }

    /// What a partition asked is answered.
    pub(crate) fn partition_answered(&mut self, now: Now, token: Token, code: ErrorCode) {
        match self.internal.remove(&token.0) {
            Some(Internal::TxnAsk(number)) => {
                self.txn.asking.remove(&(self.cfg.node_id, number));
                self.on_txn_answer(now, number, code);
            }
            Some(Internal::TxnKnown { from: None, number, .. }) => self.on_txn_answer(now, number, code),
            Some(Internal::TxnPeer(node, number) | Internal::TxnKnown { from: Some(node), number, .. }) => {
                self.txn.asking.remove(&(node, number));
                self.fx.push(Effect::Peer(node, PeerOut::TxnAnswer { number, code }))
            }
            _ => {}
        }
    }

    /// A partition that another node leads asks a coordinator here.
    pub(crate) fn on_txn_ask(&mut self, now: Now, node: NodeId, number: u64, ask: TxnAsk) {
        // What this node has not heard of yet it could not end either.
        if self.key_of(&TopicPartition::new(&ask.topic, ask.partition)).is_none() {
            let code = ErrorCode::CoordinatorLoadInProgress;
            return self.fx.push(Effect::Peer(node, PeerOut::TxnAnswer { number, code }));
        }
        let id = ask.transactional_id.clone();
        let key = self.transaction_key(&id);
        if let (Some(key), true) = (key, ask.known) {
            return self.look_whether_known(now, key, Some(node), number, Box::new(ask));
        }
        if !self.txn.asks(node, number) {
            return;
        }
        let token = Token(self.new_internal(Internal::TxnPeer(node, number)));
        match key {
            Some(key) => {
                let request = TxnRequest::AddPartitions(ask.into());
                self.ask_host(now, key, token, HostRequest::Transaction(request));
            }
            None => self.refuse_transaction(now, token, ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Asks for producer ids again, where a question or its answer may be lost.
    pub(crate) fn tick_ids(&mut self, now: Now) {
        if self.txn.ids_due.take_if(|due| *due <= now.mono).is_some() && !self.txn.without_ids.is_empty() {
            self.txn.ids_due = Some(now.mono.after_ms(IDS_AGAIN_MS));
            self.hand_out_ids(now);
        }
    }

    /// Gives producer ids to the coordinators that wait for some.
    pub(crate) fn supply_hosts(&mut self, now: Now) {
        while self.producer_ids.1 > 0
            && let Some((key, count)) = self.txn.without_ids.pop_first()
        {
            let count = count.min(usize::try_from(self.producer_ids.1).unwrap_or_default());
            let first = self.producer_ids.0;
            let taken = i32::try_from(count).unwrap_or(i32::MAX);
            self.producer_ids = (first + i64::from(taken), self.producer_ids.1 - taken);
            let host = self.hosts.get_mut(&key);
            let Some(Machine::Transactions(c)) = host.map(|host| &mut host.machine) else { continue };
            let mut fx = Vec::new();
            c.supply_producer_ids(now, first, count, &mut fx);
            self.perform(now, key, HostFx::Transactions(fx));
        }
    }

    /// No producer ids are to be had now.
    pub(crate) fn refuse_hosts(&mut self) {
        for key in std::mem::take(&mut self.txn.without_ids).into_keys() {
            let host = self.hosts.get_mut(&key);
            let Some(Machine::Transactions(c)) = host.map(|host| &mut host.machine) else { continue };
            let mut fx = Vec::new();
            c.refuse_producer_ids(&mut fx);
            // Only clients wait for producer ids.
            for effect in fx {
                if let TxnEffect::Reply { token, reply, .. } = effect {
                    self.fx.push(Effect::Reply(Token(token.0), Reply::Transaction(reply)));
                }
            }
        }
    }

    /// Coordinators of transactions that are loaded, for the metrics and for those who hunt for hanging ones.
    pub fn transaction_coordinators(&self) -> impl Iterator<Item = &TxnCoordinator> {
        self.hosts.values().filter(|host| host.loading.is_none()).filter_map(|host| match &host.machine {
            Machine::Transactions(c) => Some(c),
            Machine::Groups(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::{Command, Metadata};
    use proto::cluster::UpdateFeature;

    #[test]
    fn no_transaction_begins_before_every_node_can_read_its_marks() {
        let mut metadata = Metadata::new(1, Default::default());
        let init = TxnRequest::Init(Default::default());
        let add = TxnRequest::AddOffsets(coordinator::txn::AddOffsetsRequest {
            transactional_id: "t".into(),
            producer_id: 1,
            producer_epoch: 0,
            offsets_partition: TopicPartition::new(cluster::CONSUMER_OFFSETS, 0),
        });
        let describe = TxnRequest::Describe("t".into());
        for (index, level) in [(1, 3), (2, 4)] {
            let name = "plimsoll.version".to_owned();
            metadata.apply(index, &Command::UpdateFeature(UpdateFeature { name, level })).unwrap();
            let said = |request| begins_too_early(&metadata.image(), request);
            let early = |code| (level < 4).then_some(code);
            assert_eq!(said(&init), early(ErrorCode::UnsupportedVersion), "level {level}");
            assert_eq!(said(&add), early(ErrorCode::CoordinatorNotAvailable), "level {level}");
            assert_eq!(said(&describe), None, "level {level}");
        }
    }
}
