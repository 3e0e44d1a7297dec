//! Offsets inside transactions (KIP-447): TxnOffsetCommit, and what the transaction's marker makes of it.
//!
//! The records lie in the log like any other, under the producer's id. They count from the marker on: until then
//! they are kept apart, OffsetFetch that wants stable offsets is told so, and an abort forgets them. A plain commit of
//! the same partition that comes later in the log beats them, as in Kafka.
use crate::codec::RecordError;
use crate::context::Cx;
use crate::coordinator::GroupCoordinator;
use crate::events::{Effect, Effects};
use crate::group::{Group, GroupState};
use crate::offsets::{answer_commit, refuse_commit};
use crate::records::{OffsetValue, RecordKey};
use crate::replies::Reply;
use crate::requests::{Token, TxnCommitRequest};
use crate::store::Write;
use bytes::Bytes;
use model::{ErrorCode, Now, ProducerId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Offsets of one group that wait for their transactions.
#[derive(Debug, Default)]
pub(crate) struct TxnOffsets {
    /// By producer, then by partition.
    producers: BTreeMap<ProducerId, BTreeMap<(Arc<str>, i32), Waiting>>,
    /// The same by topic and partition: who waits there, in the order of the records.
    places: BTreeMap<Arc<str>, BTreeMap<i32, BTreeMap<u64, ProducerId>>>,
    /// Rises with each record.
    order: u64,
    count: usize,
}

#[derive(Clone, Debug)]
struct Waiting {
    order: u64,
    value: OffsetValue,
}

impl TxnOffsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// How many offsets wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether an offset of this partition waits.
    pub(crate) fn holds(&self, topic: &str, partition: i32) -> bool {
        self.places.get(topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Every partition of which an offset waits.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Arc<str>, i32)> {
        self.places.iter().flat_map(|(topic, partitions)| partitions.keys().map(|p| (topic.clone(), *p)))
    }

    /// A record is committed; its transaction is open.
    pub(crate) fn insert(
        &mut self,
        producer: ProducerId,
        topic: &Arc<str>,
        partition: i32,
        value: OffsetValue,
    ) {
        self.order += 1;
        let waiting = Waiting { order: self.order, value };
        let before = self.producers.entry(producer).or_default().insert((topic.clone(), partition), waiting);
        match before {
            Some(before) => self.leave(topic, partition, before.order),
            None => self.count += 1,
        }
        let partitions = self.places.entry(topic.clone()).or_default();
        partitions.entry(partition).or_default().insert(self.order, producer);
    }

    /// A record waits no more at its place.
    fn leave(&mut self, topic: &str, partition: i32, order: u64) {
        let Some(partitions) = self.places.get_mut(topic) else { return };
        let Some(waiting) = partitions.get_mut(&partition) else { return };
        waiting.remove(&order);
        if waiting.is_empty() {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.places.remove(topic);
        }
    }

    /// A later record of the log says what the partition's offset is, or that there is none. Adds to `gone` the producers
    /// of which nothing waits here any more.
    pub(crate) fn overtaken(&mut self, topic: &str, partition: i32, gone: &mut Vec<ProducerId>) {
        self.forget(topic, partition, u64::MAX, gone);
    }

    fn forget(&mut self, topic: &str, partition: i32, before: u64, gone: &mut Vec<ProducerId>) {
        let Some((topic, partitions)) = self.places.get_key_value(topic) else { return };
        let Some(waiting) = partitions.get(&partition) else { return };
        let place = (topic.clone(), partition);
        let older: Vec<(u64, ProducerId)> = waiting.range(..before).map(|(o, p)| (*o, *p)).collect();
        for (order, producer) in older {
            self.leave(&place.0, partition, order);
            self.count -= 1;
            let Some(places) = self.producers.get_mut(&producer) else { continue };
            places.remove(&place);
            if places.is_empty() {
                self.producers.remove(&producer);
                gone.push(producer);
            }
        }
    }

    /// The transaction of `producer` ends; what it had here, in the order of partitions. Adds to `gone` the others of which
    /// nothing waits here any more.
    pub(crate) fn end(
        &mut self,
        producer: ProducerId,
        commit: bool,
        gone: &mut Vec<ProducerId>,
    ) -> Vec<(Arc<str>, i32, OffsetValue)> {
        let ended = self.producers.remove(&producer).unwrap_or_default();
        self.count -= ended.len();
        let mut offsets = Vec::with_capacity(if commit { ended.len() } else { 0 });
        for ((topic, partition), waiting) in ended {
            self.leave(&topic, partition, waiting.order);
            if commit {
                self.forget(&topic, partition, waiting.order, gone);
                offsets.push((topic, partition, waiting.value));
            }
        }
        offsets
    }

    /// Whose offsets wait.
    #[cfg(test)]
    pub(crate) fn producers(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.producers.keys().copied()
    }

    /// Everything, in the order of the records.
    pub(crate) fn rows(&self) -> Vec<(ProducerId, &Arc<str>, i32, &OffsetValue)> {
        let rows = self.producers.iter().flat_map(|(producer, places)| {
            places
                .iter()
                .map(move |((topic, partition), w)| (w.order, *producer, topic, *partition, &w.value))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by_key(|row| row.0);
        rows.into_iter()
            .map(|(_, producer, topic, partition, value)| (producer, topic, partition, value))
            .collect()
    }
}

impl GroupCoordinator {
    /// TxnOffsetCommit, once the transaction is known to hold this coordinator's partition. Answered with
    /// [`Reply::Commit`] when the records are committed; they count from the marker on.
    pub fn commit_in_transaction(
        &mut self,
        now: Now,
        token: Token,
        request: TxnCommitRequest,
        fx: &mut Effects,
    ) {
        let checked =
            self.serving_group(&request.commit.group_id).and_then(|()| self.check_txn_commit(&request));
        if let Err(error) = checked {
            let reply = Reply::Commit(refuse_commit(&request.commit, error));
            return fx.push(Effect::Reply { token, reply });
        }
        let TxnCommitRequest { commit, transaction } = request;
        let producer_id = transaction.producer_id;
        let write = |topic, partition, value| Write::TxnOffset { producer_id, topic, partition, value };
        let (writes, reply) = self.take_offsets(now, &commit, |_, _| true, write);
        if writes.is_empty() {
            return fx.push(Effect::Reply { token, reply });
        }
        let id: Arc<str> = Arc::from(commit.group_id.as_str());
        if self.consumers.contains_key(&id) {
            let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
            return cx.append_in_transaction(transaction, id, writes, answer_commit(token, reply, None));
        }
        let is_new_group = !self.groups.contains_key(&id);
        if is_new_group {
            self.create_group(&id);
        }
        self.step(&id, now, fx, |group, cx| {
            let after = answer_commit(token, reply, is_new_group.then_some(&*group));
            cx.append_in_transaction(transaction, group.id.clone(), writes, after);
        });
    }

    fn check_txn_commit(&self, request: &TxnCommitRequest) -> Result<(), ErrorCode> {
        let commit = &request.commit;
        if let Some(group) = self.consumers.get(commit.group_id.as_str()) {
            return group.check_txn_commit(commit, &self.topics);
        }
        match self.groups.get(commit.group_id.as_str()) {
            Some(group) => group.check_txn_commit(request),
            None if commit.generation_id < 0 => {
                let full = self.groups.len() >= self.core.config.max_groups;
                if full { Err(ErrorCode::InvalidCommitOffsetSize) } else { Ok(()) }
            }
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// A marker is committed in this partition: the transaction of `producer` ended. Only groups with offsets of it are
    /// looked at.
    pub fn transaction_ended(&mut self, producer: ProducerId, commit: bool) {
        for id in self.core.store.end_transaction(producer, commit) {
            self.drop_group_of_nothing(&id);
        }
    }

    /// A group that had nothing but offsets of an aborted transaction, or of commits that failed, is none.
    pub(crate) fn drop_group_of_nothing(&mut self, id: &str) {
        let nothing = |group: &Group| group.is_idle() && group.protocol_type.is_none();
        if self.groups.get(id).is_some_and(nothing) && self.core.store.get(id).is_none() {
            self.remove_group(id);
        }
    }

    /// Applies one committed record of a transactional batch, as [`Self::replay`] does for others.
    pub fn replay_in_transaction(
        &mut self,
        producer: ProducerId,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), RecordError> {
        match (RecordKey::decode(&key)?, value) {
            (RecordKey::Offset { group, topic, partition }, Some(value)) => {
                let value = OffsetValue::decode(&value)?;
                self.core.store.replay_txn_offset(producer, &group, &topic, partition, value);
                Ok(())
            }
            // Nobody writes anything else in a transaction here.
            (_, value) => self.replay(0, key, value),
        }
    }
}

impl Group {
    /// Clients of before KIP-447 name neither member nor generation, and may commit at any time.
    fn check_txn_commit(&self, request: &TxnCommitRequest) -> Result<(), ErrorCode> {
        let commit = &request.commit;
        if commit.generation_id < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if commit.generation_id < 0 && commit.member_id.is_empty() && commit.instance_id.is_none() {
            return Ok(());
        }
        self.validate(&commit.member_id, commit.instance_id.as_deref())?;
        if commit.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }
}
