//! Classic groups that become consumer groups with members in them, and the way back
//! (`group.consumer.migration.policy`).
use super::embedded::{Subscription, decode_assignment, encode_assignment};
use super::records::{ClassicMemberValue, CurrentValue, Owned, SubscriptionValue, encode_target};
use super::{ConsumerGroup, Member, MigrationPolicy, Partitions, TopicImage, held};
use crate::codec::RecordError;
use crate::group::{CONSUMER, Group};
use crate::records::{ConsumerKey, GroupValue, MemberValue};
use crate::store::Write;
use model::Now;
use std::sync::Arc;

impl ConsumerGroup {
    /// The consumer group that a classic one becomes: its generation is the epoch, and every member has what the
    /// last leader gave to it. An error where members are not of the consumer protocol after all.
    pub(crate) fn from_classic(
        classic: &Group,
        incarnation: u64,
        topics: &TopicImage,
        now: Now,
    ) -> Result<ConsumerGroup, RecordError> {
        let mut group = ConsumerGroup::new(classic.id.clone(), incarnation, now);
        let epoch = classic.generation;
        group.epoch.epoch = epoch;
        group.target_epoch.epoch = epoch;
        let protocol = classic.protocol.as_deref().unwrap_or("");
        for (id, m) in &classic.members {
            let chosen = m.protocols.iter().find(|p| p.name == protocol).or(m.protocols.first());
            let metadata = chosen.map(|p| p.metadata.clone()).unwrap_or_default();
            let subscription = Subscription::decode(&metadata)?;
            let mut current =
                CurrentValue { epoch, previous_epoch: epoch, state: 0, ..CurrentValue::default() };
            for (topic, list) in decode_assignment(&m.assignment, topics)? {
                for p in list {
                    // A leader that gave one partition to two: the first has it.
                    let owner = group.owners.entry((topic, p)).or_insert_with(|| id.clone());
                    if owner == id {
                        current.assigned.entry(topic).or_default().insert(p, epoch);
                    }
                }
            }
            let target: Partitions =
                current.assigned.iter().map(|(t, ps)| (*t, ps.keys().copied().collect())).collect();
            group.target.insert(id.clone(), target);
            let mut names = subscription.topics;
            names.sort_unstable();
            names.dedup();
            let value = SubscriptionValue {
                instance_id: m.instance_id.clone(),
                rack_id: subscription.rack,
                client_id: m.client_id.clone(),
                client_host: m.client_host.clone(),
                topics: names,
                regex: None,
                rebalance_timeout_ms: m.rebalance_timeout_ms,
                assignor: None,
                classic: Some(ClassicMemberValue {
                    session_timeout_ms: m.session_timeout_ms,
                    protocols: m.protocols.clone(),
                }),
            };
            let deadline = Some(now.mono.after_ms(i64::from(m.session_timeout_ms)));
            group.members.insert(id.clone(), Member { current, deadline, ..Member::default() });
            group.put_value(id, value);
        }
        group.recompute_wanted();
        Ok(group)
    }

    /// All that the log is to know of this group.
    pub(crate) fn dump(&self) -> Vec<Write> {
        let put = |key, value| Write::Consumer { key, value: Some(value) };
        let mut out = Vec::new();
        for (id, m) in &self.members {
            out.push(put(ConsumerKey::Member(id.clone()), m.value.encode()));
        }
        out.push(put(ConsumerKey::Epoch, self.epoch.encode()));
        for (regex, value) in &self.regexes {
            out.push(put(ConsumerKey::Regex(regex.clone()), value.encode()));
        }
        for (id, target) in &self.target {
            out.push(put(ConsumerKey::Target(id.clone()), encode_target(target)));
        }
        out.push(put(ConsumerKey::TargetEpoch, self.target_epoch.encode()));
        for (id, m) in &self.members {
            out.push(put(ConsumerKey::Current(id.clone()), m.current.encode()));
        }
        out
    }

    /// The classic group that this one is to become: only classic members are left, and the policy allows it. Its
    /// generation is the epoch of `before` the last one left, or what a member has been told since: classic members at it
    /// are told to join again, and keep what they have meanwhile.
    pub(crate) fn downgraded(
        &self,
        before: i32,
        policy: MigrationPolicy,
        max_classic: i32,
        topics: &TopicImage,
        now: Now,
    ) -> Option<GroupValue> {
        let fits = self.members.len() <= usize::try_from(max_classic).unwrap_or(0);
        let all_classic = self.members.values().all(Member::is_classic);
        if self.members.is_empty() || !all_classic || !fits || !policy.may_downgrade() {
            return None;
        }
        let classics = || self.members.values().filter_map(|m| m.value.classic.as_ref());
        let supported = |name: &str| classics().all(|c| c.protocols.iter().any(|p| p.name == name));
        let first = classics().next()?;
        let protocol = first.protocols.iter().find(|p| supported(&p.name))?.name.clone();
        let member = |(id, m): (&String, &Member)| {
            let classic = m.value.classic.as_ref()?;
            let metadata = classic.protocols.iter().find(|p| p.name == protocol)?.metadata.clone();
            Some(MemberValue {
                member_id: id.clone(),
                instance_id: m.value.instance_id.clone(),
                client_id: m.value.client_id.clone(),
                client_host: m.value.client_host.clone(),
                rebalance_timeout: m.value.rebalance_timeout_ms,
                session_timeout: classic.session_timeout_ms,
                assignment: encode_assignment(&held_by(&m.current), topics, &metadata),
                subscription: metadata,
            })
        };
        Some(GroupValue {
            protocol_type: CONSUMER.to_owned(),
            generation: self.members.values().map(|m| m.current.epoch).fold(before, i32::max),
            protocol: Some(protocol.clone()),
            leader: self.members.keys().next().cloned(),
            state_timestamp: now.wall,
            members: self.members.iter().filter_map(member).collect(),
        })
    }

    /// A member's subscription, with the seat of its instance id.
    pub(crate) fn put_value(&mut self, id: &str, value: SubscriptionValue) {
        let Some(member) = self.members.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.value, value);
        if let Some(instance) = old.instance_id {
            self.static_ids.remove(&instance);
        }
        if let Some(instance) = &member.value.instance_id {
            self.static_ids.insert(instance.clone(), id.to_owned());
        }
    }
}

/// What a member may still have.
fn held_by(current: &CurrentValue) -> Owned {
    let mut out = Owned::new();
    for (topic, p) in held(current) {
        out.entry(topic).or_default().insert(p, current.epoch);
    }
    out
}

/// A classic group as its record tells it, every session running anew.
pub(crate) fn to_classic(id: Arc<str>, incarnation: u64, value: GroupValue, now: Now) -> Group {
    Group::from_value(id, incarnation, value, now.mono)
}
