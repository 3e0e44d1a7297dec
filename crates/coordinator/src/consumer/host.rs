//! Consumer groups in their coordinator: which group a request goes to, one append at a time for each group, and
//! what follows when it is decided.
use super::heartbeat::{ConsumerHeartbeatReply, ConsumerHeartbeatRequest};
use super::{ConsumerGroup, TopicImage, Work};
use crate::context::{After, Cx};
use crate::coordinator::GroupCoordinator;
use crate::events::{CauseKind, Effect, Effects};
use crate::group::{Group, GroupState};
use crate::rebalance::Why;
use crate::records::GroupValue;
use crate::replies::{JoinReply, LeaveReply, Reply, SyncReply};
use crate::requests::{HeartbeatRequest, JoinRequest, LeaveRequest, SyncRequest, Token};
use crate::store::Write;
use model::{ErrorCode, Now};
use std::collections::VecDeque;
use std::sync::Arc;

/// A request that waits until the group's append is decided.
#[derive(Clone, Debug)]
pub(crate) enum Queued {
    Heartbeat(ConsumerHeartbeatRequest),
    Join(JoinRequest),
    Sync(SyncRequest),
    Beat(HeartbeatRequest),
    Leave(LeaveRequest),
}

impl Queued {
    fn refuse(&self, error: ErrorCode) -> Reply {
        match self {
            Queued::Heartbeat(_) => Reply::ConsumerHeartbeat(ConsumerHeartbeatReply::refused(error, None)),
            Queued::Join(join) => Reply::Join(JoinReply::refused(error, &join.member_id)),
            Queued::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Queued::Beat(_) => Reply::Heartbeat(error),
            Queued::Leave(_) => Reply::Leave(LeaveReply { error, members: Vec::new() }),
        }
    }
}

/// An append of a consumer group that is decided.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) group: Arc<str>,
    pub(crate) incarnation: u64,
    /// The classic group without members that it took the place of.
    pub(crate) replaced: Option<Box<Group>>,
    /// The group is no consumer group any more.
    pub(crate) ended: bool,
    /// The classic group that it is instead.
    pub(crate) becomes: Option<Box<GroupValue>>,
}

impl GroupCoordinator {
    /// The topics of the cluster, before the first request and whenever they change. Groups look at them with their
    /// members' next heartbeats, as in Kafka. Version 0 says that they are not known: requests of consumer groups are
    /// then answered COORDINATOR_LOAD_IN_PROGRESS, as all partitions would seem to be gone.
    pub fn topics_changed(&mut self, topics: Arc<TopicImage>) {
        self.topics = topics;
    }

    /// ConsumerGroupHeartbeat. Answered when all that it changed is committed.
    pub fn consumer_heartbeat(
        &mut self,
        now: Now,
        token: Token,
        request: ConsumerHeartbeatRequest,
        fx: &mut Effects,
    ) {
        let checked = self.serving().map_err(|error| (error, None));
        let checked = checked.and_then(|()| {
            request.check(&self.core.config.consumer).map_err(|(error, text)| (error, Some(text)))
        });
        let checked = checked.and_then(|()| match self.topics.version() {
            0 => Err((ErrorCode::CoordinatorLoadInProgress, None)),
            _ => self.make_room_for(&request, now),
        });
        match checked {
            Err((error, text)) => {
                let reply = Reply::ConsumerHeartbeat(ConsumerHeartbeatReply::refused(error, text));
                fx.push(Effect::Reply { token, reply });
            }
            Ok(replaced) => {
                let id = request.group_id.clone();
                self.queue_or_serve(&id, now, (token, Queued::Heartbeat(request)), replaced, fx);
            }
        }
    }

