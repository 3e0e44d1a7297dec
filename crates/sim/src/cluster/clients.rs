//! Clients: producers that find the leader and retry, plain ones that do not, readers, one that administers.
//!
//! A client has one request under way. What it asks arrives late, or not at all; so does the answer; after a
//! while it gives up waiting. An answer to a request that it gave up is not heard.
use super::admin::Admin;
use super::events::{Event, MS, Micros, Replied};
use super::faults::Swarm;
use super::members::{LATEST, Members};
use super::oracle::{Oracle, Reign};
use super::producer::{Batch, Producer, Style, produced};
use super::reader;
use super::strict::{self, Strict};
use super::tables::Tables;
use super::txn::{Transactions, TxnAsk};
use super::world::World;
use crate::oracle::Value;
use bytes::BytesMut;
use model::{GroupKey, LeaderEpoch, TopicId};
use node::{Reply, Token};
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;

#[derive(Debug)]
enum Role {
    Producer(Producer),
    Reader(BTreeMap<GroupKey, i64>),
    Admin(Admin),
    Strict(Strict),
    /// What it does is in `txn/`.
    Transactional,
    /// What it does is in `tables.rs`.
    Table,
    /// What it does is in `members/`.
    Member,
}

#[derive(Debug)]
struct Client {
    role: Role,
    /// The request under way.
    call: Option<u64>,
    /// When the leader answered, its epoch and process; (-1, 0) where it led no more.
    reign: Reign,
    /// The highest epoch of each partition that it heard of: who names an older one is not believed (KIP-320).
    epochs: BTreeMap<GroupKey, LeaderEpoch>,
}

impl Client {
    fn leader(&mut self, world: &mut World, key: GroupKey) -> Option<usize> {
        let (epoch, leader) = world.ask_leader(key)?;
        let known = self.epochs.entry(key).or_insert(epoch);
        if epoch >= 0 && epoch < *known {
            return None;
        }
        *known = epoch.max(*known);
        Some(leader)
    }
}

/// A request of a client, as it travels.
#[derive(Debug)]
pub(crate) enum Ask {
    /// For a producer's id.
    ProducerId,
    /// To append.
    Produce(GroupKey, BytesMut, i16),
    /// To read from an offset on; at a follower, too.
    Fetch(GroupKey, i64, bool),
    /// To have a partition led by another replica.
    HandOver(GroupKey, usize),
    /// To move the log start.
    DeleteRecords(GroupKey, i64),
    /// To change the metadata.
    Admin(node::AdminRequest),
    /// For the end of a log.
    Latest(GroupKey),
    /// Of a group's coordinator.
    Group(String, node::GroupRequest),
    /// Of transactions.
    Transactional(TxnAsk),
}

pub(crate) struct Clients {
    clients: Vec<Client>,
    pub(super) calls: u64,
    /// On their way to a node.
    pub(super) asks: BTreeMap<u64, Ask>,
    /// When those of members were sent.
    sent_at: BTreeMap<u64, Micros>,
    /// By token, who waits.
    waiting: BTreeMap<Token, (usize, u64)>,
    pub(super) next_value: Value,
    think: Micros,
    lost: u64,
    deletes: bool,
    /// Nothing new is begun.
    pub(crate) draining: bool,
    /// Topics stay as they are.
    pub(crate) settled: bool,
    /// Partitions that may be written and read.
    pub(crate) keys: Vec<GroupKey>,
    /// Which producer made a value that stands in its order.
    pub(crate) producer_of: BTreeMap<Value, usize>,
    pub(crate) acked_batches: u64,
    pub(crate) reads: u64,
    pub(crate) txns: Transactions,
    pub(crate) tables: Tables,
    pub(crate) members: Members,
}

