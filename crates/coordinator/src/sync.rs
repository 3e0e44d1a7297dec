//! SyncGroup, Heartbeat and LeaveGroup.
use crate::consumer::Queued;
use crate::context::Cx;
use crate::context::{After, Assigned};
use crate::coordinator::GroupCoordinator;
use crate::events::{CauseKind, Effect, Effects};
use crate::group::{Group, GroupState};
use crate::rebalance::Why;
use crate::replies::{LeaveReply, LeftMember, Reply, SyncReply};
use crate::requests::{HeartbeatRequest, LeaveRequest, LeavingMember, SyncRequest, Token};
use bytes::Bytes;
use model::{ErrorCode, Now};
use std::collections::BTreeMap;

impl GroupCoordinator {
    /// SyncGroup. Answered when the generation's assignment is stored.
    pub fn sync(&mut self, now: Now, token: Token, request: SyncRequest, fx: &mut Effects) {
        let id = request.group_id.clone();
        let Some(Queued::Sync(request)) = self.ask_consumer(now, token, &id, Queued::Sync(request), fx)
        else {
            return;
        };
        let checked = self.serving_group(&request.group_id);
        let checked = checked.and_then(|()| match self.groups.get(request.group_id.as_str()) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(group) => group.check_sync(&request),
        });
        if let Err(error) = checked {
            let reply = Reply::Sync(SyncReply::refused(error));
            return fx.push(Effect::Reply { token, reply });
        }
        let id = request.group_id.clone();
        self.step(&id, now, fx, |group, cx| group.sync(cx, token, request));
    }

    /// Heartbeat. Always answered at once.
    pub fn heartbeat(&mut self, now: Now, token: Token, request: HeartbeatRequest, fx: &mut Effects) {
        let id = request.group_id.clone();
        let Some(Queued::Beat(request)) = self.ask_consumer(now, token, &id, Queued::Beat(request), fx)
        else {
            return;
        };
        let mut error = match self.serving_group(&request.group_id) {
            // A loading coordinator does not know yet: as in Kafka the member is left in peace.
            Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            Err(error) => error,
            Ok(()) => match self.groups.get(request.group_id.as_str()) {
                None => ErrorCode::UnknownMemberId,
                Some(group) => group.check_heartbeat(&request),
            },
        };
        if error.is_none() && self.serving().is_ok() {
            self.step(&request.group_id, now, fx, |group, cx| {
                group.restart_session(&request.member_id, cx);
                if group.state == GroupState::PreparingRebalance {
                    error = ErrorCode::RebalanceInProgress;
                }
            });
        }
        fx.push(Effect::Reply { token, reply: Reply::Heartbeat(error) });
    }

    /// LeaveGroup. Answered at once, or when the empty group is stored.
    pub fn leave(&mut self, now: Now, token: Token, request: LeaveRequest, fx: &mut Effects) {
        let id = request.group_id.clone();
        let Some(Queued::Leave(request)) = self.ask_consumer(now, token, &id, Queued::Leave(request), fx)
        else {
            return;
        };
        if let Err(error) = self.serving_group(&request.group_id) {
            let reply = Reply::Leave(LeaveReply { error, members: Vec::new() });
            return fx.push(Effect::Reply { token, reply });
        }
        let id = request.group_id.clone();
        if !self.groups.contains_key(id.as_str()) {
            let unknown = |m: LeavingMember| LeftMember {
                member_id: m.member_id,
                instance_id: m.instance_id,
                error: ErrorCode::UnknownMemberId,
            };
            let members = request.members.into_iter().map(unknown).collect();
            let reply = Reply::Leave(LeaveReply { error: ErrorCode::None, members });
            return fx.push(Effect::Reply { token, reply });
        }
        self.step(&id, now, fx, |group, cx| group.leave(cx, token, request.members));
    }
}

impl Group {
    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        let differs = |asked: &Option<String>, ours: &Option<String>| matches!((asked, ours), (Some(asked), Some(ours)) if asked != ours);
        if self.state == GroupState::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate(&request.member_id, request.instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn sync(&mut self, cx: &mut Cx<'_>, token: Token, request: SyncRequest) {
        self.synced(&request.member_id);
        if self.state == GroupState::Stable {
            return cx.reply(token, Reply::Sync(self.sync_reply(&request.member_id)));
        }
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        if let Some(old) = member.sync.replace(token) {
            cx.reply(old, Reply::Sync(SyncReply::refused(ErrorCode::RebalanceInProgress)));
        }
        if !self.is_leader(&request.member_id) || self.storing {
            return;
        }
        self.storing = true;
        let copied = |(id, bytes): (String, Bytes)| (id, Bytes::copy_from_slice(&bytes));
        let mut assignment: BTreeMap<String, Bytes> = request.assignments.into_iter().map(copied).collect();
        assignment.retain(|id, _| self.members.contains_key(id));
        let value = self.to_value(|id, _| assignment.get(id).cloned().unwrap_or_default());
        let after = After::Assigned(Box::new(Assigned {
            group: self.id.clone(),
            incarnation: self.incarnation,
            generation: self.generation,
            member_id: request.member_id,
            assignment,
        }));
        let write = crate::store::Write::Group { value: Some(value.encode()) };
        cx.append(vec![(self.id.clone(), vec![write])], vec![after]);
    }

    fn check_heartbeat(&self, request: &HeartbeatRequest) -> ErrorCode {
        match self.validate(&request.member_id, request.instance_id.as_deref()) {
            Err(error) => error,
            Ok(()) if request.generation_id != self.generation => ErrorCode::IllegalGeneration,
            Ok(()) if self.state == GroupState::Empty => ErrorCode::UnknownMemberId,
            Ok(()) => ErrorCode::None,
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_>, token: Token, leaving: Vec<LeavingMember>) {
        let mut left: Vec<LeftMember> = Vec::with_capacity(leaving.len());
        let mut first: Option<(String, String)> = None;
        for member in leaving {
            let outcome = self.leave_one(cx, &member);
            if let (Ok(id), None) = (&outcome, &first) {
                first = Some((id.clone(), member.reason.unwrap_or_else(|| "not provided".to_owned())));
            }
            left.push(LeftMember {
                member_id: member.member_id,
                instance_id: member.instance_id,
                error: outcome.err().unwrap_or(ErrorCode::None),
            });
        }
        if let Some((member_id, reason)) = first {
            let why = Why { kind: CauseKind::MemberLeft, member_id: &member_id, reason: &reason };
            match self.state {
                GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(cx, why),
                GroupState::PreparingRebalance => self.maybe_complete_join(cx),
                GroupState::Empty => {}
            }
        }
        let reply = Reply::Leave(LeaveReply { error: ErrorCode::None, members: left });
        match cx.appended {
            Some(_) => cx.answer_after(&self.id, After::Answer { token, reply }),
            None => cx.reply(token, reply),
        }
    }

    /// Takes out whom a LeaveGroup names, and says who it was.
    fn leave_one(&mut self, cx: &mut Cx<'_>, leaving: &LeavingMember) -> Result<String, ErrorCode> {
        let id = if leaving.member_id.is_empty() {
            let instance = leaving.instance_id.as_deref().ok_or(ErrorCode::UnknownMemberId)?;
            self.static_ids.get(instance).cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else if self.pending_join.contains_key(&leaving.member_id) {
            leaving.member_id.clone()
        } else {
            self.validate(&leaving.member_id, leaving.instance_id.as_deref())?;
            leaving.member_id.clone()
        };
        self.remove(&id, cx);
        Ok(id)
    }
}
