//! The members of the metadata group: its leader makes them what the metadata says they are to be.
//!
//! One change at a time, each judged anew from what is: whoever leads next goes on where this one stopped.
use crate::groups::Open;
use crate::node::Node;
use cluster::ReplicaKind as Wanted;
use consensus::MemberChange;
use model::{GroupKey, LeaderEpoch, Mono, NodeId, Now, WallMs};
use storage::ReplicaKind;

/// A voter is made of a replica that is no further behind than this many entries: it must not hold up commits.
const CAUGHT_UP: u64 = 100;

/// The metadata group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumView {
    /// This node's confirmed epoch.
    pub epoch: LeaderEpoch,
    /// Index of the last committed entry.
    pub committed: u64,
    /// In order of their nodes.
    pub members: Vec<QuorumMember>,
}

/// One member of the metadata group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumMember {
    /// Its node.
    pub node: NodeId,
    /// The node's data directory; zeros where it has not registered.
    pub directory: [u8; 16],
    /// Whether it votes.
    pub votes: bool,
    /// The last entry that it is known to have persisted.
    pub persisted: u64,
    /// When it was heard last, ms; -1: never.
    pub heard: WallMs,
    /// When it last had all that the leader had then, ms; now, while it is live and lacks nothing; -1: never.
    pub caught_up: WallMs,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Change(MemberChange),
    /// The leader itself is to vote no more: another one is to lead first.
    HandOver,
}

impl Node {
    /// The wanted members changed.
    pub(crate) fn quorum_changed(&mut self, now: Now) {
        self.address_metadata();
        if self.leads_metadata() {
            self.stir(now, GroupKey::METADATA);
        }
    }

    /// Brings the metadata group a step nearer to what it is to be, where this node leads it.
    pub(crate) fn tend_quorum(&mut self, now: Now) {
        let key = GroupKey::METADATA;
        let Some(open) = self.open_group(key).filter(|o| o.partition.leader_epoch().is_some()) else {
            return;
        };
        if open.partition.change_pending() || open.partition.is_transferring() {
            return;
        }
        match self.next_step(open) {
            Some(Step::Change(change)) => {
                self.stir(now, key);
                // Refused, it is tried again at the next tick.
                let _ = self.with(key, |p, dir, fx| p.propose_change(now, &change, dir, fx));
            }
            Some(Step::HandOver) => {
                let heir = self.open_group(key).and_then(|open| self.heir(now, open));
                if let Some(heir) = heir {
                    self.transfer_leader(now, key, heir);
                }
            }
            None => {}
        }
    }

    fn next_step(&self, open: &Open) -> Option<Step> {
        if open.partition.is_joint() {
            return Some(Step::Change(MemberChange::Leave));
        }
        let image = self.metadata.image();
        let members = open.partition.members();
        let is = |id: u64| members.iter().find(|m| m.id == id).map(|m| m.kind());
        // A founder hears of its leader before it can register.
        let comes = |r: &&cluster::Replica| {
            image.nodes.contains_key(&r.node) || image.founders.iter().any(|founder| founder.id == r.id)
        };
        if let Some(new) = image.quorum.values().filter(comes).find(|r| is(r.id).is_none()) {
            return Some(Step::Change(MemberChange::AddLearner {
                replica_id: new.id,
                node_id: new.node,
                witness: false,
            }));
        }
        let last = open.partition.last_index();
        let caught_up = |id: u64| {
            let row = open.partition.followers().find(|f| f.replica_id == id);
            row.is_some_and(|f| f.active && f.matched + CAUGHT_UP >= last)
        };
        let rises = |r: &&cluster::Replica| {
            r.kind == Wanted::Voter && is(r.id) == Some(ReplicaKind::Learner) && caught_up(r.id)
        };
        if let Some(ready) = image.quorum.values().find(rises) {
            let change = MemberChange::Replace { promote: vec![ready.id], remove: Vec::new() };
            return Some(Step::Change(change));
        }
        // A voter that is to follow only is taken away, and comes back as a learner.
        let wanted = |id: u64| image.quorum.values().find(|r| r.id == id).map(|r| r.kind);
        let leaves = members.iter().find(|m| match (m.kind(), wanted(m.id)) {
            (_, None) => !image.quorum.is_empty(),
            (ReplicaKind::Voter, Some(kind)) => kind != Wanted::Voter,
            _ => false,
        })?;
        // Those that are to take its place come first.
        let to_come = |r: &&cluster::Replica| r.kind == Wanted::Voter && is(r.id) != Some(ReplicaKind::Voter);
        let voters = members.iter().filter(|m| m.kind() == ReplicaKind::Voter).count();
        if leaves.kind() == ReplicaKind::Voter && voters == 1 || image.quorum.values().any(|r| to_come(&r)) {
            return None;
        }
        if leaves.node_id == self.cfg.node_id {
            return Some(Step::HandOver);
        }
        Some(Step::Change(MemberChange::Replace { promote: Vec::new(), remove: vec![leaves.id] }))
    }

