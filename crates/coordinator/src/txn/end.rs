//! EndTxn, before TV2 and with it (KIP-890).
use super::api::{EndRequest, ProducerReply, Reply};
use super::coordinator::{Step, TxnCoordinator};
use super::effects::{Effect, Effects, TxnEvent};
use super::producer_ids::Waiting;
use super::value::{LAST_EPOCH, TxnState, TxnValue, TxnVersion};
use crate::requests::Token;
use model::planted::{Bug, planted};
use model::{ErrorCode, Now};
use std::sync::Arc;

/// What an EndTxn comes to.
#[derive(PartialEq, Eq, Debug)]
enum Ending {
    /// This answer and no step.
    Answer(ErrorCode),
    /// The end was decided before: the answer that it had.
    Again,
    /// The end is to be decided.
    Prepare,
}

fn is_complete(state: TxnState, commit: bool) -> bool {
    state == if commit { TxnState::CompleteCommit } else { TxnState::CompleteAbort }
}

/// Before TV2 the state is all there is to tell a retry by: one epoch is for many transactions (KAFKA-17754).
fn ending_before_tv2(value: &TxnValue, busy: bool, request: &EndRequest) -> Ending {
    if value.producer_id != request.producer_id {
        return Ending::Answer(ErrorCode::InvalidProducerIdMapping);
    }
    if value.producer_epoch != request.producer_epoch {
        return Ending::Answer(ErrorCode::ProducerFenced);
    }
    if busy {
        return Ending::Answer(ErrorCode::ConcurrentTransactions);
    }
    match value.state {
        TxnState::Ongoing => Ending::Prepare,
        state if is_complete(state, request.commit) => Ending::Again,
        _ => Ending::Answer(ErrorCode::InvalidTxnState),
    }
}

/// With TV2 the epoch tells: the one before is a retry, the current one is another end.
fn ending(value: &TxnValue, busy: bool, request: &EndRequest) -> Ending {
    // First, as in Kafka since KAFKA-18660: see `Adding::decide`.
    if busy {
        return Ending::Answer(ErrorCode::ConcurrentTransactions);
    }
    // The end that used up the epochs: the next producer id is in its place already.
    let of_previous_id = value.previous_producer_id == request.producer_id
        && request.producer_epoch == LAST_EPOCH - 1
        && value.producer_epoch == 0;
    if value.producer_id != request.producer_id && !of_previous_id {
        return Ending::Answer(ErrorCode::InvalidProducerIdMapping);
    }
    let one_below = i32::from(request.producer_epoch) + 1 == i32::from(value.producer_epoch);
    // An end before TV2 raised nothing: who is one below it was fenced before.
    let retry = value.client_version.raises_epoch() && (of_previous_id || one_below);
    let current = request.producer_epoch == value.producer_epoch;
    match value.state {
        TxnState::Ongoing if one_below && planted(Bug::LateEndTxnAccepted) => Ending::Prepare,
        TxnState::Ongoing if current => Ending::Prepare,
        TxnState::Empty if current && !request.commit => Ending::Prepare,
        TxnState::Empty if current => Ending::Answer(ErrorCode::InvalidTxnState),
        TxnState::CompleteCommit | TxnState::CompleteAbort if retry => {
            if is_complete(value.state, request.commit) {
                Ending::Again
            } else {
                Ending::Answer(ErrorCode::InvalidTxnState)
            }
        }
        // An abort of a transaction to which nothing was added.
        TxnState::CompleteCommit | TxnState::CompleteAbort if current && !request.commit => Ending::Prepare,
        TxnState::CompleteCommit | TxnState::CompleteAbort if current => {
            Ending::Answer(ErrorCode::InvalidTxnState)
        }
        _ => Ending::Answer(ErrorCode::ProducerFenced),
    }
}

impl TxnCoordinator {
    /// EndTxn. Ends with [`Reply::End`], once the end is certain: its markers follow.
    pub fn end_transaction(&mut self, now: Now, token: Token, request: EndRequest, fx: &mut Effects) {
        if let Err(error) = self.serving_id(&request.transactional_id) {
            return Self::refuse(token, Reply::End(ProducerReply::code(error)), fx);
        }
        self.end_txn(now, token, request, fx);
    }

    pub(crate) fn end_txn(&mut self, now: Now, token: Token, request: EndRequest, fx: &mut Effects) {
        let code = |error| Reply::End(ProducerReply::code(error));
        let id: Arc<str> = Arc::from(request.transactional_id.as_str());
        let busy = self.is_busy(&id);
        if self.value(&id).is_none() {
            let error =
                if busy { ErrorCode::ConcurrentTransactions } else { ErrorCode::InvalidProducerIdMapping };
            return self.answer(token, code(error), fx);
        }
        let raises = request.version.raises_epoch();
        if !raises && self.is_late(&id, &request) {
            let transactional_id = id.clone();
            fx.push(Effect::Event(TxnEvent::LateEnd { transactional_id, commit: request.commit }));
            return self.answer(token, code(ErrorCode::NotCoordinator), fx);
        }
        let Some(value) = self.value(&id) else { return };
        let ending =
            if raises { ending(value, busy, &request) } else { ending_before_tv2(value, busy, &request) };
        match ending {
            Ending::Answer(error) => self.answer(token, code(error), fx),
            Ending::Again if raises => {
                let reply = ProducerReply::of(value.producer_id, value.producer_epoch);
                self.answer(token, Reply::End(reply), fx);
            }
            Ending::Again => self.answer(token, code(ErrorCode::None), fx),
            Ending::Prepare => self.prepare(now, token, request, &id, fx),
        }
    }

    /// Whether the client has asked by a newer connection since: nobody waits for the answer to this request any more. It
    /// lay in the network while the same end was asked for again and answered, and what is open by now is another
    /// transaction of the same epoch (KAFKA-17754, for clients that cannot be told apart by TV2).
    fn is_late(&mut self, id: &Arc<str>, request: &EndRequest) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        let (producer, epoch) = (request.producer_id, request.producer_epoch);
        let current = entry.committed.as_ref().map(|v| (v.producer_id, v.producer_epoch));
        if current != Some((producer, epoch)) {
            return false;
        }
        // Another start of the producer may come by a connection that was there before.
        let newest =
            entry.ended_by.filter(|(p, e, _)| (*p, *e) == (producer, epoch)).map_or(0, |(.., by)| by);
        entry.ended_by = Some((producer, epoch, newest.max(request.connection)));
        request.connection < newest
    }

    fn prepare(&mut self, now: Now, token: Token, request: EndRequest, id: &Arc<str>, fx: &mut Effects) {
        let Some(value) = self.value(id).cloned() else { return };
        let raises = request.version.raises_epoch();
        let version = if raises { request.version } else { TxnVersion::V0 };
        let next_id = if raises && value.exhausted() { self.take_producer_id(fx) } else { Some(-1) };
        let Some(next_id) = next_id else {
            return self.wait_for_id(Waiting::End(token, request), id, fx);
        };
        let last_epoch = match self.entries.get(id) {
            Some(entry) if !raises => entry.last_epoch,
            _ => value.producer_epoch,
        };
        let value = value.prepared(request.commit, raises, version, next_id, now.wall);
        let reply = if raises {
            let (producer_id, epoch) = value.after_end();
            ProducerReply::of(producer_id, epoch)
        } else {
            ProducerReply::code(ErrorCode::None)
        };
        let after = Some((token, Reply::End(reply)));
        self.append_prepare(now, id, Step { value, last_epoch, after }, fx);
    }
}
