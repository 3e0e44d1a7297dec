//! What follows from a lease: replicas campaign when their leader is gone; groups fall asleep and wake.
use crate::api::{Effect, Event};
use crate::campaign::campaign_delay;
use crate::groups::{Open, Slot};
use crate::hosts::Host;
use crate::liveness::LeaseEvent;
use crate::node::Node;
use crate::sleep::{FollowedGroup, LedGroup, OtherReplica, Sleeping, follower_may_sleep, may_sleep_at};
use model::{GroupKey, LeaderEpoch, Mono, NodeId, Now};
use partition::InSyncReplica;
use storage::ReplicaKind;

/// Replicas that are opened at once after a start, and again at each tick: reads run beside them.
const OPEN_AT_ONCE: usize = 64;

/// A campaign that came to nothing is followed by another after this, ms: leases on one node end no further
/// apart than its heartbeats.
const NEXT_TURN_MS: i64 = 100;
/// So many campaigns before the election timeouts take over.
const MOST_TURNS: u8 = 5;
/// Groups that campaign at once; the others follow when what came meanwhile was heard, heartbeats of nodes first of
/// all: ten thousand elections must not cost the next lease.
const CAMPAIGNS_AT_ONCE: usize = 200;
/// Groups that are told in one turn that a node is lost, and the time to the next turn, ms: ten thousand in 0.3 s.
const LOST_AT_ONCE: usize = 400;
const LOST_EVERY_MS: i64 = 10;

/// A group that is to be told that the node of a replica is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostPeer {
    node: NodeId,
    key: GroupKey,
    /// Groups that lost their leader with it.
    orphans: usize,
}

impl Node {
    /// The node that leads the metadata group and its epoch, as far as this one knows.
    pub fn metadata_lead(&self) -> Option<(NodeId, LeaderEpoch)> {
        let partition = &self.open_group(GroupKey::METADATA)?.partition;
        Some((partition.leader_node()?, partition.announced_epoch()))
    }

    pub(crate) fn on_leases(&mut self, now: Now, leases: Vec<LeaseEvent>) {
        for lease in leases {
            match lease {
                LeaseEvent::Gained(node) => self.gained(now, node),
                LeaseEvent::Lost(node) => self.lost(now, node),
            }
        }
    }

    /// Replicas there may be behind: what leads here sends to them again.
    fn gained(&mut self, now: Now, node: NodeId) {
        self.peers.leaders.set_live(node, true);
        let again = !self.peers.heard.insert(node);
        self.fx.push(Effect::Event(Event::NodeHeard { node, again }));
        // A lease that was lost for a moment: groups that have not been told yet never hear of it.
        self.peers.lost.retain(|lost| lost.node != node);
        for key in self.groups_with(node) {
            self.note_down(now, key);
            let behind =
                self.open_group(key).is_some_and(|o| o.partition.is_leader() && !o.partition.is_settled());
            if behind {
                self.stir(now, key);
            }
        }
    }

    /// Groups led there have no leader: they elect one. What is led here with a voter there must find out
    /// whether it still has a majority.
    fn lost(&mut self, now: Now, node: NodeId) {
        self.peers.leaders.set_live(node, false);
        let led = |key: &GroupKey| {
            self.open_group(*key).is_some_and(|open| open.partition.leader_node() == Some(node))
        };
        let (orphans, others): (Vec<GroupKey>, Vec<GroupKey>) =
            self.groups_with(node).into_iter().partition(led);
        let count = orphans.len();
        let led = orphans.iter().filter(|key| **key != GroupKey::METADATA).count();
        self.fx.push(Effect::Event(Event::NodeLost { node, led }));
        // Nobody has these to write to, so they are told first.
        let keys = orphans.into_iter().chain(others);
        self.peers.lost.extend(keys.map(|key| LostPeer { node, key, orphans: count }));
        self.peers.next_lost = now.mono;
        self.tell_lost(now);
    }

    /// Groups are told that the node of a replica is lost, some in each turn of the loop: what this costs with many
    /// groups must not cost the next lease.
    pub(crate) fn tell_lost(&mut self, now: Now) {
        if self.peers.lost.is_empty() || self.peers.next_lost > now.mono {
            return;
        }
        self.peers.next_lost = now.mono.after_ms(LOST_EVERY_MS);
        for _ in 0..LOST_AT_ONCE {
            let Some(LostPeer { node, key, orphans }) = self.peers.lost.pop_front() else { return };
            self.wait_for_fewer(now, key);
            self.stir(now, key);
            if self.open_group(key).is_none_or(|open| open.partition.leader_node() != Some(node)) {
                continue;
            }
            self.with(key, |p, dir, fx| p.lose_leader(now, dir, fx));
            // Who reads here is sent to the next leader.
            self.wake(key);
            let delay = campaign_delay(key, self.cfg.seed, self.position(now, key), orphans);
            self.campaign_at(key, now.mono.after(delay), 1);
        }
    }

