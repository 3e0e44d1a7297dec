//! InitProducerId with a transactional id, and the abort that fences a producer (KIP-98, KIP-360).
use super::api::{InitRequest, ProducerReply, Reply};
use super::coordinator::{Step, TxnCoordinator, check_id};
use super::effects::{Bound, Effect, Effects, TxnEvent};
use super::entry::Entry;
use super::producer_ids::Waiting;
use super::value::{LAST_EPOCH, TxnState, TxnValue, TxnVersion, is_exhausted};
use crate::requests::Token;
use model::{ErrorCode, Now, ProducerEpoch, ProducerId};
use std::sync::Arc;

/// What an InitProducerId of an idle id comes to.
enum Next {
    /// This epoch under the same producer id; the second is the epoch before, for a retry.
    Epoch(ProducerEpoch, ProducerEpoch),
    /// Epoch 0 under a new producer id; the epoch before.
    NewId(ProducerEpoch),
    /// PRODUCER_FENCED.
    Fenced,
}

/// Whether the producer that a request names may be the one that is known. The epoch is looked at later, but
/// for a retry of a change of ids whose answer was lost: there the id before counts, at the last epoch.
fn may_be(value: &TxnValue, expected: Option<(ProducerId, ProducerEpoch)>) -> bool {
    expected.is_none_or(|(id, epoch)| {
        id == value.producer_id || (id == value.previous_producer_id && is_exhausted(epoch))
    })
}

fn next_of(value: &TxnValue, last_epoch: ProducerEpoch, expected: Option<ProducerEpoch>) -> Next {
    let current = value.producer_epoch;
    match expected {
        None if value.exhausted() => Next::NewId(-1),
        None => Next::Epoch(current + 1, -1),
        Some(epoch) if epoch == current && value.exhausted() => Next::NewId(current),
        Some(epoch) if epoch == current => Next::Epoch(current + 1, current),
        // The retry of an InitProducerId that was answered: nobody else has come since, or the epoch before
        // would be forgotten. Kafka throws here if the epoch is its last; the same answer serves as well.
        Some(epoch) if epoch == last_epoch && current < LAST_EPOCH => Next::Epoch(current, last_epoch),
        Some(_) => Next::Fenced,
    }
}

impl TxnCoordinator {
    /// InitProducerId. Ends with [`Reply::Init`].
    pub fn init_producer_id(&mut self, now: Now, token: Token, request: InitRequest, fx: &mut Effects) {
        let code = |error| Reply::Init(ProducerReply::code(error));
        if let Err(error) = self.init_allowed(&request) {
            return Self::refuse(token, code(error), fx);
        }
        self.init_producer(now, token, request, fx);
    }

