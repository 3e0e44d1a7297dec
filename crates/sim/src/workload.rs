//! Clients: producers that never give up, readers that check everything, a group that commits.
use crate::oracle::{Oracle, Value};
use crate::world::{Waiting, World};
use bytes::{Bytes, BytesMut};
use cluster::NewTopic;
use coordinator::{CommitPartition, CommitRequest, CommitTopic, FetchRequest};
use model::{ErrorCode, GroupKey};
use node::{AdminReply, AdminRequest, FetchResult, GroupRequest, Reply, Token};
use partition::{FetchInput, Isolation};
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;
use storage::ReadPlan;

pub(crate) const TOPICS: [&str; 2] = ["alpha", "beta"];
const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 8;
const GROUPS: usize = 3;

/// A batch that is sent until it is acknowledged.
#[derive(Debug, Clone)]
struct Batch {
    values: Vec<Value>,
    bytes: BytesMut,
    asked: bool,
}

#[derive(Debug, Default)]
struct Producer {
    id: Option<(i64, i16)>,
    sequence: i32,
    batch: Option<Batch>,
    topic: usize,
    partition: i32,
}

#[derive(Debug)]
enum Asked {
    CreateTopics,
    ProducerId(usize),
    Produce(usize, GroupKey),
    Commit(usize, i32, i64),
    FetchOffsets(usize),
    DeleteRecords,
    Ignored,
}

pub(crate) struct Workload {
    producers: Vec<Producer>,
    waiting: Waiting<Asked>,
    next_token: u64,
    next_value: Value,
    next_commit: i64,
    creating: bool,
    topics_acked: bool,
    /// Read position by partition.
    positions: BTreeMap<GroupKey, i64>,
    /// Acknowledged batches, for the report.
    pub(crate) acked_batches: u64,
    /// Reads that returned records.
    pub(crate) reads: u64,
}

impl Workload {
    pub(crate) fn new() -> Workload {
        let producer = |i: usize| Producer {
            topic: i % TOPICS.len(),
            partition: (i as i32 / 2) % PARTITIONS,
            ..Producer::default()
        };
        Workload {
            producers: (0..PRODUCERS).map(producer).collect(),
            waiting: Waiting::new(),
            next_token: 0,
            next_value: 1,
            next_commit: 1,
            creating: false,
            topics_acked: false,
            positions: BTreeMap::new(),
            acked_batches: 0,
            reads: 0,
        }
    }

    /// The process died: nothing that was asked is known to have happened.
    pub(crate) fn crashed(&mut self) {
        self.waiting.clear();
        self.creating = false;
        for producer in &mut self.producers {
            if let Some(batch) = &mut producer.batch {
                batch.asked = false;
            }
        }
    }

