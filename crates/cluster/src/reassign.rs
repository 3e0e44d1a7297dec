//! Reassignments: which replicas a partition is to have instead of those that it has (AlterPartitionReassignments,
//! KIP-455). The metadata holds what is wanted; the group's leader carries it out and reports.
use crate::change::Change;
use crate::command::Command;
use crate::error::{ApplyError, ItemError, ItemResult};
use crate::image::{Image, Moved, Partition, Replica, ReplicaKind, Topic};
use crate::metadata::topic_id;
use crate::placement::check_manual;
use model::{ErrorCode, NodeId, PartitionIndex};
use proto::cluster::{self as pb, ReplicaSet};
use std::sync::Arc;

/// What one partition is to have, as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTarget {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: PartitionIndex,
    /// Its nodes, the preferred leader first; `None`: back to where it was.
    pub nodes: Option<Vec<NodeId>>,
}

impl Partition {
    /// The replicas that are to be members of the group when all is done.
    pub fn wanted(&self) -> impl Iterator<Item = &Replica> {
        let removing = self.moved.as_deref().map_or(&[][..], |m| &m.removing);
        self.replicas.iter().filter(move |r| !removing.contains(&r.id)).chain(&self.witness)
    }

    /// All that may hold something of the partition, but for those whose files are lost.
    pub fn holders(&self) -> impl Iterator<Item = &Replica> {
        let dropped = self.moved.as_deref().map_or(&[][..], |m| &m.dropped);
        self.replicas.iter().chain(&self.witness).chain(dropped)
    }

    /// The first replicas: a replica of any later time begins with them and learns from the log what came after.
    pub fn founders(&self) -> &[Replica] {
        self.moved.as_deref().map_or(&self.replicas, |m| &m.founders)
    }

    /// Index and term of an entry that the members of the last change had committed: those that were removed need
    /// not be asked any more whether it was. (0, 0) before the first.
    pub fn agreed(&self) -> (u64, u64) {
        self.moved.as_deref().map_or((0, 0), |m| m.agreed)
    }

    /// Which target it is, for the report that it was reached; 0 for the first.
    pub fn generation(&self) -> u64 {
        self.moved.as_deref().map_or(0, |m| m.generation)
    }

    /// Whether the group is to change, or has changed and not reported yet.
    pub fn is_moving(&self) -> bool {
        let busy = |m: &Moved| {
            let lists = [m.adding.is_empty(), m.removing.is_empty(), m.dropped.is_empty(), m.lost.is_empty()];
            lists.contains(&false) || m.recovery.as_ref().is_some_and(|r| !r.done)
        };
        self.moved.as_deref().is_some_and(busy)
    }

    /// Whether one replica is all of it, and leads whenever it is touched: nobody else was a member whose files are
    /// lost.
    pub fn is_alone(&self) -> bool {
        self.holders().count() == 1 && self.lost().is_empty()
    }

    /// Replicas whose files are lost and that may be members still.
    pub fn lost(&self) -> &[Replica] {
        self.moved.as_deref().map_or(&[], |m| &m.lost)
    }

    /// Whether the files of its only replica are lost: there is nobody to copy from.
    pub fn is_lost(&self) -> bool {
        let mut holders = self.holders();
        match (holders.next(), holders.next()) {
            (Some(only), None) => self.lost().iter().any(|r| r.node == only.node),
            _ => false,
        }
    }

    /// Whether its replicas are as many as there could be when it was made, and no client has chosen others since.
    pub(crate) fn may_be_raised(&self) -> bool {
        self.moved.as_deref().is_none_or(|m| m.raised) && !self.is_moving()
    }

    fn nodes_of(&self, ids: impl Fn(&Moved) -> &[u64]) -> Vec<NodeId> {
        let Some(moved) = self.moved.as_deref() else { return Vec::new() };
        let ids = ids(moved);
        self.replicas.iter().filter(|r| ids.contains(&r.id)).map(|r| r.node).collect()
    }

    /// Nodes that are being added, as Kafka tells clients.
    pub fn adding(&self) -> Vec<NodeId> {
        self.nodes_of(|m| &m.adding)
    }

    /// Nodes that are being removed, as Kafka tells clients.
    pub fn removing(&self) -> Vec<NodeId> {
        self.nodes_of(|m| &m.removing)
    }