    /// The group that a heartbeat needs: one that joins makes it, or takes the place of a classic group without
    /// members, which it returns.
    fn make_room_for(
        &mut self,
        request: &ConsumerHeartbeatRequest,
        now: Now,
    ) -> Result<Option<Box<Group>>, (ErrorCode, Option<String>)> {
        let id = request.group_id.as_str();
        if self.consumers.contains_key(id) {
            return Ok(None);
        }
        let refuse = |error, text: String| Err((error, Some(text)));
        if !request.joins() {
            return refuse(ErrorCode::GroupIdNotFound, format!("Group {id} not found."));
        }
        if self.is_being_deleted(id) {
            return refuse(ErrorCode::CoordinatorLoadInProgress, "The group is being deleted.".into());
        }
        match self.groups.get(id) {
            Some(group) if !group.members.is_empty() => match self.upgraded(group, now) {
                Some(mut group) => {
                    group.incarnation = self.core.next_incarnation();
                    let replaced = self.remove_group(id).map(Box::new);
                    self.consumers.insert(group.id.clone(), group);
                    return Ok(replaced);
                }
                None => {
                    let text = format!("Group {id} is not a consumer group.");
                    return refuse(ErrorCode::GroupIdNotFound, text);
                }
            },
            None if self.groups.len() + self.consumers.len() >= self.core.config.max_groups => {
                return refuse(
                    ErrorCode::GroupMaxSizeReached,
                    "The coordinator has no room for a group.".into(),
                );
            }
            _ => {}
        }
        let replaced = self.remove_group(id).map(Box::new);
        let incarnation = self.core.next_incarnation();
        let mut group = ConsumerGroup::new(Arc::from(id), incarnation, now);
        group.unstored = true;
        self.consumers.insert(group.id.clone(), group);
        Ok(replaced)
    }

    /// A consumer group whose tombstones are under way: a new one on top of them would stand on records that are
    /// there again if they fail.
    fn is_being_deleted(&self, id: &str) -> bool {
        let gone = !self.groups.contains_key(id) && !self.consumers.contains_key(id);
        gone && self.core.store.get(id).is_some_and(|store| store.is_consumer())
    }

    /// The consumer group that a classic group with members may become.
    fn upgraded(&self, classic: &Group, now: Now) -> Option<ConsumerGroup> {
        let config = &self.core.config.consumer;
        let fits = classic.members.len() <= usize::try_from(config.max_size).unwrap_or(0);
        if !config.migration_policy.may_upgrade() || !classic.uses_consumer_protocol() || !fits {
            return None;
        }
        let mut group = ConsumerGroup::from_classic(classic, 0, &self.topics, now).ok()?;
        group.unstored = true;
        Some(group)
    }

    /// Decides a request now, or parks it behind the group's append.
    fn queue_or_serve(
        &mut self,
        id: &str,
        now: Now,
        item: (Token, Queued),
        replaced: Option<Box<Group>>,
        fx: &mut Effects,
    ) {
        let Some(group) = self.consumers.get_mut(id) else { return };
        if group.open.is_none() && self.topics.version() > 0 {
            let back = self.consumer_step(id, now, fx, replaced, |group, w| group.serve(w, item));
            return self.drop_unborn(id, back);
        }
        if group.queue.len() >= self.core.config.consumer.max_queued || self.topics.version() == 0 {
            let reply = item.1.refuse(ErrorCode::CoordinatorLoadInProgress);
            return fx.push(Effect::Reply { token: item.0, reply });
        }
        // It is heard from, whatever becomes of it.
        let heard = match &item.1 {
            Queued::Heartbeat(request) => Some(&request.member_id),
            Queued::Join(request) => Some(&request.member_id),
            Queued::Sync(request) => Some(&request.member_id),
            Queued::Beat(request) => Some(&request.member_id),
            Queued::Leave(_) => None,
        };
        if let Some(member_id) = heard {
            group.restart_session(&self.core.config.consumer, now, member_id);
        }
        group.queue.push_back(item);
    }

    /// A group whose first heartbeat was refused never was, and the classic group is as it was.
    fn drop_unborn(&mut self, id: &str, back: Option<Box<Group>>) {
        let unborn = self.consumers.get(id).is_some_and(|g| g.unstored);
        if unborn {
            self.remove_consumer(id);
        }
        if let Some(mut group) = back {
            crate::coordinator::arm(&mut self.timers, &mut group);
            self.groups.insert(group.id.clone(), *group);
        }
    }

    pub(crate) fn remove_consumer(&mut self, id: &str) -> Option<ConsumerGroup> {
        let mut group = self.consumers.remove(id)?;
        if let Some(at) = group.armed.take() {
            self.timers.remove(&(at, group.id.clone()));
        }
        Some(group)
    }