impl Clients {
    pub(crate) fn new(seed: u64, nodes: usize, swarm: &Swarm) -> Clients {
        let producer = |style| {
            let sequences = BTreeMap::new();
            Role::Producer(Producer { style, id: None, sequences, batch: None })
        };
        let mut roles = vec![Role::Admin(Admin::new(nodes, swarm))];
        roles.extend((0..swarm.producers).map(|_| producer(Style::Idempotent)));
        roles.extend((0..swarm.producers / 2).map(|_| producer(Style::Plain)));
        roles.extend((0..swarm.producers / 2).map(|_| producer(Style::Hasty)));
        roles.extend((0..3).map(|_| Role::Reader(BTreeMap::new())));
        roles.extend((0..3).map(|_| Role::Strict(Strict::new())));
        let mut txns = Transactions::default();
        if swarm.transactions {
            let count;
            (txns, count) = Transactions::new(roles.len());
            roles.extend((0..count).map(|_| Role::Transactional));
        }
        let mut tables = Tables::default();
        if swarm.compacts {
            let count;
            (tables, count) = Tables::new(roles.len(), nodes, swarm);
            roles.extend((0..count).map(|_| Role::Table));
        }
        let mut members = Members::default();
        if swarm.members {
            let count;
            (members, count) = Members::new(roles.len(), seed);
            roles.extend((0..count).map(|_| Role::Member));
        }
        Clients {
            clients: roles
                .into_iter()
                .map(|role| Client { role, call: None, reign: (-1, 0), epochs: BTreeMap::new() })
                .collect(),
            calls: 0,
            asks: BTreeMap::new(),
            sent_at: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_value: 1,
            think: swarm.think,
            lost: swarm.lost,
            deletes: swarm.deletes,
            draining: false,
            settled: false,
            keys: Vec::new(),
            producer_of: BTreeMap::new(),
            acked_batches: 0,
            reads: 0,
            txns,
            tables,
            members,
        }
    }

    /// Who leads a partition, as a client believes.
    pub(super) fn leader(&mut self, world: &mut World, c: usize, key: GroupKey) -> Option<usize> {
        self.clients[c].leader(world, key)
    }

    pub(crate) fn begin(&self, world: &mut World) {
        for client in 0..self.clients.len() {
            let after = world.some(50 * MS);
            world.later(after, Event::Client(client));
        }
    }

    /// Batches that are not acknowledged yet and will be sent again.
    pub(crate) fn unfinished(&self, now: Micros) -> usize {
        let owes = |(c, client): &(usize, &Client)| match &client.role {
            Role::Producer(p) => p.batch.is_some(),
            Role::Transactional => client.call.is_some() || self.txns.is_unfinished(*c, now),
            Role::Table => client.call.is_some() || self.tables.is_unfinished(*c),
            // There is always a next heartbeat.
            Role::Member => false,
            Role::Reader(_) | Role::Admin(_) | Role::Strict(_) => client.call.is_some(),
        };
        self.clients.iter().enumerate().filter(owes).count()
    }

    /// Topics that must be there, and those of which nothing must be left.
    pub(crate) fn topics(&self) -> (Vec<(String, TopicId)>, Vec<TopicId>) {
        let admin = self.clients.iter().find_map(|client| match &client.role {
            Role::Admin(admin) => Some((admin.promised(), admin.deleted())),
            _ => None,
        });
        admin.unwrap_or_default()
    }

    /// A partition is gone: what was meant for it is dropped.
    fn forget(&mut self, world: &mut World, key: GroupKey) {
        self.keys.retain(|k| *k != key);
        self.txns.forget(key);
        self.members.forget(world, key);
        for c in 0..self.clients.len() {
            if let Role::Producer(p) = &mut self.clients[c].role
                && p.batch.take_if(|b| b.key == key).is_some()
                && self.clients[c].call.is_some()
            {
                self.over(world, c);
            }
        }
    }

    /// What is under way is given up: what became of it is not known any more.
    pub(crate) fn forget_all(&mut self, world: &mut World) {
        self.txns.forget_all(world.t);
        for c in 0..self.clients.len() {
            if let Role::Producer(p) = &mut self.clients[c].role {
                p.batch = None;
            }
            if self.clients[c].call.is_some() {
                self.over(world, c);
            }
        }
    }

    /// A client looks for something to do; whoever waits for an answer does not.
    pub(crate) fn on_client(&mut self, world: &mut World, oracle: &mut Oracle, c: usize) {
        if self.clients[c].call.is_some() {
            return;
        }
        match self.next_ask(world, oracle, c) {
            Some((machine, ask)) => self.ask(world, c, machine, ask),
            None => {
                let after = match self.clients[c].role {
                    Role::Member => self.members.due(c, world.t) - world.t,
                    _ => 5 * MS + world.some(30 * MS),
                };
                world.later(after, Event::Client(c));
            }
        }
    }

