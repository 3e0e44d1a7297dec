//! Before a clean stop leadership goes to others, so that clients find a leader at once.
use crate::api::{Effect, PeerOut};
use crate::groups::{Open, Slot};
use crate::node::Node;
use model::{GroupKey, NodeId, Now};

impl Node {
    /// Hands what leads here to replicas on live nodes that have all of it, and goes on doing so: see
    /// [`Node::handed_over`]. This node does not campaign by itself any more.
    pub fn begin_hand_over(&mut self, now: Now) {
        self.handing_over.get_or_insert_default();
        self.hand_over_more(now);
        self.settle(now);
    }

    /// Whether nothing leads here that a replica on a live node could take over, and the new leaders of what
    /// was handed over have said that they serve, or have gone in their turn.
    pub fn handed_over(&self, now: Now) -> bool {
        let elsewhere = |key: &GroupKey| {
            let Some(open) = self.open_group(*key) else { return true };
            let leader = self.leader_of(*key).1;
            leader.is_some_and(|node| node != self.cfg.node_id) || !self.majority_lives(now, open)
        };
        let done = self.handing_over.as_ref().is_some_and(|keys| keys.iter().all(elsewhere));
        done && self.groups.values().all(|slot| match slot {
            Slot::Open(open) => self.heir(now, open).is_none(),
            Slot::Opening(_) | Slot::Failed(_) => true,
        })
    }

    /// Has the leader of `key`, this node or another one, hand it to the replica on `to`. Whether it comes about
    /// shows in [`Node::leader_of`]; ask again after a while.
    pub fn ask_hand_over(&mut self, now: Now, key: GroupKey, to: NodeId) {
        match self.leader_of(key).1 {
            Some(leader) if leader == self.cfg.node_id => self.hand_over_one(now, key, to),
            Some(leader) => self.fx.push(Effect::Peer(leader, PeerOut::HandOver { key, to })),
            None => {}
        }
        self.settle(now);
    }

    /// Hands over a group that is led here, to a replica that could lead at once.
    pub(crate) fn hand_over_one(&mut self, now: Now, key: GroupKey, to: NodeId) {
        let Some(open) = self.open_group(key) else { return };
        let live = self.peers.liveness.holds(now.mono, to) && !open.partition.is_transferring();
        let fit = |r: &partition::InSyncReplica| r.node == to && r.in_sync;
        let may = key != GroupKey::METADATA && to != self.cfg.node_id && live;
        if may && open.partition.leader_epoch().is_some() && open.partition.replicas(now).iter().any(fit) {
            self.transfer_leader(now, key, to);
        }
    }

    /// Wakes a group that is led here and has it hand its lead to the replica on `to`.
    pub(crate) fn transfer_leader(&mut self, now: Now, key: GroupKey, to: NodeId) {
        self.stir(now, key);
        self.with(key, |p, dir, fx| p.transfer_leader(now, to, dir, fx));
    }

    /// A transfer that came to nothing is begun again, perhaps to somebody else.
    pub(crate) fn hand_over_more(&mut self, now: Now) {
        if self.handing_over.is_none() {
            return;
        }
        let heirs: Vec<(GroupKey, NodeId)> = self.heirs(now).collect();
        for (key, heir) in heirs {
            self.transfer_leader(now, key, heir);
            self.handing_over.get_or_insert_default().insert(key);
        }
    }

    /// The groups that lead here, not handed over yet, and who is to lead them instead.
    pub(crate) fn heirs(&self, now: Now) -> impl Iterator<Item = (GroupKey, NodeId)> {
        self.groups.iter().filter_map(move |(key, slot)| match slot {
            Slot::Open(open) if !open.partition.is_transferring() => Some((*key, self.heir(now, open)?)),
            Slot::Open(_) | Slot::Opening(_) | Slot::Failed(_) => None,
        })
    }

    pub(crate) fn majority_lives(&self, now: Now, open: &Open) -> bool {
        let replicas = open.partition.replicas(now);
        let voters = replicas.iter().filter(|r| r.votes);
        let live = voters.clone().filter(|r| self.peers.liveness.holds(now.mono, r.node)).count();
        live > voters.count() / 2
    }

    /// The replica that is to lead instead of the one here, if that leads: in sync, on a live node, rather not on a
    /// full disk, and with the most of the log.
    pub(crate) fn heir(&self, now: Now, open: &Open) -> Option<NodeId> {
        if !open.partition.is_leader() || !self.majority_lives(now, open) {
            return None;
        }
        let live = |node: NodeId| node != self.cfg.node_id && self.peers.liveness.holds(now.mono, node);
        let replicas = open.partition.replicas(now);
        let fit = replicas.iter().rev().filter(|r| r.in_sync && r.votes && live(r.node));
        fit.max_by_key(|r| (!self.disk_is_full(r.node), r.matched)).map(|r| r.node)
    }
}
