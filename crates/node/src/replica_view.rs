//! A look at a replica from outside, for checkers that compare the replicas of a group.
use crate::groups::Slot;
use crate::node::Node;
use bytes::Bytes;
use model::{GroupKey, LeaderEpoch, NodeId, Now, Offset};
use storage::ReplicaKind;

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
    /// Its id.
    pub replica: u64,
    /// Whether it is a witness, which has no chain to compare.
    pub witness: bool,
}

/// Why a replica on this node is not what it is to be, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaTrouble {
    /// It is being brought up from a checkpoint: bytes that it has still to pull, as far as that is known.
    pub bytes_left: Option<u64>,
    /// It is suspect, failed or restrained, and for what reason.
    pub why: Option<String>,
}

/// What a leader knows of a group, for people who watch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedView {
    /// Bytes a second that it takes in, as of the last measurement of loads.
    pub rate: u64,
    /// Nodes of the other replicas that hold data, and by how many entries of the log each is behind.
    pub lags: Vec<(NodeId, u64)>,
}

impl Node {
    /// What the leader here knows of a group; `None` where its replica does not lead. Touches nothing.
    pub fn led_view(&self, key: GroupKey) -> Option<LedView> {
        let open = self.open_group(key).filter(|open| open.partition.is_leader())?;
        Some(LedView { rate: open.rate.get(), lags: open.partition.replica_lags().collect() })
    }

    /// What is wrong with the replica of a group here; nothing for one that is well or rests unopened. Touches
    /// nothing.
    pub fn replica_trouble(&self, key: GroupKey) -> ReplicaTrouble {
        let suspect = self.suspicion(key).map(|why| format!("suspect: {why}"));
        let why = suspect.or_else(|| match self.groups.get(&key)? {
            Slot::Failed(why) => Some(format!("failed: {why}")),
            Slot::Open(open) if open.partition.is_restrained() => Some(
                "restrained: it may have lost what it acknowledged, and votes when it has caught up"
                    .to_owned(),
            ),
            Slot::Open(_) | Slot::Opening(_) => None,
        });
        ReplicaTrouble { bytes_left: self.installing(key), why }
    }

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
            chain: partition.log().chain_at(applied).filter(|_| !partition.is_witness()),
            high_watermark: partition.high_watermark(),
            log_start: partition.log_start(),
            log_end: partition.log_end(),
            awake: self.peers.awake.contains_key(&key),
            restrained: partition.is_restrained(),
            members: partition.member_counts(),
            replica: partition.replica_id(),
            witness: partition.is_witness(),
        })
    }

    /// Replica ids and nodes of the copies that are in sync, of a group with a witness that leads here; else `None`.
    pub fn copies_in_sync(&self, now: Now, key: GroupKey) -> Option<Vec<(u64, NodeId)>> {
        let partition = &self.open_group(key)?.partition;
        let members = partition.members();
        partition.leader_epoch().filter(|_| members.iter().any(|m| m.witness))?;
        let in_sync = partition.in_sync_replicas(now);
        let copies = members.iter().filter(|m| !m.witness && m.kind() == ReplicaKind::Voter);
        Some(copies.filter(|m| in_sync.contains(&m.node_id)).map(|m| (m.id, m.node_id)).collect())
    }

    /// Replicas open here that are witnesses, and messages to witnesses that leaders here hold back.
    pub fn witness_counts(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for slot in self.groups.values() {
            if let Slot::Open(open) = slot {
                counts.0 += usize::from(open.partition.is_witness());
                counts.1 += open.partition.held_back();
            }
        }
        counts
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
