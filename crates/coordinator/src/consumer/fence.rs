//! Members that go: by leaving, by their session's end, or because they kept what they were to give up.
use super::heartbeat::{ConsumerHeartbeatReply, ConsumerHeartbeatRequest, Refused};
use super::{ConsumerGroup, MemberState, STATIC_LEAVE_EPOCH, Work};
use crate::events::{CauseKind, GroupEvent};
use crate::records::{ConsumerKey, CurrentValue};
use model::planted::{Bug, planted};
use model::{ErrorCode, Mono};

impl ConsumerGroup {
    /// A heartbeat that leaves, for good or for a while.
    pub(crate) fn leave(
        &mut self,
        w: &mut Work<'_>,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<ConsumerHeartbeatReply, Refused> {
        let id = request.member_id.as_str();
        let unknown = || {
            let text = format!("Member {id} is not a member of group {}.", self.id);
            (ErrorCode::UnknownMemberId, text)
        };
        match &request.instance_id {
            None if !self.members.contains_key(id) => return Err(unknown()),
            None => {}
            Some(instance) => match self.static_ids.get(instance) {
                None => return Err(unknown()),
                Some(holder) if holder != id => {
                    let text = "The instance id belongs to a newer member.".to_owned();
                    return Err((ErrorCode::FencedInstanceId, text));
                }
                Some(_) => {}
            },
        }
        if request.member_epoch == STATIC_LEAVE_EPOCH {
            self.leave_for_a_while(w, id);
        } else {
            self.remove(w, id, CauseKind::MemberLeft);
        }
        Ok(ConsumerHeartbeatReply {
            error: ErrorCode::None,
            error_message: None,
            member_id: Some(id.to_owned()),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// A static member keeps its seat and what is assigned to it until its session ends; what it was to give up is
    /// free.
    fn leave_for_a_while(&mut self, w: &mut Work<'_>, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.revoke_by = None;
        let current = CurrentValue {
            epoch: STATIC_LEAVE_EPOCH,
            revoking: Default::default(),
            ..member.current.clone()
        };
        self.put_current(w, id, current);
    }

    /// Takes a member out; its partitions are free. The rest needs a new assignment.
    pub(crate) fn remove(&mut self, w: &mut Work<'_>, id: &str, kind: CauseKind) {
        let Some(member) = self.members.remove(id) else { return };
        self.disown(id, &member.current);
        self.target.remove(id);
        if let Some(instance) = &member.value.instance_id
            && self.static_ids.get(instance).is_some_and(|holder| holder == id)
        {
            self.static_ids.remove(instance);
        }
        for key in [ConsumerKey::Current, ConsumerKey::Target, ConsumerKey::Member] {
            w.put(key(id.to_owned()), None);
        }
        self.forget_unused_regexes(w);
        self.epoch.metadata_hash = self.subscription_hash(w);
        self.bump_epoch(w, kind, id);
    }

    /// A deadline of this group has come.
    pub(crate) fn fire(&mut self, w: &mut Work<'_>) {
        let now = w.now.mono;
        let over = |at: Option<Mono>| at.is_some_and(|at| at <= now);
        let mut due: Vec<(String, CauseKind)> = Vec::new();
        for (id, member) in &self.members {
            if over(member.deadline) {
                due.push((id.clone(), CauseKind::SessionExpired));
            } else if over(member.revoke_by.map(|(at, _)| at)) {
                due.push((id.clone(), CauseKind::RevocationExpired));
            } else if over(member.join_by) || over(member.sync_by) {
                due.push((id.clone(), CauseKind::SyncExpired));
            }
        }
        for (id, kind) in due {
            if kind == CauseKind::RevocationExpired && !self.still_revokes(&id) {
                if let Some(member) = self.members.get_mut(&id) {
                    member.revoke_by = None;
                }
                continue;
            }
            if kind == CauseKind::RevocationExpired && planted(Bug::TwoOwners) {
                self.forget_revocation(w, &id);
                continue;
            }
            w.events.push(GroupEvent::MemberExpired { group_id: self.id.to_string(), member_id: id.clone() });
            self.remove(w, &id, kind);
        }
        self.recompute_wanted();
    }

    /// It is still at the epoch at which its time to give partitions up began.
    fn still_revokes(&self, id: &str) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let epoch = member.revoke_by.map(|(_, epoch)| epoch);
        member.state() == MemberState::Unrevoked && epoch == Some(member.current.epoch)
    }

    /// The planted bug: its partitions are given to others while it still has them.
    fn forget_revocation(&mut self, w: &mut Work<'_>, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.revoke_by = None;
        let current = CurrentValue {
            revoking: Default::default(),
            state: MemberState::Stable.number(),
            ..member.current.clone()
        };
        self.put_current(w, id, current);
    }
}