    fn groups_with(&self, node: NodeId) -> Vec<GroupKey> {
        let there = |slot: &Slot| match slot {
            Slot::Open(open) => open.partition.members().iter().any(|m| m.node_id == node),
            Slot::Opening(_) | Slot::Failed(_) => false,
        };
        self.groups.iter().filter(|(_, slot)| there(slot)).map(|(key, _)| *key).collect()
    }

    /// A replica is not there any more: what waited for it may go to a witness.
    pub(crate) fn wait_for_fewer(&mut self, now: Now, key: GroupKey) {
        self.note_down(now, key);
        if self.open_group(key).is_some_and(|o| o.partition.held_back() > 0) {
            self.with(key, |p, dir, fx| p.look(now, dir, fx));
        }
    }

    pub(crate) fn note_down(&mut self, now: Now, key: GroupKey) {
        let Some(Slot::Open(open)) = self.groups.get_mut(&key) else { return };
        let liveness = &self.peers.liveness;
        let image = self.metadata.image();
        // A node that lives may have lost the replica that it had.
        let lost = image.partition(key).map_or(&[][..], |partition| partition.lost());
        let is_lost = |m: &storage::Replica| lost.iter().any(|lost| lost.id == m.id);
        open.partition.set_down(now, |m| !liveness.holds(now.mono, m.node_id) || is_lost(m));
    }

    /// The place of this node's replica among those that may lead, on live nodes, in the order of the wanted set.
    fn position(&self, now: Now, key: GroupKey) -> usize {
        let Some(open) = self.open_group(key) else { return 0 };
        let may_lead = |m: &&storage::Replica| m.kind() != ReplicaKind::Learner && !m.witness;
        let voting = open.partition.members().iter().filter(may_lead);
        let live = voting.map(|m| m.node_id);
        let mut live = live.filter(|node| self.peers.liveness.holds(now.mono, *node));
        live.position(|node| node == self.cfg.node_id).unwrap_or(0)
    }

    pub(crate) fn campaign_due(&mut self, now: Now) {
        if self.handing_over.is_some() {
            self.peers.campaigns.clear();
        }
        if self.peers.campaigns.is_empty() || self.peers.next_campaign > now.mono {
            return;
        }
        let due = |(key, (at, turn)): (&GroupKey, &(Mono, u8))| (*at <= now.mono).then_some((*key, *turn));
        let due = self.peers.campaigns.iter().filter_map(due).take(CAMPAIGNS_AT_ONCE);
        for (key, turn) in due.collect::<Vec<_>>() {
            self.peers.campaigns.remove(&key);
            let leaderless = self.open_group(key).is_some_and(|o| o.partition.leader_node().is_none());
            if leaderless {
                self.stir(now, key);
                self.with(key, |p, dir, fx| p.campaign(now, dir, fx));
                self.campaign_again(now, key, turn);
            }
        }
        let next = self.peers.campaigns.values().map(|(at, _)| *at).min();
        self.peers.next_campaign = next.unwrap_or(now.mono);
    }

    fn campaign_at(&mut self, key: GroupKey, at: Mono, turn: u8) {
        let none = self.peers.campaigns.is_empty();
        self.peers.campaigns.insert(key, (at, turn));
        self.peers.next_campaign = if none { at } else { self.peers.next_campaign.min(at) };
    }

    /// Where others still took the leader for alive they gave no vote; and where that left it to one whose log
    /// is behind, nobody would campaign before an election timeout, which is seconds.
    fn campaign_again(&mut self, now: Now, key: GroupKey, turn: u8) {
        if turn < MOST_TURNS {
            let seed = self.cfg.seed.wrapping_add(u64::from(turn));
            let delay = campaign_delay(key, seed, self.position(now, key), 1);
            self.campaign_at(key, now.mono.after_ms(NEXT_TURN_MS).after(delay), turn + 1);
        }
    }

    /// A group was born here, with replicas elsewhere: its first replica on a live node begins.
    pub(crate) fn first_election(&mut self, now: Now, key: GroupKey) {
        self.note_down(now, key);
        self.stir(now, key);
        if self.position(now, key) == 0 {
            self.campaign_at(key, now.mono, 1);
        }
    }

