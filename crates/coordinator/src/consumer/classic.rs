//! Members that speak the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup served
//! from it, so that a group can change its protocol one member at a time.
use super::embedded::{Subscription, encode_assignment};
use super::reconcile::Report;
use super::records::{ClassicMemberValue, SubscriptionValue};
use super::{ConsumerGroup, Member, MemberState, Work};
use crate::events::CauseKind;
use crate::group::CONSUMER;
use crate::records::ConsumerKey;
use crate::replies::{JoinReply, LeaveReply, LeftMember, SyncReply};
use crate::requests::{HeartbeatRequest, JoinRequest, LeaveRequest, LeavingMember, Protocol, SyncRequest};
use model::{ErrorCode, Now};

impl ConsumerGroup {
    fn classic(&self) -> impl Iterator<Item = (&String, &ClassicMemberValue)> {
        self.members.iter().filter_map(|(id, m)| m.value.classic.as_ref().map(|classic| (id, classic)))
    }

    /// The first of these that every classic member supports.
    fn common_protocol<'a>(&self, protocols: &'a [Protocol]) -> Option<&'a str> {
        let supported = |name: &str| self.classic().all(|(_, c)| c.protocols.iter().any(|p| p.name == name));
        protocols.iter().map(|p| p.name.as_str()).find(|name| supported(name))
    }

    /// JoinGroup: the member has its assignment at once, there is no join phase.
    pub(crate) fn join_classic(
        &mut self,
        w: &mut Work<'_>,
        request: &JoinRequest,
    ) -> Result<JoinReply, (ErrorCode, String)> {
        let refuse = |error| Err((error, request.member_id.clone()));
        let max = usize::try_from(w.config.max_size).unwrap_or(0);
        let known = self.members.contains_key(&request.member_id)
            || request.instance_id.as_ref().is_some_and(|i| self.static_ids.contains_key(i));
        if self.members.len() >= max && !known {
            return refuse(ErrorCode::GroupMaxSizeReached);
        }
        if request.protocol_type != CONSUMER || self.common_protocol(&request.protocols).is_none() {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        }
        let Some(subscription) =
            request.protocols.first().and_then(|p| Subscription::decode(&p.metadata).ok())
        else {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        };
        let is_unknown = request.member_id.is_empty();
        if is_unknown && request.instance_id.is_none() && request.require_known_member_id {
            return Err((ErrorCode::MemberIdRequired, w.ids.generate(&request.client_id)));
        }
        let holder = request.instance_id.as_ref().map(|i| self.static_ids.get(i).cloned());
        let id = match &holder {
            _ if is_unknown => w.ids.generate(request.instance_id.as_ref().unwrap_or(&request.client_id)),
            Some(None) => return refuse(ErrorCode::UnknownMemberId),
            Some(Some(holder)) if *holder != request.member_id => return refuse(ErrorCode::FencedInstanceId),
            _ => request.member_id.clone(),
        };
        if let Some(Some(holder)) = holder.filter(|_| is_unknown) {
            self.replace(w, &holder, &id);
        }
        let changed = self.take_classic(w, &id, request, &subscription);
        self.refresh_epoch(w, changed, &id, None);
        self.refresh_target(w);
        let owned = subscription.owned(w.topics);
        let epoch = self.members.get(&id).map_or(0, |m| m.current.epoch);
        let report = Report { owned: Some(&owned), epoch, is_whole: true };
        self.reconcile(w, &id, report).map_err(|error| (error, id.clone()))?;
        self.restart_session(w.config, w.now, &id);
        let at = w.now.mono.after_ms(i64::from(request.rebalance_timeout_ms));
        self.want(at);
        let Some(member) = self.members.get_mut(&id) else { return refuse(ErrorCode::UnknownMemberId) };
        (member.join_by, member.sync_by) = (None, Some(at));
        Ok(JoinReply {
            error: ErrorCode::None,
            generation_id: member.current.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol_name: request.protocols.first().map(|p| p.name.clone()),
            ..JoinReply::refused(ErrorCode::None, &id)
        })
    }

    fn take_classic(
        &mut self,
        w: &mut Work<'_>,
        id: &str,
        request: &JoinRequest,
        subscription: &Subscription,
    ) -> Option<CauseKind> {
        let is_new = !self.members.contains_key(id);
        let old = self.members.entry(id.to_owned()).or_default().value.clone();
        let mut topics = subscription.topics.clone();
        topics.sort_unstable();
        topics.dedup();
        let value = SubscriptionValue {
            instance_id: request.instance_id.clone().or_else(|| old.instance_id.clone()),
            rack_id: subscription.rack.clone().or_else(|| old.rack_id.clone()),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            topics,
            regex: None,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicMemberValue {
                session_timeout_ms: request.session_timeout_ms,
                protocols: request.protocols.clone(),
            }),
        };
        let anew = value.topics != old.topics || value.regex != old.regex;
        if is_new || value != old {
            w.put(ConsumerKey::Member(id.to_owned()), Some(value.encode()));
            self.put_value(id, value);
        }
        match (is_new, anew) {
            (true, _) => Some(CauseKind::MemberJoined),
            (false, true) => Some(CauseKind::MemberRejoined),
            (false, false) => None,
        }
    }

    /// Kafka's check of member and instance id, and that the member speaks the classic protocol.
    fn classic_member(&self, id: &str, instance: Option<&str>) -> Result<&Member, ErrorCode> {
        if let Some(instance) = instance {
            match self.static_ids.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.members.get(id).filter(|m| m.is_classic()).ok_or(ErrorCode::UnknownMemberId)
    }

    /// SyncGroup: what the member has, in its own format.
    pub(crate) fn sync_classic(
        &mut self,
        w: &mut Work<'_>,
        request: &SyncRequest,
    ) -> Result<SyncReply, ErrorCode> {
        let id = request.member_id.as_str();
        let member = self.classic_member(id, request.instance_id.as_deref())?;
        let current = &member.current;
        if request.generation_id != current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = member.value.classic.as_ref().and_then(|c| c.protocols.first());
        let differs = request.protocol_type.as_ref().is_some_and(|t| t != CONSUMER)
            || request.protocol_name.as_ref().is_some_and(|n| protocol.is_none_or(|p| p.name != *n));
        if differs {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.epoch.epoch > current.epoch && member.state() != MemberState::Unrevoked {
            self.await_join(w.now, id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let metadata = protocol.map(|p| p.metadata.clone()).unwrap_or_default();
        let assignment = encode_assignment(&current.assigned, w.topics, &metadata);
        self.restart_session(w.config, w.now, id);
        if let Some(member) = self.members.get_mut(id) {
            member.sync_by = None;
        }
        Ok(SyncReply {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
        })
    }

    /// Heartbeat: the member is to join again when there is something for it to give up, to take or to learn.
    pub(crate) fn heartbeat_classic(&mut self, w: &mut Work<'_>, request: &HeartbeatRequest) -> ErrorCode {
        let id = request.member_id.as_str();
        let member = match self.classic_member(id, request.instance_id.as_deref()) {
            Err(error) => return error,
            Ok(member) => member,
        };
        if request.generation_id != member.current.epoch {
            return ErrorCode::IllegalGeneration;
        }
        let rejoins = member.current.epoch < self.epoch.epoch
            || match member.state() {
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !self.waits_for_others(id, member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        self.restart_session(w.config, w.now, id);
        if !rejoins {
            return ErrorCode::None;
        }
        self.await_join(w.now, id);
        ErrorCode::RebalanceInProgress
    }

    fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        let target = self.target.get(id).into_iter().flatten();
        let mut all = target.flat_map(|(topic, ps)| ps.iter().map(move |p| (*topic, *p)));
        all.any(|(topic, p)| {
            let has = member.current.assigned.get(&topic).is_some_and(|a| a.contains_key(&p));
            !has && self.owners.get(&(topic, p)).is_some_and(|owner| owner != id)
        })
    }

    /// A classic member that was told to join again has its rebalance timeout for that.
    fn await_join(&mut self, now: Now, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        let at = now.mono.after_ms(i64::from(member.value.rebalance_timeout_ms));
        let at = *member.join_by.get_or_insert(at);
        self.want(at);
    }

    /// LeaveGroup.
    pub(crate) fn leave_classic(&mut self, w: &mut Work<'_>, request: LeaveRequest) -> LeaveReply {
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let found = self.leaving(&leaving);
            if let Ok(id) = &found {
                self.remove(w, id, CauseKind::MemberLeft);
            }
            members.push(LeftMember {
                member_id: leaving.member_id,
                instance_id: leaving.instance_id,
                error: found.err().unwrap_or(ErrorCode::None),
            });
        }
        LeaveReply { error: ErrorCode::None, members }
    }

    fn leaving(&self, leaving: &LeavingMember) -> Result<String, ErrorCode> {
        let holder = leaving.instance_id.as_ref().and_then(|instance| self.static_ids.get(instance));
        let id = match holder {
            Some(holder) if leaving.member_id.is_empty() => holder.clone(),
            _ => leaving.member_id.clone(),
        };
        self.classic_member(&id, leaving.instance_id.as_deref())?;
        Ok(id)
    }
}