    /// The request under way is over, one way or the other.
    fn over(&mut self, world: &mut World, c: usize) {
        self.clients[c].call = None;
        let most = match self.clients[c].role {
            Role::Admin(_) => 100 * MS,
            // A transaction is many requests.
            Role::Transactional => self.think / 10,
            Role::Member => 10 * MS,
            _ => self.think,
        };
        let after = 1 + world.some(most);
        world.later(after, Event::Client(c));
    }

    fn ask(&mut self, world: &mut World, c: usize, machine: usize, ask: Ask) {
        self.calls += 1;
        let call = self.calls;
        self.clients[c].call = Some(call);
        let patience = 500 * MS + world.some(2_500 * MS);
        let slow = match self.clients[c].role {
            Role::Member => self.members.delay(c, self.draining),
            _ => None,
        };
        // Members do not stop for a request that is long on its way.
        let patience = if slow.is_some() { patience / 5 } else { patience };
        world.later(patience, Event::Patience { client: c, call });
        // A request may be lost on its way.
        if !world.rng.chance(1, self.lost) || self.draining {
            self.asks.insert(call, ask);
            if let Role::Member = self.clients[c].role {
                self.sent_at.insert(call, world.t);
            }
            let after = world.some(3 * MS);
            world.later(slow.unwrap_or(after), Event::Request { client: c, call, machine });
        }
    }

    fn next_ask(&mut self, world: &mut World, oracle: &mut Oracle, c: usize) -> Option<(usize, Ask)> {
        let answering = world.answering();
        let any = *world.rng.pick(&answering)?;
        if let Role::Admin(_) = self.clients[c].role {
            return self.next_admin(world, oracle, c);
        }
        if let Role::Transactional = self.clients[c].role {
            return self.next_transactional(world, c);
        }
        if let Role::Table = self.clients[c].role {
            return self.next_of_table(world, oracle, c);
        }
        if let Role::Member = self.clients[c].role {
            return self.next_of_member(world, c);
        }
        let draining = self.draining;
        if let Role::Strict(strict) = &mut self.clients[c].role {
            return if draining { None } else { strict.next(world, oracle, c, &self.keys) };
        }
        if let Role::Reader(positions) = &self.clients[c].role {
            if self.draining {
                return None;
            }
            let key = *world.rng.pick(&self.keys)?;
            let end = positions.get(&key).copied().unwrap_or(0);
            let from = if world.rng.chance(1, 4) { world.rng.below(end as u64 + 1) as i64 } else { end };
            let ask = if self.deletes && world.rng.chance(1, 20) {
                Ask::DeleteRecords(key, end / 2)
            } else {
                Ask::Fetch(key, from, false)
            };
            if matches!(ask, Ask::Fetch(..)) && world.rng.chance(1, 4) {
                return Some((any, Ask::Fetch(key, from, true)));
            }
            if world.rng.chance(1, 40) {
                return Some((any, Ask::HandOver(key, *world.rng.pick(&answering)?)));
            }
            return self.clients[c].leader(world, key).map(|leader| (leader, ask));
        }
        let (style, named) = match &self.clients[c].role {
            Role::Producer(p) => (p.style, p.id.is_some()),
            _ => return None,
        };
        if style == Style::Idempotent && !named {
            return (!self.draining).then_some((any, Ask::ProducerId));
        }
        self.fill_batch(world, c);
        let Role::Producer(p) = &self.clients[c].role else { return None };
        let batch = p.batch.as_ref()?;
        let acks = if style == Style::Hasty { 1 } else { -1 };
        let (key, bytes) = (batch.key, batch.bytes.clone());
        // Some clients are late to learn who leads; those that number their batches look.
        let late = style != Style::Idempotent && world.rng.chance(1, 20);
        let leader = if late { Some(any) } else { self.clients[c].leader(world, key) };
        leader.map(|leader| (leader, Ask::Produce(key, bytes, acks)))
    }

