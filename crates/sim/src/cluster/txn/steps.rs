//! The requests of transactional clients and of readers of what is committed, on their way to nodes and back.
use super::super::clients::{Ask, Clients};
use super::super::events::{Event, Micros, SECOND};
use super::super::oracle::Oracle;
use super::super::world::World;
use super::client::{Heard, Shared, Step, TxnClient, heard};
use super::model::{Model, Producer, Sent, What};
use super::read::read;
use bytes::BytesMut;
use cluster::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use coordinator::txn::{
    AddOffsetsRequest, AddPartitionsRequest, EndRequest, InitRequest, Reply as TxnReply, TopicPartition,
    TxnVersion,
};
use coordinator::{
    CommitPartition, CommitRequest, CommitTopic, FetchRequest, InTransaction, TopicPartitions,
    TxnCommitRequest, coordinator_partition_for,
};
use model::{ErrorCode, GroupKey, LeaderEpoch, Offset};
use node::{AdminRequest, GroupRequest, Reply, Token, TxnRequest};
use std::collections::BTreeMap;

/// Transactional ids, each of two clients.
const IDS: usize = 3;

/// A request of these clients.
#[derive(Debug)]
pub(crate) enum TxnAsk {
    /// For the coordinator of this transactional id.
    Coordinator(String, TxnRequest),
    /// The same, if who it is sent to leads that partition still as it did in this epoch.
    CoordinatorOf(GroupKey, LeaderEpoch, String, TxnRequest),
    /// To append inside a transaction.
    Produce(GroupKey, BytesMut, InTransaction),
    /// To read what is committed, at a follower too.
    Committed(GroupKey, Offset, bool),
}

/// One who reads what is committed.
#[derive(Debug, Default)]
struct CommittedReader {
    positions: BTreeMap<GroupKey, Offset>,
    /// The group whose offset was asked for, and what it was at least.
    asked: Option<(usize, i64)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    pub(crate) model: Model,
    clients: BTreeMap<usize, TxnClient>,
    readers: BTreeMap<usize, CommittedReader>,
    /// Requests that were sent once more, long after.
    pub(crate) late: u64,
    /// Records that readers of what is committed got.
    pub(crate) reads: u64,
}

impl Transactions {
    /// Client numbers `from..` for a seed with transactions; how many there are.
    pub(crate) fn new(from: usize) -> (Transactions, usize) {
        let mut all = Transactions::default();
        for at in 0..2 * IDS {
            // The second of each id comes later, and fences the first.
            let begins = if at < IDS { 0 } else { (at as Micros - 1) * SECOND };
            all.clients.insert(from + at, TxnClient::new(at % IDS, begins));
        }
        for at in 0..2 {
            all.readers.insert(from + 2 * IDS + at, CommittedReader::default());
        }
        (all, 2 * IDS + 2)
    }

    /// How many transactional ids there are.
    pub(super) fn ids(&self) -> usize {
        self.clients.len() / 2
    }

    pub(crate) fn is_unfinished(&self, c: usize, now: Micros) -> bool {
        self.clients.get(&c).is_some_and(|client| client.is_unfinished(now))
    }

    /// The topic is being deleted.
    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.model.forget(key);
        self.clients.values_mut().for_each(|client| client.forget(key));
    }

    pub(crate) fn forget_all(&mut self, now: Micros) {
        self.clients.values_mut().for_each(|client| client.give_up(now));
    }

    /// No answer came: the same is asked again.
    pub(crate) fn gave_up(&mut self, c: usize) {
        if let Some(client) = self.clients.get_mut(&c) {
            client.gave_up();
        }
        if let Some(reader) = self.readers.get_mut(&c) {
            reader.asked = None;
        }
    }
}

