//! Hosts the coordinators: one for each partition of `__consumer_offsets` and `__transaction_state` that leads here.
//! Loading, unloading, their batches and their clocks are the same whatever is coordinated (`machines.rs`); what they are
//! asked is in `group_host.rs` and `txn_host.rs`.
use crate::admin::Internal;
use crate::api::{Effect, Event, ReadToken, Reply, Token};
use crate::configs::{group_config, txn_config};
use crate::data::ReadFor;
use crate::groups::{Open, Touch};
use crate::machines::{HostFx, HostKind, HostRequest, Machine};
use crate::node::Node;
use crate::panics::{Panic, guarded, text_of};
use bytes::{Bytes, BytesMut};
use cluster::{CONSUMER_OFFSETS, Image, TRANSACTION_STATE, Topic};
use coordinator::txn::{Effect as TxnEffect, TxnCoordinator};
use coordinator::{BatchId, Effect as GroupEffect, GroupCoordinator, Record};
use model::planted::{Bug, planted};
use model::{ErrorCode, GroupKey, Mono, Now, Offset};
use partition::{CommittedBody, CommittedEntry, Opened, Origin};
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
    pub(crate) machine: Machine,
    /// `Some`: loading; the next offset to read.
    pub(crate) loading: Option<Offset>,
    /// Up to here the log was read back; what is applied from below was seen already.
    loaded: Offset,
    /// Up to here the machine knows what is committed.
    applied: Offset,
    /// The read that loading waits for; an answer to any other comes too late.
    reading: Option<ReadToken>,
    pub(crate) waiting: VecDeque<(Token, HostRequest)>,
}

impl Host {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.machine.next_deadline()
    }

    /// A coordinator with live members, or with transactions, finds out early that it leads no more; one that only
    /// looks through what it has from time to time need not.
    pub(crate) fn is_watched(&self) -> bool {
        self.machine.is_watched()
    }
}

/// The topic that holds groups, once it exists.
pub(crate) fn offsets_topic(image: &Image) -> Option<&Arc<Topic>> {
    image.topic(CONSUMER_OFFSETS)
}

/// The topic that holds transactions, once it exists.
pub(crate) fn transactions_topic(image: &Image) -> Option<&Arc<Topic>> {
    image.topic(TRANSACTION_STATE)
}

impl Node {
    /// What is coordinated on the log of `key`.
    pub(crate) fn host_kind(&self, key: GroupKey) -> Option<HostKind> {
        let image = self.metadata.image();
        let is = |topic: Option<&Arc<Topic>>| topic.is_some_and(|topic| topic.id == key.topic);
        if is(offsets_topic(&image)) {
            return Some(HostKind::Groups);
        }
        is(transactions_topic(&image)).then_some(HostKind::Transactions)
    }

    /// Whether the log of `key` is a coordinator's.
    pub(crate) fn is_hosted(&self, key: GroupKey) -> bool {
        self.host_kind(key).is_some()
    }

    /// The coordinator on `key`, being loaded where it was not there; `None` where that log is none of a coordinator.
    pub(crate) fn host(&mut self, now: Now, key: GroupKey) -> Option<&mut Host> {
        if !self.hosts.contains_key(&key) {
            let host = self.new_host(key)?;
            self.hosts.insert(key, host);
            match self.open_group(key) {
                Some(open) if open.partition.leader_epoch().is_some() => self.load(now, key),
                _ => self.touch(now, key, Touch::Open),
            }
        }
        // Loading may have failed at once.
        self.hosts.get_mut(&key)
    }

