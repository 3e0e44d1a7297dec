//! A look at a replica from outside, for checkers that compare the replicas of a group.
use crate::groups::Slot;
use crate::node::Node;
use bytes::Bytes;
use model::{GroupKey, LeaderEpoch, NodeId, Offset};

/// What a replica holds and believes at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its term.
    pub term: u64,
    /// The node that leads in this term, as far as it knows.
    pub leader: Option<NodeId>,
    /// Whether it leads itself, confirmed or not.
    pub leads: bool,
    /// The epoch under which it serves, once it does.
    pub epoch: Option<LeaderEpoch>,
    /// Entries known to be committed.
    pub committed: u64,
    /// Entries applied: committed, and persisted here.
    pub applied: u64,
    /// The first entry of its window: others that are behind by older ones cannot be sent them.
    pub first_index: u64,
    /// The last entry of its log.
    pub last_index: u64,
    /// The log's chain value at `applied`: replicas that agree there hold equal entries up to there.
    pub chain: Option<u32>,
    /// High watermark.
    pub high_watermark: Offset,
    /// Log start offset.
    pub log_start: Offset,
    /// Log end offset.
    pub log_end: Offset,
    /// Whether the group gets ticks.
    pub awake: bool,
    /// Whether it may have lost what it acknowledged.
    pub restrained: bool,
    /// Members of its group as it knows them, and how many of them vote.
    pub members: (usize, usize),
}

impl Node {
    /// A look at this node's replica of a group; `None` where it is not open. Touches nothing.
    pub fn replica_view(&self, key: GroupKey) -> Option<ReplicaView> {
        let partition = &self.open_group(key)?.partition;
        let applied = partition.applied_index();
        Some(ReplicaView {
            term: partition.term(),
            leader: partition.leader_node(),
            leads: partition.is_leader(),
            epoch: partition.leader_epoch(),
            committed: partition.committed_index(),
            applied,
            first_index: partition.log().first_index(),
            last_index: partition.last_index(),
            chain: partition.log().chain_at(applied),
            high_watermark: partition.high_watermark(),
            log_start: partition.log_start(),
            log_end: partition.log_end(),
            awake: self.peers.awake.contains_key(&key),
            restrained: partition.is_restrained(),
            members: partition.member_counts(),
        })
    }

    /// The metadata as of its last applied entry: the index, and bytes that are equal on all nodes.
    pub fn metadata_snapshot(&self) -> (u64, Bytes) {
        (self.metadata.applied(), self.metadata.snapshot())
    }

    /// Index of the last entry that the metadata holds.
    pub fn metadata_applied(&self) -> u64 {
        self.metadata.applied()
    }

    /// Replicas open here that may have lost what they acknowledged and do not vote yet.
    pub fn restrained_replicas(&self) -> usize {
        let restrained = |slot: &&Slot| matches!(slot, Slot::Open(open) if open.partition.is_restrained());
        self.groups.values().filter(restrained).count()
    }

    /// Replicas on this disk, open or not, that must not vote yet.
    pub fn below_their_floor(&self) -> usize {
        self.dir.below_their_floor()
    }

    /// Groups that are closed for damage or because they could not be opened.
    pub fn failed_keys(&self) -> impl Iterator<Item = GroupKey> + '_ {
        self.groups.iter().filter(|(_, slot)| matches!(slot, Slot::Failed(_))).map(|(key, _)| *key)
    }
}