/// The partition of an internal topic that belongs to a name.
pub(super) fn partition_of(world: &mut World, topic: &str, name: &str) -> Option<GroupKey> {
    let answering = world.answering();
    let any = *world.rng.pick(&answering)?;
    let image = world.machines[any].node.as_ref()?.image();
    let topic = image.topic(topic)?;
    let partition = coordinator_partition_for(name, topic.partitions.len() as i32);
    Some(GroupKey { topic: topic.id, partition })
}

/// The epoch in which a node leads a partition.
fn epoch_of(world: &World, m: usize, key: GroupKey) -> Option<LeaderEpoch> {
    world.machines[m].node.as_ref()?.replica_view(key)?.epoch
}

fn named(world: &mut World, key: GroupKey) -> Option<TopicPartition> {
    let answering = world.answering();
    let any = *world.rng.pick(&answering)?;
    let image = world.machines[any].node.as_ref()?.image();
    Some(TopicPartition::new(&image.topic_by_id(key.topic)?.name, key.partition))
}

impl Clients {
    /// What a transactional client, or a reader of what is committed, asks for next, and whom.
    pub(crate) fn next_transactional(&mut self, world: &mut World, c: usize) -> Option<(usize, Ask)> {
        if self.txns.readers.contains_key(&c) {
            return self.next_committed(world, c);
        }
        if !self.draining && world.rng.chance(1, 15) {
            self.send_again(world, c);
        }
        let tables = self.table_keys(world);
        let client = self
            .txns
            .clients
            .get_mut(&c)
            .filter(|client| client.asleep_until.max(client.again_at) <= world.t)?;
        let mut shared = Shared {
            model: &mut self.txns.model,
            rng: &mut world.rng,
            keys: &self.keys,
            tables: &tables,
            next_value: &mut self.next_value,
            now: world.t,
            draining: self.draining,
        };
        let (step, what) = client.step(&mut shared)?;
        let id = client.id;
        let (machine, ask) = self.route(world, c, id, &step)?;
        if !matches!(ask, Ask::Admin(_)) {
            let producer = producer_of(&step);
            // The number that the request gets when it is sent.
            self.txns.model.sent(self.calls + 1, Sent { client: c, id, producer, what });
            if let Some(client) = self.txns.clients.get_mut(&c) {
                client.asked = Some(step);
            }
        }
        Some((machine, ask))
    }

    /// The node to ask and the request; first of all the topics of coordinators are made.
    fn route(&mut self, world: &mut World, c: usize, id: usize, step: &Step) -> Option<(usize, Ask)> {
        let (name, group) = (super::name_of(id), super::group_of(id));
        let (topic, of) = match step {
            Step::Produce { key, bytes, of } => {
                let leader = self.leader(world, c, *key)?;
                let ask = TxnAsk::Produce(*key, bytes.clone(), of.clone());
                return Some((leader, Ask::Transactional(ask)));
            }
            Step::Offsets { .. } => (CONSUMER_OFFSETS, &group),
            Step::Init { .. } | Step::Add { .. } | Step::AddOffsets { .. } | Step::End { .. } => {
                (TRANSACTION_STATE, &name)
            }
        };
        let Some(key) = partition_of(world, topic, of) else {
            let controller = world.ask_controller()?;
            return Some((controller, Ask::Admin(AdminRequest::AutoCreate(vec![topic.to_owned()]))));
        };
        let machine = self.leader(world, c, key)?;
        if let Step::Offsets { offset, of } = step {
            let request = offsets(group.clone(), *offset, of.clone());
            return Some((machine, Ask::Group(group, request)));
        }
        let request = request(world, &name, &group, step)?;
        if matches!(step, Step::End { .. }) {
            let client = self.txns.clients.get_mut(&c).filter(|client| client.repeats_end());
            let epoch = epoch_of(world, machine, key);
            client.into_iter().for_each(|client| client.asked_in = epoch.map(|epoch| (machine, epoch)));
        }
        Some((machine, Ask::Transactional(TxnAsk::Coordinator(name, request))))
    }

