//! JoinGroup.
use crate::context::{After, Cx, Replaced};
use crate::coordinator::GroupCoordinator;
use crate::events::{CauseKind, Effects, GroupEvent};
use crate::group::{Group, GroupState, Member};
use crate::rebalance::Why;
use crate::replies::{JoinReply, Reply, SyncReply};
use crate::requests::{JoinRequest, Token};
use crate::store::Write;
use bytes::Bytes;
use model::{ErrorCode, Now};

/// Texts of a record have 16-bit lengths; an id above this could not be stored.
const MAX_ID: usize = 32_000;

impl GroupCoordinator {
    /// JoinGroup. Answered when the generation begins, or at once if it is refused.
    pub fn join(&mut self, now: Now, token: Token, mut request: JoinRequest, fx: &mut Effects) {
        let mut refuse = |error, member_id: &str| {
            let reply = Reply::Join(JoinReply::refused(error, member_id));
            fx.push(crate::events::Effect::Reply { token, reply });
        };
        if let Err(error) = check_join(&self.core.config, &mut request) {
            return refuse(error, &request.member_id);
        }
        if let Err(error) = self.serving() {
            return refuse(error, "");
        }
        let Some(request) = self.join_consumer(now, token, request, fx) else { return };
        let mut refuse = |error, member_id: &str| {
            let reply = Reply::Join(JoinReply::refused(error, member_id));
            fx.push(crate::events::Effect::Reply { token, reply });
        };
        let is_new_group = !self.groups.contains_key(request.group_id.as_str());
        if is_new_group {
            if !request.member_id.is_empty() {
                return refuse(ErrorCode::UnknownMemberId, &request.member_id);
            }
            if request.protocol_type.is_empty() || request.protocols.is_empty() {
                return refuse(ErrorCode::InconsistentGroupProtocol, "");
            }
            if self.groups.len() >= self.core.config.max_groups {
                return refuse(ErrorCode::GroupMaxSizeReached, "");
            }
            self.create_group(&request.group_id);
        }
        let id = request.group_id.clone();
        self.step(&id, now, fx, |group, cx| {
            group.join(cx, token, request);
            if is_new_group && cx.appended.is_none() {
                let created = After::Created { group: group.id.clone(), incarnation: group.incarnation };
                cx.append_group(group, |_, _| Bytes::new(), vec![created]);
            }
        });
    }
}

