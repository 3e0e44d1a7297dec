//! Witnesses of partitions with two replicas: a third vote, on a third broker, without data
//! (docs/replication.md, "Witness"). Clients are never told of them.
use crate::change::Change;
use crate::command::Command;
use crate::create_topics::internal_factor;
use crate::error::ApplyError;
use crate::features::{WITNESSES, plimsoll_level};
use crate::image::{Image, Moved, Partition, Replica, ReplicaKind, Topic};
use crate::reassign::{find, put};
use model::{NodeId, TopicId};
use proto::cluster::{ReplicaSet, SetWitness};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many replicas have a witness: with them it makes three votes.
const COPIES: usize = 2;

/// Nodes that may hold the witness of `copies`: live, and those of a rack of their own before others; none where there
/// is to be no witness.
fn candidates(image: &Image, live: &[NodeId], copies: &[NodeId]) -> Vec<NodeId> {
    if copies.len() != COPIES || plimsoll_level(image) < WITNESSES {
        return Vec::new();
    }
    let rack = |node: &NodeId| image.nodes.get(node).and_then(|n| n.rack.as_deref());
    let shares = |node: &NodeId| copies.iter().any(|copy| rack(copy).is_some() && rack(copy) == rack(node));
    let free: Vec<NodeId> = live.iter().filter(|node| !copies.contains(node)).copied().collect();
    let apart: Vec<NodeId> = free.iter().filter(|node| !shares(node)).copied().collect();
    if apart.is_empty() { free } else { apart }
}

/// Adds a witness to each set of two nodes where a third one lives: the next of `order`, in which the sets were placed
/// from `first` on.
pub(crate) fn add_witnesses(image: &Image, order: &[NodeId], first: usize, sets: &mut [ReplicaSet]) {
    for (index, set) in sets.iter_mut().enumerate() {
        let fit = candidates(image, order, &set.nodes);
        let mut turn = (0..order.len()).map(|r| order[(first + index + COPIES + r) % order.len()]);
        set.witness = turn.find(|node| fit.contains(node));
    }
}

/// The topic that this command gives partitions of two replicas without a witness: they tolerate no loss.
pub fn lacks_witness(image: &Image, command: &Command) -> Option<String> {
    let (sets, name) = match command {
        Command::CreateTopic(c) => (&c.partitions, Some(c.name.clone())),
        Command::CreatePartitions(c) => {
            let id = TopicId(c.topic_id[..].try_into().ok()?);
            (&c.partitions, image.topic_by_id(id).map(|t| t.name.to_string()))
        }
        _ => return None,
    };
    name.filter(|_| sets.iter().any(|set| set.nodes.len() == COPIES && set.witness.is_none()))
}

/// Partitions of two replicas that are to have a witness and have none, or one on a node that was unregistered: what
/// to propose for at most `most` of them. One witness after the other goes to the node that has the fewest.
pub fn raise_witnesses(image: &Image, live: &[NodeId], most: usize) -> Vec<Command> {
    if live.len() <= COPIES || plimsoll_level(image) < WITNESSES {
        return Vec::new();
    }
    let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
    for witness in image.topics().flat_map(|t| &t.partitions).filter_map(|p| p.witness) {
        *load.entry(witness.node).or_default() += 1;
    }
    let mut commands = Vec::new();
    for topic in image.topics() {
        // It is about to get a third copy.
        let grows = topic.internal && internal_factor(image, &topic.name).is_some_and(|n| n > COPIES);
        for (index, partition) in (0..).zip(&topic.partitions) {
            if commands.len() >= most {
                return commands;
            }
            let stands = partition.witness.is_some_and(|w| image.nodes.contains_key(&w.node));
            if stands || partition.is_moving() || grows && partition.may_be_raised() {
                continue;
            }
            let copies: Vec<NodeId> = partition.copies().map(|r| r.node).collect();
            let free = candidates(image, live, &copies);
            let Some(node) = free.into_iter().min_by_key(|n| (load.get(n).copied(), *n)) else { continue };
            *load.entry(node).or_default() += 1;
            let topic_id = topic.id.0.to_vec().into();
            commands.push(Command::SetWitness(SetWitness { topic_id, partition: index, node_id: node }));
        }
    }
    commands
}

impl Partition {
    /// The wanted replicas that hold data: what clients call replicas.
    pub fn copies(&self) -> impl Iterator<Item = &Replica> {
        self.wanted().filter(|r| r.kind != ReplicaKind::Witness)
    }

    /// A new partition with its first replicas.
    pub(crate) fn founded(replicas: Arc<[Replica]>, witness: Option<Replica>) -> Partition {
        let moved = witness.map(|witness| {
            let founders = replicas.iter().copied().chain([witness]).collect();
            Arc::new(Moved { founders, raised: true, ..Moved::default() })
        });
        Partition { replicas, witness, moved }
    }

    /// The witness that stays with these copies.
    pub(crate) fn witness_beside(&self, copies: &[NodeId]) -> Option<Replica> {
        self.witness.filter(|w| copies.len() == COPIES && !copies.contains(&w.node))
    }

    fn with_witness(&self, node: NodeId, id: u64, index: u64) -> Partition {
        let witness = Replica { id, node, kind: ReplicaKind::Witness };
        let mut moved = Moved { adding: vec![id], generation: index, ..self.settled() };
        moved.dropped.extend(self.witness);
        Partition { replicas: self.replicas.clone(), witness: Some(witness), moved: Some(Arc::new(moved)) }
    }
}

/// Applies the choice of a witness; one that fits no more has no effect.
pub(crate) fn apply(image: &mut Image, index: u64, command: &SetWitness) -> Result<Vec<Change>, ApplyError> {
    let found: Option<(Arc<Topic>, Partition)> = find(image, index, &command.topic_id, command.partition)?;
    let Some((topic, partition)) = found else { return Ok(Vec::new()) };
    let node = command.node_id;
    let copies: Vec<NodeId> = partition.copies().map(|r| r.node).collect();
    let fits = copies.len() == COPIES && !copies.contains(&node) && !partition.is_moving();
    if !fits || !image.nodes.contains_key(&node) || partition.witness.is_some_and(|w| w.node == node) {
        return Ok(Vec::new());
    }
    let next = partition.with_witness(node, image.next_replica_id, index);
    image.next_replica_id += 1;
    Ok(vec![put(image, &topic, command.partition, next)])
}
