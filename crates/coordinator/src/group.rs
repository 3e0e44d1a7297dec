//! One classic group: its members, votes and deadlines, without the rules that move it (see `rebalance`).
use crate::events::RebalanceCause;
use crate::records::{GroupValue, MemberValue, subscribed_topics};
use crate::replies::JoinedMember;
use crate::requests::{Protocol, Token};
use bytes::Bytes;
use indexmap::IndexMap;
use model::{ErrorCode, Mono, WallMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};

/// The protocol type whose subscriptions the coordinator can read.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a classic group is in its rebalance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum GroupState {
    /// No members; may have offsets.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited or being stored.
    CompletingRebalance,
    /// The assignment is stored and handed out.
    Stable,
}

impl GroupState {
    /// All states.
    pub const ALL: [GroupState; 4] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// A JoinGroup that waits for the generation.
    pub(crate) join: Option<Token>,
    /// A SyncGroup that waits for the assignment.
    pub(crate) sync: Option<Token>,
    /// Never answered yet, so it does not know its id and cannot send heartbeats.
    pub(crate) is_new: bool,
    /// When the session ends; `None` while a parked request vouches for the member.
    pub(crate) deadline: Option<Mono>,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| p.name == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// A parked request stands for heartbeats, except that of a member that never got an answer.
    pub(crate) fn is_vouched_for(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinTimer {
    /// The first rebalance of an empty group: more time while members keep coming.
    Initial { at: Mono, delay_ms: i64, remaining_ms: i64 },
    /// The end of the join phase.
    Rebalance { at: Mono },
}

impl JoinTimer {
    pub(crate) fn at(&self) -> Mono {
        match *self {
            JoinTimer::Initial { at, .. } | JoinTimer::Rebalance { at } => at,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    /// Tells this object from an earlier group of the same name.
    pub(crate) incarnation: u64,
    pub(crate) state: GroupState,
    pub(crate) previous: GroupState,
    pub(crate) state_since: Option<WallMs>,
    pub(crate) generation: i32,
    /// None as long as nobody has joined.
    roster: Option<Box<Roster>>,
}

/// What a group has by its members. Most groups of a large cluster are those of tools and of engines that only keep
/// offsets, so they are not to pay for it: a group reads as one with an empty roster, and gets its own when it is written to.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: IndexMap<String, Member>,
    pub(crate) static_ids: BTreeMap<String, String>,
    /// Ids given out (v4 joins) and not yet used, with their deadline.
    pub(crate) pending_join: BTreeMap<String, Mono>,
    pub(crate) pending_sync: BTreeSet<String>,
    pub(crate) new_member_added: bool,
    /// `None` where the subscriptions cannot be read.
    pub(crate) subscribed: Option<BTreeSet<String>>,
    pub(crate) awaiting_join: usize,
    votes: BTreeMap<String, usize>,
    /// This generation's assignment is being stored.
    pub(crate) storing: bool,
    pub(crate) join_timer: Option<JoinTimer>,
    pub(crate) sync_timer: Option<Mono>,
    pub(crate) causes: VecDeque<RebalanceCause>,
    /// No deadline of this group is earlier.
    pub(crate) wanted: Option<Mono>,
    /// The entry of the coordinator's timer set.
    pub(crate) armed: Option<Mono>,
}

static NOBODY: LazyLock<Roster> = LazyLock::new(Roster::default);

impl Deref for Group {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        self.roster.as_deref().unwrap_or(&NOBODY)
    }
}

impl DerefMut for Group {
    fn deref_mut(&mut self) -> &mut Roster {
        self.roster.get_or_insert_default()
    }
}

impl Group {
    pub(crate) fn new(id: Arc<str>, incarnation: u64) -> Group {
        Group {
            id,
            incarnation,
            state: GroupState::Empty,
            previous: GroupState::Empty,
            state_since: None,
            generation: 0,
            roster: None,
        }
    }

    /// A group as its record tells, every session running anew from `now`.
    pub(crate) fn from_value(id: Arc<str>, incarnation: u64, value: GroupValue, now: Mono) -> Group {
        let mut group = Group::new(id, incarnation);
        if !value.members.is_empty() {
            group.state = GroupState::Stable;
            group.previous = GroupState::Stable;
        }
        group.generation = value.generation;
        group.state_since = Some(value.state_timestamp).filter(|at| *at != -1);
        let protocol = value.protocol.clone().unwrap_or_default();
        for m in value.members {
            let rebalance = if m.rebalance_timeout == -1 { m.session_timeout } else { m.rebalance_timeout };
            let deadline = now.after_ms(i64::from(m.session_timeout));
            let member = Member {
                instance_id: m.instance_id,
                client_id: m.client_id,
                client_host: m.client_host,
                rebalance_timeout_ms: rebalance,
                session_timeout_ms: m.session_timeout,
                protocols: vec![Protocol { name: protocol.clone(), metadata: m.subscription }],
                assignment: m.assignment,
                join: None,
                sync: None,
                is_new: false,
                deadline: Some(deadline),
            };
            group.want(deadline);
            group.add(m.member_id, member, &value.protocol_type);
        }
        group.protocol_type = Some(value.protocol_type).filter(|t| !t.is_empty());
        group.protocol = value.protocol;
        group.leader = value.leader.filter(|l| group.members.contains_key(l)).or(group.leader.take());
        group.subscribed = group.compute_subscribed();
        group
    }

    /// The group as its record says, with each member's assignment from `assignment`.
    pub(crate) fn to_value(&self, assignment: impl Fn(&str, &Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let members = self.members.iter().map(|(id, m)| MemberValue {
            member_id: id.clone(),
            instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout: m.rebalance_timeout_ms,
            session_timeout: m.session_timeout_ms,
            subscription: m.metadata(protocol),
            assignment: assignment(id, m),
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_since.unwrap_or(-1),
            members: members.collect(),
        }
    }

    pub(crate) fn want(&mut self, at: Mono) {
        if self.wanted.is_none_or(|wanted| at < wanted) {
            self.wanted = Some(at);
        }
    }

    pub(crate) fn recompute_wanted(&mut self) {
        let Some(roster) = &mut self.roster else { return };
        let members = roster.members.values().filter_map(|m| m.deadline);
        let pending = roster.pending_join.values().copied();
        let join = roster.join_timer.as_ref().map(JoinTimer::at);
        roster.wanted = members.chain(pending).chain(join).chain(roster.sync_timer).min();
    }

    /// Every member's session runs anew, for a group without parked requests.
    pub(crate) fn restart_all_sessions(&mut self, now: model::Now) {
        for member in self.members.values_mut() {
            member.deadline = Some(now.mono.after_ms(i64::from(member.session_timeout_ms)));
        }
        self.recompute_wanted();
    }

    pub(crate) fn set_state(&mut self, state: GroupState, wall: WallMs) {
        self.previous = self.state;
        self.state = state;
        self.state_since = Some(wall);
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn can_rebalance(&self) -> bool {
        self.state != GroupState::PreparingRebalance
    }

    pub(crate) fn has_all_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_join.is_empty()
    }

    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        i64::from(self.members.values().map(|m| m.rebalance_timeout_ms).max().unwrap_or(0))
    }

    fn count_votes(&mut self, protocols: &[Protocol], add: bool) {
        let names: BTreeSet<&str> = protocols.iter().map(|p| p.name.as_str()).collect();
        for name in names {
            if add {
                *self.votes.entry(name.to_owned()).or_insert(0) += 1;
            } else if let Some(count) = self.votes.get_mut(name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.votes.remove(name);
                }
            }
        }
    }

    /// Puts a member in; the first one leads and decides the protocol type.
    pub(crate) fn add(&mut self, member_id: String, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if let Some(instance) = &member.instance_id {
            self.static_ids.insert(instance.clone(), member_id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.count_votes(&member.protocols, true);
        self.awaiting_join += usize::from(member.join.is_some());
        self.pending_join.remove(&member_id);
        self.members.insert(member_id, member);
    }

    /// Takes a member or an unused id out. Parked requests of the member are the caller's to answer.
    pub(crate) fn take_out(&mut self, member_id: &str) -> Option<Member> {
        let removed = self.members.shift_remove(member_id);
        if let Some(member) = &removed {
            self.count_votes(&member.protocols, false);
            self.awaiting_join -= usize::from(member.join.is_some());
            if let Some(instance) = &member.instance_id {
                self.static_ids.remove(instance);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        removed
    }

    /// Parks a JoinGroup and returns the one that it displaces.
    pub(crate) fn park_join(&mut self, member_id: &str, token: Option<Token>) -> Option<Token> {
        let member = self.members.get_mut(member_id)?;
        let old = std::mem::replace(&mut member.join, token);
        self.awaiting_join += usize::from(token.is_some());
        self.awaiting_join -= usize::from(old.is_some());
        old
    }

    /// Replaces what a member supports and its timeouts.
    pub(crate) fn update(&mut self, member_id: &str, protocols: Vec<Protocol>, rebalance: i32, session: i32) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        member.rebalance_timeout_ms = rebalance;
        member.session_timeout_ms = session;
        self.count_votes(&old, false);
        self.count_votes(&protocols, true);
    }

    /// Moves a static member to a new id. Returns the parked requests of the old one.
    pub(crate) fn rename_static(
        &mut self,
        instance: &str,
        old: &str,
        new: &str,
    ) -> (Option<Token>, Option<Token>) {
        let join = self.park_join(old, None);
        let Some((at, _, mut member)) = self.members.shift_remove_full(old) else { return (join, None) };
        let sync = member.sync.take();
        member.is_new = false;
        self.members.shift_insert(at, new.to_owned(), member);
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.to_owned());
        }
        self.static_ids.insert(instance.to_owned(), new.to_owned());
        (join, sync)
    }

    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.votes.get(&p.name).copied().unwrap_or(0) == self.members.len())
    }

    /// The protocol that all support and most prefer; among equals the one preferred by the earlier member.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let common = |name: &str| self.votes.get(name).copied() == Some(self.members.len());
        let mut tally: IndexMap<&str, usize> = IndexMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|p| common(&p.name)) {
                *tally.entry(&choice.name).or_insert(0) += 1;
            }
        }
        let most = tally.values().copied().max()?;
        tally.iter().find(|(_, n)| **n == most).map(|(name, _)| (*name).to_owned())
    }

    /// Kafka's check of member and instance id, for every request of a member.
    pub(crate) fn validate(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_ids.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let each = self.members.iter().map(|(id, m)| JoinedMember {
            member_id: id.clone(),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol),
        });
        each.collect()
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    pub(crate) fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol)).ok()?);
        }
        Some(topics)
    }

    pub(crate) fn remember(&mut self, cause: RebalanceCause, keep: usize) {
        while self.causes.len() >= keep.max(1) {
            self.causes.pop_front();
        }
        self.causes.push_back(cause);
    }
}
