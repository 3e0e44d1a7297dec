//! A member's way from what it has to what it is to have: give up first, then take what is free.
//!
//! One step more careful than Kafka: a member that is to give partitions up gets a new epoch with the request to do
//! so, and only a heartbeat with that epoch says that it has. Otherwise one that was sent before it took over what
//! it had been told of would read as "I have given it up", and the partition would have two owners.
use super::{ConsumerGroup, Member, MemberState, Partitions, Work};
use crate::records::{CurrentValue, Owned};
use model::{ErrorCode, TopicId};
use std::collections::BTreeMap;

/// Partitions as a heartbeat names them.
pub(crate) type Reported = Vec<(TopicId, Vec<i32>)>;

/// Whether a member that reports `owned`, or nothing, may still have any of these.
fn may_have(owned: Option<&Reported>, revoking: &Owned) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, ps)| revoking.get(topic).is_some_and(|r| ps.iter().any(|p| r.contains_key(p))))
}

/// Whether a member that comes with its previous epoch has nothing that is not held for it: then it has only missed
/// an answer.
pub(crate) fn is_subset(owned: Option<&Reported>, current: &CurrentValue) -> bool {
    let within =
        |owned: &Owned, topic: &TopicId, p: &i32| owned.get(topic).is_some_and(|a| a.contains_key(p));
    let has =
        |topic: &TopicId, p: &i32| within(&current.assigned, topic, p) || within(&current.revoking, topic, p);
    owned.is_some_and(|owned| owned.iter().all(|(topic, ps)| ps.iter().all(|p| has(topic, p))))
}

fn put(into: &mut Owned, topic: TopicId, p: i32, epoch: i32) {
    into.entry(topic).or_default().insert(p, epoch);
}

/// What a heartbeat says of the partitions that its member has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    /// What it names, if it names any.
    pub(crate) owned: Option<&'a Reported>,
    /// The epoch that it comes with.
    pub(crate) epoch: i32,
    /// The member has nothing else, whatever it was told before: it joins.
    pub(crate) is_whole: bool,
}

impl Report<'_> {
    /// It has none of these, and is in a place to know.
    fn lacks(&self, revoking: &Owned) -> bool {
        self.is_whole && !may_have(self.owned, revoking)
    }

    /// It knows of its current epoch, and so of what it is to give up, and has none of that.
    fn confirms(&self, current: &CurrentValue) -> bool {
        self.lacks(&current.revoking)
            || (self.epoch == current.epoch && !may_have(self.owned, &current.revoking))
    }
}

impl ConsumerGroup {
    /// The member's next state, or `None` where nothing changes.
    pub(crate) fn reconciled(
        &self,
        id: &str,
        member: &Member,
        report: Report<'_>,
    ) -> Result<Option<CurrentValue>, ErrorCode> {
        let target = self.target_epoch.epoch;
        let current = &member.current;
        match member.state() {
            MemberState::Stable if current.epoch == target => return Ok(None),
            MemberState::Unrevoked if !report.confirms(current) => return Ok(None),
            // It must start over, as nobody can tell what it waits for.
            MemberState::Unknown if report.owned.is_none_or(|o| !o.is_empty()) => {
                return Err(ErrorCode::FencedMemberEpoch);
            }
            _ => {}
        }
        let next = self.next(id, current, report);
        Ok((next != *current).then_some(next))
    }

    fn next(&self, id: &str, current: &CurrentValue, report: Report<'_>) -> CurrentValue {
        let none = Partitions::new();
        let target = self.target.get(id).unwrap_or(&none);
        let target_epoch = self.target_epoch.epoch;
        let (mut kept, mut revoking) = (Owned::new(), Owned::new());
        for (topic, partitions) in &current.assigned {
            for (p, epoch) in partitions {
                let keeps = target.get(topic).is_some_and(|t| t.contains(p));
                put(if keeps { &mut kept } else { &mut revoking }, *topic, *p, *epoch);
            }
        }
        if !revoking.is_empty() && !report.lacks(&revoking) {
            let state = MemberState::Unrevoked.number();
            let epoch = current.epoch.saturating_add(1).min(target_epoch);
            return CurrentValue { epoch, previous_epoch: current.epoch, state, assigned: kept, revoking };
        }
        let mut waits = false;
        for (topic, partitions) in target {
            for p in partitions {
                if kept.get(topic).is_some_and(|k| k.contains_key(p)) {
                    continue;
                }
                if self.owners.get(&(*topic, *p)).is_some_and(|owner| owner != id) {
                    waits = true;
                } else {
                    put(&mut kept, *topic, *p, target_epoch);
                }
            }
        }
        let state = if waits { MemberState::Unreleased } else { MemberState::Stable };
        CurrentValue {
            epoch: target_epoch,
            // Also where the epoch stays: one that still comes with an older epoch may have been told of more since.
            previous_epoch: current.epoch,
            state: state.number(),
            assigned: kept,
            revoking: BTreeMap::new(),
        }
    }

    /// Moves a member towards its target, and starts or ends its time to give partitions up.
    pub(crate) fn reconcile(
        &mut self,
        w: &mut Work<'_>,
        id: &str,
        report: Report<'_>,
    ) -> Result<(), ErrorCode> {
        let Some(member) = self.members.get(id) else { return Ok(()) };
        let Some(next) = self.reconciled(id, member, report)? else { return Ok(()) };
        self.put_current(w, id, next);
        let Some(member) = self.members.get_mut(id) else { return Ok(()) };
        if member.state() != MemberState::Unrevoked || member.is_classic() {
            member.revoke_by = None;
            return Ok(());
        }
        let at = w.now.mono.after_ms(i64::from(member.value.rebalance_timeout_ms));
        member.revoke_by = Some((at, member.current.epoch));
        self.want(at);
        Ok(())
    }
}
