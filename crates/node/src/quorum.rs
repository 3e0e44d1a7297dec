//! The members of the metadata group: its leader makes them what the metadata says they are to be.
//!
//! One change at a time, each judged anew from what is: whoever leads next goes on where this one stopped.
use crate::groups::Open;
use crate::node::Node;
use cluster::{Image, ReplicaKind as Wanted};
use consensus::{Follower, MemberChange};
use model::{GroupKey, LeaderEpoch, Mono, NodeId, Now, WallMs};
use storage::{Replica, ReplicaKind};

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

/// What is wanted, and what is.
struct Compared<'a> {
    image: &'a Image,
    members: &'a [Replica],
    followers: &'a [Follower],
    /// The leader's last index.
    last: u64,
    /// The leader's node and replica.
    own: (NodeId, u64),
}

impl Compared<'_> {
    fn member(&self, id: u64) -> Option<ReplicaKind> {
        self.members.iter().find(|m| m.id == id).map(Replica::kind)
    }

    fn wanted(&self, id: u64) -> Option<Wanted> {
        self.image.quorum.values().find(|r| r.id == id).map(|r| r.kind)
    }

    /// Whether a replica may vote: it has all but the latest entries. One that was never heard has none, however few
    /// there are: raft takes a new member for active, and a vote that nobody casts may be the one that is missing.
    fn is_caught_up(&self, id: u64) -> bool {
        let row = self.followers.iter().find(|f| f.replica_id == id);
        row.is_some_and(|f| f.active && f.matched > 0 && f.matched + CAUGHT_UP >= self.last)
    }

    /// The voter that an earlier directory of `node` held, and that is wanted no more: its successor takes its place in
    /// the same change, so that the lost one is never one more of those of whom a majority is needed.
    fn predecessor(&self, node: NodeId) -> Vec<u64> {
        let lost = |m: &&Replica| {
            let voted = m.kind() == ReplicaKind::Voter && self.wanted(m.id).is_none();
            m.node_id == node && m.id != self.own.1 && voted
        };
        self.members.iter().filter(lost).map(|m| m.id).collect()
    }

    fn next_step(&self) -> Option<Step> {
        let quorum = || self.image.quorum.values();
        // A founder hears of its leader before it can register.
        let comes = |r: &&cluster::Replica| {
            let founded = || self.image.founders.iter().any(|founder| founder.id == r.id);
            self.image.nodes.contains_key(&r.node) || founded()
        };
        if let Some(new) = quorum().filter(comes).find(|r| self.member(r.id).is_none()) {
            return Some(Step::Change(MemberChange::AddLearner {
                replica_id: new.id,
                node_id: new.node,
                witness: false,
            }));
        }
        let rises = |r: &&cluster::Replica| {
            let follows = self.member(r.id) == Some(ReplicaKind::Learner);
            r.kind == Wanted::Voter && follows && self.is_caught_up(r.id)
        };
        if let Some(ready) = quorum().find(rises) {
            let (promote, remove) = (vec![ready.id], self.predecessor(ready.node));
            return Some(Step::Change(MemberChange::Replace { promote, remove }));
        }
        // A voter that is to follow only is taken away, and comes back as a learner.
        let leaves = self.members.iter().find(|m| match (m.kind(), self.wanted(m.id)) {
            (_, None) => !self.image.quorum.is_empty(),
            (ReplicaKind::Voter, Some(kind)) => kind != Wanted::Voter,
            _ => false,
        })?;
        // Those that are to take its place come first.
        let to_come =
            |r: &cluster::Replica| r.kind == Wanted::Voter && self.member(r.id) != Some(ReplicaKind::Voter);
        let voters = self.members.iter().filter(|m| m.kind() == ReplicaKind::Voter).count();
        if leaves.kind() == ReplicaKind::Voter && voters == 1 || quorum().any(to_come) {
            return None;
        }
        if leaves.node_id == self.own.0 {
            return Some(Step::HandOver);
        }
        Some(Step::Change(MemberChange::Replace { promote: Vec::new(), remove: vec![leaves.id] }))
    }
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
        let image = self.metadata.image();
        let partition = &open.partition;
        if partition.is_joint() {
            return Some(Step::Change(MemberChange::Leave));
        }
        let followers: Vec<Follower> = partition.followers().collect();
        Compared {
            image: &image,
            members: partition.members(),
            followers: &followers,
            last: partition.last_index(),
            own: (self.cfg.node_id, partition.replica_id()),
        }
        .next_step()
    }

    /// Whether node `node` votes on the metadata by now, or does so no more, as far as this node knows.
    pub fn votes_on_metadata(&self, node: NodeId) -> bool {
        let votes = |m: &Replica| m.node_id == node && m.kind() != ReplicaKind::Learner;
        self.open_group(GroupKey::METADATA).is_some_and(|o| o.partition.members().iter().any(votes))
    }

    /// Whether the members of the metadata group are those that are wanted, as far as this node knows.
    pub fn quorum_is_settled(&self) -> bool {
        let image = self.metadata.image();
        let Some(open) = self.open_group(GroupKey::METADATA) else { return false };
        let members = open.partition.members();
        let fits = |m: &Replica| {
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
        let row = |m: &Replica| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const NODES: [NodeId; 3] = [1, 2, 3];

    fn replica(id: u64, node_id: NodeId, kind: ReplicaKind) -> Replica {
        Replica { id, node_id, kind: kind.into(), witness: false }
    }

    /// Node 1 lost its disk and is registered with another one: its replica is to be 4, and no more 1.
    fn image(nodes: &[NodeId]) -> Image {
        let mut image = Image::empty(2, Arc::default());
        let wanted = |id, node| cluster::Replica { id, node, kind: Wanted::Voter };
        image.quorum = Arc::new([(1, wanted(4, 1)), (2, wanted(2, 2)), (3, wanted(3, 3))].into());
        let node = |id: &NodeId| {
            let (endpoints, directories, features) = (Vec::new(), Vec::new(), Vec::new());
            let node = cluster::Node {
                id: *id,
                incarnation: 1,
                endpoints,
                rack: None,
                directories,
                peer: None,
                features,
            };
            (*id, Arc::new(node))
        };
        image.nodes = Arc::new(nodes.iter().map(node).collect());
        image
    }

    fn next(image: &Image, members: &[Replica], matched: Option<u64>) -> Option<Step> {
        // raft takes a member that has just come for active.
        let followers = matched.map(|matched| Follower {
            replica_id: 4,
            matched,
            active: true,
            pending_snapshot: 0,
            replicating: matched > 0,
        });
        let followers: Vec<Follower> = followers.into_iter().collect();
        Compared { image, members, followers: &followers, last: 40, own: (2, 2) }.next_step()
    }

    #[test]
    fn a_lost_voter_is_replaced_in_one_change_and_not_before_its_successor_was_heard() {
        use ReplicaKind::{Learner, Voter};
        let founded: Vec<Replica> = NODES.map(|node| replica(node as u64, node, Voter)).into();
        assert_eq!(next(&image(&[2, 3]), &founded, None), None, "it has not come yet");
        let add = MemberChange::AddLearner { replica_id: 4, node_id: 1, witness: false };
        assert_eq!(next(&image(&NODES), &founded, None), Some(Step::Change(add)));
        let learns: Vec<Replica> = founded.into_iter().chain([replica(4, 1, Learner)]).collect();
        assert_eq!(next(&image(&NODES), &learns, Some(0)), None, "of 40 entries it has none");
        let replace = MemberChange::Replace { promote: vec![4], remove: vec![1] };
        assert_eq!(next(&image(&NODES), &learns, Some(1)), Some(Step::Change(replace)));
    }

    #[test]
    fn a_voter_that_comes_to_others_replaces_nobody() {
        use ReplicaKind::{Learner, Voter};
        let members = [replica(2, 2, Voter), replica(3, 3, Voter), replica(4, 1, Learner)];
        let promote = MemberChange::Replace { promote: vec![4], remove: Vec::new() };
        assert_eq!(next(&image(&NODES), &members, Some(39)), Some(Step::Change(promote)));
    }
}