    /// Kafka's checks of the request itself, in its order.
    fn init_allowed(&self, request: &InitRequest) -> Result<(), ErrorCode> {
        check_id(&request.transactional_id)?;
        if request.enable_2pc {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if request.keep_prepared {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if request.timeout_ms <= 0 || request.timeout_ms > self.config.max_timeout_ms {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        self.serving()
    }

    pub(crate) fn init_producer(&mut self, now: Now, token: Token, request: InitRequest, fx: &mut Effects) {
        let code = |error| Reply::Init(ProducerReply::code(error));
        let id: Arc<str> = Arc::from(request.transactional_id.as_str());
        if self.is_busy(&id) {
            return self.answer(token, code(ErrorCode::ConcurrentTransactions), fx);
        }
        let Some(value) = self.value(&id).cloned() else {
            return self.init_new(now, token, request, &id, fx);
        };
        if !may_be(&value, request.expected) {
            return self.answer(token, code(ErrorCode::ProducerFenced), fx);
        }
        if value.state == TxnState::Ongoing {
            // The epoch of this abort is told to nobody: the client comes again, and gets the one after it.
            let after = Some((token, code(ErrorCode::ConcurrentTransactions)));
            if self.abort_and_fence(now, &id, after, fx) {
                let producer_epoch = value.producer_epoch;
                fx.push(Effect::Event(TxnEvent::Fenced { transactional_id: id, producer_epoch }));
            } else {
                self.wait_for_id(Waiting::Init(token, request), &id, fx);
            }
            return;
        }
        let last_epoch = self.entries.get(&id).map_or(-1, |e| e.last_epoch);
        let (producer_id, epoch, last_epoch) =
            match next_of(&value, last_epoch, request.expected.map(|(_, epoch)| epoch)) {
                Next::Epoch(epoch, last) => (value.producer_id, epoch, last),
                Next::NewId(last) => match self.take_producer_id(fx) {
                    Some(new) => (new, 0, last),
                    None => return self.wait_for_id(Waiting::Init(token, request), &id, fx),
                },
                Next::Fenced => return self.answer(token, code(ErrorCode::ProducerFenced), fx),
            };
        self.claim(&id, request.principal);
        let value = value.initialised(producer_id, epoch, request.timeout_ms, now.wall);
        let after = Some((token, Reply::Init(ProducerReply::of(producer_id, epoch))));
        self.append(now, &id, Step { value, last_epoch, after }, fx);
    }

    /// The first InitProducerId of a transactional id; whatever producer it names, it gets a new one.
    fn init_new(&mut self, now: Now, token: Token, request: InitRequest, id: &Arc<str>, fx: &mut Effects) {
        if let Some(bound) = self.bound_of_ids(request.principal.as_ref()) {
            let error = self.bound(bound, id, request.principal.as_ref(), fx);
            return self.answer(token, Reply::Init(ProducerReply::code(error)), fx);
        }
        let Some(producer_id) = self.take_producer_id(fx) else {
            return self.wait_for_id(Waiting::Init(token, request), id, fx);
        };
        self.entries.insert(id.clone(), Entry::new());
        self.claim(id, request.principal);
        let created = TxnValue::created(producer_id);
        let epoch = self.config.first_epoch;
        let value = created.initialised(producer_id, epoch, request.timeout_ms, now.wall);
        let after = Some((token, Reply::Init(ProducerReply::of(producer_id, epoch))));
        self.append(now, id, Step { value, last_epoch: -1, after }, fx);
    }

    fn bound_of_ids(&self, principal: Option<&Arc<str>>) -> Option<Bound> {
        if self.entries.len() >= self.config.max_ids {
            return Some(Bound::Ids);
        }
        let of_principal = principal.and_then(|p| self.principals.get(p)).copied().unwrap_or_default();
        (of_principal >= self.config.max_ids_per_principal).then_some(Bound::IdsPerPrincipal)
    }

    /// The id counts for who initialised it last. An id that exists already is never refused for that.
    fn claim(&mut self, id: &Arc<str>, principal: Option<Arc<str>>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.principal == principal || principal.is_none() {
            return;
        }
        let before = std::mem::replace(&mut entry.principal, principal.clone());
        if let Some(principal) = principal {
            *self.principals.entry(principal).or_default() += 1;
        }
        if let Some(before) = before {
            self.release(&before);
        }
    }

    pub(crate) fn release(&mut self, principal: &Arc<str>) {
        if let Some(count) = self.principals.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                self.principals.remove(principal);
            }
        }
    }

    /// Aborts the open transaction under a raised epoch, so that its producer is fenced. `false` where a
    /// producer id is needed for that and none is at hand; more are on their way then.
    ///
    /// The epoch is raised once, at TV2 too: twice would step over the last one (KAFKA-19367). At the last epoch
    /// of a client the abort uses up the producer id, and the end of it brings the next (KAFKA-20090).
    pub(crate) fn abort_and_fence(
        &mut self,
        now: Now,
        id: &Arc<str>,
        after: Option<(Token, Reply)>,
        fx: &mut Effects,
    ) -> bool {
        let Some(value) = self.value(id).cloned() else { return true };
        let (version, last_epoch, next_id) = if self.config.version.raises_epoch() {
            let next_id = if value.exhausted() { self.take_producer_id(fx) } else { Some(-1) };
            let Some(next_id) = next_id else { return false };
            (self.config.version, value.producer_epoch, next_id)
        } else {
            (TxnVersion::V0, -1, -1)
        };
        let value = value.prepared(false, true, version, next_id, now.wall);
        self.append_prepare(now, id, Step { value, last_epoch, after }, fx);
        true
    }

    /// An open transaction has reached its timeout.
    pub(crate) fn time_out(&mut self, now: Now, id: &Arc<str>, fx: &mut Effects) {
        let Some(value) = self.value(id) else { return };
        let (producer_id, producer_epoch) = (value.producer_id, value.producer_epoch);
        if self.abort_and_fence(now, id, None, fx) {
            let transactional_id = id.clone();
            fx.push(Effect::Event(TxnEvent::TimedOut { transactional_id, producer_id, producer_epoch }));
        } else {
            self.time_out_with_id(now, id);
        }
    }
}
