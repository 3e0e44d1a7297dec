//! Leaders of partitions that add theirs to a transaction whose id is busy: they wait, and go together.
//!
//! A TV2 client sends to all partitions of a transaction at once, so that each of their leaders asks at once. One append
//! of an id is under way at a time; told CONCURRENT_TRANSACTIONS, as clients are, each leader would be let in by an
//! append of its own, one after the other's pause.
use super::api::{AddPartitionsRequest, Reply};
use super::coordinator::TxnCoordinator;
use super::effects::{Effect, Effects};
use super::value::TopicPartition;
use crate::requests::Token;
use model::{ErrorCode, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Waiting = (Token, AddPartitionsRequest);

/// Requests that wait until their id is not busy.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    by_id: BTreeMap<Arc<str>, Vec<Waiting>>,
    count: usize,
}

impl Parked {
    fn push(&mut self, id: Arc<str>, waiting: Waiting) {
        self.by_id.entry(id).or_default().push(waiting);
        self.count += 1;
    }

    fn take(&mut self, id: &str) -> Vec<Waiting> {
        let waiting = self.by_id.remove(id).unwrap_or_default();
        self.count -= waiting.len();
        waiting
    }
}

impl TxnCoordinator {
    /// As [`add_partitions`](Self::add_partitions), for a partition's leader: where something of the id is under way it
    /// waits for the end of that, unless `max_waiting` of them do.
    pub fn add_partitions_when_free(
        &mut self,
        now: Now,
        token: Token,
        request: AddPartitionsRequest,
        fx: &mut Effects,
    ) {
        let waits = self.is_busy(&request.transactional_id) && self.parked.count < self.config.max_waiting;
        if waits && !request.verify_only && self.serving().is_ok() {
            self.parked.push(Arc::from(request.transactional_id.as_str()), (token, request));
        } else {
            self.add_partitions(now, token, request, fx);
        }
    }

    /// How many requests wait for something of their id to end.
    pub fn waiting_to_add(&self) -> usize {
        self.parked.count
    }

    /// The id may not be busy any more: who waits for that goes on, all of one producer and epoch by one append.
    pub(crate) fn let_in(&mut self, now: Now, id: &Arc<str>, fx: &mut Effects) {
        if self.is_busy(id) {
            return;
        }
        let mut waiting = self.parked.take(id);
        let Some((token, mut first)) = (!waiting.is_empty()).then(|| waiting.remove(0)) else { return };
        let alike = |(_, r): &Waiting| {
            let of = |r: &AddPartitionsRequest| (r.producer_id, r.producer_epoch, r.version);
            of(r) == of(&first)
        };
        let (with, others): (Vec<Waiting>, Vec<Waiting>) = waiting.into_iter().partition(alike);
        let all: BTreeSet<TopicPartition> =
            first.partitions.iter().chain(with.iter().flat_map(|(_, r)| &r.partitions)).cloned().collect();
        let there = self.value(id).map_or(0, |value| value.partitions.len());
        if there + all.len() > self.config.max_partitions {
            // Each by itself, as long as there is room.
            self.add_partitions(now, token, first, fx);
            return self.again(now, with.into_iter().chain(others), fx);
        }
        let answers: Vec<(Token, Reply)> =
            with.into_iter().map(|(token, r)| (token, r.reply(ErrorCode::None))).collect();
        let done = first.reply(ErrorCode::None);
        first.partitions = all.into_iter().collect();
        self.add_for_all(now, (token, done), first, answers, fx);
        self.again(now, others.into_iter(), fx);
    }

    fn again(&mut self, now: Now, waiting: impl Iterator<Item = Waiting>, fx: &mut Effects) {
        for (token, request) in waiting {
            self.add_partitions_when_free(now, token, request, fx);
        }
    }

    /// This node leads no more.
    pub(crate) fn send_away(&mut self, error: ErrorCode, fx: &mut Effects) {
        for (token, request) in std::mem::take(&mut self.parked).by_id.into_values().flatten() {
            fx.push(Effect::Reply { token, reply: request.reply(error), confirm: false });
        }
    }
}