    /// A replica was read back: it hears of its leader, or its ticks let it campaign.
    pub(crate) fn rejoined(&mut self, now: Now, key: GroupKey) {
        self.note_down(now, key);
        self.stir(now, key);
    }

    /// The metadata group after a start.
    pub(crate) fn first_look(&mut self, now: Now) {
        self.rejoined(now, GroupKey::METADATA);
    }

    /// Replicas of groups with others elsewhere are opened by themselves: nobody could elect without them.
    pub(crate) fn open_some(&mut self, now: Now) {
        if self.peers.to_open.is_empty() {
            return;
        }
        let opening = self.groups.values().filter(|slot| matches!(slot, Slot::Opening(_))).count();
        for _ in opening..OPEN_AT_ONCE {
            let Some(key) = self.peers.to_open.pop() else { return };
            self.open_replica(now, key);
        }
    }

    /// After a tick: announces what changed, lets a group sleep that has nothing to do.
    pub(crate) fn look_at(&mut self, now: Now, key: GroupKey) {
        self.announce(now, key);
        let Some(Slot::Open(open)) = self.groups.get(&key) else {
            self.peers.awake.remove(&key);
            return;
        };
        if open.partition.is_alone() {
            // The others were removed: whoever is left needs no ticks.
            self.peers.awake.remove(&key);
            return;
        }
        if !open.partition.is_leader() {
            return;
        }
        let live = |node: NodeId| self.peers.liveness.holds(now.mono, node);
        let replicas = open.partition.replicas(now);
        let (own, others): (Vec<_>, Vec<_>) = replicas.iter().partition(|r| r.node == self.cfg.node_id);
        let other =
            |r: &&InSyncReplica| OtherReplica { live: live(r.node), voter: r.votes, matched: r.matched };
        let host = self.hosts.get(&key);
        let group = LedGroup {
            key,
            others: &others.iter().map(other).collect::<Vec<_>>(),
            last_index: open.partition.last_index(),
            persisted: own.first().map_or(0, |r| r.matched),
            committed: open.partition.committed_index(),
            confirmed: open.partition.leader_epoch().is_some(),
            busy: !open.waiting.is_empty()
                || open.partition.is_transferring()
                || self.peers.moves.contains_key(&key),
            kept_awake: host.is_some_and(Host::is_watched),
            last_activity: self.peers.awake.get(&key).copied().unwrap_or(now.mono),
        };
        if may_sleep_at(&group).is_none_or(|at| at > now.mono) {
            return;
        }
        let (epoch, last_index) = (open.partition.announced_epoch(), open.partition.last_index());
        let group = Sleeping { key, epoch, last_index, last_term: open.partition.last_term() };
        // Each live follower is told, or the group stays awake.
        let told: Vec<NodeId> = others.iter().map(|r| r.node).filter(|node| live(*node)).collect();
        if told.iter().all(|node| self.peers.liveness.sleeps(*node, group)) {
            self.peers.awake.remove(&key);
        } else {
            self.peers.liveness.wakes(key);
        }
    }

    /// A leader says that a group sleeps, and with it what is committed.
    pub(crate) fn follower_sleeps(&mut self, now: Now, node: NodeId, said: &Sleeping) {
        let follows = |open: &&Open| {
            open.partition.leader_node() == Some(node) && open.partition.announced_epoch() == said.epoch
        };
        // The leader of a replica that is restrained does not know yet how far that is.
        let heeds = |open: &&Open| follows(open) && !open.partition.is_restrained();
        let Some(open) = self.open_group(said.key).filter(heeds) else { return };
        if said.last_term > 0 && open.partition.committed_index() < said.last_index {
            let entry = (said.last_index, said.last_term);
            self.with(said.key, |p, dir, fx| p.known_committed(now, entry, dir, fx));
        }
        let Some(open) = self.open_group(said.key) else { return };
        let epoch = (open.partition.leader_node() == Some(node)).then(|| open.partition.announced_epoch());
        let followed = FollowedGroup {
            epoch,
            last_index: open.partition.last_index(),
            committed: open.partition.committed_index(),
        };
        if follower_may_sleep(&followed, said) {
            self.peers.awake.remove(&said.key);
        }
    }

    /// Tells the others of a group that leads here, where something about that changed.
    pub(crate) fn announce(&mut self, now: Now, key: GroupKey) {
        let Some(Slot::Open(open)) = self.groups.get(&key) else { return };
        let Some(epoch) = open.partition.leader_epoch() else { return };
        let in_sync = open.partition.in_sync_replicas(now);
        self.peers.leaders.announce(now.mono, key, epoch, Some(self.cfg.node_id), &in_sync);
    }
}