    /// The replicas before the reassignment that goes on.
    fn before(&self) -> Vec<Replica> {
        let adding = self.moved.as_deref().map_or(&[][..], |m| &m.adding);
        self.replicas.iter().filter(|r| !adding.contains(&r.id)).copied().collect()
    }

    /// What became of the first replicas, with nothing on its way.
    pub(crate) fn settled(&self) -> Moved {
        let (agreed, raised) = (self.agreed(), self.moved.as_deref().is_none_or(|m| m.raised));
        let (founders, generation) = (self.founders().to_vec(), self.generation());
        let recovery = self.moved.as_deref().and_then(|m| m.recovery.clone());
        Moved { founders, agreed, raised, generation, recovery, ..Moved::default() }
    }

    /// With `target` wanted instead; replicas that are new get ids from `next_id` on. One that was given up and may
    /// be a voter still is taken back: a copy that counted must not be thrown away for a new one.
    fn retargeted(&self, target: &[NodeId], index: u64, raises: bool, next_id: &mut u64) -> Partition {
        let before = self.before();
        let now = self.moved.as_deref();
        let mut dropped = now.map_or_else(Vec::new, |m| m.dropped.clone());
        let mut moved =
            Moved { lost: now.map_or_else(Vec::new, |m| m.lost.clone()), raised: raises, ..self.settled() };
        moved.generation = index;
        let mut replicas: Vec<Replica> = Vec::new();
        let data = |r: &&Replica| r.kind != ReplicaKind::Witness;
        for node in target {
            let replica =
                self.holders().filter(data).find(|r| r.node == *node).copied().unwrap_or_else(|| {
                    let replica = Replica { id: *next_id, node: *node, kind: ReplicaKind::Voter };
                    *next_id += 1;
                    replica
                });
            if !before.contains(&replica) {
                moved.adding.push(replica.id);
            }
            replicas.push(replica);
        }
        let out = |r: &&Replica| !replicas.iter().any(|wanted| wanted.id == r.id);
        let removing: Vec<Replica> = before.iter().filter(out).copied().collect();
        dropped.extend(self.replicas.iter().filter(|r| !before.contains(r)));
        dropped.retain(|r| out(&r));
        let witness = self.witness_beside(target);
        match (witness, self.witness) {
            (Some(witness), _) if now.is_some_and(|m| m.adding.contains(&witness.id)) => {
                moved.adding.push(witness.id);
            }
            (None, gone) => dropped.extend(gone),
            (Some(_), _) => {}
        }
        // A witness on a node that a copy comes to is among these: it votes there until the group has let it go.
        moved.dropped = dropped;
        moved.removing = removing.iter().map(|r| r.id).collect();
        replicas.extend(removing);
        Partition { replicas: replicas.into(), witness, moved: Some(Arc::new(moved)) }
    }

    /// With other ids for the replicas on `node`, whose files are lost; `None` where it has none.
    pub(crate) fn replaced_on(&self, node: NodeId, index: u64, next_id: &mut u64) -> Option<Partition> {
        let lost = self.holders().find(|r| r.node == node).copied()?;
        // A witness is chosen anew.
        let witness = self.witness.filter(|w| w.node != node);
        let mut moved = self.moved.as_deref().cloned().unwrap_or_else(|| self.settled());
        moved.lost.push(lost);
        moved.generation = index;
        moved.dropped.retain(|r| r.id != lost.id);
        moved.lost.extend(moved.dropped.extract_if(.., |r| r.node == node));
        let mut replicas = self.replicas.to_vec();
        if moved.removing.contains(&lost.id) {
            moved.removing.retain(|id| *id != lost.id);
            replicas.retain(|r| r.id != lost.id);
        } else if let Some(row) = replicas.iter_mut().find(|r| r.id == lost.id) {
            row.id = *next_id;
            *next_id += 1;
            for id in moved.adding.iter_mut().filter(|id| **id == lost.id) {
                *id = row.id;
            }
        }
        moved.adding.retain(|id| self.witness.is_none_or(|w| w.id != *id) || witness.is_some());
        Some(Partition { replicas: replicas.into(), witness, moved: Some(Arc::new(moved)) })
    }

    fn completed(&self, agreed: (u64, u64)) -> Partition {
        let mut moved = Moved { agreed, ..self.settled() };
        if let Some(recovery) = &mut moved.recovery {
            Arc::make_mut(recovery).done = true;
        }
        let (replicas, witness) = (self.copies().copied().collect(), self.witness);
        Partition { replicas, witness, moved: Some(Arc::new(moved)) }
    }
}