    /// An end before TV2 that its client gave up, and asked for again by a newer connection, arrives at last (KAFKA-17754):
    /// where the coordinator that answered the second is the same still, it must not end the transaction after that.
    fn send_late_end(&mut self, world: &mut World, c: usize) -> Option<()> {
        let client = self.txns.clients.get_mut(&c)?;
        let (step, (machine, epoch)) = client.late_end.take()?;
        let (name, group) = (super::name_of(client.id), super::group_of(client.id));
        let id = client.id;
        let key = partition_of(world, TRANSACTION_STATE, &name)?;
        let request = request(world, &name, &group, &step)?;
        let ask = Ask::Transactional(TxnAsk::CoordinatorOf(key, epoch, name, request));
        self.send_late(world, (c, id, machine), &step, ask);
        Some(())
    }

    fn send_late(
        &mut self,
        world: &mut World,
        (c, id, machine): (usize, usize, usize),
        step: &Step,
        ask: Ask,
    ) {
        self.calls += 1;
        let call = self.calls;
        let what = if matches!(step, Step::Produce { .. }) { What::Again } else { What::Add };
        let producer = producer_of(step);
        self.txns.model.sent(call, Sent { client: c, id, producer, what });
        self.txns.late += 1;
        self.asks.insert(call, ask);
        let after = world.some(2 * SECOND);
        world.later(after, Event::Request { client: c, call, machine });
    }

    /// Something of a transaction that is over arrives once more, much later.
    fn send_again(&mut self, world: &mut World, c: usize) {
        if world.rng.chance(1, 2) && self.send_late_end(world, c).is_some() {
            return;
        }
        let Some(client) = self.txns.clients.get(&c) else { return };
        // The end of the transaction before is the likeliest to be taken for that of the next.
        let end = client.old.iter().rev().find(|step| matches!(step, Step::End { .. }));
        let any = world.rng.pick(&client.old);
        let step = if world.rng.chance(1, 2) { end.or(any) } else { any };
        let (Some(step), id) = (step.cloned(), client.id) else { return };
        let Some((machine, ask)) = self.route(world, c, id, &step) else { return };
        self.send_late(world, (c, id, machine), &step, ask);
    }

    fn next_committed(&mut self, world: &mut World, c: usize) -> Option<(usize, Ask)> {
        if self.draining {
            return None;
        }
        if world.rng.chance(1, 5) {
            let id = world.rng.below(IDS as u64) as usize;
            let group = super::group_of(id);
            let key = partition_of(world, CONSUMER_OFFSETS, &group)?;
            let machine = self.leader(world, c, key)?;
            let floor = self.txns.model.floor(id);
            self.txns.readers.get_mut(&c)?.asked = Some((id, floor));
            return Some((machine, Ask::Group(group.clone(), fetch_stable(group))));
        }
        let tables = self.table_keys(world);
        let table = if world.rng.chance(1, 4) { world.rng.pick(&tables).copied() } else { None };
        let key = table.or_else(|| world.rng.pick(&self.keys).copied())?;
        let end = self.txns.readers.get(&c)?.positions.get(&key).copied().unwrap_or(0);
        let from = if world.rng.chance(1, 4) { world.rng.below(end as u64 + 1) as i64 } else { end };
        if world.rng.chance(1, 4) {
            let answering = world.answering();
            let any = *world.rng.pick(&answering)?;
            return Some((any, Ask::Transactional(TxnAsk::Committed(key, from, true))));
        }
        let leader = self.leader(world, c, key)?;
        Some((leader, Ask::Transactional(TxnAsk::Committed(key, from, false))))
    }

