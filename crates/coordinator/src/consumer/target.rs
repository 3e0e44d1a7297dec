//! The group's epoch and its target assignment.
use super::assignor::{Assignor, GroupSpec, MemberSpec};
use super::{ConsumerGroup, TopicFilter, Work};
use crate::events::{CauseKind, GroupEvent};
use crate::records::{ConsumerKey, TargetEpochValue, encode_target};
use std::collections::BTreeMap;

impl ConsumerGroup {
    /// Begins a new epoch if a subscription changed, or if the topics did. Expressions are resolved for a member that
    /// says what it may see: one that speaks the classic protocol has none, and does not speak for others.
    pub(crate) fn refresh_epoch(
        &mut self,
        w: &mut Work<'_>,
        changed: Option<CauseKind>,
        member_id: &str,
        allowed: Option<&TopicFilter>,
    ) {
        if changed.is_some() {
            self.forget_unused_regexes(w);
        }
        if let Some(allowed) = allowed {
            self.refresh_regexes(w, member_id, allowed);
        }
        let mut cause = changed;
        if changed.is_some() || self.checked != Some(w.topics.version()) {
            let hash = self.subscription_hash(w);
            if hash != self.epoch.metadata_hash {
                self.epoch.metadata_hash = hash;
                cause = cause.or(Some(CauseKind::TopicsChanged));
            }
            // Expressions that are not resolved anew yet must be looked at again.
            let stale = self.has_stale_regexes(w.topics.version());
            self.checked = (!stale).then_some(w.topics.version());
        }
        if let Some(kind) = cause {
            self.bump_epoch(w, kind, member_id);
        }
    }

    pub(crate) fn subscription_hash(&self, w: &Work<'_>) -> i64 {
        w.topics.hash(self.subscribed().into_iter())
    }

    /// The assignor that most members ask for; among equals the one whose name comes first.
    pub(crate) fn assignor(&self, default: Assignor) -> Assignor {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|m| m.value.assignor.as_deref()) {
            *votes.entry(name).or_insert(0) += 1;
        }
        let most = votes.values().copied().max();
        let choice =
            votes.iter().find(|(_, n)| Some(**n) == most).and_then(|(name, _)| Assignor::parse(name));
        choice.unwrap_or(default)
    }

    /// Computes the target of the current epoch, unless it is there or the last one is too young (KIP-1263): then the
    /// members go on towards the last one until a later heartbeat.
    pub(crate) fn refresh_target(&mut self, w: &mut Work<'_>) {
        if self.epoch.epoch <= self.target_epoch.epoch || self.members.is_empty() {
            return;
        }
        let interval = i64::from(w.config.assignment_interval(&self.id));
        let age = w.now.wall.saturating_sub(self.target_epoch.at_ms);
        if (0..interval).contains(&age) {
            return;
        }
        let spec = self.spec(w);
        let next = self.assignor(w.config.default_assignor()).assign(&spec);
        for (id, partitions) in next {
            if self.target.get(&id) != Some(&partitions) {
                w.put(ConsumerKey::Target(id.clone()), Some(encode_target(&partitions)));
                self.target.insert(id, partitions);
            }
        }
        self.target_epoch = TargetEpochValue { epoch: self.epoch.epoch, at_ms: w.now.wall };
        w.put(ConsumerKey::TargetEpoch, Some(self.target_epoch.encode()));
        w.events.push(GroupEvent::GenerationStarted {
            group_id: self.id.to_string(),
            generation_id: self.epoch.epoch,
            members: self.members.len(),
        });
    }

    fn spec(&self, w: &Work<'_>) -> GroupSpec {
        let mut spec = GroupSpec::default();
        for (id, member) in &self.members {
            let topics = self.topics_of(&member.value).filter_map(|name| w.topics.get(name));
            let mut subscribed = std::collections::BTreeSet::new();
            for topic in topics {
                subscribed.insert(topic.id);
                spec.topics.insert(topic.id, topic.partitions);
            }
            let assigned = self.target.get(id).cloned().unwrap_or_default();
            let instance_id = member.value.instance_id.clone();
            spec.members.insert(id.clone(), MemberSpec { instance_id, subscribed, assigned });
        }
        spec
    }
}