    /// Runs decisions on a group that has no append under way, and appends what they change as one batch. Gives the
    /// replaced group back where nothing changed.
    pub(crate) fn consumer_step(
        &mut self,
        id: &str,
        now: Now,
        fx: &mut Effects,
        replaced: Option<Box<Group>>,
        decide: impl FnOnce(&mut ConsumerGroup, &mut Work<'_>),
    ) -> Option<Box<Group>> {
        let Some(group) = self.consumers.get_mut(id) else { return replaced };
        let core = &mut self.core;
        let mut w = Work {
            config: &core.config.consumer,
            ids: &mut core.ids,
            topics: &self.topics,
            now,
            writes: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
        };
        let before = group.epoch.epoch;
        decide(group, &mut w);
        let Work { mut writes, answers, events, .. } = w;
        let mut becomes = None;
        if !writes.is_empty() && replaced.as_ref().is_some_and(|classic| !classic.members.is_empty()) {
            // Of a group that comes over with its members the log knows nothing yet.
            writes = group.dump();
        } else if !writes.is_empty() {
            let (policy, max) = (core.config.consumer.migration_policy, core.config.max_size);
            becomes = group.downgraded(before, policy, max, &self.topics, now).map(Box::new);
        }
        let mut cx = Cx { core, now, fx, appended: None };
        events.into_iter().for_each(|event| cx.event(event));
        let mut back = replaced;
        if writes.is_empty() {
            answers.into_iter().for_each(|(token, reply)| cx.reply(token, reply));
        } else {
            let mut replaced = back.take();
            if let Some(value) = &becomes {
                writes = cx.core.store.get(id).map(|s| s.consumer_tombstones()).unwrap_or_default();
                writes.push(Write::Group { value: Some(value.encode()) });
            }
            if let Some(classic) = &mut replaced {
                classic.dismiss(&mut cx, ErrorCode::RebalanceInProgress);
            }
            group.unstored = false;
            if replaced.is_some() && cx.core.store.get(id).is_some_and(|s| s.has_meta()) {
                writes.insert(0, Write::Group { value: None });
            }
            let mut after: Vec<After> =
                answers.into_iter().map(|(token, reply)| After::Answer { token, reply }).collect();
            let stored = Stored {
                group: group.id.clone(),
                incarnation: group.incarnation,
                replaced,
                ended: becomes.is_some(),
                becomes,
            };
            after.push(After::Stored(Box::new(stored)));
            group.open = Some(cx.append(vec![(group.id.clone(), writes)], after));
        }
        arm(&mut self.timers, group);
        back
    }

    /// An append of a consumer group is decided: a failed one is undone by reading what the log holds, then what
    /// waited is decided.
    pub(crate) fn consumer_stored(&mut self, now: Now, stored: Stored, error: ErrorCode, fx: &mut Effects) {
        let id = stored.group.clone();
        let Some(group) = self.consumers.get_mut(&id) else { return };
        if group.incarnation != stored.incarnation {
            return;
        }
        group.open = None;
        let mut queue = std::mem::take(&mut group.queue);
        if !error.is_none() {
            self.read_again(&id, now, stored.replaced, fx);
            if stored.ended {
                refuse_joins(&mut queue, error, fx);
            }
        } else if stored.ended {
            self.remove_consumer(&id);
            if let Some(value) = stored.becomes {
                self.become_classic(&id, now, *value, fx);
            }
        }
        let mut queue = queue.into_iter();
        if self.consumers.contains_key(&id) {
            self.consumer_step(&id, now, fx, None, |group, w| {
                for item in queue.by_ref() {
                    if group.must_end_for(&item.1) {
                        group.queue.push_back(item);
                        break;
                    }
                    group.serve(w, item);
                }
            });
        }
        // What the step left, in its order: a group that changes its kind in between is asked anew.
        let left =
            self.consumers.get_mut(&id).map(|group| std::mem::take(&mut group.queue)).unwrap_or_default();
        for (token, item) in left.into_iter().chain(queue) {
            match item {
                Queued::Heartbeat(request) => self.consumer_heartbeat(now, token, request, fx),
                Queued::Join(request) => self.join(now, token, request, fx),
                Queued::Sync(request) => self.sync(now, token, request, fx),
                Queued::Beat(request) => self.heartbeat(now, token, request, fx),
                Queued::Leave(request) => self.leave(now, token, request, fx),
            }
        }
    }

    /// The group as the committed records tell it, with the members' sessions as they run.
    fn read_again(&mut self, id: &Arc<str>, now: Now, replaced: Option<Box<Group>>, fx: &mut Effects) {
        let Some(old) = self.remove_consumer(id) else { return };
        if let Some(store) = self.core.store.get(id).filter(|store| store.is_consumer()) {
            let mut group = ConsumerGroup::from_store(id.clone(), old.incarnation, store, now);
            for (member_id, member) in &mut group.members {
                let before = old.members.get(member_id);
                member.deadline = before.and_then(|m| m.deadline);
            }
            group.causes = old.causes;
            group.restart_timers(&self.core.config.consumer, now, false);
            arm(&mut self.timers, &mut group);
            self.consumers.insert(id.clone(), group);
        } else if let Some(mut group) = replaced {
            group.restart_all_sessions(now);
            self.groups.insert(id.clone(), *group);
            // The outcome of an assignment that was being stored went by unseen.
            self.step(id, now, fx, |group, cx| {
                if std::mem::take(&mut group.storing) || group.state == GroupState::CompletingRebalance {
                    let reason = "the change to a consumer group was not stored";
                    group.prepare_rebalance(cx, Why { kind: CauseKind::StoreFailed, member_id: "", reason });
                }
            });
        }
    }

    /// The classic members that are left form a classic group, and rebalance.
    fn become_classic(&mut self, id: &Arc<str>, now: Now, value: GroupValue, fx: &mut Effects) {
        let incarnation = self.core.next_incarnation();
        let group = super::convert::to_classic(id.clone(), incarnation, value, now);
        self.groups.insert(id.clone(), group);
        self.step(id, now, fx, |group, cx| {
            let reason = "the last member of the new protocol has left";
            group.prepare_rebalance(cx, Why { kind: CauseKind::MemberLeft, member_id: "", reason });
        });
    }

    /// SyncGroup, Heartbeat or LeaveGroup of a classic member to what may be a consumer group. Gives the request
    /// back where it is none.
    pub(crate) fn ask_consumer(
        &mut self,
        now: Now,
        token: Token,
        group_id: &str,
        item: Queued,
        fx: &mut Effects,
    ) -> Option<Queued> {
        if !self.consumers.contains_key(group_id) {
            return Some(item);
        }
        self.queue_or_serve(group_id, now, (token, item), None, fx);
        None
    }

    /// JoinGroup of a classic member to what may be a consumer group. Gives the request back where it is none.
    pub(crate) fn join_consumer(
        &mut self,
        now: Now,
        token: Token,
        request: JoinRequest,
        fx: &mut Effects,
    ) -> Option<JoinRequest> {
        if self.is_being_deleted(&request.group_id) {
            let reply = Queued::Join(request).refuse(ErrorCode::CoordinatorLoadInProgress);
            fx.push(Effect::Reply { token, reply });
            return None;
        }
        let Some(group) = self.consumers.get_mut(request.group_id.as_str()) else { return Some(request) };
        let id = group.id.clone();
        let item = Queued::Join(request);
        if group.open.is_some() || !group.must_end_for(&item) {
            self.queue_or_serve(&id, now, (token, item), None, fx);
            return None;
        }
        // Nobody is in it: its records go, and then the request makes a classic group.
        group.queue.push_back((token, item));
        let incarnation = group.incarnation;
        let tombstones = self.core.store.get(&id).map(|s| s.consumer_tombstones()).unwrap_or_default();
        let stored = Stored { group: id.clone(), incarnation, replaced: None, ended: true, becomes: None };
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        let batch = cx.append(vec![(id.clone(), tombstones)], vec![After::Stored(Box::new(stored))]);
        if let Some(group) = self.consumers.get_mut(&id) {
            group.open = Some(batch);
        }
        None
    }

    /// Answers all that waits in consumer groups, and forgets them.
    pub(crate) fn unload_consumers(&mut self, fx: &mut Effects) {
        for mut group in std::mem::take(&mut self.consumers).into_values() {
            group.refuse_queue(ErrorCode::NotCoordinator, fx);
        }
    }

    /// A loaded consumer group: every member's session runs anew.
    pub(crate) fn load_consumer(&mut self, id: &Arc<str>, now: Now) {
        let incarnation = self.core.next_incarnation();
        let Some(store) = self.core.store.get(id) else { return };
        let mut group = ConsumerGroup::from_store(id.clone(), incarnation, store, now);
        group.restart_timers(&self.core.config.consumer, now, true);
        arm(&mut self.timers, &mut group);
        self.consumers.insert(id.clone(), group);
    }

    /// Deadlines of a consumer group. While an append is under way they wait for it.
    pub(crate) fn fire_consumer(&mut self, id: &Arc<str>, now: Now, fx: &mut Effects) {
        let Some(group) = self.consumers.get_mut(id) else { return };
        group.armed = None;
        if group.open.is_none() {
            self.consumer_step(id, now, fx, None, |group, w| group.fire(w));
        }
    }
}

/// The group could not be ended for the classic members that wait for it.
fn refuse_joins(queue: &mut VecDeque<(Token, Queued)>, error: ErrorCode, fx: &mut Effects) {
    queue.retain(|(token, item)| {
        let is_join = matches!(item, Queued::Join(_));
        if is_join {
            fx.push(Effect::Reply { token: *token, reply: item.refuse(error) });
        }
        !is_join
    });
}

impl ConsumerGroup {
    /// Decides one request.
    pub(crate) fn serve(&mut self, w: &mut Work<'_>, (token, item): (Token, Queued)) {
        let reply = match item {
            Queued::Heartbeat(request) => {
                let outcome = self.heartbeat(w, request);
                let refused = |(error, text)| ConsumerHeartbeatReply::refused(error, Some(text));
                Reply::ConsumerHeartbeat(outcome.unwrap_or_else(refused))
            }
            Queued::Join(request) => {
                let refused = |(error, id): (ErrorCode, String)| JoinReply::refused(error, &id);
                Reply::Join(self.join_classic(w, &request).unwrap_or_else(refused))
            }
            Queued::Sync(request) => {
                Reply::Sync(self.sync_classic(w, &request).unwrap_or_else(SyncReply::refused))
            }
            Queued::Beat(request) => Reply::Heartbeat(self.heartbeat_classic(w, &request)),
            Queued::Leave(request) => Reply::Leave(self.leave_classic(w, request)),
        };
        w.answers.push((token, reply));
    }