    /// A request arrives at a node. `false`: it is answered already, its client may go on.
    pub(crate) fn on_transactional(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        (c, m, token): (usize, usize, Token),
        ask: TxnAsk,
    ) -> bool {
        match ask {
            TxnAsk::Coordinator(name, request) => {
                world.trace.add(format_args!("client {c} asks {m} {request:?}"));
                world.call(m, |n, now| n.transaction(now, token, &name, request));
            }
            TxnAsk::CoordinatorOf(key, epoch, ..) if epoch_of(world, m, key) != Some(epoch) => return false,
            TxnAsk::CoordinatorOf(_, _, name, request) => {
                world.trace.add(format_args!("client {c} asks {m} late {request:?}"));
                world.sometimes.late_ends += 1;
                world.call(m, |n, now| n.transaction(now, token, &name, request));
            }
            TxnAsk::Produce(key, bytes, of) => {
                let producer = (of.producer_id, of.producer_epoch);
                world.trace.add(format_args!("client {c} produces to {m} {key} as {producer:?}"));
                world.call(m, |n, now| n.produce_in_transaction(now, token, key, bytes, -1, of));
            }
            TxnAsk::Committed(key, from, at_follower) => {
                if self.keys.contains(&key) || self.table_keys(world).contains(&key) {
                    self.read_committed(world, oracle, (c, m), key, from, at_follower);
                }
                return false;
            }
        }
        true
    }

    fn read_committed(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        (c, m): (usize, usize),
        key: GroupKey,
        from: Offset,
        at_follower: bool,
    ) {
        let got = read(world, oracle, &mut self.txns.model, m, (key, from, at_follower));
        let (Some(got), Some(reader)) = (got, self.txns.readers.get_mut(&c)) else { return };
        self.txns.reads += got.records.len() as u64;
        let position = reader.positions.entry(key).or_default();
        *position = got.next.max(*position);
    }

    /// An answer arrives.
    pub(crate) fn hear_transactional(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        c: usize,
        reply: Reply,
    ) {
        if let Some(reader) = self.txns.readers.get_mut(&c) {
            let asked = reader.asked.take();
            if let (Some((id, floor)), Some(offset)) = (asked, offset_in(&reply)) {
                self.txns.model.offset_read(oracle, id, floor, offset);
            }
            return;
        }
        let tables = self.table_keys(world);
        let Some(client) = self.txns.clients.get_mut(&c) else { return };
        let Some(step) = client.asked.take() else { return };
        let (code, next) = outcome(&reply);
        let ends = matches!(step, Step::End { v2: false, commit: true, .. });
        if ends && code.is_none() && !self.draining && world.rng.chance(1, 4) {
            // As if the answer had not come.
            client.asked = Some(step);
            return client.gave_up();
        }
        world.trace.add(format_args!("client {c} hears {code:?} {next:?}"));
        let mut heard = heard(code);
        if heard == Heard::OutOfOrder && client.v2 && self.txns.model.is_newest(client.id, client.producer) {
            let detail = format!("transactional client {c} as {:?}: {step:?}", client.producer);
            oracle.violate("idempotence-broken", detail);
        }
        if matches!(&step, Step::Init { .. }) && next.is_none() && heard == Heard::Done {
            heard = Heard::Again;
        }
        let mut shared = Shared {
            model: &mut self.txns.model,
            rng: &mut world.rng,
            keys: &self.keys,
            tables: &tables,
            next_value: &mut self.next_value,
            now: world.t,
            draining: self.draining,
        };
        client.hear(step, heard, next, &mut shared);
    }
}

fn producer_of(step: &Step) -> Option<Producer> {
    match step {
        Step::Init { expected, .. } => *expected,
        Step::Add { producer, .. } | Step::AddOffsets { producer } | Step::End { producer, .. } => {
            Some(*producer)
        }
        Step::Produce { of, .. } | Step::Offsets { of, .. } => Some((of.producer_id, of.producer_epoch)),
    }
}

