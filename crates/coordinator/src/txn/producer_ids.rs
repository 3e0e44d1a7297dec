//! Producer ids at hand, and the requests that wait for some.
use super::api::{EndRequest, InitRequest, ProducerReply, Reply};
use super::coordinator::TxnCoordinator;
use super::effects::{Bound, Effect, Effects};
use crate::requests::Token;
use model::{ErrorCode, Now, ProducerId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// How many are asked for at once; what is left of them when the lead ends is never used.
const AT_ONCE: usize = 8;

/// A request that goes on once there are producer ids.
#[derive(Debug)]
pub(crate) enum Waiting {
    Init(Token, InitRequest),
    End(Token, EndRequest),
}

impl Waiting {
    fn refusal(&self, error: ErrorCode) -> (Token, Reply) {
        match self {
            Waiting::Init(token, _) => (*token, Reply::Init(ProducerReply::code(error))),
            Waiting::End(token, _) => (*token, Reply::End(ProducerReply::code(error))),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// First id and count of each run.
    spare: VecDeque<(ProducerId, usize)>,
    waiting: VecDeque<Waiting>,
    /// Transactions that are over their time, and whose abort needs an id.
    overdue: BTreeSet<Arc<str>>,
    /// `NeedProducerIds` is not answered yet.
    asked: bool,
    /// How many requests the last supply left without an id.
    short: usize,
}

impl TxnCoordinator {
    /// A producer id, or none at hand: then more are asked for.
    pub(crate) fn take_producer_id(&mut self, fx: &mut Effects) -> Option<ProducerId> {
        let Some((first, count)) = self.ids.spare.pop_front() else {
            self.ask_for_ids(fx);
            return None;
        };
        if count > 1 {
            self.ids.spare.push_front((first + 1, count - 1));
        }
        Some(first)
    }

    fn ask_for_ids(&mut self, fx: &mut Effects) {
        if !self.ids.asked {
            self.ids.asked = true;
            fx.push(Effect::NeedProducerIds { count: AT_ONCE.max(self.ids.short) });
        }
    }

    /// A timeout that found no producer id: it goes on with the next supply, or with the tick after a while.
    pub(crate) fn time_out_with_id(&mut self, now: Now, id: &Arc<str>) {
        self.ids.overdue.insert(id.clone());
        if let Some(entry) = self.entries.get_mut(id) {
            entry.retry_at = Some(now.mono.after_ms(self.config.max_backoff_ms.max(1)));
        }
    }

    /// A request that found no producer id waits for one.
    pub(crate) fn wait_for_id(&mut self, waiting: Waiting, transactional_id: &str, fx: &mut Effects) {
        if self.ids.waiting.len() < self.config.max_waiting {
            return self.ids.waiting.push_back(waiting);
        }
        let principal = match &waiting {
            Waiting::Init(_, request) => request.principal.as_ref(),
            Waiting::End(..) => None,
        };
        let error = self.bound(Bound::Waiting, transactional_id, principal, fx);
        let (token, reply) = waiting.refusal(error);
        self.answer(token, reply, fx);
    }

    /// Producer ids `first` to `first + count - 1`, never given to anybody before, answer `NeedProducerIds`.
    pub fn supply_producer_ids(&mut self, now: Now, first: ProducerId, count: usize, fx: &mut Effects) {
        self.ids.asked = false;
        if self.serving().is_err() {
            return;
        }
        if count > 0 && first >= 0 {
            self.ids.spare.push_back((first, count));
        }
        for id in std::mem::take(&mut self.ids.overdue) {
            let due = self.entries.get(&id).filter(|e| e.pending.is_none()).and_then(|e| e.deadline);
            if due.is_some_and(|at| at <= now.mono) {
                self.time_out(now, &id, fx);
                self.arm(&id);
            }
        }
        let waiting = std::mem::take(&mut self.ids.waiting);
        self.ids.short = waiting.len().saturating_sub(count);
        for request in waiting {
            match request {
                Waiting::Init(token, request) => self.init_producer(now, token, request, fx),
                Waiting::End(token, request) => self.end_txn(now, token, request, fx),
            }
        }
    }

    /// No producer ids are to be had: who waits is told to come back, as Kafka does.
    pub fn refuse_producer_ids(&mut self, fx: &mut Effects) {
        self.ids.asked = false;
        self.drop_waiting(ErrorCode::CoordinatorLoadInProgress, fx);
    }

    /// Answers whoever waits for an id, and forgets the ids at hand.
    pub(crate) fn drop_ids(&mut self, error: ErrorCode, fx: &mut Effects) {
        self.ids.spare.clear();
        self.ids.overdue.clear();
        self.ids.asked = false;
        self.drop_waiting(error, fx);
    }

    fn drop_waiting(&mut self, error: ErrorCode, fx: &mut Effects) {
        for request in std::mem::take(&mut self.ids.waiting) {
            let (token, reply) = request.refusal(error);
            fx.push(Effect::Reply { token, reply, confirm: false });
        }
    }
}