    /// Whether node `node` votes on the metadata by now, or does so no more, as far as this node knows.
    pub fn votes_on_metadata(&self, node: NodeId) -> bool {
        let votes = |m: &storage::Replica| m.node_id == node && m.kind() != ReplicaKind::Learner;
        self.open_group(GroupKey::METADATA).is_some_and(|o| o.partition.members().iter().any(votes))
    }

    /// Whether the members of the metadata group are those that are wanted, as far as this node knows.
    pub fn quorum_is_settled(&self) -> bool {
        let image = self.metadata.image();
        let Some(open) = self.open_group(GroupKey::METADATA) else { return false };
        let members = open.partition.members();
        let fits = |m: &storage::Replica| {
            let wanted = image.quorum.values().find(|r| r.id == m.id).map(|r| r.kind);
            matches!(
                (wanted, m.kind()),
                (Some(Wanted::Voter), ReplicaKind::Voter) | (Some(Wanted::Learner), ReplicaKind::Learner)
            )
        };
        members.len() == image.quorum.len() && members.iter().all(fits)
    }

    /// Voters and followers of the metadata, as this node knows them.
    pub fn quorum_sizes(&self) -> (usize, usize) {
        let Some(open) = self.open_group(GroupKey::METADATA) else { return (0, 0) };
        let members = open.partition.members();
        let voters = members.iter().filter(|m| m.kind() != ReplicaKind::Learner).count();
        (voters, members.len() - voters)
    }

    /// The metadata group, where this node leads it.
    pub fn quorum(&self, now: Now) -> Option<QuorumView> {
        let open = self.open_group(GroupKey::METADATA)?;
        let (epoch, partition) = (open.partition.leader_epoch()?, &open.partition);
        let image = self.metadata.image();
        let wall = |at: Mono| now.wall - i64::try_from(now.mono.since(at).as_millis()).unwrap_or(i64::MAX);
        let row = |m: &storage::Replica| {
            let ours = m.node_id == self.cfg.node_id;
            let directory = image.nodes.get(&m.node_id).and_then(|n| n.directories.first().copied());
            let follower = partition.followers().find(|f| f.replica_id == m.id);
            let heard = match self.peers.liveness.lost_since(m.node_id) {
                _ if ours => now.wall,
                None => now.wall,
                // It was lost when this process began, or since.
                Some(_) if partition.caught_up_at(now, m.id).is_none() => -1,
                Some(at) => wall(at),
            };
            QuorumMember {
                node: m.node_id,
                directory: directory.unwrap_or_default(),
                votes: m.kind() != ReplicaKind::Learner,
                persisted: if ours { partition.last_index() } else { follower.map_or(0, |f| f.matched) },
                heard,
                caught_up: if ours { now.wall } else { partition.caught_up_at(now, m.id).map_or(-1, wall) },
            }
        };
        let mut members: Vec<QuorumMember> = partition.members().iter().map(row).collect();
        members.sort_by_key(|m| m.node);
        Some(QuorumView { epoch, committed: partition.committed_index(), members })
    }
}
