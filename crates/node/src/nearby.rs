//! Which replica a consumer reads from (KIP-392).
use crate::groups::Slot;
use crate::node::Node;
use model::{GroupKey, NodeId, Now};

impl Node {
    /// The follower in `rack` that a consumer shall read `key` from instead of from here, as Apache Kafka's
    /// RackAwareReplicaSelector chooses it. `None`: it stays; nothing else is configured, this node stands in that
    /// rack itself, does not lead, or nobody there is in sync.
    pub fn preferred_replica(&mut self, now: Now, key: GroupKey, rack: &str) -> Option<NodeId> {
        let image = self.metadata.image();
        let stands_there =
            |node: NodeId| image.nodes.get(&node).is_some_and(|n| n.rack.as_deref() == Some(rack));
        let aware = image.broker_config().replica_selector_rack_aware;
        if !aware || rack.is_empty() || stands_there(self.cfg.node_id) {
            return None;
        }
        let Some(Slot::Open(open)) = self.groups.get_mut(&key) else { return None };
        let liveness = &self.peers.liveness;
        open.partition.preferred_follower(now, |node| stands_there(node) && liveness.holds(now.mono, node))
    }

    /// Partitions led here whose followers hear of commits at once, because consumers were sent to them.
    pub fn read_at_followers(&self) -> usize {
        let prompt = |slot: &&Slot| matches!(slot, Slot::Open(open) if open.partition.commits_promptly());
        self.groups.values().filter(prompt).count()
    }
}
