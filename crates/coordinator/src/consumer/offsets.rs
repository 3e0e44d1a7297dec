//! Offsets of consumer groups: who may commit, read and delete them, and when they expire.
use super::{ConsumerGroup, Member};
use crate::records::OffsetValue;
use crate::requests::{CommitRequest, FetchRequest};
use crate::store::GroupStore;
use model::{ErrorCode, Now, TopicId};
use std::sync::Arc;

impl ConsumerGroup {
    /// Kafka's rule of who may commit. A member may come with an older epoch of its own if it has had each partition
    /// since then (KIP-1251): what it read was its own to read.
    pub(crate) fn check_commit(
        &self,
        request: &CommitRequest,
        topics: &super::TopicImage,
    ) -> Result<(), ErrorCode> {
        if request.generation_id < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        // Version 9 is the first whose errors such a member knows.
        if !member.is_classic() && !request.knows_group_id_not_found {
            return Err(ErrorCode::UnsupportedVersion);
        }
        self.check_epoch_of(member, request, topics)
    }

    /// TxnOffsetCommit. Clients of before KIP-447 name neither member nor epoch, and may commit at any time. The API does
    /// not know STALE_MEMBER_EPOCH.
    pub(crate) fn check_txn_commit(
        &self,
        request: &CommitRequest,
        topics: &super::TopicImage,
    ) -> Result<(), ErrorCode> {
        let nobody = request.member_id.is_empty() && request.instance_id.is_none();
        if request.generation_id < 0 && (self.members.is_empty() || nobody) {
            return Ok(());
        }
        let member = self.members.get(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        self.check_epoch_of(member, request, topics).map_err(|error| match error {
            ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
            other => other,
        })
    }

    /// Who may read: anybody without a member id, or a member at its epoch.
    pub(crate) fn check_fetch(&self, request: &FetchRequest) -> Result<(), ErrorCode> {
        let Some(id) = request.member_id.as_ref().filter(|_| request.member_epoch >= 0) else {
            return Ok(());
        };
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        let epoch = request.member_epoch;
        // While its next epoch is not committed it cannot know it.
        let known =
            epoch == member.current.epoch || (self.open.is_some() && epoch == member.current.previous_epoch);
        match (known, member.is_classic()) {
            (true, _) => Ok(()),
            (false, true) => Err(ErrorCode::IllegalGeneration),
            (false, false) => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    /// Offsets past their retention, counted from their commit, of topics that nobody subscribes to.
    pub(crate) fn expired(&self, store: &GroupStore, now: Now, retention_ms: i64) -> Vec<(Arc<str>, i32)> {
        let is_expired = |value: &OffsetValue| match value.expire_timestamp {
            Some(at) => now.wall >= at,
            None => now.wall.saturating_sub(value.commit_timestamp) >= retention_ms,
        };
        let subscribed = self.subscribed();
        let mut expired = Vec::new();
        for (topic, partition, value) in store.offsets.iter() {
            if !(subscribed.contains(topic.as_ref()))
                && is_expired(&value)
                && !store.is_pending(topic, partition)
            {
                expired.push((topic.clone(), partition));
            }
        }
        expired
    }

    /// The member's epoch, or an older one of its own since which it has had each partition.
    fn check_epoch_of(
        &self,
        member: &Member,
        request: &CommitRequest,
        topics: &super::TopicImage,
    ) -> Result<(), ErrorCode> {
        let (epoch, current) = (request.generation_id, &member.current);
        let refused =
            if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch };
        // What a member was told to give up it was told at an epoch of its own. Where that was the target's, it goes on at
        // the same epoch when it has given it up: a commit of before may come when another member has it.
        let may_be_of_before = current.previous_epoch == epoch;
        if epoch == current.epoch {
            let others = |id, p| self.owners.get(&(id, p)).is_some_and(|owner| *owner != request.member_id);
            let lost = may_be_of_before && named(request, topics).any(|(id, p)| others(id, p));
            return if lost { Err(refused) } else { Ok(()) };
        }
        if member.is_classic() || epoch < 0 || epoch > current.epoch {
            return Err(refused);
        }
        let since = |id: &TopicId, p: i32| {
            let held = [&current.assigned, &current.revoking];
            held.into_iter().find_map(|owned| owned.get(id)?.get(&p).copied())
        };
        let had = |(id, p): (TopicId, i32)| since(&id, p).is_some_and(|at| at <= epoch);
        if named(request, topics).all(had) { Ok(()) } else { Err(refused) }
    }
}

/// The partitions of a commit by id; that of a topic that is not known is zero, and nobody has it.
fn named(request: &CommitRequest, topics: &super::TopicImage) -> impl Iterator<Item = (TopicId, i32)> {
    request.topics.iter().flat_map(|topic| {
        let known = || topics.get(&topic.name).map_or(TopicId::ZERO, |t| t.id);
        let id = if topic.topic_id.is_zero() { known() } else { topic.topic_id };
        topic.partitions.iter().map(move |p| (id, p.index))
    })
}
