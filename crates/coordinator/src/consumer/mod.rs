//! Consumer groups of the new protocol (KIP-848): the coordinator assigns, members confirm by heartbeats.
//!
//! One group has at most one append under way. What comes meanwhile waits and is then decided together, in one
//! append: so a record never stands on one that failed, and a failed append is undone by reading the log's state.
pub mod assignor;
mod classic;
pub mod config;
mod convert;
mod describe;
mod embedded;
mod fence;
mod heartbeat;
mod host;
mod offsets;
mod range;
mod reconcile;
pub mod records;
mod regex;
mod target;
mod topics;
mod uniform;

pub(crate) use host::{Queued, Stored};

pub use assignor::Partitions;
pub use config::{ConsumerConfig, GroupOverrides, MigrationPolicy};
pub use describe::{DescribedConsumer, DescribedConsumerGroup, DescribedTopic};
pub use heartbeat::{ConsumerHeartbeatReply, ConsumerHeartbeatRequest};
pub use topics::{TopicFilter, TopicImage, TopicMeta};

use crate::events::{BatchId, CauseKind, GroupEvent, RebalanceCause};
use crate::member_ids::MemberIds;
use crate::records::{
    ConsumerKey, CurrentValue, EpochValue, Owned, RegexValue, SubscriptionValue, TargetEpochValue,
    decode_target,
};
use crate::replies::Reply;
use crate::requests::Token;
use crate::store::{GroupStore, Write};
use bytes::Bytes;
use model::{Mono, Now, TopicId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The member epoch of a heartbeat that joins.
pub const JOIN_EPOCH: i32 = 0;
/// The member epoch of a heartbeat that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The member epoch of a static member that leaves for a while: its partitions wait for its return.
pub const STATIC_LEAVE_EPOCH: i32 = -2;

/// Causes that a group remembers.
const CAUSES: usize = 16;

/// Where a member is on its way to its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It has to give partitions up first.
    Unrevoked,
    /// It waits for partitions that others have not given up.
    Unreleased,
    /// Written by a newer program.
    Unknown,
}

impl MemberState {
    pub(crate) fn of(value: i8) -> MemberState {
        match value {
            0 => MemberState::Stable,
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Unknown,
        }
    }

    pub(crate) fn number(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::Unrevoked => 1,
            MemberState::Unreleased => 2,
            MemberState::Unknown => 127,
        }
    }
}

/// The state of a consumer group, as Kafka names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ConsumerState {
    /// No members; may have offsets.
    Empty,
    /// The target assignment is of an older epoch.
    Assigning,
    /// Members are on their way to their targets.
    Reconciling,
    /// Everybody has what it is to have.
    Stable,
}

impl ConsumerState {
    /// All states.
    pub const ALL: [ConsumerState; 4] =
        [ConsumerState::Empty, ConsumerState::Assigning, ConsumerState::Reconciling, ConsumerState::Stable];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerState::Empty => "Empty",
            ConsumerState::Assigning => "Assigning",
            ConsumerState::Reconciling => "Reconciling",
            ConsumerState::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) value: SubscriptionValue,
    pub(crate) current: CurrentValue,
    /// When its session ends.
    pub(crate) deadline: Option<Mono>,
    /// When it must have given up what it is to give up at this epoch.
    pub(crate) revoke_by: Option<(Mono, i32)>,
    /// When it must have joined again, for one that speaks the classic protocol and was told to.
    pub(crate) join_by: Option<Mono>,
    /// When it must have asked for its assignment, for one that speaks the classic protocol.
    pub(crate) sync_by: Option<Mono>,
    /// The connection of its last heartbeat, since this lead began.
    pub(crate) heard_by: Option<u64>,
}

impl Member {
    pub(crate) fn state(&self) -> MemberState {
        MemberState::of(self.current.state)
    }

