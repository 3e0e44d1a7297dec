//! What follows when an append is committed or has failed.
use crate::consumer::ConsumerHeartbeatReply;
use crate::context::{After, Assigned, Cx, Replaced, client_error};
use crate::coordinator::{GroupCoordinator, arm};
use crate::events::{BatchId, CauseKind, Effects, GroupEvent};
use crate::group::{Group, GroupState};
use crate::rebalance::Why;
use crate::replies::{JoinReply, LeaveReply, Reply, SyncReply};
use model::{ErrorCode, Now};
use std::sync::Arc;

impl GroupCoordinator {
    /// The batch is committed in the log, though it may not be answered yet: `min.insync.replicas` may want more copies. What
    /// it says counts from here on, so that it and the markers of transactions take effect in the order of the log.
    pub fn on_applied(&mut self, batch: BatchId) {
        let Some(applied) = self.core.batches.get_mut(&batch) else { return };
        for (group, places) in std::mem::take(&mut applied.places) {
            self.core.store.commit(batch, &group, &places);
        }
    }

    /// The batch is committed and may be answered. Unknown batches, of before an `unload`, are ignored.
    pub fn on_committed(&mut self, now: Now, batch: BatchId, fx: &mut Effects) {
        let Some(done) = self.core.batches.remove(&batch) else { return };
        for (group, places) in &done.places {
            self.core.store.commit(batch, group, places);
        }
        for after in done.after {
            self.settle(now, after, ErrorCode::None, fx);
        }
    }

    /// The batch was refused and will *never* be committed; where that is not certain, use
    /// [`unload`](Self::unload) and load again. What it changed is undone.
    pub fn on_append_failed(&mut self, now: Now, batch: BatchId, error: ErrorCode, fx: &mut Effects) {
        let Some(failed) = self.core.batches.remove(&batch) else { return };
        for (group, places) in &failed.places {
            self.core.store.undo(batch, group, places);
        }
        let error = match client_error(error) {
            ErrorCode::None => ErrorCode::UnknownServerError,
            error => error,
        };
        for after in failed.after {
            self.settle(now, after, error, fx);
        }
        for (group, _) in &failed.places {
            self.keep_group_of_records(now, group);
            self.drop_group_of_nothing(group);
        }
    }

    /// What an undone tombstone brought back needs a group to live in.
    fn keep_group_of_records(&mut self, now: Now, id: &Arc<str>) {
        if self.consumers.contains_key(id) || self.groups.contains_key(id) {
            return;
        }
        if self.core.store.get(id).is_some_and(|s| s.is_consumer()) {
            return self.load_consumer(id, now);
        }
        let has_offsets =
            self.core.store.get(id).is_some_and(|s| s.has_meta() || !s.latest_places().is_empty());
        if has_offsets {
            self.create_group(id);
        }
    }

    fn settle(&mut self, now: Now, after: After, error: ErrorCode, fx: &mut Effects) {
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        match after {
            After::Answer { token, reply } => {
                cx.reply(token, if error.is_none() { reply } else { reply.failed(error) });
            }
            After::Fetch { token, request } => {
                let reply = Reply::Fetch(crate::offsets::read(&cx.core.store, &request));
                cx.reply(token, reply);
            }
            After::Assigned(assigned) => {
                let id = assigned.group.clone();
                self.step(&id, now, fx, |group, cx| group.assigned(cx, *assigned, error));
            }
            After::Replaced(replaced) => {
                let id = replaced.group.clone();
                self.step(&id, now, fx, |group, cx| group.replaced(cx, *replaced, error));
            }
            After::Stored(stored) => self.consumer_stored(now, *stored, error, fx),
            After::Created { group, incarnation } if !error.is_none() => {
                self.undo_creation(now, &group, incarnation, error, fx);
            }
            After::Deleted { group }
                if !error.is_none()
                    && !self.groups.contains_key(&group.id)
                    && !self.consumers.contains_key(&group.id) =>
            {
                let mut group = *group;
                arm(&mut self.timers, &mut group);
                self.groups.insert(group.id.clone(), group);
            }
            After::Created { .. } | After::Deleted { .. } => {}
        }
    }

    /// The first record of a new group failed: nobody may stay in a group that the log does not know. Who came while it was
    /// under way comes again, and makes the group anew.
    fn undo_creation(&mut self, now: Now, id: &str, incarnation: u64, error: ErrorCode, fx: &mut Effects) {
        let same = self.groups.get(id).is_some_and(|g| g.incarnation == incarnation && g.generation == 0);
        if !same || self.core.store.get(id).is_some() {
            return;
        }
        let Some(mut group) = self.remove_group(id) else { return };
        let mut cx = Cx { core: &mut self.core, now, fx, appended: None };
        group.dismiss(&mut cx, for_members(error));
    }
}

