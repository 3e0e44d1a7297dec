//! Accepted loss: no majority of a partition's replicas comes back, and an operator has one that is left go on alone.
//!
//! That replica gets a new id, and so does whatever is wanted beside it: what the former ones say, or their votes,
//! count for nothing any more. What was given up is kept with the partition. docs/replication.md, "Accepted loss".
use crate::change::Change;
use crate::command::Command;
use crate::error::{ApplyError, ItemError, ItemResult};
use crate::features::{ACCEPTED_LOSS, plimsoll_level};
use crate::image::{Image, Moved, Partition, Replica, ReplicaKind};
use crate::reassign::{find, put};
use model::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};
use proto::cluster as pb;
use std::sync::Arc;

/// Terms that those who are given up may have used unheard: an election a second for 18 hours.
const UNHEARD_TERMS: u64 = 1 << 16;

/// The last loss that an operator accepted for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Index of the metadata entry that says so.
    pub index: u64,
    /// The replica that counts since then.
    pub replica: u64,
    /// Its id before.
    pub was: u64,
    /// It leads in this term or a later one.
    pub epoch: u64,
    /// The last entry of its log when that was decided, and its term.
    pub last: (u64, u64),
    /// Acknowledged records may be missing from the first of these offsets on, and are from the second on, where its
    /// log ended.
    pub offsets: (Offset, Offset),
    /// Who accepted it.
    pub principal: String,
    /// Replicas that were given up.
    pub given_up: Vec<Replica>,
    /// The group has the members that are wanted.
    pub done: bool,
}

/// What is to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Topic.
    pub topic: TopicId,
    /// Partition.
    pub partition: PartitionIndex,
    /// The replica that is to count.
    pub replica: u64,
    /// As in the partition when it was judged.
    pub generation: u64,
    /// The highest epoch of a leader, or term of a replica, that anybody has heard of.
    pub epoch: u64,
    /// Last index and term of the replica's log.
    pub last: (u64, u64),
    /// From where on records may be missing, and where its log ends.
    pub offsets: (Offset, Offset),
    /// Who accepts it.
    pub principal: String,
}

/// Whether every node can read what tells of it. Errors: the cluster's level of formats is too low.
pub fn may_accept_loss(image: &Image) -> ItemResult<()> {
    if plimsoll_level(image) < ACCEPTED_LOSS {
        let message = format!(
            "the cluster is at level {} of plimsoll.version, this needs {ACCEPTED_LOSS}: kafka-features upgrade",
            plimsoll_level(image)
        );
        return Err(ItemError::new(ErrorCode::UnsupportedVersion, message));
    }
    Ok(())
}

/// The command for it. Errors: see [`may_accept_loss`]; a term that no leader epoch can hold.
pub fn accept_loss(image: &Image, loss: &Loss) -> ItemResult<Command> {
    may_accept_loss(image)?;
    let epoch = loss.epoch + UNHEARD_TERMS;
    if LeaderEpoch::try_from(epoch + UNHEARD_TERMS).is_err() {
        return Err(ItemError::invalid_request(format!("no leader epoch is left above {}", loss.epoch)));
    }
    Ok(Command::Recover(pb::Recover {
        topic_id: loss.topic.0.to_vec().into(),
        partition: loss.partition,
        replica: loss.replica,
        generation: loss.generation,
        epoch,
        index: loss.last.0,
        term: loss.last.1,
        from_offset: loss.offsets.0,
        end_offset: loss.offsets.1,
        principal: loss.principal[..loss.principal.floor_char_boundary(256)].to_owned(),
    }))
}

impl Partition {
    /// The last loss that an operator has accepted.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.moved.as_deref().and_then(|m| m.recovery.as_deref())
    }

    /// The same, where `id` is the replica that counts since then.
    pub fn recovery_of(&self, id: u64) -> Option<&Recovery> {
        self.recovery().filter(|r| r.replica == id)
    }

    fn recovered(&self, index: u64, command: &pb::Recover, next_id: &mut u64) -> Option<Partition> {
        // A witness has no records that could go on.
        let mut copies = self.holders().filter(|r| r.kind != ReplicaKind::Witness);
        let survivor = copies.find(|r| r.id == command.replica).copied()?;
        let mut renamed = |node| {
            *next_id += 1;
            Replica { id: *next_id - 1, node, kind: ReplicaKind::Voter }
        };
        let mut replicas: Vec<Replica> = self.copies().map(|r| renamed(r.node)).collect();
        let mut removing = Vec::new();
        let stays = replicas.iter().find(|r| r.node == survivor.node).copied();
        let survives = stays.unwrap_or_else(|| {
            // It was on its way out: it goes when the others have what it has.
            let last = renamed(survivor.node);
            replicas.push(last);
            removing.push(last.id);
            last
        });
        // What was lost before is no more a member than the others.
        let lost = self.lost();
        let others = self.holders().filter(|r| r.id != survivor.id).chain(lost);
        let given_up: Vec<Replica> = others.copied().collect();
        let recovery = Recovery {
            index,
            replica: survives.id,
            was: survivor.id,
            epoch: command.epoch,
            last: (command.index, command.term),
            offsets: (command.from_offset, command.end_offset),
            principal: command.principal.clone(),
            given_up: given_up.clone(),
            done: false,
        };
        let moved = Moved {
            lost: given_up,
            removing,
            generation: index,
            recovery: Some(Arc::new(recovery)),
            ..self.settled()
        };
        // Another witness is chosen when there are two copies again.
        Some(Partition { replicas: replicas.into(), witness: None, moved: Some(Arc::new(moved)) })
    }
}

/// Applies it. Where anything about the partition's replicas changed since it was judged, nothing is accepted.
pub(crate) fn apply(image: &mut Image, index: u64, command: &pb::Recover) -> Result<Vec<Change>, ApplyError> {
    let found = find(image, index, &command.topic_id, command.partition)?;
    let Some((topic, partition)) = found else { return Ok(Vec::new()) };
    if LeaderEpoch::try_from(command.epoch).is_err() {
        return Err(ApplyError::Malformed { index, what: "a term fits a leader epoch" });
    }
    let mut next_id = image.next_replica_id;
    let same = command.generation == partition.generation();
    let next = partition.recovered(index, command, &mut next_id).filter(|_| same);
    let Some(next) = next else { return Ok(Vec::new()) };
    image.next_replica_id = next_id;
    Ok(vec![put(image, &topic, command.partition, next)])
}
