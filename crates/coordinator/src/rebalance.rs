//! The rules that move a classic group from state to state.
use crate::codec::cut;
use crate::context::Cx;
use crate::events::{CauseKind, GroupEvent, RebalanceCause};
use crate::group::{Group, GroupState, JoinTimer};
use crate::replies::{JoinReply, Reply, SyncReply};
use bytes::Bytes;
use model::ErrorCode;

/// What sets off a rebalance.
pub(crate) struct Why<'a> {
    pub(crate) kind: CauseKind,
    pub(crate) member_id: &'a str,
    pub(crate) reason: &'a str,
}

impl Group {
    /// Answers a member's parked JoinGroup.
    pub(crate) fn answer_join(&mut self, member_id: &str, cx: &mut Cx<'_>, reply: JoinReply) -> bool {
        match self.park_join(member_id, None) {
            Some(token) => {
                cx.reply(token, Reply::Join(reply));
                true
            }
            None => false,
        }
    }

    /// Answers a member's parked SyncGroup.
    pub(crate) fn answer_sync(&mut self, member_id: &str, cx: &mut Cx<'_>, reply: SyncReply) -> bool {
        match self.members.get_mut(member_id).and_then(|m| m.sync.take()) {
            Some(token) => {
                cx.reply(token, Reply::Sync(reply));
                true
            }
            None => false,
        }
    }

    /// Takes a member out; what it had parked is answered UNKNOWN_MEMBER_ID, so that a live client joins anew.
    pub(crate) fn remove(&mut self, member_id: &str, cx: &mut Cx<'_>) {
        self.answer_join(member_id, cx, JoinReply::refused(ErrorCode::UnknownMemberId, ""));
        self.answer_sync(member_id, cx, SyncReply::refused(ErrorCode::UnknownMemberId));
        self.take_out(member_id);
    }

    /// The session runs anew from now.
    pub(crate) fn restart_session(&mut self, member_id: &str, cx: &Cx<'_>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let at = cx.now.mono.after_ms(i64::from(member.session_timeout_ms));
        member.deadline = Some(at);
        self.want(at);
    }

    pub(crate) fn prepare_or_complete(&mut self, cx: &mut Cx<'_>, why: Why<'_>) {
        if self.can_rebalance() { self.prepare_rebalance(cx, why) } else { self.maybe_complete_join(cx) }
    }

    /// Completes the join phase if all are there, except in the waiting time of a first rebalance.
    pub(crate) fn maybe_complete_join(&mut self, cx: &mut Cx<'_>) {
        let joining = self.state == GroupState::PreparingRebalance;
        if joining && self.previous != GroupState::Empty && self.has_all_joined() {
            self.complete_join(cx);
        }
    }

    pub(crate) fn prepare_rebalance(&mut self, cx: &mut Cx<'_>, why: Why<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.refuse_syncs(cx, ErrorCode::RebalanceInProgress);
        }
        self.storing = false;
        self.pending_sync.clear();
        self.sync_timer = None;
        let cause = RebalanceCause {
            at: cx.now.wall,
            generation_id: self.generation,
            member_id: why.member_id.to_owned(),
            kind: why.kind,
            reason: cut(why.reason, 256).to_owned(),
        };
        cx.event(GroupEvent::RebalanceStarted { group_id: self.id.to_string(), cause: cause.clone() });
        self.remember(cause, cx.core.config.causes_kept);