/// What can be refused without looking at the group; also settles what versions leave open.
fn check_join(config: &crate::GroupConfig, request: &mut JoinRequest) -> Result<(), ErrorCode> {
    if request.group_id.is_empty() || request.group_id.len() > MAX_ID {
        return Err(ErrorCode::InvalidGroupId);
    }
    let sessions = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if !sessions.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    if request.rebalance_timeout_ms < 0 {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let instance = request.instance_id.as_ref().map_or(0, String::len);
    let ids = [instance, request.client_id.len(), request.client_host.len(), request.protocol_type.len()];
    let metadata: usize = request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
    let names_fit = request.protocols.iter().all(|p| p.name.len() <= MAX_ID);
    if ids.iter().any(|n| *n > MAX_ID) || !names_fit || metadata > config.max_member_metadata {
        return Err(ErrorCode::InvalidRequest);
    }
    for protocol in &mut request.protocols {
        // The metadata outlives the request's buffer, which may be far larger.
        protocol.metadata = Bytes::copy_from_slice(&protocol.metadata);
    }
    Ok(())
}

impl Group {
    fn join(&mut self, cx: &mut Cx<'_>, token: Token, request: JoinRequest) {
        let refuse = |cx: &mut Cx<'_>, error, member_id: &str| {
            cx.reply(token, Reply::Join(JoinReply::refused(error, member_id)));
        };
        if !self.has_room_for(&request.member_id, cx.core.config.max_size) {
            self.remove(&request.member_id, cx);
            refuse(cx, ErrorCode::GroupMaxSizeReached, "");
            return self.maybe_complete_join(cx);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refuse(cx, ErrorCode::InconsistentGroupProtocol, &request.member_id);
        }
        if request.member_id.is_empty() {
            return self.join_unknown(cx, token, request);
        }
        if self.pending_join.contains_key(&request.member_id) {
            if request.instance_id.is_some() {
                return refuse(cx, ErrorCode::UnknownServerError, &request.member_id);
            }
            let id = request.member_id.clone();
            return self.admit(cx, token, request, id);
        }
        if let Err(error) = self.validate(&request.member_id, request.instance_id.as_deref()) {
            return refuse(cx, error, &request.member_id);
        }
        self.join_known(cx, token, request);
    }

    /// Kafka's rule: who waits already may wait on; otherwise members, or those who have joined again, are counted.
    fn has_room_for(&self, member_id: &str, max_size: i32) -> bool {
        let max = usize::try_from(max_size).unwrap_or(0);
        let member = self.members.get(member_id);
        match self.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|m| m.join.is_some()) || self.awaiting_join < max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < max
            }
        }
    }

    fn join_unknown(&mut self, cx: &mut Cx<'_>, token: Token, request: JoinRequest) {
        let prefix = request.instance_id.as_deref().unwrap_or(&request.client_id);
        let new_id = cx.core.ids.generate(prefix);
        if let Some(instance) = request.instance_id.clone() {
            return match self.static_ids.get(&instance).cloned() {
                Some(old) => self.replace_static(cx, token, request, instance, old, new_id),
                None => self.admit(cx, token, request, new_id),
            };
        }
        if !request.require_known_member_id {
            return self.admit(cx, token, request, new_id);
        }
        if self.pending_join.len() >= cx.core.config.max_pending_members {
            let reply = JoinReply::refused(ErrorCode::GroupMaxSizeReached, "");
            return cx.reply(token, Reply::Join(reply));
        }
        let at = cx.now.mono.after_ms(i64::from(request.session_timeout_ms));
        self.pending_join.insert(new_id.clone(), at);
        self.want(at);
        cx.reply(token, Reply::Join(JoinReply::refused(ErrorCode::MemberIdRequired, &new_id)));
    }

    /// Adds a member and parks its request.
    fn admit(&mut self, cx: &mut Cx<'_>, token: Token, request: JoinRequest, member_id: String) {
        if self.state == GroupState::PreparingRebalance && self.previous == GroupState::Empty {
            self.new_member_added = true;
        }
        let at = cx.now.mono.after_ms(cx.core.config.new_member_join_timeout_ms);
        let member = Member {
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            join: Some(token),
            sync: None,
            is_new: true,
            deadline: Some(at),
        };
        self.want(at);
        self.add(member_id.clone(), member, &request.protocol_type);
        let reason = request.reason.as_deref().unwrap_or("not provided");
        self.prepare_or_complete(cx, Why { kind: CauseKind::MemberJoined, member_id: &member_id, reason });
    }

    /// JoinGroup of a member of this group.
    fn join_known(&mut self, cx: &mut Cx<'_>, token: Token, request: JoinRequest) {
        let id = request.member_id.as_str();
        let unchanged = self.members.get(id).is_some_and(|m| m.protocols == request.protocols);
        let rebalance = match self.state {
            GroupState::PreparingRebalance => true,
            // With the same metadata it has most likely missed the answer.
            GroupState::CompletingRebalance => !unchanged,
            // The leader may ask for a new assignment for reasons of its own.
            GroupState::Stable => self.is_leader(id) || !unchanged,
            GroupState::Empty => {
                return cx.reply(token, Reply::Join(JoinReply::refused(ErrorCode::UnknownMemberId, id)));
            }
        };
        if !rebalance {
            return cx.reply(token, Reply::Join(self.current_join_reply(id)));
        }
        self.update(id, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
        self.park_or_displace(cx, id, token);
        let reason = request.reason.as_deref().unwrap_or("not provided");
        self.prepare_or_complete(cx, Why { kind: CauseKind::MemberRejoined, member_id: id, reason });
    }

    /// A client that asks again has given up on its earlier request; that one must still be answered.
    fn park_or_displace(&mut self, cx: &mut Cx<'_>, member_id: &str, token: Token) {
        if let Some(old) = self.park_join(member_id, Some(token)) {
            let reply = JoinReply::refused(ErrorCode::RebalanceInProgress, member_id);
            cx.reply(old, Reply::Join(reply));
        }
    }

    /// A static member came back without its id: it takes the seat and gets a new id; the old id is fenced.
    fn replace_static(
        &mut self,
        cx: &mut Cx<'_>,
        token: Token,
        request: JoinRequest,
        instance: String,
        old: String,
        new: String,
    ) {
        let old_leader = self.leader.clone().unwrap_or_default();
        let (join, sync) = self.rename_static(&instance, &old, &new);
        if let Some(waiting) = join {
            let fenced = JoinReply::refused(ErrorCode::FencedInstanceId, &old);
            cx.reply(waiting, Reply::Join(fenced));
        }
        if let Some(waiting) = sync {
            cx.reply(waiting, Reply::Sync(SyncReply::refused(ErrorCode::FencedInstanceId)));
        }
        cx.event(GroupEvent::MemberFenced { group_id: self.id.to_string(), member_id: old.clone() });
        let Some(member) = self.members.get(&new) else { return };
        let before = (member.protocols.clone(), member.rebalance_timeout_ms, member.session_timeout_ms);
        self.restart_session(&new, cx);
        self.update(&new, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
        self.park_or_displace(cx, &new, token);
        let why = Why {
            kind: CauseKind::StaticMemberReplaced,
            member_id: &new,
            reason: request.reason.as_deref().unwrap_or("not provided"),
        };
        match self.state {
            GroupState::Stable if self.protocol == self.select_protocol() => {
                let undo = Replaced {
                    group: self.id.clone(),
                    incarnation: self.incarnation,
                    instance_id: instance,
                    old_id: old,
                    new_id: new,
                    old_leader,
                    old_protocols: before.0,
                    old_rebalance_timeout_ms: before.1,
                    old_session_timeout_ms: before.2,
                    supports_skip_assignment: request.supports_skip_assignment,
                };
                let value = Some(self.to_value(|_, m| m.assignment.clone()).encode());
                let write = (self.id.clone(), vec![Write::Group { value }]);
                cx.append(vec![write], vec![After::Replaced(Box::new(undo))]);
            }
            GroupState::Stable => self.prepare_or_complete(cx, why),
            // The leader may already have been told the old id: its assignment would miss the new one.
            GroupState::CompletingRebalance => self.prepare_rebalance(cx, why),
            GroupState::PreparingRebalance | GroupState::Empty => self.maybe_complete_join(cx),
        }
    }
}
