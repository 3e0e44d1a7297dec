//! Hosts the group coordinators: one for each partition of `__consumer_offsets` that leads here.
use crate::admin::Internal;
use crate::api::{Effect, Event, GroupRequest, ReadToken, Reply, Token};
use crate::configs::group_config;
use crate::data::ReadFor;
use crate::groups::Touch;
use crate::node::Node;
use crate::panics::{Panic, guarded, text_of};
use crate::strong::StrongRead;
use bytes::Bytes;
use cluster::{CONSUMER_OFFSETS, Image, Topic};
use coordinator::{
    BatchId, Effect as GroupEffect, GroupConfig, GroupCoordinator, ListRequest, Record,
    coordinator_partition_for,
};
use model::{ErrorCode, GroupKey, Mono, Now, Offset};
use partition::{Opened, Origin};
use records::{BatchBuilder, NewRecord, batches};
use std::collections::VecDeque;
use std::sync::Arc;
use storage::{ExtractError, Extracted, ReadPlan};

/// Requests that wait for a coordinator to load; more are told to come back.
const MAX_WAITING: usize = 10_000;
const LOAD_BYTES: usize = 1 << 20;
/// A coordinator's own batches are not compressed; this bounds damage, not data.
const MAX_BATCH_PLAIN: usize = 256 << 20;

/// One coordinator and where it stands.
#[derive(Debug)]
pub(crate) struct Host {
    coordinator: GroupCoordinator,
    /// `Some`: loading; the next offset to read.
    loading: Option<Offset>,
    /// The read that loading waits for; an answer to any other comes too late.
    reading: Option<ReadToken>,
    waiting: VecDeque<(Token, GroupRequest)>,
}

impl Host {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.coordinator.next_deadline()
    }

    /// A coordinator with live members finds out early that it leads no more; one that only looks through its
    /// offsets from time to time need not.
    pub(crate) fn expects_members(&self) -> bool {
        self.coordinator.expects_members()
    }

    pub(crate) fn set_config(&mut self, config: GroupConfig) {
        self.coordinator.set_config(config);
    }
}

/// The topic that holds groups, once it exists.
pub(crate) fn offsets_topic(image: &Image) -> Option<&Arc<Topic>> {
    image.topic(CONSUMER_OFFSETS)
}

impl Node {
    fn offsets_key(&self, partition: i32) -> Option<GroupKey> {
        let image = self.metadata.image();
        offsets_topic(&image).map(|topic| GroupKey { topic: topic.id, partition })
    }

    pub(crate) fn host_of(&self, key: GroupKey) -> Option<i32> {
        (self.offsets_key(key.partition)? == key).then_some(key.partition)
    }

    /// Hands a request to the coordinator of `group_id`. Ends with [`Reply::Group`],
    /// [`Reply::GroupsDescribed`] or [`Reply::GroupRefused`].
    pub fn group(&mut self, now: Now, token: Token, group_id: &str, request: GroupRequest) {
        let image = self.metadata.image();
        let Some(topic) = offsets_topic(&image) else {
            let code = ErrorCode::CoordinatorNotAvailable;
            return self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
        };
        let partition = coordinator_partition_for(group_id, topic.partitions.len() as i32);
        let key = GroupKey { topic: topic.id, partition };
        if self.is_offline(key) {
            let code = ErrorCode::CoordinatorNotAvailable;
            return self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
        }
        if self.led_elsewhere(key) {
            let code = ErrorCode::NotCoordinator;
            return self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
        }
        let host = self.host(now, key);
        if host.loading.is_none() {
            self.ask(now, partition, token, request);
        } else if host.waiting.len() < MAX_WAITING {
            host.waiting.push_back((token, request));
        } else {
            let code = ErrorCode::CoordinatorLoadInProgress;
            self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
        }
        self.settle(now);
    }

