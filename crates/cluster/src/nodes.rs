//! Nodes that are gone, for good or until they come back with another data directory.
use crate::change::Change;
use crate::command::Command;
use crate::error::{ItemError, ItemResult};
use crate::image::{Image, Topic};
use crate::quorum;
use model::{ErrorCode, NodeId};
use proto::cluster as pb;
use std::sync::Arc;

/// Judges UnregisterBroker: what the node had is lost. Errors: BROKER_ID_NOT_REGISTERED; INVALID_REQUEST where
/// the node lives (Apache Kafka takes that, and the broker goes on unregistered).
pub fn unregister_node(image: &Image, node: NodeId, live: &[NodeId]) -> ItemResult<Command> {
    let Some(known) = image.nodes.get(&node) else {
        let message = format!("Broker ID {node} is not currently registered");
        return Err(ItemError::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if live.contains(&node) {
        return Err(ItemError::invalid_request(format!("Broker {node} is running: stop it first.")));
    }
    Ok(Command::UnregisterNode(pb::UnregisterNode { node_id: node, incarnation: known.incarnation }))
}

/// Replicas that are wanted on the node get new ids: if it comes back with its old directory, what is there is of
/// replicas that nobody counts on any more, and is removed.
pub(crate) fn unregister(image: &mut Image, at: u64, command: &pb::UnregisterNode) -> Vec<Change> {
    let node = command.node_id;
    // A later start than the one that was meant is not touched.
    if image.nodes.get(&node).is_none_or(|n| n.incarnation != command.incarnation) {
        return Vec::new();
    }
    Arc::make_mut(&mut image.nodes).remove(&node);
    let mut changes = vec![Change::NodeGone(node)];
    changes.extend(quorum::unregistered(image, node));
    changes.extend(forget_tombstones(image, node));
    let mut next_id = image.next_replica_id;
    let topics: Vec<Arc<Topic>> = image.topics().cloned().collect();
    for old in topics {
        let mut topic = Topic::clone(&old);
        let mut changed = Vec::new();
        for (index, partition) in (0..).zip(&mut topic.partitions) {
            if let Some(next) = partition.replaced_on(node, at, &mut next_id) {
                *partition = next;
                changed.push(index);
            }
        }
        if !changed.is_empty() {
            let topic = image.put_topic(topic);
            let change = |partition| Change::Reassigned { topic: topic.clone(), partition };
            changes.extend(changed.into_iter().map(change));
        }
    }
    image.next_replica_id = next_id;
    changes
}

/// Nobody is left to confirm what the node held of deleted topics.
fn forget_tombstones(image: &mut Image, node: NodeId) -> Vec<Change> {
    let tombstones = Arc::make_mut(&mut image.tombstones);
    let mut cleared = Vec::new();
    for (id, holders) in tombstones.iter_mut() {
        holders.retain(|holder| *holder != node);
        cleared.extend(holders.is_empty().then_some(*id));
    }
    cleared.iter().for_each(|id| _ = tombstones.remove(id));
    cleared.into_iter().map(Change::TombstoneCleared).collect()
}
