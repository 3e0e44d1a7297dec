//! A compacted topic: writers that put and delete keys, consumers that build a table from it as they go, and what every
//! replica must show of each key at the end.
use super::clients::{Ask, Clients};
use super::faults::Swarm;
use super::oracle::Oracle;
use super::run::Run;
use super::world::World;
use crate::oracle::Value;
use bytes::{Bytes, BytesMut};
use cluster::NewTopic;
use model::{GroupKey, Offset};
use node::{AdminRequest, FetchResult, Reply};
use partition::{FetchInput, Isolation};
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;
use storage::ReadPlan;

/// Names of the checkers of compacted topics.
pub const CHECKERS: &[&str] = &["deleted-key-revived", "compacted-lost", "value-changed"];

const NAME: &str = "table";
const WRITERS: usize = 2;
const CONSUMERS: usize = 2;
/// Keys of one writer.
const KEYS: u64 = 8;
/// Longer than any clock jumps.
const LONG_MS: i64 = 4 * 3_600_000;

/// A key, and what it is set to; `None` deletes it.
type Op = (String, Option<Value>);

#[derive(Debug)]
struct Batch {
    key: GroupKey,
    ops: Vec<Op>,
    bytes: BytesMut,
}

#[derive(Debug, Default)]
struct Writer {
    id: Option<i64>,
    sequences: BTreeMap<GroupKey, i32>,
    batch: Option<Batch>,
}

#[derive(Debug, Default)]
struct Consumer {
    positions: BTreeMap<GroupKey, Offset>,
    table: BTreeMap<(GroupKey, String), Option<Value>>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    writers: BTreeMap<usize, Writer>,
    consumers: BTreeMap<usize, Consumer>,
    /// What is acknowledged, by place.
    ops: BTreeMap<(GroupKey, Offset), Op>,
    /// The newest of each key.
    last: BTreeMap<(GroupKey, String), (Offset, Option<Value>)>,
    partitions: i32,
    replicas: i16,
    retention_ms: i64,
}

/// A record as it was read.
type Seen = (Offset, String, Option<Value>);

impl Tables {
    /// Client numbers `from..` for a seed with compaction; how many there are.
    pub(crate) fn new(from: usize, nodes: usize, swarm: &Swarm) -> (Tables, usize) {
        let mut all = Tables {
            partitions: 2,
            replicas: nodes.min(3) as i16,
            retention_ms: if swarm.keeps_deletes { LONG_MS } else { 300 },
            ..Tables::default()
        };
        all.writers.extend((0..WRITERS).map(|at| (from + at, Writer::default())));
        all.consumers.extend((0..CONSUMERS).map(|at| (from + WRITERS + at, Consumer::default())));
        (all, WRITERS + CONSUMERS)
    }

    pub(crate) fn is_unfinished(&self, c: usize) -> bool {
        self.writers.get(&c).is_some_and(|writer| writer.batch.is_some())
    }

    fn create(&self) -> AdminRequest {
        let config = |key: &str, value: String| (key.to_owned(), Some(value));
        let topic = NewTopic {
            name: NAME.to_owned(),
            num_partitions: self.partitions,
            replication_factor: self.replicas,
            assignments: Vec::new(),
            configs: vec![
                config("cleanup.policy", "compact".to_owned()),
                config("segment.ms", "200".to_owned()),
                config("min.cleanable.dirty.ratio", "0.01".to_owned()),
                config("delete.retention.ms", self.retention_ms.to_string()),
            ],
        };
        AdminRequest::CreateTopics { topics: vec![topic], validate_only: false }
    }

    fn fill(&mut self, world: &mut World, c: usize, keys: &[GroupKey], next_value: &mut Value) {
        let Some(writer) = self.writers.get_mut(&c).filter(|w| w.batch.is_none()) else { return };
        let (Some(key), Some(id)) = (world.rng.pick(keys).copied(), writer.id) else { return };
        let sequence = writer.sequences.get(&key).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new().producer(id, 0, sequence);
        let mut ops = Vec::new();
        for _ in 0..1 + world.rng.below(4) {
            let name = format!("key-{c}-{}", world.rng.below(KEYS));
            let value = (!world.rng.chance(1, 3)).then_some(*next_value);
            *next_value += 1;
            let mut bytes = value.unwrap_or_default().to_be_bytes().to_vec();
            bytes.resize(8 + world.rng.below(600) as usize, 7);
            let bytes = value.map(|_| bytes.as_slice());
            builder.push(NewRecord::new(1_700_000_000_000, Some(name.as_bytes()), bytes));
            ops.push((name, value));
        }
        let bytes = builder.finish().expect("an uncompressed batch can always be built");
        writer.batch = Some(Batch { key, ops, bytes });
    }