    pub(crate) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state() == MemberState::Stable && self.current.epoch == epoch
    }

    pub(crate) fn is_classic(&self) -> bool {
        self.value.classic.is_some()
    }

    /// A heartbeat comes by this connection. Tells whether the one before came by another: a heartbeat that was long on its
    /// way may have taken the news of an assignment to a connection that nobody reads any more, and members do not ask again.
    pub(crate) fn comes_by(&mut self, connection: u64) -> bool {
        self.heard_by.replace(connection) != Some(connection)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) id: Arc<str>,
    /// Tells this object from an earlier group of the same name.
    pub(crate) incarnation: u64,
    pub(crate) epoch: EpochValue,
    pub(crate) target_epoch: TargetEpochValue,
    pub(crate) target: BTreeMap<String, Partitions>,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) static_ids: BTreeMap<String, String>,
    /// Who has a partition, or has yet to give it up.
    pub(crate) owners: BTreeMap<(TopicId, i32), String>,
    pub(crate) regexes: BTreeMap<String, RegexValue>,
    /// The log has a record of Kafka 4.0 that is to go.
    pub(crate) has_old_topics: bool,
    /// The version of the topics that `epoch.metadata_hash` was last compared with.
    pub(crate) checked: Option<u64>,
    /// Nothing of it was appended yet.
    pub(crate) unstored: bool,
    /// The append under way.
    pub(crate) open: Option<BatchId>,
    /// Why its last epochs began, oldest first; in memory, from the start of this lead.
    pub(crate) causes: VecDeque<RebalanceCause>,
    /// What came since, in order.
    pub(crate) queue: VecDeque<(Token, host::Queued)>,
    /// No deadline of this group is earlier.
    pub(crate) wanted: Option<Mono>,
    /// The entry of the coordinator's timer set.
    pub(crate) armed: Option<Mono>,
}

/// What one or more decisions on a group work with, and what they leave to be done.
pub(crate) struct Work<'a> {
    pub(crate) config: &'a ConsumerConfig,
    pub(crate) ids: &'a mut MemberIds,
    pub(crate) topics: &'a TopicImage,
    pub(crate) now: Now,
    pub(crate) writes: Vec<Write>,
    pub(crate) answers: Vec<(Token, Reply)>,
    pub(crate) events: Vec<GroupEvent>,
}

impl Work<'_> {
    pub(crate) fn put(&mut self, key: ConsumerKey, value: Option<Bytes>) {
        self.writes.push(Write::Consumer { key, value });
    }
}

impl ConsumerGroup {
    pub(crate) fn new(id: Arc<str>, incarnation: u64, now: Now) -> ConsumerGroup {
        ConsumerGroup {
            id,
            incarnation,
            epoch: EpochValue { epoch: 0, metadata_hash: 0, created_ms: now.wall },
            target_epoch: TargetEpochValue::default(),
            target: BTreeMap::new(),
            members: BTreeMap::new(),
            static_ids: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            has_old_topics: false,
            checked: None,
            unstored: false,
            open: None,
            causes: VecDeque::new(),
            queue: VecDeque::new(),
            wanted: None,
            armed: None,
        }
    }

    /// The group as the committed records tell it. Replay has refused what does not decode.
    pub(crate) fn from_store(id: Arc<str>, incarnation: u64, store: &GroupStore, now: Now) -> ConsumerGroup {
        let mut group = ConsumerGroup::new(id, incarnation, now);
        for (key, value) in &store.consumer {
            match key {
                ConsumerKey::Epoch => group.epoch = EpochValue::decode(value).unwrap_or_default(),
                ConsumerKey::Topics => group.has_old_topics = true,
                ConsumerKey::TargetEpoch => {
                    group.target_epoch = TargetEpochValue::decode(value).unwrap_or_default();
                }
                ConsumerKey::Member(id) => {
                    let value = SubscriptionValue::decode(value).unwrap_or_default();
                    if let Some(instance) = &value.instance_id {
                        group.static_ids.insert(instance.clone(), id.clone());
                    }
                    group.members.entry(id.clone()).or_default().value = value;
                }
                ConsumerKey::Target(id) => {
                    group.target.insert(id.clone(), decode_target(value).unwrap_or_default());
                }
                ConsumerKey::Current(id) => {
                    let value = CurrentValue::decode(value).unwrap_or_default();
                    group.members.entry(id.clone()).or_default().current = value;
                }
                ConsumerKey::Regex(regex) => {
                    group.regexes.insert(regex.clone(), RegexValue::decode(value).unwrap_or_default());
                }
            }
        }
        // A member is one that has a subscription: what else names it is left over.
        group.members.retain(|id, _| store.consumer.contains_key(&ConsumerKey::Member(id.clone())));
        let all: Vec<(String, Vec<(TopicId, i32)>)> =
            group.members.iter().map(|(id, m)| (id.clone(), held(&m.current))).collect();
        for (id, partitions) in all {
            for partition in partitions {
                group.owners.entry(partition).or_insert_with(|| id.clone());
            }
        }
        group
    }

