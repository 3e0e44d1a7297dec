//! AddPartitionsToTxn and AddOffsetsToTxn.
use super::api::{AddOffsetsRequest, AddPartitionsReply, AddPartitionsRequest, Reply};
use super::coordinator::{Step, TxnCoordinator};
use super::effects::{Bound, Effects};
use super::value::{TopicPartition, TxnState, TxnValue, TxnVersion};
use crate::requests::Token;
use model::{ErrorCode, Now, ProducerEpoch, ProducerId};
use std::sync::Arc;

/// Who adds what; the rules are the same for both requests.
struct Adding<'a> {
    transactional_id: &'a str,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    version: TxnVersion,
    partitions: &'a [TopicPartition],
}

enum Added {
    /// The partitions are there already, or this error.
    Answer(ErrorCode),
    /// To be appended.
    Append(Box<TxnValue>),
    /// A bound of ours.
    Full,
}

impl Adding<'_> {
    fn decide(&self, found: Option<&TxnValue>, busy: bool, max: usize, now: Now) -> Added {
        let Some(value) = found else {
            // The first record of a new id is not committed yet.
            let error =
                if busy { ErrorCode::ConcurrentTransactions } else { ErrorCode::InvalidProducerIdMapping };
            return Added::Answer(error);
        };
        // First, as in Kafka since KAFKA-18660: an end that used up the epochs was answered with a producer id
        // that is not in its place before Complete.
        if busy {
            return Added::Answer(ErrorCode::ConcurrentTransactions);
        }
        if value.producer_id != self.producer_id {
            return Added::Answer(ErrorCode::InvalidProducerIdMapping);
        }
        if value.producer_epoch != self.producer_epoch {
            return Added::Answer(ErrorCode::ProducerFenced);
        }
        let there = self.partitions.iter().all(|p| value.partitions.contains(p));
        if value.state == TxnState::Ongoing && there {
            return Added::Answer(ErrorCode::None);
        }
        let value = value.with_partitions(self.partitions.iter().cloned(), self.version, now.wall);
        if value.partitions.len() > max { Added::Full } else { Added::Append(Box::new(value)) }
    }
}

impl TxnCoordinator {
    /// One transaction of AddPartitionsToTxn. Ends with [`Reply::AddPartitions`].
    pub fn add_partitions(
        &mut self,
        now: Now,
        token: Token,
        request: AddPartitionsRequest,
        fx: &mut Effects,
    ) {
        if request.verify_only {
            return self.verify(token, request, fx);
        }
        let done = request.reply(ErrorCode::None);
        self.add_for_all(now, (token, done), request, Vec::new(), fx);
    }

    /// Adds partitions of several requests; `also` are answered as the first one is.
    pub(super) fn add_for_all(
        &mut self,
        now: Now,
        first: (Token, Reply),
        request: AddPartitionsRequest,
        also: Vec<(Token, Reply)>,
        fx: &mut Effects,
    ) {
        let adding = Adding {
            transactional_id: &request.transactional_id,
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            version: request.version,
            partitions: &request.partitions,
        };
        self.add(now, first, also, &adding, fx);
    }

    /// AddOffsetsToTxn. Ends with [`Reply::AddOffsets`].
    pub fn add_offsets(&mut self, now: Now, token: Token, request: AddOffsetsRequest, fx: &mut Effects) {
        let partitions = [request.offsets_partition];
        let adding = Adding {
            transactional_id: &request.transactional_id,
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            // Clients of TV2 add a group's partition by TxnOffsetCommit.
            version: TxnVersion::V0,
            partitions: &partitions,
        };
        self.add(now, (token, Reply::AddOffsets(ErrorCode::None)), Vec::new(), &adding, fx);
    }

    fn add(
        &mut self,
        now: Now,
        first: (Token, Reply),
        also: Vec<(Token, Reply)>,
        adding: &Adding<'_>,
        fx: &mut Effects,
    ) {
        let all = |also: Vec<(Token, Reply)>| std::iter::once(first.clone()).chain(also);
        if let Err(error) = self.serving_id(adding.transactional_id) {
            return all(also).for_each(|(token, done)| Self::refuse(token, done.failed(error), fx));
        }
        let id: Arc<str> = Arc::from(adding.transactional_id);
        let found = self.value(&id);
        match adding.decide(found, self.is_busy(&id), self.config.max_partitions, now) {
            Added::Answer(error) => {
                all(also).for_each(|(token, done)| self.answer(token, done.failed(error), fx));
            }
            Added::Full => {
                let error = self.bound(Bound::Partitions, &id, None, fx);
                all(also).for_each(|(token, done)| self.answer(token, done.failed(error), fx));
            }
            Added::Append(value) => {
                let last_epoch = self.entries.get(&id).map_or(-1, |e| e.last_epoch);
                let step = Step { value: *value, last_epoch, after: Some(first) };
                self.append(now, &id, step, fx);
                if let Some(pending) = self.entries.get_mut(&id).and_then(|e| e.pending.as_mut()) {
                    pending.also = also;
                }
            }
        }
    }

    /// Which partitions are in the transaction. What is not committed does not count, and what is under way
    /// does not hinder, as in Kafka.
    fn verify(&mut self, token: Token, request: AddPartitionsRequest, fx: &mut Effects) {
        if let Err(error) = self.serving_id(&request.transactional_id) {
            return Self::refuse(token, request.reply(error), fx);
        }
        let reply = match self.value(&request.transactional_id) {
            None => request.reply(ErrorCode::InvalidProducerIdMapping),
            Some(v) if v.producer_id != request.producer_id => {
                request.reply(ErrorCode::InvalidProducerIdMapping)
            }
            Some(v) if v.producer_epoch != request.producer_epoch => request.reply(ErrorCode::ProducerFenced),
            Some(v) if v.state.is_prepare() => request.reply(ErrorCode::ConcurrentTransactions),
            Some(v) => {
                let outcome = |p: TopicPartition| {
                    let there = v.partitions.contains(&p);
                    (p, if there { ErrorCode::None } else { ErrorCode::TransactionAbortable })
                };
                let partitions = request.partitions.into_iter().map(outcome).collect();
                let transactional_id = request.transactional_id;
                Reply::AddPartitions(AddPartitionsReply { transactional_id, partitions })
            }
        };
        self.answer(token, reply, fx);
    }
}