/// What members are told of a record that could not be stored. It may be another's: what a transactional commit is refused
/// with says nothing to those who joined meanwhile.
fn for_members(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress | ErrorCode::UnknownServerError => {
            error
        }
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}

impl Group {
    /// Answers everything parked with one error.
    pub(crate) fn dismiss(&mut self, cx: &mut Cx<'_>, error: ErrorCode) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.answer_join(&id, cx, JoinReply::refused(error, &id));
            self.answer_sync(&id, cx, SyncReply::refused(error));
        }
    }

    fn assigned(&mut self, cx: &mut Cx<'_>, done: Assigned, error: ErrorCode) {
        let current = self.incarnation == done.incarnation
            && self.state == GroupState::CompletingRebalance
            && self.generation == done.generation;
        if !current {
            return;
        }
        self.storing = false;
        if !error.is_none() {
            self.refuse_syncs(cx, error);
            let why = Why {
                kind: CauseKind::StoreFailed,
                member_id: &done.member_id,
                reason: &format!("storing the assignment failed with {}", error.name()),
            };
            return self.prepare_rebalance(cx, why);
        }
        self.set_state(GroupState::Stable, cx.now.wall);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = done.assignment.get(&id).cloned().unwrap_or_default();
            }
            let reply = self.sync_reply(&id);
            if self.answer_sync(&id, cx, reply) {
                self.restart_session(&id, cx);
            }
        }
        cx.event(GroupEvent::RebalanceCompleted {
            group_id: self.id.to_string(),
            generation_id: self.generation,
            members: self.members.len(),
        });
    }

    fn replaced(&mut self, cx: &mut Cx<'_>, done: Replaced, error: ErrorCode) {
        let holds = self.static_ids.get(&done.instance_id) == Some(&done.new_id);
        if self.incarnation != done.incarnation || !holds {
            return;
        }
        let mut reply = self.current_join_reply(&done.new_id);
        if error.is_none() {
            // A rebalance that began meanwhile answers the parked join itself.
            if self.state != GroupState::Stable {
                return;
            }
            if done.supports_skip_assignment {
                reply.skip_assignment = self.is_leader(&done.new_id);
            } else {
                // The old leader's id keeps the member from computing an assignment that nobody waits for.
                reply.members = Vec::new();
                reply.leader = done.old_leader;
            }
            self.answer_join(&done.new_id, cx, reply);
            return self.restart_session(&done.new_id, cx);
        }
        if self.state != GroupState::Stable {
            return;
        }
        reply.error = error;
        reply.members = Vec::new();
        reply.member_id = String::new();
        reply.leader = done.old_leader;
        self.answer_join(&done.new_id, cx, reply);
        let (old, new) = (done.old_id.as_str(), done.new_id.as_str());
        self.update(new, done.old_protocols, done.old_rebalance_timeout_ms, done.old_session_timeout_ms);
        self.rename_static(&done.instance_id, new, old);
        self.restart_session(old, cx);
    }
}

impl Reply {
    /// The same answer for a request whose append failed.
    pub(crate) fn failed(self, error: ErrorCode) -> Reply {
        match self {
            Reply::Commit(mut reply) => {
                for (_, outcome) in reply.topics.iter_mut().flat_map(|t| &mut t.partitions) {
                    *outcome = error;
                }
                Reply::Commit(reply)
            }
            Reply::DeleteOffsets(mut reply) => {
                reply.error = error;
                reply.topics.clear();
                Reply::DeleteOffsets(reply)
            }
            Reply::DeleteGroups(groups) => {
                Reply::DeleteGroups(groups.into_iter().map(|(id, _)| (id, error)).collect())
            }
            Reply::Leave(_) => Reply::Leave(LeaveReply { error, members: Vec::new() }),
            Reply::Join(reply) => Reply::Join(JoinReply::refused(error, &reply.member_id)),
            Reply::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Reply::Heartbeat(_) => Reply::Heartbeat(error),
            Reply::ConsumerHeartbeat(_) => {
                Reply::ConsumerHeartbeat(ConsumerHeartbeatReply::refused(error, None))
            }
            Reply::Fetch(mut reply) => {
                reply.error = error;
                reply.topics.clear();
                Reply::Fetch(reply)
            }
        }
    }
}
