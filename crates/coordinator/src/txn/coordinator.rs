//! The coordinator of one partition of `__transaction_state`: its ids, its clock and its log.
use super::api::{Reply, Request};
use super::config::TxnConfig;
use super::effects::{Bound, Effect, Effects, TxnEvent};
use super::entry::{Entry, Pending};
use super::parked::Parked;
use super::producer_ids::ProducerIds;
use super::records::{encode_key, encode_value};
use super::value::{TxnState, TxnValue};
use crate::coordinator::Phase;
use crate::events::{BatchId, Record};
use crate::requests::Token;
use model::{ErrorCode, Mono, Now, ProducerEpoch, WallMs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All transactional ids of one partition of `__transaction_state`.
///
/// A caller, in this order: [`replay`](Self::replay) for every committed record, [`loaded`](Self::loaded) once
/// this node leads in a confirmed term, then requests, [`tick`](Self::tick) and outcomes. It performs the
/// effects in their order, appends batches in the order given, and reports outcomes in that order. Records that
/// this instance appended come back through [`on_committed`](Self::on_committed), never through `replay`.
/// [`unload`](Self::unload) ends the lead; after it, records come through `replay` again.
///
/// At most one append of each id is under way, so what waits for commit is bounded by the number of ids.
#[derive(Debug)]
pub struct TxnCoordinator {
    pub(crate) config: TxnConfig,
    pub(crate) phase: Phase,
    pub(crate) entries: BTreeMap<Arc<str>, Entry>,
    pub(crate) timers: BTreeSet<(Mono, Arc<str>)>,
    /// Ids with an open or ending transaction, by its start.
    pub(crate) open: BTreeSet<(WallMs, Arc<str>)>,
    pub(crate) counts: [usize; 6],
    pub(crate) principals: BTreeMap<Arc<str>, usize>,
    pub(crate) batches: BTreeMap<BatchId, Vec<Arc<str>>>,
    pub(crate) last_batch: u64,
    pub(crate) instance: u64,
    pub(crate) last_markers: u64,
    pub(crate) coordinator_epoch: i32,
    pub(crate) ids: ProducerIds,
    pub(crate) parked: Parked,
    pub(crate) next_expiry: Mono,
    pub(crate) expiry_cursor: Option<Arc<str>>,
}

impl TxnCoordinator {
    /// A coordinator that is loading. `seed` names its markers: use another one for each instance.
    pub fn new(config: TxnConfig, seed: u64) -> TxnCoordinator {
        TxnCoordinator {
            config,
            phase: Phase::Loading,
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            open: BTreeSet::new(),
            counts: [0; 6],
            principals: BTreeMap::new(),
            batches: BTreeMap::new(),
            last_batch: 0,
            instance: seed,
            last_markers: 0,
            coordinator_epoch: -1,
            ids: ProducerIds::default(),
            parked: Parked::default(),
            next_expiry: Mono(u64::MAX),
            expiry_cursor: None,
        }
    }

    /// Takes new settings; they count from the next decision on.
    pub fn set_config(&mut self, config: TxnConfig) {
        self.config = config;
    }

    /// The settings in use.
    pub fn config(&self) -> &TxnConfig {
        &self.config
    }

    /// Whether requests are served.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn serving(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Serving => Ok(()),
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Standby => Err(ErrorCode::NotCoordinator),
        }
    }

    /// What a request about an id meets before its own rules: Kafka's checks of the id and of the phase.
    pub(crate) fn serving_id(&self, transactional_id: &str) -> Result<(), ErrorCode> {
        check_id(transactional_id)?;
        self.serving()
    }

    /// Any request; the reply has its shape.
    pub fn ask(&mut self, now: Now, token: Token, request: Request, fx: &mut Effects) {
        match request {
            Request::Init(request) => self.init_producer_id(now, token, request, fx),
            Request::AddPartitions(request) => self.add_partitions(now, token, request, fx),
            Request::AddOffsets(request) => self.add_offsets(now, token, request, fx),
            Request::End(request) => self.end_transaction(now, token, request, fx),
        }
    }

    /// What is committed of an id.
    pub(crate) fn value(&self, transactional_id: &str) -> Option<&TxnValue> {
        self.entries.get(transactional_id)?.committed.as_ref()
    }

    pub(crate) fn is_busy(&self, transactional_id: &str) -> bool {
        self.entries.get(transactional_id).is_some_and(Entry::is_busy)
    }

    /// Answers from memory; a definite answer only if this coordinator leads still.
    pub(crate) fn answer(&self, token: Token, reply: Reply, fx: &mut Effects) {
        let confirm = !reply.error().is_retriable();
        fx.push(Effect::Reply { token, reply, confirm });
    }

    /// Refuses a request for what it says itself: no state is needed to know that.
    pub(crate) fn refuse(token: Token, reply: Reply, fx: &mut Effects) {
        fx.push(Effect::Reply { token, reply, confirm: false });
    }

    /// A bound is reached; `principal` is who asks, if the request says so.
    pub(crate) fn bound(
        &self,
        bound: Bound,
        transactional_id: &str,
        principal: Option<&Arc<str>>,
        fx: &mut Effects,
    ) -> ErrorCode {
        let owner = || self.entries.get(transactional_id)?.principal.as_ref();
        let principal = principal.or_else(owner).cloned();
        let transactional_id = Arc::from(transactional_id);
        fx.push(Effect::Event(TxnEvent::Refused { bound, transactional_id, principal }));
        bound.error()
    }

    /// Appends a step of one id. The id must not be busy but with the step before this one.
    pub(crate) fn append(&mut self, now: Now, id: &Arc<str>, step: Step, fx: &mut Effects) {
        debug_assert!(self.entries.get(id).is_some_and(|e| e.pending.is_none()));
        let value = encode_value(&step.value, self.config.version);
        let record = Record { key: encode_key(id), value: Some(value) };
        let batch = self.append_batch(vec![id.clone()], vec![record], fx);
        if let Some(entry) = self.entries.get_mut(id) {
            let (value, last_epoch, after) = (Some(step.value), step.last_epoch, step.after);
            let also = Vec::new();
            entry.pending = Some(Pending { batch, at: now.mono, value, last_epoch, after, also });
        }
        self.arm(id);
    }

    pub(crate) fn append_batch(
        &mut self,
        ids: Vec<Arc<str>>,
        records: Vec<Record>,
        fx: &mut Effects,
    ) -> BatchId {
        self.last_batch += 1;
        let batch = BatchId(self.last_batch);
        self.batches.insert(batch, ids);
        fx.push(Effect::Append { batch, records });
        batch
    }

    /// Replaces what the log holds of an id; an id of which it holds nothing is gone.
    pub(crate) fn set_committed(&mut self, id: &Arc<str>, value: Option<TxnValue>) {
        if let Some(old) = self.entries.get(id).and_then(|e| e.committed.as_ref()) {
            self.counts[old.state as usize] -= 1;
            self.open.remove(&(old.start, id.clone()));
        }
        let Some(value) = value else { return self.forget(id) };
        self.counts[value.state as usize] += 1;
        if value.state.is_open() {
            self.open.insert((value.start, id.clone()));
        }
        if !self.entries.contains_key(id) {
            self.entries.insert(id.clone(), Entry::new());
        }
        let entry = self.entries.get_mut(id).expect("inserted above if it was missing");
        entry.committed = Some(value);
    }

    /// Removes an id that the log does not know.
    pub(crate) fn forget(&mut self, id: &Arc<str>) {
        let Some(entry) = self.entries.remove(id) else { return };
        if let Some(at) = entry.armed {
            self.timers.remove(&(at, id.clone()));
        }
        if let Some(principal) = entry.principal {
            self.release(&principal);
        }
    }

    /// Puts an id's timer to where the id wants it.
    pub(crate) fn arm(&mut self, id: &Arc<str>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let wanted = if self.phase == Phase::Serving { entry.wanted() } else { None };
        if entry.armed == wanted {
            return;
        }
        if let Some(armed) = entry.armed.take() {
            self.timers.remove(&(armed, id.clone()));
        }
        entry.armed = wanted;
        if let Some(at) = wanted {
            self.timers.insert((at, id.clone()));
        }
    }

    /// The earliest moment at which [`tick`](Self::tick) has work.
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let expiry = (self.phase == Phase::Serving).then_some(self.next_expiry);
        timer.into_iter().chain(expiry).min()
    }

    /// Does what is due: timeouts, markers that are asked for again, appends that failed, ids that expire.
    pub fn tick(&mut self, now: Now, fx: &mut Effects) {
        if self.phase != Phase::Serving {
            return;
        }
        for _ in 0..self.config.timers_per_tick.max(1) {
            let Some((at, id)) = self.timers.first().cloned() else { break };
            if at > now.mono {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.armed = None;
            }
            self.fire(now, &id, fx);
            self.arm(&id);
        }
        if self.next_expiry <= now.mono {
            self.expire(now, fx);
        }
    }

    fn fire(&mut self, now: Now, id: &Arc<str>, fx: &mut Effects) {
        match self.entries.get(id).and_then(Entry::state) {
            Some(TxnState::Ongoing) => self.time_out(now, id, fx),
            Some(state) if state.is_prepare() => self.drive_markers(now, id, fx),
            _ => {}
        }
    }

    /// Whether a transaction is open or ending: such a coordinator finds out early that it leads no more.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many appends are under way.
    pub fn open_batches(&self) -> usize {
        self.batches.len()
    }

    /// The newest append under way, for assertions of callers.
    pub fn newest_batch(&self) -> Option<BatchId> {
        self.batches.keys().next_back().copied()
    }
}

/// An id that no record can name is refused.
pub(crate) fn check_id(transactional_id: &str) -> Result<(), ErrorCode> {
    if transactional_id.is_empty() || transactional_id.len() > super::records::MAX_ID_BYTES {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

/// A step of one id to append.
pub(crate) struct Step {
    pub(crate) value: TxnValue,
    pub(crate) last_epoch: ProducerEpoch,
    pub(crate) after: Option<(Token, Reply)>,
}
