//! Offsets of consumer groups: who may commit, read and delete them, and when they expire.
use super::{ConsumerGroup, Member};
use crate::records::OffsetValue;
use crate::requests::{CommitRequest, FetchRequest};
use crate::store::GroupStore;
use model::{ErrorCode, Now};
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
        check_epoch(member, request, topics)
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
        check_epoch(member, request, topics).map_err(|error| match error {
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
}

/// The member's epoch, or an older one of its own since which it has had each partition.
fn check_epoch(
    member: &Member,
    request: &CommitRequest,
    topics: &super::TopicImage,
) -> Result<(), ErrorCode> {
    let epoch = request.generation_id;
    if member.is_classic() {
        return if epoch == member.current.epoch { Ok(()) } else { Err(ErrorCode::IllegalGeneration) };
    }
    if epoch == member.current.epoch {
        return Ok(());
    }
    if epoch < 0 || epoch > member.current.epoch {
        return Err(ErrorCode::StaleMemberEpoch);
    }
    let since = |id: &model::TopicId, p: i32| {
        let held = [&member.current.assigned, &member.current.revoking];
        held.into_iter().find_map(|owned| owned.get(id)?.get(&p).copied())
    };
    for topic in &request.topics {
        let id = if topic.topic_id.is_zero() {
            topics.get(&topic.name).map(|t| t.id)
        } else {
            Some(topic.topic_id)
        };
        let had = |p: i32| id.and_then(|id| since(&id, p)).is_some_and(|at| at <= epoch);
        if !topic.partitions.iter().all(|p| had(p.index)) {
            return Err(ErrorCode::StaleMemberEpoch);
        }
    }
    Ok(())
}
