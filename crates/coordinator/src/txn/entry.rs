//! One transactional id: what the log holds, and the one append on top of it that may be under way.
use super::api::Reply;
use super::markers::Round;
use super::value::{TxnState, TxnValue};
use crate::events::BatchId;
use crate::requests::Token;
use model::{Mono, ProducerEpoch, ProducerId};
use std::sync::Arc;

/// An append under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) batch: BatchId,
    /// When it was decided.
    pub(crate) at: Mono,
    /// `None`: a tombstone.
    pub(crate) value: Option<TxnValue>,
    /// The epoch before, once this is committed.
    pub(crate) last_epoch: ProducerEpoch,
    /// The answer to whoever asked.
    pub(crate) after: Option<(Token, Reply)>,
    /// The answers to others who asked for what is in it too.
    pub(crate) also: Vec<(Token, Reply)>,
}

impl Pending {
    /// Everybody who waits for its outcome, with the answer if that is good.
    pub(crate) fn answers(self) -> impl Iterator<Item = (Token, Reply)> {
        self.after.into_iter().chain(self.also)
    }
}

/// A transactional id.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What the log says; `None` while the first record is under way.
    pub(crate) committed: Option<TxnValue>,
    /// The epoch before the last InitProducerId that named one, for its retry (KIP-360), or -1. Kafka's log has
    /// no place for it either: a retry that meets another coordinator is refused.
    pub(crate) last_epoch: ProducerEpoch,
    pub(crate) pending: Option<Pending>,
    /// The markers of the end that is under way.
    pub(crate) round: Option<Round>,
    /// When the open transaction times out.
    pub(crate) deadline: Option<Mono>,
    /// Not before this moment is something tried again that failed.
    pub(crate) retry_at: Option<Mono>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Who initialised it last, where that is known.
    pub(crate) principal: Option<Arc<str>>,
    /// Who asked for an end before TV2 last, and the newest connection by which that producer did.
    pub(crate) ended_by: Option<(ProducerId, ProducerEpoch, u64)>,
    /// The entry in the timer set.
    pub(crate) armed: Option<Mono>,
}

impl Entry {
    pub(crate) fn new() -> Entry {
        Entry {
            committed: None,
            last_epoch: -1,
            pending: None,
            round: None,
            deadline: None,
            retry_at: None,
            failures: 0,
            principal: None,
            ended_by: None,
            armed: None,
        }
    }

    pub(crate) fn state(&self) -> Option<TxnState> {
        self.committed.as_ref().map(|value| value.state)
    }

    /// An append is under way, or markers are: nothing else may begin. Kafka counts Complete as pending as soon
    /// as Prepare is committed.
    pub(crate) fn is_busy(&self) -> bool {
        self.pending.is_some() || self.state().is_some_and(TxnState::is_prepare)
    }

    /// When this id wants to be looked at next.
    pub(crate) fn wanted(&self) -> Option<Mono> {
        if self.pending.is_some() {
            return None;
        }
        let at = match self.state()? {
            TxnState::Ongoing => self.deadline?,
            state if state.is_prepare() => match &self.round {
                Some(round) => round.next_due().unwrap_or_default(),
                None => Mono(0),
            },
            _ => return None,
        };
        Some(self.retry_at.map_or(at, |retry| retry.max(at)))
    }
}