    /// The coordinator on `key`, being loaded where it was not there.
    fn host(&mut self, now: Now, key: GroupKey) -> &mut Host {
        if !self.hosts.contains_key(&key.partition) {
            let host = self.new_host(key.partition);
            self.hosts.insert(key.partition, host);
            match self.open_group(key) {
                Some(open) if open.partition.leader_epoch().is_some() => self.load(now, key.partition),
                _ => self.touch(now, key, Touch::Open),
            }
        }
        let fresh = self.new_host(key.partition);
        self.hosts.entry(key.partition).or_insert(fresh)
    }

    /// Whether the coordinator on `key` is another node's.
    fn led_elsewhere(&self, key: GroupKey) -> bool {
        match self.open_group(key) {
            Some(open) => open.follows(),
            None => !self.holds(key),
        }
    }

    fn new_host(&self, partition: i32) -> Host {
        let config = group_config(self.metadata.image().broker_config());
        let seed = self.cfg.seed ^ (partition as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Host {
            coordinator: GroupCoordinator::new(config, seed ^ self.cfg.incarnation),
            loading: Some(0),
            reading: None,
            waiting: VecDeque::new(),
        }
    }

    /// Asks a coordinator that is loaded; what must be current only once this node is sure to lead.
    fn ask(&mut self, now: Now, partition: i32, token: Token, request: GroupRequest) {
        let strong = matches!(request, GroupRequest::Fetch(_) | GroupRequest::Describe(_));
        match self.offsets_key(partition).filter(|_| strong) {
            Some(key) => self.read_strongly(now, key, StrongRead::Group { token, request }),
            None => self.ask_now(now, partition, token, request),
        }
    }

    /// The log of the coordinator is sure to be led here.
    pub(crate) fn ask_confirmed(&mut self, now: Now, key: GroupKey, token: Token, request: GroupRequest) {
        if self.hosts.get(&key.partition).is_some_and(|host| host.loading.is_none()) {
            return self.ask_now(now, key.partition, token, request);
        }
        let code = ErrorCode::CoordinatorLoadInProgress;
        self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
    }

    fn ask_now(&mut self, now: Now, partition: i32, token: Token, request: GroupRequest) {
        let Some(host) = self.hosts.get_mut(&partition) else { return };
        if let GroupRequest::Describe(ids) = request {
            let described = host.coordinator.describe(&ids);
            return self.fx.push(Effect::Reply(token, Reply::GroupsDescribed(described)));
        }
        let (c, t, mut fx) = (&mut host.coordinator, coordinator::Token(token.0), Vec::new());
        let asked = guarded(|| match request {
            GroupRequest::Join(r) => c.join(now, t, r, &mut fx),
            GroupRequest::Sync(r) => c.sync(now, t, r, &mut fx),
            GroupRequest::Heartbeat(r) => c.heartbeat(now, t, r, &mut fx),
            GroupRequest::Leave(r) => c.leave(now, t, r, &mut fx),
            GroupRequest::Commit(r) => c.commit_offsets(now, t, r, &mut fx),
            GroupRequest::Fetch(r) => c.fetch_offsets(now, t, r, &mut fx),
            GroupRequest::DeleteOffsets(r) => c.delete_offsets(now, t, r, &mut fx),
            GroupRequest::DeleteGroups(ids) => c.delete_groups(now, t, ids, &mut fx),
            GroupRequest::Describe(_) => {}
        });
        match asked {
            Ok(()) => self.perform(now, partition, fx),
            Err(panic) => {
                self.host_panicked(now, partition, &panic);
                let code = ErrorCode::CoordinatorNotAvailable;
                self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
            }
        }
    }

    /// A coordinator panicked: its memory is dropped, whoever waits is told, and the next request reads it back
    /// from its log.
    fn host_panicked(&mut self, now: Now, partition: i32, panic: &Panic) {
        let Some(mut host) = self.hosts.remove(&partition) else { return };
        let mut fx = Vec::new();
        if guarded(|| host.coordinator.unload(now, &mut fx)).is_ok() {
            fx.retain(|effect| matches!(effect, GroupEffect::Reply { .. }));
            self.perform(now, partition, fx);
        }
        for (token, _) in host.waiting {
            let code = ErrorCode::CoordinatorNotAvailable;
            self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
        }
        if let Some(key) = self.offsets_key(partition) {
            let why = text_of(panic);
            let detail = format!(
                "its groups' coordinator panicked, which is a fault of this program; it is read back: {why}"
            );
            self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
        }
    }

    /// Carries out what a coordinator wants.
    fn perform(&mut self, now: Now, partition: i32, effects: Vec<GroupEffect>) {
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, reply } => {
                    self.fx.push(Effect::Reply(Token(token.0), Reply::Group(reply)));
                }
                GroupEffect::Append { batch, records } => {
                    self.append_records(now, partition, batch, &records)
                }
                GroupEffect::Event(event) => self.fx.push(Effect::Event(Event::Group(event))),
            }
        }
    }

    fn append_records(&mut self, now: Now, partition: i32, batch: BatchId, records: &[Record]) {
        let mut builder = BatchBuilder::new();
        for record in records {
            builder.push(NewRecord::new(now.wall, Some(&record.key), record.value.as_deref()));
        }
        let (Some(key), Ok(bytes)) = (self.offsets_key(partition), builder.finish()) else {
            return self.batch_done(now, partition, batch, Err(ErrorCode::NotCoordinator));
        };
        let token = self.new_internal(Internal::Batch { partition, batch });
        self.active.insert(key);
        let asked =
            self.with(key, |p, dir, fx| p.append(now, token, bytes, -1, Origin::Coordinator, dir, fx));
        if asked.is_none() {
            self.internal.remove(&token);
            self.batch_done(now, partition, batch, Err(ErrorCode::NotCoordinator));
        }
    }

    /// A coordinator's batch is committed, or is not.
    pub(crate) fn batch_done(
        &mut self,
        now: Now,
        partition: i32,
        batch: BatchId,
        result: Result<(), ErrorCode>,
    ) {
        let Some(host) = self.hosts.get_mut(&partition) else { return };
        let mut fx = Vec::new();
        match result {
            Ok(()) => host.coordinator.on_committed(now, batch, &mut fx),
            // Whether it was written is unknown: what is pending is dropped and the log is read again.
            Err(code) if code.is_retriable() => {
                host.coordinator.unload(now, &mut fx);
                host.coordinator.reset();
                host.coordinator.begin_loading();
                (host.loading, host.reading) = (Some(0), None);
                self.perform(now, partition, fx);
                return self.load(now, partition);
            }
            Err(code) => host.coordinator.on_append_failed(now, batch, code, &mut fx),
        }
        self.perform(now, partition, fx);
    }

    pub(crate) fn tick_hosts(&mut self, now: Now) {
        let due: Vec<i32> = self
            .hosts
            .iter()
            .filter(|(_, h)| h.next_deadline().is_some_and(|at| at <= now.mono))
            .map(|(p, _)| *p)
            .collect();
        for partition in due {
            let Some(host) = self.hosts.get_mut(&partition) else { continue };
            let mut fx = Vec::new();
            match guarded(|| host.coordinator.tick(now, &mut fx)) {
                Ok(()) => self.perform(now, partition, fx),
                Err(panic) => self.host_panicked(now, partition, &panic),
            }
        }
    }

    /// An offsets partition was read back: its checkpoint spares the coordinator what came before.
    pub(crate) fn host_opened(&mut self, key: GroupKey, opened: Opened) {
        let Some(partition) = self.host_of(key) else { return };
        if opened.machine.len() < 8 {
            return;
        }
        let fresh = self.new_host(partition);
        let host = self.hosts.entry(partition).or_insert(fresh);
        let mut machine = opened.machine;
        let next = i64::from_be_bytes(machine.split_to(8).first_chunk().copied().unwrap_or_default());
        if host.coordinator.restore(&machine).is_ok() {
            host.loading = Some(next);
        } else {
            host.coordinator.reset();
            host.loading = Some(0);
        }
    }

    /// An offsets partition leads: its coordinator loads.
    pub(crate) fn host_leads(&mut self, now: Now, key: GroupKey) {
        let Some(partition) = self.host_of(key) else { return };
        if !self.hosts.contains_key(&partition) {
            let host = self.new_host(partition);
            self.hosts.insert(partition, host);
        }
        self.load(now, partition);
    }

    /// Reads on from where loading stands; finished at the high watermark.
    fn load(&mut self, now: Now, partition: i32) {
        loop {
            let Some(key) = self.offsets_key(partition) else { return };
            let host = self.hosts.get(&partition).filter(|h| h.reading.is_none());
            let Some(from) = host.and_then(|h| h.loading) else { return };
            let Some(open) = self.open_group(key) else { return };
            let from = from.max(open.partition.log_start());
            match open.partition.replay_plan(from, LOAD_BYTES) {
                Ok(ReadPlan::Empty) => return self.load_done(now, partition),
                Ok(ReadPlan::Memory(found)) => {
                    if !self.replay(partition, from, &found) {
                        return self.load_failed(now, partition);
                    }
                }
                Ok(ReadPlan::File(range)) => {
                    let read = self.new_read(ReadFor::Load { partition });
                    if let Some(host) = self.hosts.get_mut(&partition) {
                        host.reading = Some(read);
                    }
                    return self.fx.push(Effect::Read(read, range));
                }
                Err(_) => return self.load_failed(now, partition),
            }
        }
    }

    pub(crate) fn load_read(
        &mut self,
        now: Now,
        partition: i32,
        token: ReadToken,
        read: Result<Extracted, ExtractError>,
    ) {
        let Some(host) = self.hosts.get_mut(&partition).filter(|h| h.reading == Some(token)) else { return };
        host.reading = None;
        let from = host.loading.unwrap_or_default();
        let progressed = match read {
            Ok(found) => {
                let replayed = self.replay(partition, from, &found.batches);
                let host = self.hosts.get_mut(&partition);
                let next = found.next_offset;
                let moved = host.is_some_and(|h| {
                    let at = h.loading.unwrap_or_default().max(next);
                    h.loading = Some(at);
                    at > from
                });
                replayed && moved
            }
            Err(_) => false,
        };
        if progressed { self.load(now, partition) } else { self.load_failed(now, partition) }
    }

    /// Feeds batches to a loading coordinator. `false` where one is damaged or goes nowhere.
    fn replay(&mut self, partition: i32, from: Offset, found: &[Bytes]) -> bool {
        let Some(host) = self.hosts.get_mut(&partition) else { return false };
        let mut next = from;
        for run in found {
            for batch in batches(run) {
                let Ok((range, header)) = batch else { return false };
                next = next.max(header.next_offset());
                if header.is_control() {
                    continue;
                }
                let Ok(records) = records::records(&run.slice(range), MAX_BATCH_PLAIN) else { return false };
                for record in records {
                    let Ok(record) = record else { return false };
                    let Some(key) = record.key else { continue };
                    if record.offset >= from
                        && host.coordinator.replay(record.offset, key, record.value).is_err()
                    {
                        return false;
                    }
                }
            }
        }
        host.loading = Some(next);
        next > from
    }

    fn load_done(&mut self, now: Now, partition: i32) {
        let Some(host) = self.hosts.get_mut(&partition) else { return };
        host.loading = None;
        let mut fx = Vec::new();
        host.coordinator.loaded(now, &mut fx);
        let waiting = std::mem::take(&mut host.waiting);
        self.perform(now, partition, fx);
        for (token, request) in waiting {
            self.ask(now, partition, token, request);
        }
    }

    /// The log of this coordinator cannot be read: its groups have no coordinator until it can.
    fn load_failed(&mut self, now: Now, partition: i32) {
        let Some(mut host) = self.hosts.remove(&partition) else { return };
        let mut fx = Vec::new();
        host.coordinator.unload(now, &mut fx);
        self.perform(now, partition, fx);
        for (token, _) in host.waiting {
            let code = ErrorCode::CoordinatorNotAvailable;
            self.fx.push(Effect::Reply(token, Reply::GroupRefused(code)));
        }
        if let Some(key) = self.offsets_key(partition) {
            let detail =
                "its groups cannot be loaded: a batch of the log is damaged or cannot be read".to_owned();
            self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
        }
    }

    pub(crate) fn host_resigned(&mut self, now: Now, key: GroupKey) {
        let Some(partition) = self.host_of(key) else { return };
        let Some(mut host) = self.hosts.remove(&partition) else { return };
        let mut fx = Vec::new();
        host.coordinator.unload(now, &mut fx);
        self.perform(now, partition, fx);
        for (token, _) in host.waiting {
            self.fx.push(Effect::Reply(token, Reply::GroupRefused(ErrorCode::NotCoordinator)));
        }
    }

    /// Offsets of a deleted topic go with it.
    pub(crate) fn topic_gone(&mut self, now: Now, topic: &str) {
        let loaded: Vec<i32> =
            self.hosts.iter().filter(|(_, h)| h.loading.is_none()).map(|(p, _)| *p).collect();
        for partition in loaded {
            let Some(host) = self.hosts.get_mut(&partition) else { continue };
            let mut fx = Vec::new();
            host.coordinator.topics_deleted(now, &[topic.to_owned()], &mut fx);
            self.perform(now, partition, fx);
        }
    }

    /// The state of a coordinator for its partition's checkpoint: the offset after it, then its records.
    /// Other partitions have none: empty bytes.
    pub(crate) fn host_bytes(&self, key: GroupKey) -> Option<Bytes> {
        let Some(partition) = self.host_of(key) else { return Some(Bytes::new()) };
        // A follower keeps no coordinator: the one that will load here reads the log from its start.
        if self.led_elsewhere(key) {
            return Some(Bytes::new());
        }
        let host = self.hosts.get(&partition)?;
        if host.loading.is_some() || host.coordinator.open_batches() > 0 {
            return None;
        }
        let end = self.open_group(key)?.partition.high_watermark();
        let mut bytes = end.to_be_bytes().to_vec();
        bytes.extend_from_slice(&host.coordinator.snapshot());
        Some(Bytes::from(bytes))
    }

    /// ListGroups over all coordinators. Ends with [`Reply::GroupsListed`]; LOAD_IN_PROGRESS while one is loading.
    pub fn list_groups(&mut self, now: Now, token: Token, request: ListRequest) {
        match self.hosts_to_list(now) {
            Ok(keys) => self.list_strongly(now, token, request, keys),
            Err(code) => self.fx.push(Effect::Reply(token, Reply::GroupsListed(Err(code)))),
        }
        self.settle(now);
    }

    /// The coordinators here that may have groups.
    fn hosts_to_list(&mut self, now: Now) -> Result<Vec<GroupKey>, ErrorCode> {
        let image = self.metadata.image();
        let Some(topic) = offsets_topic(&image) else { return Ok(Vec::new()) };
        let (mut keys, mut loading) = (Vec::new(), false);
        for partition in 0..topic.partitions.len() as i32 {
            let key = GroupKey { topic: topic.id, partition };
            // What was never touched holds no group.
            let untouched = !self.hosts.contains_key(&partition) && !self.was_touched(key);
            if untouched || self.led_elsewhere(key) {
                continue;
            }
            if self.is_offline(key) {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
            loading |= self.host(now, key).loading.is_some();
            keys.push(key);
        }
        if loading { Err(ErrorCode::CoordinatorLoadInProgress) } else { Ok(keys) }
    }

    /// Answers it: every coordinator that is asked is sure to be this node's.
    pub(crate) fn list_now(&mut self, token: Token, request: &ListRequest) {
        let listed = self.hosts.values().map(|host| match host.loading {
            None => host.coordinator.list(request),
            Some(_) => Err(ErrorCode::CoordinatorLoadInProgress),
        });
        let listed = listed.collect::<Result<Vec<_>, _>>().map(|groups| groups.concat());
        self.fx.push(Effect::Reply(token, Reply::GroupsListed(listed)));
    }

    /// Coordinators that are loaded, for the metrics.
    pub fn coordinators(&self) -> impl Iterator<Item = &GroupCoordinator> {
        self.hosts.values().filter(|h| h.loading.is_none()).map(|h| &h.coordinator)
    }
}