    fn next_admin(&mut self, world: &mut World, oracle: &mut Oracle, c: usize) -> Option<(usize, Ask)> {
        let draining = self.draining || self.settled;
        let Role::Admin(admin) = &mut self.clients[c].role else { return None };
        let keys = admin.look(world, oracle);
        self.keys.clone_from(&keys);
        if draining {
            return None;
        }
        let request = admin.next(world);
        let doomed = admin.doomed();
        for key in doomed {
            oracle.forget(key);
            self.forget(world, key);
        }
        let controller = world.ask_controller()?;
        request.map(|request| (controller, Ask::Admin(request)))
    }

    fn fill_batch(&mut self, world: &mut World, c: usize) {
        let draining = self.draining;
        let Some(key) = world.rng.pick(&self.keys).copied() else { return };
        let Role::Producer(p) = &mut self.clients[c].role else { return };
        if p.batch.is_some() || draining {
            return;
        }
        let sequence = p.sequences.get(&key).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new();
        if let Some(id) = p.id {
            builder = builder.producer(id, 0, sequence);
        }
        let count = 1 + world.rng.below(4);
        let size = if world.rng.chance(1, 20) { world.rng.below(100_000) } else { world.rng.below(300) };
        let values: Vec<Value> = (self.next_value..self.next_value + count).collect();
        self.next_value += count;
        for value in &values {
            let mut bytes = value.to_be_bytes().to_vec();
            bytes.resize(8 + (size / count) as usize, *value as u8);
            builder.push(NewRecord::new(1_700_000_000_000, Some(b"k"), Some(&bytes)));
            if p.style == Style::Idempotent {
                self.producer_of.insert(*value, c);
            }
        }
        let bytes = builder.finish().expect("an uncompressed batch can always be built");
        p.batch = Some(Batch { key, values, bytes });
    }

    /// A request arrives at a node.
    pub(crate) fn on_request(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        c: usize,
        call: u64,
        m: usize,
    ) {
        let Some(ask) = self.asks.remove(&call) else { return };
        let sent_at = self.sent_at.remove(&call);
        // A process that did not run for long has no connections any more.
        let late = sent_at.is_some_and(|at| world.t.saturating_sub(at) > LATEST);
        if late || world.machines[m].node.is_none() {
            return;
        }
        let token = Token(call);
        self.waiting.insert(token, (c, call));
        match ask {
            Ask::ProducerId => {
                world.call(m, |n, now| n.init_producer_id(now, token));
            }
            Ask::Produce(key, bytes, acks) => {
                world.trace.add(format_args!("client {c} produces to {m} {key}"));
                world.call(m, |n, now| n.produce(now, token, key, bytes, acks));
            }
            Ask::DeleteRecords(key, offset) => {
                world.call(m, |n, now| n.delete_records(now, token, key, offset));
            }
            Ask::Admin(request) => {
                world.trace.add(format_args!("admin at {m}: {request:?}"));
                world.call(m, |n, now| n.admin(now, token, request));
            }
            Ask::Latest(key) => {
                world.call(m, |n, now| n.list_offset(now, token, key, strict::latest()));
            }
            Ask::Group(group, request) => {
                self.members.model.arrived(call);
                world.call(m, |n, now| n.group(now, token, &group, request));
            }
            Ask::Transactional(ask) => {
                if !self.on_transactional(world, oracle, (c, m, token), ask) {
                    self.waiting.remove(&token);
                    if self.clients[c].call == Some(call) {
                        self.over(world, c);
                    }
                }
            }
            Ask::HandOver(key, to) => {
                self.waiting.remove(&token);
                if self.clients[c].call == Some(call) {
                    self.over(world, c);
                }
                let to = world.machines[to].id;
                world.call(m, |n, now| n.ask_hand_over(now, key, to));
            }
            Ask::Fetch(key, from, at_follower) => {
                self.waiting.remove(&token);
                if self.clients[c].call == Some(call) {
                    self.over(world, c);
                }
                // A reader may ask for what is being deleted.
                if self.keys.contains(&key) {
                    let next =
                        reader::read_at(world, oracle, m, key, from, at_follower, &mut BTreeMap::new());
                    self.has_read(c, key, from, next);
                }
            }
        }
    }

