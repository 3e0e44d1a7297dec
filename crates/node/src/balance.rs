//! Leadership goes back to preferred replicas: after restarts it would stay with whoever happened to take over.
use crate::groups::{Open, Slot};
use crate::node::Node;
use model::{GroupKey, NodeId, Now};

/// Groups handed over in one look: a broker with ten thousand does not move them all at once.
const AT_ONCE: usize = 200;
/// The next look where there were more, ms.
const MORE_MS: i64 = 1_000;

impl Node {
    /// Hands groups that lead here to their preferred replicas, where those are in sync: Kafka's
    /// `auto.leader.rebalance.enable`, but for each group instead of a share of a broker's.
    pub(crate) fn balance(&mut self, now: Now) {
        if self.peers.next_balance > now.mono {
            return;
        }
        let image = self.metadata.image();
        let config = image.broker_config();
        let wait = config.leader_imbalance_check_interval_seconds.saturating_mul(1_000).max(1);
        self.peers.next_balance = now.mono.after_ms(wait);
        if !config.auto_leader_rebalance_enable || self.handing_over.is_some() {
            return;
        }
        let moves = self.groups.iter().filter_map(|(key, slot)| match slot {
            Slot::Open(open) => Some((*key, self.preferred_elsewhere(now, *key, open)?)),
            Slot::Opening(_) | Slot::Failed(_) => None,
        });
        let moves: Vec<(GroupKey, NodeId)> = moves.take(AT_ONCE + 1).collect();
        if moves.len() > AT_ONCE {
            self.peers.next_balance = now.mono.after_ms(MORE_MS);
        }
        for (key, node) in moves.into_iter().take(AT_ONCE) {
            self.transfer_leader(now, key, node);
        }
    }

    /// The node that is to lead a group instead of this one. The metadata group has no preference.
    fn preferred_elsewhere(&self, now: Now, key: GroupKey, open: &Open) -> Option<NodeId> {
        if key == GroupKey::METADATA || open.partition.leader_epoch().is_none() {
            return None;
        }
        let image = self.metadata.image();
        let preferred = image.partition(key)?.replicas.first()?.node;
        let fit = |r: &&partition::InSyncReplica| r.node == preferred && r.in_sync && r.votes;
        let takes_it = self.peers.liveness.holds(now.mono, preferred) && !self.disk_is_full(preferred);
        let elsewhere = preferred != self.cfg.node_id && takes_it && !open.partition.is_transferring();
        open.partition.replicas(now).iter().find(fit).map(|r| r.node).filter(|_| elsewhere)
    }
}