    fn acked(&mut self, oracle: &mut Oracle, c: usize, base: Offset) {
        let Some(writer) = self.writers.get_mut(&c) else { return };
        let Some(batch) = writer.batch.take() else { return };
        let next = writer.sequences.entry(batch.key).or_default();
        *next = records::next_sequence(*next, batch.ops.len() as i32);
        for (offset, op) in (base..).zip(batch.ops) {
            let last = self.last.entry((batch.key, op.0.clone())).or_insert((-1, None));
            if last.0 >= offset {
                let detail = format!("{}: {op:?} stands at {offset}, after {last:?}", batch.key);
                oracle.violate("producer-order", detail);
            }
            *last = (offset, op.1);
            self.ops.insert((batch.key, offset), op);
        }
    }

    /// Records of a replica are what was acknowledged where they stand.
    fn judge_records(&self, oracle: &mut Oracle, key: GroupKey, records: &[Seen]) {
        for (offset, name, value) in records {
            let known = self.ops.get(&(key, *offset));
            if known.is_some_and(|(k, v)| (k, v) != (name, value)) {
                let detail = format!("{key}@{offset}: {known:?} became {name} {value:?}");
                oracle.violate("value-changed", detail);
            }
        }
    }
}

/// The partitions of the topic, once it is there.
fn table_keys(world: &World) -> Option<Vec<GroupKey>> {
    let nodes = world.machines.iter().filter_map(|m| m.node.as_ref());
    let image = nodes.max_by_key(|node| node.metadata_applied())?.image();
    let topic = image.topic(NAME)?;
    let key = |partition| GroupKey { topic: topic.id, partition };
    Some((0..topic.partitions.len() as i32).map(key).collect())
}

/// Records of our keys, and where to go on.
fn decode(runs: &[Bytes], from: Offset) -> (Vec<Seen>, Offset) {
    let (mut found, mut next) = (Vec::new(), from);
    for run in runs {
        for batch in records::batches(run) {
            let Ok((range, header)) = batch else { return (found, next) };
            let Ok(records) = records::records(&run.slice(range), 64 << 20) else { return (found, next) };
            next = next.max(header.next_offset());
            for record in records.flatten().filter(|record| record.offset >= from && !header.is_control()) {
                let name = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                if name.starts_with("key-") {
                    let value = record.value.as_deref().and_then(|v| v.first_chunk()).copied();
                    found.push((record.offset, name, value.map(u64::from_be_bytes)));
                }
            }
        }
    }
    (found, next)
}

/// What a fetch gave.
enum Got {
    /// These, and where to go on.
    Records(Vec<Seen>, Offset),
    /// Nothing is left from there on.
    End,
    Refused,
}

fn read(world: &mut World, m: usize, key: GroupKey, from: Offset) -> Got {
    let input = FetchInput {
        offset: from,
        max_bytes: 20_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        isolation: Isolation::ReadUncommitted,
        at_follower: true,
    };
    let Some(FetchResult::Ok(ok)) = world.call(m, |n, now| n.fetch(now, key, &input)) else {
        return Got::Refused;
    };
    let runs = match ok.plan {
        _ if ok.not_yet => return Got::Refused,
        ReadPlan::Empty => return Got::End,
        ReadPlan::Memory(runs) => runs,
        ReadPlan::File(range) => match storage::read_range(&world.machines[m].disk, &range) {
            Ok(found) => found.batches,
            // What is damaged is another reader's business.
            Err(_) => return Got::Refused,
        },
    };
    match decode(&runs, from) {
        (records, next) if next > from => Got::Records(records, next),
        _ => Got::End,
    }
}

impl Clients {
    /// The partitions of the compacted topic, where a seed has one.
    pub(crate) fn table_keys(&self, world: &World) -> Vec<GroupKey> {
        if self.tables.writers.is_empty() { Vec::new() } else { table_keys(world).unwrap_or_default() }
    }

    /// What a writer or a consumer of the compacted topic does next.
    pub(crate) fn next_of_table(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        c: usize,
    ) -> Option<(usize, Ask)> {
        let Some(keys) = table_keys(world) else {
            if self.draining {
                return None;
            }
            let controller = world.ask_controller()?;
            return Some((controller, Ask::Admin(self.tables.create())));
        };
        keys.iter().for_each(|key| oracle.is_compacted(*key));
        let answering = world.answering();
        let any = *world.rng.pick(&answering)?;
        let Some(writer) = self.tables.writers.get(&c) else {
            if !self.draining {
                let key = *world.rng.pick(&keys)?;
                self.consume(world, oracle, c, any, key);
            }
            return None;
        };
        if writer.id.is_none() {
            return (!self.draining).then_some((any, Ask::ProducerId));
        }
        if !self.draining {
            self.tables.fill(world, c, &keys, &mut self.next_value);
        }
        let batch = self.tables.writers.get(&c)?.batch.as_ref()?;
        let (key, bytes) = (batch.key, batch.bytes.clone());
        let leader = self.leader(world, c, key)?;
        Some((leader, Ask::Produce(key, bytes, -1)))
    }

