//! Another replica becomes the preferred leader: the same set in another order.
use crate::command::Command;
use crate::image::{Image, ReplicaKind};
use model::{GroupKey, NodeId};
use proto::cluster::{Reassign, ReplicaSet};

/// What to propose so that the replica on `node` is the preferred leader of a partition; `None` where it is, where it
/// has none that could lead, or while the partition's replicas are being changed: what a client has asked for since
/// stays. `image` must be the pending one, for the same reason.
pub fn prefer_leader(image: &Image, key: GroupKey, node: NodeId) -> Option<Command> {
    let partition = image.partition(key)?;
    let mut nodes: Vec<NodeId> = partition.copies().map(|r| r.node).collect();
    let at = partition.copies().position(|r| r.node == node && r.kind == ReplicaKind::Voter)?;
    if at == 0 || partition.is_moving() {
        return None;
    }
    nodes.remove(at);
    nodes.insert(0, node);
    Some(Command::Reassign(Reassign {
        topic_id: key.topic.0.to_vec().into(),
        partition: key.partition,
        target: Some(ReplicaSet { nodes, witness: None }),
        // Nobody chose other replicas: an internal topic may still get more.
        raises: partition.may_be_raised(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, PartitionTarget, alter_reassignments};
    use model::TopicId;
    use proto::cluster as pb;
    use std::collections::BTreeMap;

    fn apply(metadata: &mut Metadata, command: &Command) {
        metadata.apply(metadata.applied() + 1, command).unwrap();
    }

    #[test]
    fn the_order_changes_and_nothing_else_moves() {
        let mut metadata = Metadata::new(1, BTreeMap::new());
        for node in 1..5 {
            let register = pb::RegisterNode { node_id: node, incarnation: 1, ..Default::default() };
            apply(&mut metadata, &Command::RegisterNode(register));
        }
        let key = GroupKey { topic: TopicId([7; 16]), partition: 0 };
        let (topic_id, partitions) =
            (vec![7; 16].into(), vec![ReplicaSet { nodes: vec![1, 2, 3], witness: None }]);
        let create = pb::CreateTopic { name: "t".into(), topic_id, partitions, configs: vec![] };
        apply(&mut metadata, &Command::CreateTopic(create));
        assert_eq!(prefer_leader(&metadata.image(), key, 1), None, "it is");
        assert_eq!(prefer_leader(&metadata.image(), key, 4), None, "it holds nothing");
        let before = metadata.image().topic("t").unwrap().partition(0).unwrap().clone();
        let command = prefer_leader(&metadata.image(), key, 3).unwrap();
        apply(&mut metadata, &command);
        let after = metadata.image().topic("t").unwrap().partition(0).unwrap().clone();
        assert_eq!(after.replicas.iter().map(|r| r.node).collect::<Vec<_>>(), [3, 1, 2]);
        let mut ids: Vec<u64> = after.replicas.iter().map(|r| r.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, before.replicas.iter().map(|r| r.id).collect::<Vec<_>>(), "the same replicas");
        assert!(!after.is_moving() && after.may_be_raised() && after.founders() == &before.replicas[..]);

        let target = PartitionTarget { topic: "t".into(), partition: 0, nodes: Some(vec![3, 4]) };
        let command = alter_reassignments(&metadata.image(), &[target], false).remove(0).unwrap().unwrap();
        apply(&mut metadata, &command);
        assert_eq!(prefer_leader(&metadata.image(), key, 4), None, "a client moves it");
    }
}
