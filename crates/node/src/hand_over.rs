//! Before a clean stop leadership goes to others, so that clients find a leader at once.
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

    /// A transfer that came to nothing is begun again, perhaps to somebody else.
    pub(crate) fn hand_over_more(&mut self, now: Now) {
        if self.handing_over.is_none() {
            return;
        }
        let heir = |(key, slot): (&GroupKey, &Slot)| match slot {
            Slot::Open(open) if !open.partition.is_transferring() => Some((*key, self.heir(now, open)?)),
            Slot::Open(_) | Slot::Opening(_) | Slot::Failed(_) => None,
        };
        let heirs: Vec<(GroupKey, NodeId)> = self.groups.iter().filter_map(heir).collect();
        for (key, heir) in heirs {
            self.stir(now, key);
            self.with(key, |p, dir, fx| p.transfer_leader(now, heir, dir, fx));
            self.handing_over.get_or_insert_default().insert(key);
        }
    }

    fn majority_lives(&self, now: Now, open: &Open) -> bool {
        let members = open.partition.members();
        let live = members.iter().filter(|m| self.peers.liveness.holds(now.mono, m.node_id)).count();
        live > members.len() / 2
    }

    /// The replica that is to lead instead of the one here, if that leads: in sync, on a live node, and with the
    /// most of the log.
    fn heir(&self, now: Now, open: &Open) -> Option<NodeId> {
        if !open.partition.is_leader() || !self.majority_lives(now, open) {
            return None;
        }
        let live = |node: NodeId| node != self.cfg.node_id && self.peers.liveness.holds(now.mono, node);
        let replicas = open.partition.replicas(now);
        let fit = replicas.iter().rev().filter(|r| r.in_sync && live(r.node));
        fit.max_by_key(|r| r.matched).map(|r| r.node)
    }
}
