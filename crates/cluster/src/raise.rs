//! Internal topics are made with as many replicas as there are nodes, and get more when nodes join.
use crate::command::Command;
use crate::create_topics::internal_factor;
use crate::image::{Image, Partition};
use crate::load::{Candidates, Turns};
use model::NodeId;
use proto::cluster::{Reassign, ReplicaSet};
use std::collections::BTreeMap;

/// Internal partitions that have fewer replicas than are configured and than there are `live` nodes, and whose
/// replicas no client has chosen: what to propose for at most `most` of them.
pub fn raise_internal<'a>(image: &Image, live: impl Into<Candidates<'a>>, most: usize) -> Vec<Command> {
    let live = live.into();
    let (live, turns) = (live.nodes, Turns::of(live));
    let mut load: BTreeMap<NodeId, usize> = live.iter().map(|node| (*node, 0)).collect();
    for replica in image.topics().flat_map(|t| &t.partitions).flat_map(Partition::copies) {
        *load.entry(replica.node).or_default() += 1;
    }
    let mut commands = Vec::new();
    for topic in image.topics().filter(|t| t.internal) {
        let factor = internal_factor(image, &topic.name).unwrap_or(0).min(live.len());
        for (index, partition) in (0..).zip(&topic.partitions) {
            if commands.len() >= most {
                return commands;
            }
            let mut nodes: Vec<NodeId> = partition.copies().map(|r| r.node).collect();
            if nodes.len() >= factor || !partition.may_be_raised() {
                continue;
            }
            while nodes.len() < factor {
                let free = live.iter().filter(|node| !nodes.contains(node));
                let score = |node: NodeId| turns.weighed(node, load.get(&node).copied().unwrap_or(0));
                let Some(next) = free.min_by_key(|node| (score(**node), **node)).copied() else { break };
                *load.entry(next).or_default() += 1;
                nodes.push(next);
            }
            commands.push(Command::Reassign(Reassign {
                topic_id: topic.id.0.to_vec().into(),
                partition: index,
                target: Some(ReplicaSet { nodes, witness: None }),
                raises: true,
            }));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CONSUMER_OFFSETS, Metadata, PartitionTarget, alter_reassignments};
    use proto::cluster as pb;

    fn apply(metadata: &mut Metadata, command: &Command) {
        metadata.apply(metadata.applied() + 1, command).unwrap();
    }

    /// Node 1 with a topic of groups of two partitions.
    fn alone() -> Metadata {
        let mut metadata = Metadata::new(1, BTreeMap::new());
        let topic_id = vec![7; 16].into();
        let partitions = vec![ReplicaSet { nodes: vec![1], witness: None }; 2];
        let create = pb::CreateTopic { name: CONSUMER_OFFSETS.into(), topic_id, partitions, configs: vec![] };
        apply(&mut metadata, &Command::CreateTopic(create));
        metadata
    }

    fn wanted(metadata: &Metadata, partition: i32) -> Vec<NodeId> {
        let image = metadata.image();
        let partition = image.topic(CONSUMER_OFFSETS).unwrap().partition(partition).unwrap().clone();
        partition.wanted().map(|r| r.node).collect()
    }

    fn done(metadata: &mut Metadata) {
        for partition in 0..2 {
            let image = metadata.image();
            let wanted = image.topic(CONSUMER_OFFSETS).unwrap().partition(partition).unwrap().clone();
            let replicas = wanted.wanted().map(|r| r.id).collect();
            let topic_id = vec![7; 16].into();
            let generation = wanted.generation();
            let report = pb::Reassigned { topic_id, partition, replicas, index: 5, term: 2, generation };
            apply(metadata, &Command::Reassigned(report));
        }
    }

    #[test]
    fn internal_topics_grow_with_the_cluster_and_end_at_what_is_configured() {
        let mut metadata = alone();
        assert_eq!(raise_internal(&metadata.image(), &[1], 10), []);
        for live in [&[1, 2][..], &[1, 2, 3], &[1, 2, 3, 4]] {
            let commands = raise_internal(&metadata.image(), live, 10);
            commands.iter().for_each(|c| apply(&mut metadata, c));
            assert_eq!(raise_internal(&metadata.image(), live, 10), [], "not while it is being done");
            done(&mut metadata);
        }
        assert_eq!((wanted(&metadata, 0), wanted(&metadata, 1).len()), (vec![1, 2, 3], 3));
        assert_eq!(raise_internal(&metadata.image(), &[1, 2, 3, 4], 10), []);
    }

    #[test]
    fn what_a_client_chose_is_left_alone_and_few_are_raised_at_once() {
        let mut metadata = alone();
        assert_eq!(raise_internal(&metadata.image(), &[1, 2, 3], 1).len(), 1);
        for node in [1, 2] {
            let register = pb::RegisterNode { node_id: node, incarnation: 1, ..Default::default() };
            apply(&mut metadata, &Command::RegisterNode(register));
        }
        let target = PartitionTarget { topic: CONSUMER_OFFSETS.into(), partition: 0, nodes: Some(vec![2]) };
        let command = alter_reassignments(&metadata.image(), &[target], false).remove(0).unwrap().unwrap();
        apply(&mut metadata, &command);
        done(&mut metadata);
        let commands = raise_internal(&metadata.image(), &[1, 2, 3], 10);
        commands.iter().for_each(|c| apply(&mut metadata, c));
        assert_eq!((wanted(&metadata, 0), wanted(&metadata, 1).len()), (vec![2], 3));
    }
}