/// A request to a coordinator of transactions; `None` where names of partitions are not to be had.
fn request(world: &mut World, name: &str, group: &str, step: &Step) -> Option<TxnRequest> {
    let transactional_id = name.to_owned();
    Some(match step {
        Step::Init { expected, timeout_ms } => TxnRequest::Init(InitRequest {
            transactional_id,
            timeout_ms: *timeout_ms,
            expected: *expected,
            ..InitRequest::default()
        }),
        Step::Add { producer, keys } => TxnRequest::AddPartitions(AddPartitionsRequest {
            transactional_id,
            producer_id: producer.0,
            producer_epoch: producer.1,
            verify_only: false,
            version: TxnVersion::V0,
            partitions: keys.iter().map(|key| named(world, *key)).collect::<Option<_>>()?,
        }),
        Step::AddOffsets { producer } => {
            let key = partition_of(world, CONSUMER_OFFSETS, group)?;
            TxnRequest::AddOffsets(AddOffsetsRequest {
                transactional_id,
                producer_id: producer.0,
                producer_epoch: producer.1,
                offsets_partition: TopicPartition::new(CONSUMER_OFFSETS, key.partition),
            })
        }
        Step::End { producer, commit, v2, connection } => TxnRequest::End(EndRequest {
            transactional_id,
            producer_id: producer.0,
            producer_epoch: producer.1,
            commit: *commit,
            version: if *v2 { TxnVersion::V2 } else { TxnVersion::V0 },
            connection: *connection,
        }),
        Step::Produce { .. } | Step::Offsets { .. } => return None,
    })
}

fn offsets(group_id: String, offset: i64, transaction: InTransaction) -> GroupRequest {
    let row = CommitPartition { index: 0, offset, leader_epoch: -1, metadata: None };
    let topic = CommitTopic { name: super::PROGRESS.to_owned(), partitions: vec![row], ..Default::default() };
    let commit = CommitRequest { group_id, generation_id: -1, topics: vec![topic], ..Default::default() };
    GroupRequest::CommitInTransaction(TxnCommitRequest { commit, transaction })
}

/// OffsetFetch that waits for transactions. It names the partition: who asks for all of a group's is told, as in Kafka, of
/// those alone that have an offset that counts.
pub(super) fn fetch_stable(group_id: String) -> GroupRequest {
    let topic =
        TopicPartitions { name: super::PROGRESS.to_owned(), partitions: vec![0], ..Default::default() };
    let topics = Some(vec![topic]);
    GroupRequest::Fetch(FetchRequest { group_id, topics, require_stable: true, ..FetchRequest::default() })
}

/// The offset in an answer to [`fetch_stable`]; -1: there is none. `None`: the answer says nothing.
pub(super) fn offset_in(reply: &Reply) -> Option<i64> {
    let Reply::Group(coordinator::Reply::Fetch(reply)) = reply else { return None };
    if !reply.error.is_none() {
        return None;
    }
    match reply.topics.first().and_then(|topic| topic.partitions.first()) {
        None => Some(-1),
        Some(row) => row.error.is_none().then_some(row.offset),
    }
}

/// What an answer says, and the producer that it names.
fn outcome(reply: &Reply) -> (ErrorCode, Option<Producer>) {
    match reply {
        Reply::Produce(result) => (result.as_ref().err().map_or(ErrorCode::None, |e| e.code), None),
        Reply::Transaction(TxnReply::Init(r) | TxnReply::End(r)) => {
            let producer = (r.producer_id >= 0).then_some((r.producer_id, r.producer_epoch));
            (r.error, producer)
        }
        Reply::Transaction(reply) => (reply.error(), None),
        Reply::Group(coordinator::Reply::Commit(reply)) => {
            let codes = reply.topics.iter().flat_map(|t| &t.partitions).map(|(_, code)| *code);
            (codes.into_iter().find(|code| !code.is_none()).unwrap_or_default(), None)
        }
        Reply::TransactionRefused(code) | Reply::GroupRefused(code) => (*code, None),
        _ => (ErrorCode::RequestTimedOut, None),
    }
}