/// Judges each partition of a request: what to propose, or why not. `keep_factor`: the number of replicas must
/// stay (KIP-1073 of AlterPartitionReassignments v1).
pub fn alter_reassignments(
    image: &Image,
    targets: &[PartitionTarget],
    keep_factor: bool,
) -> Vec<ItemResult<Option<Command>>> {
    targets.iter().map(|t| judge(image, t, keep_factor)).collect()
}

fn judge(image: &Image, target: &PartitionTarget, keep_factor: bool) -> ItemResult<Option<Command>> {
    let unknown = || {
        ItemError::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    };
    let topic = image.topic(&target.topic).ok_or_else(unknown)?;
    let partition = topic.partition(target.partition).ok_or_else(unknown)?;
    let visible = !partition.adding().is_empty() || !partition.removing().is_empty();
    let (topic_id, partition_index) = (topic.id.0.to_vec().into(), target.partition);
    let Some(nodes) = &target.nodes else {
        if !visible {
            return Err(ItemError::bare(ErrorCode::NoReassignmentInProgress));
        }
        let command = pb::Reassign { topic_id, partition: partition_index, target: None, raises: false };
        return Ok(Some(Command::Reassign(command)));
    };
    check_manual(image, nodes, None)?;
    let before = partition.before().len();
    if keep_factor && nodes.len() != before {
        return Err(ItemError::new(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "The replication factor is changed from {before} to {}, and allow.replication.factor.change is \
                 false.",
                nodes.len()
            ),
        ));
    }
    if partition.copies().map(|r| &r.node).eq(nodes) {
        return Ok(None);
    }
    let target = Some(ReplicaSet { nodes: nodes.clone(), witness: None });
    Ok(Some(Command::Reassign(pb::Reassign { topic_id, partition: partition_index, target, raises: false })))
}

/// The topic and partition of a command; `None` where they are gone by now.
pub(crate) fn find(
    image: &Image,
    index: u64,
    id: &[u8],
    partition: i32,
) -> Result<Option<(Arc<Topic>, Partition)>, ApplyError> {
    let topic = image.topic_by_id(topic_id(index, id)?).cloned();
    Ok(topic.and_then(|t| t.partition(partition).cloned().map(|p| (t, p))))
}

pub(crate) fn put(image: &mut Image, topic: &Topic, partition: i32, next: Partition) -> Change {
    let mut topic = topic.clone();
    topic.partitions[partition as usize] = next;
    Change::Reassigned { topic: image.put_topic(topic), partition }
}

/// Applies what a client asked for.
pub(crate) fn apply(
    image: &mut Image,
    index: u64,
    command: &pb::Reassign,
) -> Result<Vec<Change>, ApplyError> {
    let found = find(image, index, &command.topic_id, command.partition)?;
    let Some((topic, partition)) = found else { return Ok(Vec::new()) };
    let nodes: Vec<NodeId> = match &command.target {
        Some(target) if target.nodes.is_empty() => {
            return Err(ApplyError::Malformed { index, what: "a partition has a replica" });
        }
        Some(target) => target.nodes.clone(),
        None => partition.before().iter().map(|r| r.node).collect(),
    };
    let mut next_id = image.next_replica_id;
    let next = partition.retargeted(&nodes, index, command.raises, &mut next_id);
    image.next_replica_id = next_id;
    Ok(vec![put(image, &topic, command.partition, next)])
}

/// Applies a leader's report. One that speaks of other replicas than are wanted by now says nothing.
pub(crate) fn complete(
    image: &mut Image,
    index: u64,
    command: &pb::Reassigned,
) -> Result<Vec<Change>, ApplyError> {
    let found = find(image, index, &command.topic_id, command.partition)?;
    let Some((topic, partition)) = found else { return Ok(Vec::new()) };
    let mut wanted: Vec<u64> = partition.wanted().map(|r| r.id).collect();
    let mut reported = command.replicas.clone();
    wanted.sort_unstable();
    reported.sort_unstable();
    if wanted != reported || command.generation != partition.generation() || !partition.is_moving() {
        return Ok(Vec::new());
    }
    Ok(vec![put(image, &topic, command.partition, partition.completed((command.index, command.term)))])
}