    fn token(&mut self, asked: Asked) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.waiting.insert(token, asked);
        token
    }

    pub(crate) fn key(world: &World, topic: usize, partition: i32) -> Option<GroupKey> {
        let image = world.node.as_ref()?.image();
        image.topic(TOPICS[topic]).map(|t| GroupKey { topic: t.id, partition })
    }

    /// One client does one thing.
    pub(crate) fn step(&mut self, world: &mut World, oracle: &mut Oracle) {
        if !world.node.as_ref().is_some_and(node::Node::ready) {
            return;
        }
        if Workload::key(world, 0, 0).is_none() {
            if self.topics_acked {
                oracle.violate("topic-lost", "an acknowledged topic is gone".to_owned());
            }
            return self.create_topics(world);
        }
        match world.rng.below(100) {
            0..=54 => self.produce(world),
            55..=79 => self.read(world, oracle),
            80..=89 => self.commit(world, oracle),
            90..=96 => self.fetch_offsets(world),
            97 => self.delete_records(world),
            _ => self.list_offsets(world),
        }
    }

    fn create_topics(&mut self, world: &mut World) {
        if std::mem::replace(&mut self.creating, true) {
            return;
        }
        let token = self.token(Asked::CreateTopics);
        let topic = |name: &&str| NewTopic {
            name: (*name).to_owned(),
            num_partitions: PARTITIONS,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        let topics = TOPICS.iter().map(topic).collect();
        world.call(|n, now| n.admin(now, token, AdminRequest::CreateTopics { topics, validate_only: false }));
        let token = self.token(Asked::Ignored);
        let names = vec![cluster::CONSUMER_OFFSETS.to_owned()];
        world.call(|n, now| n.admin(now, token, AdminRequest::AutoCreate(names)));
    }

    fn produce(&mut self, world: &mut World) {
        let i = world.rng.below(PRODUCERS as u64) as usize;
        if self.producers[i].id.is_none() {
            let token = self.token(Asked::ProducerId(i));
            world.call(|n, now| n.init_producer_id(now, token));
            return;
        }
        if self.producers[i].batch.is_none() {
            self.producers[i].batch = Some(self.new_batch(world, i));
        }
        let producer = &self.producers[i];
        let Some(key) = Workload::key(world, producer.topic, producer.partition) else { return };
        let Some(batch) = producer.batch.clone().filter(|b| !b.asked) else { return };
        let token = self.token(Asked::Produce(i, key));
        if let Some(batch) = &mut self.producers[i].batch {
            batch.asked = true;
        }
        world.trace.add(format_args!(
            "produce {i} {key} {:?} {:?} {}",
            batch.values, self.producers[i].id, self.producers[i].sequence
        ));
        let bytes = BytesMut::from(&batch.bytes[..]);
        world.call(|n, now| n.produce(now, token, key, bytes, -1));
    }

    fn new_batch(&mut self, world: &mut World, i: usize) -> Batch {
        let producer = &self.producers[i];
        let (id, epoch) = producer.id.unwrap_or((-1, -1));
        let mut builder = BatchBuilder::new().producer(id, epoch, producer.sequence);
        let count = 1 + world.rng.below(5);
        let size = if world.rng.chance(1, 10) { world.rng.below(120_000) } else { world.rng.below(300) };
        let values: Vec<Value> = (self.next_value..self.next_value + count).collect();
        self.next_value += count;
        for value in &values {
            let mut bytes = value.to_be_bytes().to_vec();
            bytes.resize(8 + (size / count) as usize, *value as u8);
            builder.push(NewRecord::new(world.now.wall, Some(b"k"), Some(&bytes)));
        }
        let bytes = builder.finish().expect("an uncompressed batch can always be built");
        Batch { values, bytes, asked: false }
    }

    fn read(&mut self, world: &mut World, oracle: &mut Oracle) {
        let topic = world.rng.below(TOPICS.len() as u64) as usize;
        let partition = world.rng.below(PARTITIONS as u64) as i32;
        let Some(key) = Workload::key(world, topic, partition) else { return };
        let from = if world.rng.chance(1, 4) {
            let end = self.positions.get(&key).copied().unwrap_or_default() as u64;
            world.rng.below(end + 1) as i64
        } else {
            self.positions.get(&key).copied().unwrap_or_default()
        };
        if let Some(next) = read_once(world, oracle, key, from, &mut BTreeMap::new()) {
            self.reads += u64::from(next > from);
            let position = self.positions.entry(key).or_default();
            *position = next.max(*position);
        }
    }

    fn commit(&mut self, world: &mut World, oracle: &mut Oracle) {
        let group = world.rng.below(GROUPS as u64) as usize;
        let partition = world.rng.below(PARTITIONS as u64) as i32;
        let offset = self.next_commit;
        self.next_commit += 1;
        let token = self.token(Asked::Commit(group, partition, offset));
        oracle.commit_tried(group, partition, offset);
        let row = CommitPartition { index: partition, offset, leader_epoch: -1, metadata: None };
        let topic = CommitTopic { name: TOPICS[0].to_owned(), partitions: vec![row], ..Default::default() };
        let request = CommitRequest {
            group_id: format!("group-{group}"),
            generation_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let id = request.group_id.clone();
        world.call(|n, now| n.group(now, token, &id, GroupRequest::Commit(request)));
    }

    fn fetch_offsets(&mut self, world: &mut World) {
        let group = world.rng.below(GROUPS as u64) as usize;
        // A commit on its way could be answered after this read, which then looks stale without being so.
        if self.waiting.values().any(|a| matches!(a, Asked::Commit(g, ..) if *g == group)) {
            return;
        }
        let token = self.token(Asked::FetchOffsets(group));
        let id = format!("group-{group}");
        let request = FetchRequest { group_id: id.clone(), ..FetchRequest::default() };
        world.call(|n, now| n.group(now, token, &id, GroupRequest::Fetch(request)));
    }

    fn delete_records(&mut self, world: &mut World) {
        let partition = world.rng.below(PARTITIONS as u64) as i32;
        let Some(key) = Workload::key(world, 1, partition) else { return };
        let end = self.positions.get(&key).copied().unwrap_or_default();
        let token = self.token(Asked::DeleteRecords);
        world.call(|n, now| n.delete_records(now, token, key, end / 2));
    }

    fn list_offsets(&mut self, world: &mut World) {
        let Some(key) = Workload::key(world, 0, 0) else { return };
        let token = self.token(Asked::Ignored);
        let timestamp = *world.rng.pick(&[-1, -2, -3, world.now.wall - 50]).unwrap_or(&-1);
        let ask = partition::ListOffsetAsk {
            timestamp,
            current_leader_epoch: -1,
            isolation: Isolation::ReadUncommitted,
        };
        world.call(|n, now| n.list_offset(now, token, key, ask));
    }

    /// Hears what the node answered.
    pub(crate) fn hear(&mut self, world: &mut World, oracle: &mut Oracle) {
        while let Some((token, reply)) = world.replies.pop_front() {
            let Some(asked) = self.waiting.remove(&token) else { continue };
            match (asked, reply) {
                (Asked::CreateTopics, Reply::Admin(reply)) => {
                    self.creating = false;
                    self.topics_acked |= matches!(reply, AdminReply::Topics(_));
                }
                (Asked::ProducerId(i), Reply::ProducerId(Ok(id))) => self.producers[i].id = Some(id),
                (Asked::Produce(i, key), Reply::Produce(result)) => {
                    if let Err(error) = &result {
                        world.trace.add(format_args!("refused {i}: {:?}", error.message));
                    }
                    self.produced(world, oracle, i, key, result.map(|a| a.base_offset).map_err(|e| e.code));
                }
                (
                    Asked::Commit(group, partition, offset),
                    Reply::Group(coordinator::Reply::Commit(reply)),
                ) => {
                    let codes = reply.topics.iter().flat_map(|t| &t.partitions);
                    if codes.clone().count() == 1 && codes.clone().all(|(_, code)| code.is_none()) {
                        oracle.committed(group, partition, offset);
                    }
                }
                (Asked::FetchOffsets(group), Reply::Group(coordinator::Reply::Fetch(reply)))
                    if reply.error.is_none() =>
                {
                    self.offsets(oracle, group, &reply);
                }
                _ => {}
            }
        }
    }

    fn offsets(&mut self, oracle: &mut Oracle, group: usize, reply: &coordinator::FetchReply) {
        // Commits that were asked meanwhile may or may not be in it; the oracle knows both bounds.
        for partition in 0..PARTITIONS {
            let rows = reply.topics.iter().flat_map(|t| &t.partitions);
            let offset = rows.filter(|p| p.index == partition).map(|p| p.offset).next().unwrap_or(-1);
            oracle.fetched_offset(group, partition, offset);
        }
    }

    fn produced(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        i: usize,
        key: GroupKey,
        result: Result<i64, ErrorCode>,
    ) {
        world.trace.add(format_args!("produced {i} {key} {result:?}"));
        let producer = &mut self.producers[i];
        let Some(batch) = &mut producer.batch else { return };
        match result {
            Ok(base) => {
                oracle.acked(key, base, &batch.values);
                producer.sequence = records::next_sequence(producer.sequence, batch.values.len() as i32);
                producer.batch = None;
                self.acked_batches += 1;
            }
            Err(code) if code.is_retriable() => batch.asked = false,
            Err(code) => {
                batch.asked = false;
                if !oracle.is_damaged(key) {
                    let detail = format!("producer {i} at {key} sequence {}: {code}", producer.sequence);
                    oracle.violate("idempotence-broken", detail);
                }
            }
        }
    }

    /// Producers whose batch is not acknowledged yet.
    pub(crate) fn unfinished(&self, world: &World, oracle: &Oracle) -> usize {
        let owes = |p: &&Producer| {
            let key = Workload::key(world, p.topic, p.partition);
            p.batch.is_some() && key.is_some_and(|k| !oracle.is_damaged(k))
        };
        self.producers.iter().filter(owes).count()
    }
}

/// One fetch, checked. The offset to go on from; `None` when refused or not ready.
pub(crate) fn read_once(
    world: &mut World,
    oracle: &mut Oracle,
    key: GroupKey,
    from: i64,
    seen: &mut BTreeMap<i64, Value>,
) -> Option<i64> {
    let input = FetchInput {
        offset: from,
        max_bytes: 200_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        isolation: Isolation::ReadUncommitted,
        at_follower: false,
    };
    let answer = world.call(|n, now| n.fetch(now, key, &input))?;
    let ok = match answer {
        FetchResult::Ok(ok) => ok,
        FetchResult::Err(error) => {
            if error.code == ErrorCode::OffsetOutOfRange {
                oracle.watermarks(key, error.high_watermark, error.log_start);
                return (from < error.log_start).then_some(error.log_start);
            }
            return None;
        }
        FetchResult::NotReady => return None,
    };
    oracle.watermarks(key, ok.high_watermark, ok.log_start);
    let batches = match ok.plan {
        ReadPlan::Empty => return Some(from),
        ReadPlan::Memory(batches) => batches,
        ReadPlan::File(range) => match storage::read_range(&world.disk, &range) {
            Ok(found) => found.batches,
            Err(_) if oracle.is_damaged(key) => return None,
            Err(storage::ExtractError::Disk(_)) => return None,
            Err(error) => {
                oracle.violate("acked-lost", format!("{key}@{from}: {error}"));
                return None;
            }
        },
    };
    let (records, next) = decode(&batches, from);
    let visible: Vec<(i64, Value)> = records;
    let from_first = visible.first().map_or(from, |(offset, _)| from.max(*offset));
    oracle.read(key, from_first.min(from), ok.high_watermark, &visible);
    seen.extend(visible.iter().copied());
    Some(next.max(from))
}

/// Stands for a control record, which has no value of a client's.
pub(crate) const MARKER: Value = Value::MAX;

pub(crate) fn decode(runs: &[Bytes], from: i64) -> (Vec<(i64, Value)>, i64) {
    let (mut found, mut next) = (Vec::new(), from);
    for run in runs {
        for batch in records::batches(run) {
            let Ok((range, header)) = batch else { return (found, next) };
            next = next.max(header.next_offset());
            let Ok(records) = records::records(&run.slice(range), 64 << 20) else { return (found, next) };
            for record in records.flatten() {
                let value = record.value.as_deref().and_then(|v| v.first_chunk()).copied();
                let value = value.map(u64::from_be_bytes).unwrap_or_default();
                found.push((record.offset, if header.is_control() { MARKER } else { value }));
            }
        }
    }
    (found, next)
}