    /// Hands a request to the coordinator on `key`, when it is loaded.
    pub(crate) fn ask_host(&mut self, now: Now, key: GroupKey, token: Token, request: HostRequest) {
        let kind = match request {
            HostRequest::Group(_) => HostKind::Groups,
            HostRequest::Transaction(_) => HostKind::Transactions,
        };
        if self.is_offline(key) {
            return self.refuse_asker(now, kind, token, ErrorCode::CoordinatorNotAvailable);
        }
        if self.led_elsewhere(key) {
            return self.refuse_asker(now, kind, token, ErrorCode::NotCoordinator);
        }
        let early = kind == HostKind::Groups && planted(Bug::OffsetsBeforeLoaded);
        match self.host(now, key) {
            Some(host) if host.loading.is_none() || early => self.ask(now, key, token, request),
            Some(host) if host.waiting.len() < MAX_WAITING => host.waiting.push_back((token, request)),
            Some(_) => self.refuse_asker(now, kind, token, ErrorCode::CoordinatorLoadInProgress),
            None => self.refuse_asker(now, kind, token, ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// Asks a coordinator that is loaded.
    fn ask(&mut self, now: Now, key: GroupKey, token: Token, request: HostRequest) {
        match request {
            HostRequest::Group(request) => self.ask_group(now, key, token, request),
            HostRequest::Transaction(request) => self.ask_transaction(now, key, token, request),
        }
    }

    /// Whoever asked a coordinator gets no answer of it.
    pub(crate) fn refuse_asker(&mut self, now: Now, kind: HostKind, token: Token, code: ErrorCode) {
        match kind {
            HostKind::Groups => self.fx.push(Effect::Reply(token, Reply::GroupRefused(code))),
            HostKind::Transactions => self.refuse_transaction(now, token, code),
        }
    }

    /// Whether the coordinator on `key` is another node's.
    pub(crate) fn led_elsewhere(&self, key: GroupKey) -> bool {
        match self.open_group(key) {
            Some(open) => open.follows(),
            None => !self.holds(key),
        }
    }

    fn new_host(&self, key: GroupKey) -> Option<Host> {
        let image = self.metadata.image();
        let seed = self.cfg.seed ^ (key.partition as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Another one for each, also within a term.
        let life = self.cfg.incarnation.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let seed = seed ^ life ^ self.next_internal.rotate_left(40);
        let machine = match self.host_kind(key)? {
            HostKind::Groups => Machine::Groups(GroupCoordinator::new(group_config(&image), seed)),
            HostKind::Transactions => {
                let term = self.open_group(key).map_or(0, |open| open.partition.term());
                let config = txn_config(&image, self.cfg.first_transactional_epoch);
                let seed = seed.rotate_left(32) ^ term;
                Machine::Transactions(TxnCoordinator::new(config, seed))
            }
        };
        Some(Host {
            machine,
            loading: Some(0),
            loaded: 0,
            applied: 0,
            reading: None,
            waiting: VecDeque::new(),
        })
    }

    /// A coordinator panicked: its memory is dropped, whoever waits is told, and the next request reads it back
    /// from its log.
    pub(crate) fn host_panicked(&mut self, now: Now, key: GroupKey, panic: &Panic) {
        let Some(mut host) = self.hosts.remove(&key) else { return };
        self.forget_batches(key);
        if let Ok(mut fx) = guarded(|| host.machine.unload(now)) {
            match &mut fx {
                HostFx::Groups(fx) => fx.retain(|effect| matches!(effect, GroupEffect::Reply { .. })),
                HostFx::Transactions(fx) => fx.retain(|effect| matches!(effect, TxnEffect::Reply { .. })),
            }
            self.perform(now, key, fx);
        }
        self.refuse_waiting(now, host, ErrorCode::CoordinatorNotAvailable);
        let why = text_of(panic);
        let detail =
            format!("its coordinator panicked, which is a fault of this program; it is read back: {why}");
        self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
    }

    /// What becomes of batches that are under way is nothing to the coordinator that comes next.
    fn forget_batches(&mut self, key: GroupKey) {
        self.internal.retain(|_, who| !matches!(who, Internal::Batch { key: of, .. } if *of == key));
    }

    fn refuse_waiting(&mut self, now: Now, host: Host, code: ErrorCode) {
        let kind = host.machine.kind();
        for (token, _) in host.waiting {
            self.refuse_asker(now, kind, token, code);
        }
    }

    /// Carries out what a coordinator wants.
    pub(crate) fn perform(&mut self, now: Now, key: GroupKey, fx: HostFx) {
        match fx {
            HostFx::Groups(fx) => fx.into_iter().for_each(|effect| self.perform_group(now, key, effect)),
            HostFx::Transactions(fx) => {
                fx.into_iter().for_each(|effect| self.perform_transaction(now, key, effect));
            }
        }
    }

    /// Appends records of a coordinator as one batch.
    pub(crate) fn append_records(&mut self, now: Now, key: GroupKey, batch: BatchId, records: &[Record]) {
        let Some(bytes) = encode(BatchBuilder::new(), now, records) else {
            return self.batch_done(now, key, batch, Err(ErrorCode::UnknownServerError));
        };
        let token = self.new_internal(Internal::Batch { key, batch });
        self.active.insert(key);
        let asked =
            self.with(key, |p, dir, fx| p.append(now, token, bytes, -1, Origin::Coordinator, dir, fx));
        if asked.is_none() {
            self.internal.remove(&token);
            self.batch_done(now, key, batch, Err(ErrorCode::NotCoordinator));
        }
    }

    /// A coordinator's batch is committed, or is not.
    pub(crate) fn batch_done(
        &mut self,
        now: Now,
        key: GroupKey,
        batch: BatchId,
        result: Result<(), ErrorCode>,
    ) {
        let Some(host) = self.hosts.get_mut(&key) else { return };
        let fx = match result {
            Ok(()) => host.machine.on_committed(now, batch),
            // Refused before anything was written.
            Err(
                code @ (ErrorCode::NotEnoughReplicas
                | ErrorCode::ConcurrentTransactions
                | ErrorCode::CoordinatorLoadInProgress),
            ) => host.machine.on_append_failed(now, batch, code),
            // Whether it was written is unknown: what is pending is dropped and the log is read again.
            Err(code) if code.is_retriable() => {
                let fx = host.machine.unload(now);
                host.machine.load_again();
                (host.loading, host.reading) = (Some(0), None);
                self.perform(now, key, fx);
                // What waits for other coordinators would be appended behind its back.
                self.verify_no_more(now, key);
                return self.load(now, key);
            }
            Err(code) => host.machine.on_append_failed(now, batch, code),
        };
        self.perform(now, key, fx);
    }

    /// A coordinator's batch is not appended, and never will be.
    pub(crate) fn batch_refused(&mut self, now: Now, key: GroupKey, batch: BatchId, code: ErrorCode) {
        let Some(host) = self.hosts.get_mut(&key) else { return };
        let fx = host.machine.on_append_failed(now, batch, code);
        self.perform(now, key, fx);
    }

    /// An entry of a coordinator's log is committed: what it says counts, in the order of the log.
    pub(crate) fn host_applied(&mut self, now: Now, key: GroupKey, entry: &CommittedEntry) {
        let leads = self.open_group(key).is_some_and(|open| open.partition.leader_epoch().is_some());
        let Some(host) = self.hosts.get_mut(&key) else { return };
        if host.loading.is_some() {
            return if leads {
                self.load(now, key)
            };
        }
        match &entry.body {
            CommittedBody::Data { next_offset, .. } => {
                host.applied = host.applied.max(*next_offset);
                let who = entry.token.and_then(|token| self.internal.get(&token));
                if let Some(Internal::Batch { batch, .. }) = who {
                    host.machine.on_applied(*batch);
                }
            }
            CommittedBody::Marker { producer_id, commit, offset, .. } if *offset >= host.loaded => {
                host.applied = host.applied.max(offset + 1);
                host.machine.transaction_ended(*producer_id, *commit);
            }
            CommittedBody::Marker { .. } | CommittedBody::Command(_) => {}
        }
    }

    pub(crate) fn tick_hosts(&mut self, now: Now) {
        let is_due = |h: &Host| h.next_deadline().is_some_and(|at| at <= now.mono);
        let due: Vec<GroupKey> = self.hosts.iter().filter(|(_, h)| is_due(h)).map(|(key, _)| *key).collect();
        for key in due {
            self.tell_topics(key, false);
            let Some(host) = self.hosts.get_mut(&key) else { continue };
            match guarded(|| host.machine.tick(now)) {
                Ok(fx) => self.perform(now, key, fx),
                Err(panic) => self.host_panicked(now, key, &panic),
            }
        }
    }

    /// A coordinator's partition was read back: its checkpoint spares the coordinator what came before.
    pub(crate) fn host_opened(&mut self, key: GroupKey, opened: Opened) {
        if opened.machine.len() < 8 {
            return;
        }
        let Some(fresh) = self.new_host(key) else { return };
        let host = self.hosts.entry(key).or_insert(fresh);
        let mut machine = opened.machine;
        let next = i64::from_be_bytes(machine.split_to(8).first_chunk().copied().unwrap_or_default());
        host.loading = Some(if host.machine.restore(&machine) { next } else { 0 });
    }

    /// A partition was opened: where it follows, the coordinator of its leader knows more than what was read back here.
    pub(crate) fn host_follows(&mut self, now: Now, key: GroupKey) {
        if self.open_group(key).is_some_and(Open::follows) {
            self.drop_host(now, key, ErrorCode::NotCoordinator);
        }
    }

    /// A coordinator's partition leads: the coordinator loads.
    pub(crate) fn host_leads(&mut self, now: Now, key: GroupKey) {
        // One that serves is of an earlier lead.
        if self.hosts.get(&key).is_some_and(|host| host.loading.is_none()) {
            self.drop_host(now, key, ErrorCode::NotCoordinator);
        }
        if !self.hosts.contains_key(&key) {
            let Some(host) = self.new_host(key) else { return };
            self.hosts.insert(key, host);
        }
        self.load(now, key);
    }

    /// Reads on from where loading stands; finished at the high watermark.
    fn load(&mut self, now: Now, key: GroupKey) {
        loop {
            let host = self.hosts.get(&key).filter(|h| h.reading.is_none());
            let Some(from) = host.and_then(|h| h.loading) else { return };
            let Some(open) = self.open_group(key) else { return };
            let from = from.max(open.partition.log_start());
            match open.partition.replay_plan(from, LOAD_BYTES) {
                // What an earlier coordinator here appended may yet be committed: it is waited for.
                Ok(ReadPlan::Empty) if open.partition.log_end() > open.partition.high_watermark() => return,
                Ok(ReadPlan::Empty) => return self.load_done(now, key),
                Ok(ReadPlan::Memory(found)) => {
                    if !self.replay(key, from, &found) {
                        return self.load_failed(now, key);
                    }
                }
                Ok(ReadPlan::File(range)) => {
                    let read = self.new_read(ReadFor::Load { key });
                    if let Some(host) = self.hosts.get_mut(&key) {
                        host.reading = Some(read);
                    }
                    return self.fx.push(Effect::Read(read, range));
                }
                Err(_) => return self.load_failed(now, key),
            }
        }
    }

    pub(crate) fn load_read(
        &mut self,
        now: Now,
        key: GroupKey,
        token: ReadToken,
        read: Result<Extracted, ExtractError>,
    ) {
        let Some(host) = self.hosts.get_mut(&key).filter(|h| h.reading == Some(token)) else { return };
        host.reading = None;
        let from = host.loading.unwrap_or_default();
        let progressed = match read {
            Ok(found) => {
                let replayed = self.replay(key, from, &found.batches);
                let host = self.hosts.get_mut(&key);
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
        if progressed { self.load(now, key) } else { self.load_failed(now, key) }
    }

    /// Feeds batches to a loading coordinator. `false` where one is damaged or goes nowhere.
    fn replay(&mut self, key: GroupKey, from: Offset, found: &[Bytes]) -> bool {
        let Some(host) = self.hosts.get_mut(&key) else { return false };
        let mut next = from;
        for run in found {
            for batch in batches(run) {
                let Ok((range, header)) = batch else { return false };
                next = next.max(header.next_offset());
                // What a transaction's marker stands behind was settled by an earlier read.
                if header.next_offset() <= from {
                    continue;
                }
                let Ok(records) = records::records(&run.slice(range), MAX_BATCH_PLAIN) else { return false };
                for record in records {
                    let Ok(record) = record else { return false };
                    if record.offset >= from && !host.machine.replay(&header, record) {
                        return false;
                    }
                }
            }
        }
        host.loading = Some(next);
        next > from
    }

    fn load_done(&mut self, now: Now, key: GroupKey) {
        let epoch = self.open_group(key).and_then(|open| open.partition.leader_epoch());
        let (Some(host), Some(epoch)) = (self.hosts.get_mut(&key), epoch) else { return };
        host.loaded = host.loading.take().unwrap_or_default();
        host.applied = host.loaded;
        let fx = host.machine.loaded(now, epoch);
        let waiting = std::mem::take(&mut host.waiting);
        self.perform(now, key, fx);
        for (token, request) in waiting {
            self.ask(now, key, token, request);
        }
    }

    /// The log of this coordinator cannot be read: nothing that it coordinates is served until it can.
    fn load_failed(&mut self, now: Now, key: GroupKey) {
        self.drop_host(now, key, ErrorCode::CoordinatorNotAvailable);
        let detail = "its coordinator cannot be loaded: a batch of the log is damaged, or newer than this program, or \
                      cannot be read"
            .to_owned();
        self.fx.push(Effect::Event(Event::GroupFailed { key, detail }));
    }

    pub(crate) fn host_resigned(&mut self, now: Now, key: GroupKey) {
        self.drop_host(now, key, ErrorCode::NotCoordinator);
    }

    pub(crate) fn drop_host(&mut self, now: Now, key: GroupKey, code: ErrorCode) {
        let Some(mut host) = self.hosts.remove(&key) else { return };
        self.forget_batches(key);
        let fx = host.machine.unload(now);
        self.perform(now, key, fx);
        self.refuse_waiting(now, host, code);
    }

    /// The state of a coordinator for its partition's checkpoint: the offset after it, then its records.
    /// Other partitions have none: empty bytes.
    pub(crate) fn host_bytes(&self, key: GroupKey) -> Option<Bytes> {
        if !self.is_hosted(key) {
            return Some(Bytes::new());
        }
        // A follower keeps no coordinator: the one that will load here reads the log from its start.
        if self.led_elsewhere(key) {
            return Some(Bytes::new());
        }
        let host = self.hosts.get(&key)?;
        if host.loading.is_some() || host.machine.open_batches() > 0 {
            return None;
        }
        let mut bytes = host.applied.to_be_bytes().to_vec();
        bytes.extend_from_slice(&host.machine.snapshot());
        Some(Bytes::from(bytes))
    }
}

/// Records as one batch; `None` where they do not fit.
pub(crate) fn encode(mut builder: BatchBuilder, now: Now, records: &[Record]) -> Option<BytesMut> {
    builder.reserve_for(records.iter().map(|record| new_record(now, record)));
    for record in records {
        builder.push(new_record(now, record));
    }
    builder.finish().ok()
}

fn new_record(now: Now, record: &Record) -> NewRecord<'_> {
    NewRecord::new(now.wall, Some(&record.key), record.value.as_deref())
}