    /// A reader has read from `from` on, up to `next` if it read anything.
    fn has_read(&mut self, c: usize, key: GroupKey, from: i64, next: Option<i64>) {
        if let (Some(next), Role::Reader(positions)) = (next, &mut self.clients[c].role) {
            self.reads += u64::from(next > from);
            let position = positions.entry(key).or_default();
            *position = next.max(*position);
        }
    }

    /// Nodes answered: the answers travel.
    pub(crate) fn send_answers(&mut self, world: &mut World, oracle: &mut Oracle) {
        for Replied { machine, token, reply } in std::mem::take(&mut world.replies) {
            if World::is_join(token) {
                continue;
            }
            let Some((client, call)) = self.waiting.remove(&token) else { continue };
            self.txns.model.answered(oracle, call, self.calls, &reply);
            if let Role::Member = self.clients[client].role {
                self.answered_member(world, oracle, (client, machine, call), &reply);
            }
            if let Reply::Produce(Ok(_)) = &reply {
                let key = match &self.clients[client].role {
                    Role::Producer(p) => p.batch.as_ref().map(|b| b.key),
                    _ => None,
                };
                let node = world.machines[machine].node.as_ref();
                let view = key.and_then(|key| node.and_then(|n| n.replica_view(key)));
                if self.clients[client].call == Some(call) {
                    let life = world.machines[machine].life;
                    let reign = view.filter(|v| v.leads).map(|v| (v.term as LeaderEpoch, life));
                    self.clients[client].reign = reign.unwrap_or((-1, 0));
                }
            }
            if !world.rng.chance(1, self.lost) || self.draining {
                let after = world.some(3 * MS);
                world.later(after, Event::Answer { client, call, reply: Box::new(reply) });
            }
        }
    }

    /// An answer arrives.
    pub(crate) fn on_answer(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        c: usize,
        call: u64,
        reply: Reply,
    ) {
        if let Reply::ProducerId(Ok((id, _))) = &reply {
            // Whether anybody waits for it or not: it is taken.
            oracle.producer_id(*id);
        }
        if self.clients[c].call != Some(call) {
            return;
        }
        self.over(world, c);
        if let Role::Transactional = self.clients[c].role {
            return self.hear_transactional(world, oracle, c, reply);
        }
        if let Role::Table = self.clients[c].role {
            return self.hear_of_table(oracle, c, reply);
        }
        if let Role::Member = self.clients[c].role {
            return self.hear_as_member(world, c, &reply);
        }
        let reign = self.clients[c].reign;
        match (&mut self.clients[c].role, reply) {
            (Role::Producer(p), Reply::ProducerId(Ok((id, _)))) => p.id = Some(id),
            (Role::Producer(p), Reply::Produce(result)) => {
                let outcome = result.as_ref().map(|a| a.base_offset).map_err(|e| e.code);
                world.trace.add(format_args!("client {c} hears {outcome:?}"));
                self.acked_batches += u64::from(result.is_ok());
                produced(p, oracle, c, reign, result);
            }
            (Role::Admin(admin), Reply::Admin(reply)) => {
                world.trace.add(format_args!("admin hears {reply:?}"));
                admin.hear(reply);
                world.sometimes.cancelled = admin.cancelled;
            }
            (Role::Strict(strict), reply) => {
                world.trace.add(format_args!("client {c} hears {reply:?}"));
                strict.hear(oracle, c, reply);
            }
            _ => {}
        }
    }

    /// No answer came: nobody knows whether it happened.
    pub(crate) fn on_patience(&mut self, world: &mut World, c: usize, call: u64) {
        if self.clients[c].call != Some(call) {
            return;
        }
        self.over(world, c);
        match &mut self.clients[c].role {
            Role::Producer(p) if p.style != Style::Idempotent => p.batch = None,
            Role::Admin(admin) => admin.gave_up(),
            Role::Strict(strict) => strict.gave_up(),
            Role::Transactional => self.txns.gave_up(c),
            Role::Member => self.member_gave_up(world, c),
            Role::Producer(_) | Role::Reader(_) | Role::Table => {}
        }
    }

    /// Strong reads that were answered.
    pub(crate) fn strong_reads(&self) -> u64 {
        let heard = |client: &Client| if let Role::Strict(strict) = &client.role { strict.heard } else { 0 };
        self.clients.iter().map(heard).sum()
    }
}