    pub(crate) fn state(&self) -> ConsumerState {
        let target = self.target_epoch.epoch;
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.epoch.epoch > target {
            ConsumerState::Assigning
        } else if self.members.values().all(|m| m.is_reconciled_to(target)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    /// Names and matches of a member.
    pub(crate) fn topics_of<'a>(&'a self, value: &'a SubscriptionValue) -> impl Iterator<Item = &'a str> {
        let matched = value.regex.as_ref().and_then(|regex| self.regexes.get(regex));
        value.topics.iter().chain(matched.into_iter().flat_map(|m| &m.topics)).map(String::as_str)
    }

    /// Every topic that a member subscribes to.
    pub(crate) fn subscribed(&self) -> BTreeSet<&str> {
        self.members.values().flat_map(|m| self.topics_of(&m.value)).collect()
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|m| self.topics_of(&m.value).any(|t| t == topic))
    }

    /// Stores what a member has, and who owns what with it.
    pub(crate) fn put_current(&mut self, w: &mut Work<'_>, id: &str, current: CurrentValue) {
        let Some(member) = self.members.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.current, current);
        let new = held(&member.current);
        w.put(ConsumerKey::Current(id.to_owned()), Some(member.current.encode()));
        self.disown(id, &old);
        for partition in new {
            self.owners.insert(partition, id.to_owned());
        }
    }

    pub(crate) fn disown(&mut self, id: &str, current: &CurrentValue) {
        for partition in held(current) {
            if self.owners.get(&partition).is_some_and(|owner| owner == id) {
                self.owners.remove(&partition);
            }
        }
    }

    pub(crate) fn want(&mut self, at: Mono) {
        if self.wanted.is_none_or(|wanted| at < wanted) {
            self.wanted = Some(at);
        }
    }

    pub(crate) fn recompute_wanted(&mut self) {
        let sessions = self.members.values().filter_map(|m| m.deadline);
        let revocations = self.members.values().filter_map(|m| m.revoke_by.map(|(at, _)| at));
        let classic = self.members.values().flat_map(|m| m.join_by.into_iter().chain(m.sync_by));
        self.wanted = sessions.chain(revocations).chain(classic).min();
    }

    /// Runs a member's session anew.
    pub(crate) fn restart_session(&mut self, config: &ConsumerConfig, now: Now, member_id: &str) {
        let own = config.session_timeout(&self.id);
        let Some(member) = self.members.get_mut(member_id) else { return };
        let timeout = member.value.classic.as_ref().map_or(own, |classic| classic.session_timeout_ms);
        let at = now.mono.after_ms(i64::from(timeout));
        member.deadline = Some(at);
        self.want(at);
    }

    /// A new epoch: the target is to be computed anew.
    pub(crate) fn bump_epoch(&mut self, w: &mut Work<'_>, kind: CauseKind, member_id: &str) {
        self.epoch.epoch = self.epoch.epoch.saturating_add(1);
        w.put(ConsumerKey::Epoch, Some(self.epoch.encode()));
        if std::mem::take(&mut self.has_old_topics) {
            w.put(ConsumerKey::Topics, None);
        }
        let cause = RebalanceCause {
            at: w.now.wall,
            generation_id: self.epoch.epoch,
            member_id: member_id.to_owned(),
            kind,
            reason: String::new(),
        };
        if self.causes.len() >= CAUSES {
            self.causes.pop_front();
        }
        self.causes.push_back(cause.clone());
        w.events.push(GroupEvent::RebalanceStarted { group_id: self.id.to_string(), cause });
    }
}

/// What nobody else may have: what is assigned, and what is not yet given up.
pub(crate) fn held(current: &CurrentValue) -> Vec<(TopicId, i32)> {
    let all = current.assigned.iter().chain(&current.revoking);
    all.flat_map(|(topic, ps)| ps.keys().map(|p| (*topic, *p))).collect()
}

/// As an answer has it.
pub(crate) fn listed(owned: &Owned) -> Vec<(TopicId, Vec<i32>)> {
    owned.iter().map(|(topic, ps)| (*topic, ps.keys().copied().collect())).collect()
}