    /// Answers all that waits.
    pub(crate) fn refuse_queue(&mut self, error: ErrorCode, fx: &mut Effects) {
        for (token, item) in self.queue.drain(..) {
            fx.push(Effect::Reply { token, reply: item.refuse(error) });
        }
    }

    /// A classic member makes a classic group of one that nobody is in.
    pub(crate) fn must_end_for(&self, item: &Queued) -> bool {
        self.members.is_empty() && matches!(item, Queued::Join(_))
    }

    /// Sessions, all or where none runs, and the time of members that are to give partitions up.
    fn restart_timers(&mut self, config: &super::ConsumerConfig, now: Now, all: bool) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            if all || self.members.get(&id).is_some_and(|m| m.deadline.is_none()) {
                self.restart_session(config, now, &id);
            }
            if let Some(member) = self.members.get_mut(&id)
                && member.state() == super::MemberState::Unrevoked
                && !member.is_classic()
            {
                let at = now.mono.after_ms(i64::from(member.value.rebalance_timeout_ms));
                member.revoke_by = Some((at, member.current.epoch));
            }
        }
        self.recompute_wanted();
    }
}

/// Moves a group's entry in the timer set to an earlier deadline; none while an append is under way.
fn arm(timers: &mut std::collections::BTreeSet<(model::Mono, Arc<str>)>, group: &mut ConsumerGroup) {
    let Some(wanted) = group.wanted.filter(|_| group.open.is_none()) else { return };
    if group.armed.is_some_and(|armed| armed <= wanted) {
        return;
    }
    if let Some(armed) = group.armed.replace(wanted) {
        timers.remove(&(armed, group.id.clone()));
    }
    timers.insert((wanted, group.id.clone()));
}
