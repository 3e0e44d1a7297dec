//! Who gets which partition: the assignors of the coordinator, as pure functions of members, topics and what each
//! member was given before.
use super::{range, uniform};
use model::TopicId;
use std::collections::{BTreeMap, BTreeSet};

/// Partitions by topic; no topic is without partitions.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// One partition of a topic.
pub(crate) type Partition = (TopicId, i32);

/// What each member, by its id, keeps.
pub(crate) type Kept<'a> = Vec<(&'a str, Vec<Partition>)>;

/// An assignor of `group.consumer.assignors`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Assignor {
    /// As many partitions for each as can be, and as few moves as that allows.
    Uniform,
    /// A run of neighbouring partitions of each topic, so that equally partitioned topics go together.
    Range,
}

impl Assignor {
    /// All of them.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// By Kafka's name, or by the name of Kafka's class, which its configuration accepts too.
    pub fn parse(name: &str) -> Option<Assignor> {
        let class = |a: Assignor| match a {
            Assignor::Uniform => "org.apache.kafka.coordinator.group.assignor.UniformAssignor",
            Assignor::Range => "org.apache.kafka.coordinator.group.assignor.RangeAssignor",
        };
        Assignor::ALL.into_iter().find(|a| a.name() == name || class(*a) == name)
    }

    /// The assignment of all members. Every partition of a topic that somebody subscribes to is given to exactly one
    /// subscriber.
    pub fn assign(self, spec: &GroupSpec) -> BTreeMap<String, Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(spec),
            Assignor::Range => range::assign(spec),
        }
    }
}

/// One member, as an assignor sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberSpec {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The topics that it subscribes to. Topics that are not in [`GroupSpec::topics`] do not count.
    pub subscribed: BTreeSet<TopicId>,
    /// What the last assignment gave to it.
    pub assigned: Partitions,
}

/// A group, as an assignor sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupSpec {
    /// Members by their ids.
    pub members: BTreeMap<String, MemberSpec>,
    /// Partitions of each topic.
    pub topics: BTreeMap<TopicId, i32>,
}

impl GroupSpec {
    /// Whether all members subscribe to the same topics.
    pub(crate) fn is_homogeneous(&self) -> bool {
        let mut all = self.members.values();
        all.next().is_none_or(|first| all.all(|m| m.subscribed == first.subscribed))
    }

    /// What each member had and may keep: it subscribes to the topic, the partition exists, and no member before it
    /// has the same one.
    pub(crate) fn kept(&self) -> (Kept<'_>, BTreeSet<Partition>) {
        let mut taken = BTreeSet::new();
        let mut kept = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            let mut own = Vec::new();
            for (topic, partitions) in &member.assigned {
                let count = self.topics.get(topic).copied().unwrap_or(0);
                if !member.subscribed.contains(topic) {
                    continue;
                }
                for p in partitions.range(0..count.max(0)) {
                    if taken.insert((*topic, *p)) {
                        own.push((*topic, *p));
                    }
                }
            }
            kept.push((id.as_str(), own));
        }
        (kept, taken)
    }
}

/// Sorted lists as sets.
pub(crate) fn to_partitions(all: impl IntoIterator<Item = (TopicId, i32)>) -> Partitions {
    let mut out = Partitions::new();
    for (topic, partition) in all {
        out.entry(topic).or_default().insert(partition);
    }
    out
}

#[cfg(test)]
mod tests;