    /// A consumer reads on at any replica and keeps its table.
    fn consume(&mut self, world: &mut World, oracle: &mut Oracle, c: usize, m: usize, key: GroupKey) {
        let Some(consumer) = self.tables.consumers.get_mut(&c) else { return };
        let from = consumer.positions.get(&key).copied().unwrap_or(0);
        let Got::Records(records, next) = read(world, m, key, from) else { return };
        consumer.positions.insert(key, next);
        for (_, name, value) in &records {
            consumer.table.insert((key, name.clone()), *value);
        }
        self.tables.judge_records(oracle, key, &records);
    }

    pub(crate) fn hear_of_table(&mut self, oracle: &mut Oracle, c: usize, reply: Reply) {
        match reply {
            Reply::ProducerId(Ok((id, _))) => {
                if let Some(writer) = self.tables.writers.get_mut(&c) {
                    writer.id = Some(id);
                }
            }
            Reply::Produce(Ok(done)) => self.tables.acked(oracle, c, done.base_offset),
            Reply::Produce(Err(error)) if !error.code.is_retriable() => {
                let detail = format!("writer {c} of the compacted topic: {} {:?}", error.code, error.message);
                oracle.violate("idempotence-broken", detail);
            }
            _ => {}
        }
    }
}

impl Run {
    /// Says which partitions are compacted.
    pub(crate) fn mark_tables(&mut self) {
        let keys = table_keys(&self.world).unwrap_or_default();
        keys.into_iter().for_each(|key| self.oracle.is_compacted(key));
    }

    /// Every replica shows of each key what was written last, and so do the tables of those who read on.
    pub(crate) fn judge_tables(&mut self) {
        let Some(keys) = table_keys(&self.world) else { return };
        let nodes = self.world.machines.len();
        for key in keys {
            let mut whole = None;
            for m in 0..nodes {
                let view = self.world.machines[m].node.as_ref().and_then(|n| n.replica_view(key));
                let Some(view) = view.filter(|view| !view.witness) else { continue };
                let Some(records) = self.read_table(m, key, 0, view.high_watermark) else { continue };
                self.clients.tables.judge_records(&mut self.oracle, key, &records);
                let table = records.into_iter().map(|(_, name, value)| (name, value)).collect();
                self.judge_table(&format!("node {}", m + 1), key, &table, self.swarm.keeps_deletes);
                self.judge_own_keys(m, key, (view.log_start, view.high_watermark));
                whole = Some((m, view.high_watermark));
            }
            let Some((m, high)) = whole else { continue };
            if self.swarm.keeps_deletes {
                self.judge_consumers(m, key, high);
            }
        }
    }

    /// `None`: it cannot be read there, which other checkers judge.
    fn read_table(&mut self, m: usize, key: GroupKey, from: Offset, high: Offset) -> Option<Vec<Seen>> {
        let (mut at, mut all) = (from, Vec::new());
        while at < high {
            match read(&mut self.world, m, key, at) {
                Got::Records(records, next) => {
                    all.extend(records);
                    at = next;
                }
                Got::End => break,
                Got::Refused => return None,
            }
        }
        Some(all)
    }

    fn judge_consumers(&mut self, m: usize, key: GroupKey, high: Offset) {
        let behind: Vec<(usize, Offset)> = self
            .clients
            .tables
            .consumers
            .iter()
            .map(|(c, consumer)| (*c, consumer.positions.get(&key).copied().unwrap_or(0)))
            .collect();
        for (c, from) in behind {
            let Some(records) = self.read_table(m, key, from, high) else { continue };
            let Some(consumer) = self.clients.tables.consumers.get_mut(&c) else { continue };
            consumer.positions.insert(key, high.max(from));
            for (_, name, value) in records {
                consumer.table.insert((key, name), value);
            }
            let of_key = consumer.table.iter().filter(|((of, _), _)| *of == key);
            let table = of_key.map(|((_, name), value)| (name.clone(), *value)).collect();
            self.judge_table(&format!("consumer {c}"), key, &table, true);
        }
    }

    /// `all`: what deletes must be there too.
    fn judge_table(&mut self, who: &str, key: GroupKey, table: &BTreeMap<String, Option<Value>>, all: bool) {
        let last = self.clients.tables.last.iter().filter(|((of, _), _)| *of == key);
        let mut found = None;
        for ((_, name), (offset, value)) in last {
            let shown = table.get(name);
            let told = || format!("{key}: {name} is {value:?} since {offset}, {who} shows {shown:?}");
            match (value, shown) {
                (Some(value), Some(Some(shown))) if value == shown => {}
                (None, Some(None)) => {}
                (None, None) if !all => {}
                (None, _) => found = found.or(Some(("deleted-key-revived", told()))),
                (Some(_), _) => found = found.or(Some(("compacted-lost", told()))),
            }
        }
        if let Some((checker, detail)) = found {
            self.oracle.violate(checker, detail);
        }
    }
}
