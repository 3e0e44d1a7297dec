//! What follows when an append is committed or has failed.
use super::coordinator::TxnCoordinator;
use super::effects::{Effect, Effects, TxnEvent};
use super::entry::Pending;
use super::value::TxnState;
use crate::context::client_error;
use crate::events::BatchId;
use model::{ErrorCode, Now};
use std::sync::Arc;

impl TxnCoordinator {
    /// The batch is committed, in the term in which this coordinator was loaded. Unknown batches, of before an
    /// `unload`, are ignored.
    pub fn on_committed(&mut self, now: Now, batch: BatchId, fx: &mut Effects) {
        let Some(ids) = self.batches.remove(&batch) else { return };
        let expired = ids.len();
        let mut tombstones = 0;
        for id in ids {
            let pending = self.entries.get_mut(&id).and_then(|e| e.pending.take_if(|p| p.batch == batch));
            let Some(pending) = pending else { continue };
            tombstones += usize::from(pending.value.is_none());
            self.settle(now, &id, pending, fx);
            self.arm(&id);
            self.let_in(now, &id, fx);
        }
        if tombstones > 0 {
            debug_assert_eq!(tombstones, expired);
            fx.push(Effect::Event(TxnEvent::Expired { count: tombstones }));
        }
    }

    fn settle(&mut self, now: Now, id: &Arc<str>, mut pending: Pending, fx: &mut Effects) {
        let Some(value) = pending.value.take() else { return self.set_committed(id, None) };
        let state = value.state;
        let deadline = pending.at.after_ms(i64::from(value.timeout_ms));
        self.set_committed(id, Some(value));
        if let Some(entry) = self.entries.get_mut(id) {
            entry.last_epoch = pending.last_epoch;
            (entry.failures, entry.retry_at) = (0, None);
            // Partitions that are added later do not make a transaction younger.
            entry.deadline = match state {
                TxnState::Ongoing => Some(entry.deadline.unwrap_or(deadline)),
                _ => None,
            };
            if !state.is_prepare() {
                entry.round = None;
            }
        }
        for (token, reply) in pending.answers() {
            fx.push(Effect::Reply { token, reply, confirm: false });
        }
        match state {
            TxnState::CompleteCommit | TxnState::CompleteAbort => {
                let commit = state == TxnState::CompleteCommit;
                fx.push(Effect::Event(TxnEvent::Ended { transactional_id: id.clone(), commit }));
            }
            state if state.is_prepare() => self.drive_markers(now, id, fx),
            _ => {}
        }
    }

    /// The batch was refused and will *never* be committed; where that is not certain, use
    /// [`unload`](Self::unload) and load again. What it said is undone.
    pub fn on_append_failed(&mut self, now: Now, batch: BatchId, error: ErrorCode, fx: &mut Effects) {
        let Some(ids) = self.batches.remove(&batch) else { return };
        let error = match client_error(error) {
            ErrorCode::None => ErrorCode::UnknownServerError,
            error => error,
        };
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Some(pending) = entry.pending.take_if(|p| p.batch == batch) else { continue };
            entry.failures = entry.failures.saturating_add(1);
            let failures = entry.failures;
            entry.retry_at = Some(now.mono.after_ms(self.config.backoff_after(failures)));
            if !entry.state().is_some_and(TxnState::is_prepare) {
                entry.round = None;
            }
            if entry.committed.is_none() {
                self.forget(&id);
            }
            for (token, reply) in pending.answers() {
                fx.push(Effect::Reply { token, reply: reply.failed(error), confirm: false });
            }
            self.arm(&id);
            self.let_in(now, &id, fx);
        }
    }
}