        let initial = self.state == GroupState::Empty;
        self.set_state(GroupState::PreparingRebalance, cx.now.wall);
        if initial {
            let delay_ms = i64::from(cx.core.config.initial_rebalance_delay_ms);
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            let at = cx.now.mono.after_ms(delay_ms);
            self.start_join_timer(JoinTimer::Initial { at, delay_ms, remaining_ms });
        } else if self.has_all_joined() {
            self.complete_join(cx);
        } else {
            self.start_join_timer(JoinTimer::Rebalance {
                at: cx.now.mono.after_ms(self.rebalance_timeout_ms()),
            });
        }
    }

    fn start_join_timer(&mut self, timer: JoinTimer) {
        self.want(timer.at());
        self.join_timer = Some(timer);
    }

    /// The join timer has run out.
    pub(crate) fn join_timer_fired(&mut self, cx: &mut Cx<'_>, timer: JoinTimer) {
        self.join_timer = None;
        match timer {
            JoinTimer::Initial { delay_ms, remaining_ms, .. }
                if self.new_member_added && remaining_ms != 0 =>
            {
                self.new_member_added = false;
                let next = i64::from(cx.core.config.initial_rebalance_delay_ms).min(remaining_ms);
                self.start_join_timer(JoinTimer::Initial {
                    at: cx.now.mono.after_ms(next),
                    delay_ms: next,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
            }
            JoinTimer::Initial { .. } | JoinTimer::Rebalance { .. } => self.complete_join(cx),
        }
    }

    /// Begins the next generation with those who joined. Static members keep their place until their session ends.
    pub(crate) fn complete_join(&mut self, cx: &mut Cx<'_>) {
        self.join_timer = None;
        self.new_member_added = false;
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| m.join.is_none() && m.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.remove(&id, cx);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members that did not come back are left: wait until their sessions end.
            // A client may have asked for 0 ms: that must not become a busy loop.
            let wait = self.rebalance_timeout_ms().max(1_000);
            self.start_join_timer(JoinTimer::Rebalance { at: cx.now.mono.after_ms(wait) });
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        if self.members.is_empty() {
            self.set_state(GroupState::Empty, cx.now.wall);
            cx.append_group(self, |_, _| Bytes::new(), Vec::new());
            return;
        }
        self.set_state(GroupState::CompletingRebalance, cx.now.wall);
        cx.event(GroupEvent::GenerationStarted {
            group_id: self.id.to_string(),
            generation_id: self.generation,
            members: self.members.len(),
        });
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.current_join_reply(&id);
            self.answer_join(&id, cx, reply);
            self.restart_session(&id, cx);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.pending_sync.insert(id);
        }
        let at = cx.now.mono.after_ms(self.rebalance_timeout_ms());
        self.sync_timer = Some(at);
        self.want(at);
    }

    /// The current generation as a member's JoinGroup answer.
    pub(crate) fn current_join_reply(&self, member_id: &str) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) { self.joined_members() } else { Vec::new() },
        }
    }

    /// Whether a leader has joined, after handing the lead to one who did where the old one did not.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|m| m.join.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, m)| m.join.is_some()).map(|(id, _)| id.clone());
        match joined {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Answers all parked SyncGroups with an error and forgets the assignment.
    pub(crate) fn refuse_syncs(&mut self, cx: &mut Cx<'_>, error: ErrorCode) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = Bytes::new();
            }
            if self.answer_sync(&id, cx, SyncReply::refused(error)) {
                self.restart_session(&id, cx);
            }
        }
    }

    pub(crate) fn sync_reply(&self, member_id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self.members.get(member_id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }

    /// A member is out after its session, its id or its seat ended.
    pub(crate) fn after_removal(&mut self, cx: &mut Cx<'_>, why: Why<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(cx, why),
            GroupState::PreparingRebalance if self.has_all_joined() => self.complete_join(cx),
            GroupState::PreparingRebalance | GroupState::Empty => {}
        }
    }

    /// A member has asked for its assignment.
    pub(crate) fn synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_timer = None;
        }
    }

    /// Members that did not ask for their assignment in time are out.
    pub(crate) fn sync_timer_fired(&mut self, cx: &mut Cx<'_>) {
        self.sync_timer = None;
        let synced = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        let late = std::mem::take(&mut self.pending_sync);
        if !synced || late.is_empty() {
            return;
        }
        for id in &late {
            cx.event(GroupEvent::MemberExpired { group_id: self.id.to_string(), member_id: id.clone() });
            self.remove(id, cx);
        }
        let member_id = late.first().map(String::as_str).unwrap_or("");
        let reason = format!("{} members did not ask for their assignment in time", late.len());
        self.prepare_rebalance(cx, Why { kind: CauseKind::SyncExpired, member_id, reason: &reason });
    }

    /// Everything of this group that is due.
    pub(crate) fn fire(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let unused: Vec<String> =
            self.pending_join.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in unused {
            self.pending_join.remove(&id);
            cx.event(GroupEvent::MemberExpired { group_id: self.id.to_string(), member_id: id });
            if self.state == GroupState::PreparingRebalance && self.has_all_joined() {
                self.complete_join(cx);
            }
        }
        let due = |at: &Option<model::Mono>| at.is_some_and(|at| at <= now);
        let late: Vec<String> =
            self.members.iter().filter(|(_, m)| due(&m.deadline)).map(|(id, _)| id.clone()).collect();
        for id in late {
            // An earlier removal of this step may have moved the group and with it this member's session.
            let Some(member) = self.members.get_mut(&id).filter(|m| due(&m.deadline)) else { continue };
            if member.is_vouched_for() {
                member.deadline = None;
                continue;
            }
            cx.event(GroupEvent::MemberExpired { group_id: self.id.to_string(), member_id: id.clone() });
            self.remove(&id, cx);
            let reason = "its session timed out";
            self.after_removal(cx, Why { kind: CauseKind::SessionExpired, member_id: &id, reason });
        }
        if let Some(timer) = self.join_timer.filter(|t| t.at() <= now) {
            self.join_timer_fired(cx, timer);
        }
        if due(&self.sync_timer) {
            self.sync_timer_fired(cx);
        }
        self.recompute_wanted();
    }
}
