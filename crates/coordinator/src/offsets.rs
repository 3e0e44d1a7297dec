//! OffsetCommit, OffsetFetch, OffsetDelete.
use crate::context::{After, Cx};
use crate::coordinator::GroupCoordinator;
use crate::events::{Effect, Effects};
use crate::group::{Group, GroupState};
use crate::records::OffsetValue;
use crate::replies::{
    CommitReply, CommittedTopic, DeleteOffsetsReply, FetchReply, FetchedPartition, FetchedTopic, Reply,
};
use crate::requests::{
    CommitPartition, CommitRequest, DeleteOffsetsRequest, FetchRequest, Token, TopicPartitions,
};
use crate::store::{GroupStore, Store, Write};
use model::planted::{Bug, planted};
use model::{ErrorCode, Now, TopicId};
use std::sync::Arc;

/// Texts of a record have 16-bit lengths.
const MAX_NAME: usize = i16::MAX as usize;

impl GroupCoordinator {
    /// OffsetCommit. Answered when the offsets are committed.
    pub fn commit_offsets(&mut self, now: Now, token: Token, request: CommitRequest, fx: &mut Effects) {
        let checked = self.serving().and_then(|()| self.check_commit(&request));
        if let Err(error) = checked {
            let reply = Reply::Commit(refuse_commit(&request, error));
            return fx.push(Effect::Reply { token, reply });
        }
        let stored = self.core.store.get(&request.group_id);
        let is_new = |topic: &str, partition| !stored.is_some_and(|s| s.has_offset(topic, partition));
        let write = |topic, partition, value| Write::Offset { topic, partition, value: Some(value) };
        let (writes, reply) = self.take_offsets(now, &request, is_new, write);
        let is_consumer = self.consumers.contains_key(request.group_id.as_str());
        let is_new_group = !is_consumer && !self.groups.contains_key(request.group_id.as_str());
        if writes.is_empty() {
            return fx.push(Effect::Reply { token, reply });
        }
        if is_consumer {
            let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
            cx.append(vec![(Arc::from(request.group_id), writes)], vec![After::Answer { token, reply }]);
            return;
        }
        if is_new_group {
            self.create_group(&request.group_id);
        }
        self.step(&request.group_id, now, fx, |group, cx| {
            if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance) {
                group.restart_session(&request.member_id, cx);
            }
            let after = answer_commit(token, reply, is_new_group.then_some(&*group));
            cx.append(vec![(group.id.clone(), writes)], after);
        });
    }

    /// What to write of a commit, and the answer once that is committed. `is_new` says which partitions take up room that
    /// they had not before.
    pub(crate) fn take_offsets(
        &self,
        now: Now,
        request: &CommitRequest,
        is_new: impl Fn(&str, i32) -> bool,
        write: impl Fn(Arc<str>, i32, OffsetValue) -> Write,
    ) -> (Vec<Write>, Reply) {
        let room = self.core.config.max_offsets_per_group;
        let mut known = self.core.store.get(&request.group_id).map_or(0, GroupStore::offset_count);
        let (mut writes, mut topics) = (Vec::new(), Vec::new());
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let is_new = is_new(&name, partition.index);
                let error = self.check_partition(partition, is_new && known >= room, &name);
                partitions.push((partition.index, error));
                if error.is_none() {
                    known += usize::from(is_new);
                    let value = offset_value(request, topic.topic_id, partition, now);
                    writes.push(write(name.clone(), partition.index, value));
                }
            }
            let (name, topic_id) = (topic.name.clone(), topic.topic_id);
            topics.push(CommittedTopic { name, topic_id, partitions });
        }
        (writes, Reply::Commit(CommitReply { topics }))
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if request.group_id.len() > MAX_NAME {
            return Err(ErrorCode::InvalidGroupId);
        }
        if let Some(group) = self.consumers.get(request.group_id.as_str()) {
            return group.check_commit(request, &self.topics);
        }
        match self.groups.get(request.group_id.as_str()) {
            Some(group) => group.check_commit(request),
            // A consumer without group management, or an administrator.
            None if request.generation_id < 0 => {
                let full = self.groups.len() >= self.core.config.max_groups;
                if full { Err(ErrorCode::InvalidCommitOffsetSize) } else { Ok(()) }
            }
            None if request.knows_group_id_not_found => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn check_partition(&self, partition: &CommitPartition, no_room: bool, topic: &str) -> ErrorCode {
        let max = self.core.config.offset_metadata_max;
        let metadata = partition.metadata.as_deref().unwrap_or("");
        // Kafka counts UTF-16 units; bytes are never fewer.
        if metadata.len() > max && metadata.encode_utf16().count() > max {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        if no_room || topic.len() > MAX_NAME {
            return ErrorCode::InvalidCommitOffsetSize;
        }
        ErrorCode::None
    }

    /// OffsetFetch of one group, from the committed layer. With `require_stable` it is answered after the
    /// commits of this group that are under way now.
    pub fn fetch_offsets(&mut self, now: Now, token: Token, request: FetchRequest, fx: &mut Effects) {
        let checked = self.serving().and_then(|()| match self.consumers.get(request.group_id.as_str()) {
            Some(group) => group.check_fetch(&request),
            None => Ok(()),
        });
        if let Err(error) = checked
            && !planted(Bug::OffsetsBeforeLoaded)
        {
            let reply = Reply::Fetch(FetchReply { error, topics: Vec::new() });
            return fx.push(Effect::Reply { token, reply });
        }
        let open = request.require_stable && self.core.store.newest_open(&request.group_id).is_some();
        if !open {
            let reply = Reply::Fetch(read(&self.core.store, &request));
            return fx.push(Effect::Reply { token, reply });
        }
        let group = request.group_id.clone();
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        cx.answer_after(&group, After::Fetch { token, request });
    }

    /// OffsetDelete. Answered when the tombstones are committed.
    pub fn delete_offsets(
        &mut self,
        now: Now,
        token: Token,
        request: DeleteOffsetsRequest,
        fx: &mut Effects,
    ) {
        let refuse = |error| Reply::DeleteOffsets(DeleteOffsetsReply { error, topics: Vec::new() });
        if let Err(error) = self.serving_group(&request.group_id) {
            return fx.push(Effect::Reply { token, reply: refuse(error) });
        }
        let id = request.group_id.as_str();
        let error = match self.groups.get(id) {
            None if self.consumers.contains_key(id) => ErrorCode::None,
            None => ErrorCode::GroupIdNotFound,
            Some(g) if g.state != GroupState::Empty && !g.uses_consumer_protocol() => {
                ErrorCode::NonEmptyGroup
            }
            Some(_) => ErrorCode::None,
        };
        if !error.is_none() {
            return fx.push(Effect::Reply { token, reply: refuse(error) });
        }
        let (mut writes, mut topics) = (Vec::new(), Vec::new());
        for topic in request.topics {
            let classic = self.groups.get(id).is_some_and(|g| g.is_subscribed(&topic.name));
            let subscribed = classic || self.consumers.get(id).is_some_and(|g| g.is_subscribed(&topic.name));
            let error = if subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            topics.push((topic.name.clone(), topic.partitions.iter().map(|p| (*p, error)).collect()));
            if !subscribed {
                writes.extend(tombstones(self.core.store.get(id), topic));
            }
        }
        let reply = Reply::DeleteOffsets(DeleteOffsetsReply { error: ErrorCode::None, topics });
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        if !writes.is_empty() {
            cx.append(vec![(Arc::from(id), writes)], Vec::new());
        }
        cx.answer_after(id, After::Answer { token, reply });
    }
}

impl Group {
    /// Kafka's rule of who may commit in which state.
    fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        let empty = self.state == GroupState::Empty;
        if request.generation_id < 0 && empty {
            return Ok(());
        }
        if request.generation_id < 0 && request.member_id.is_empty() && request.instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate(&request.member_id, request.instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }
}

/// What follows a commit's append: the answer, and where the commit has `created` its group, that the group goes if the
/// append fails.
pub(crate) fn answer_commit(token: Token, reply: Reply, created: Option<&Group>) -> Vec<After> {
    let created = created.map(|g| After::Created { group: g.id.clone(), incarnation: g.incarnation });
    [Some(After::Answer { token, reply }), created].into_iter().flatten().collect()
}

/// Every partition of the request with one error.
pub(crate) fn refuse_commit(request: &CommitRequest, error: ErrorCode) -> CommitReply {
    let topic = |t: &crate::requests::CommitTopic| CommittedTopic {
        name: t.name.clone(),
        topic_id: t.topic_id,
        partitions: t.partitions.iter().map(|p| (p.index, error)).collect(),
    };
    CommitReply { topics: request.topics.iter().map(topic).collect() }
}

/// The value as it will be read back: the format that carries a lifetime has no room for epoch and topic id.
fn offset_value(
    request: &CommitRequest,
    topic_id: TopicId,
    partition: &CommitPartition,
    now: Now,
) -> OffsetValue {
    let expires = request.retention_ms.filter(|ms| *ms != -1).map(|ms| now.wall.saturating_add(ms));
    // -1 on disk means "none".
    let expires = expires.filter(|at| *at != -1);
    OffsetValue {
        offset: partition.offset,
        leader_epoch: if expires.is_some() { -1 } else { partition.leader_epoch },
        metadata: partition.metadata.as_deref().unwrap_or("").into(),
        commit_timestamp: now.wall,
        expire_timestamp: expires,
        topic_id: if expires.is_some() { TopicId::ZERO } else { topic_id },
    }
}

fn tombstones(store: Option<&GroupStore>, topic: TopicPartitions) -> Vec<Write> {
    let name: Arc<str> = Arc::from(topic.name.as_str());
    let there = |s: &GroupStore, p: i32| s.has_offset(&name, p) || s.waits_for_transaction(&name, p);
    let present = topic.partitions.into_iter().filter(|p| store.is_some_and(|s| there(s, *p)));
    present.map(|partition| Write::Offset { topic: name.clone(), partition, value: None }).collect()
}

/// The committed offsets that an OffsetFetch asks for; what has none is -1, as in Kafka. Where only stable ones are
/// wanted, a partition whose offset waits for a transaction has none yet.
pub(crate) fn read(store: &Store, request: &FetchRequest) -> FetchReply {
    let group = store.get(&request.group_id);
    let one = |name: &str, index: i32, value: Option<OffsetValue>| {
        let unstable = request.require_stable && group.is_some_and(|g| g.waits_for_transaction(name, index));
        let value = value.filter(|_| !unstable);
        FetchedPartition {
            index,
            offset: value.as_ref().map_or(-1, |v| v.offset),
            leader_epoch: value.as_ref().map_or(-1, |v| v.leader_epoch),
            metadata: value.map_or(String::new(), |v| v.metadata.into_string()),
            error: if unstable { ErrorCode::UnstableOffsetCommit } else { ErrorCode::None },
        }
    };
    let topics = match &request.topics {
        Some(asked) => asked
            .iter()
            .map(|topic| {
                let value = |p: i32| group.and_then(|g| g.offsets.get(&topic.name, p));
                FetchedTopic {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: topic.partitions.iter().map(|p| one(&topic.name, *p, value(*p))).collect(),
                }
            })
            .collect(),
        None => {
            let mut topics: Vec<FetchedTopic> = Vec::new();
            for (name, partition, value) in group.into_iter().flat_map(|g| g.offsets.iter()) {
                let topic_id = value.topic_id;
                let fetched = one(name, partition, Some(value));
                match topics.last_mut().filter(|t| t.name.as_str() == &**name) {
                    Some(topic) => topic.partitions.push(fetched),
                    None => {
                        topics.push(FetchedTopic {
                            name: name.to_string(),
                            topic_id,
                            partitions: vec![fetched],
                        });
                    }
                }
            }
            topics
        }
    };
    FetchReply { error: ErrorCode::None, topics }
}
