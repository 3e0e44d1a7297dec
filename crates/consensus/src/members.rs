//! The replicas of a group and the changes that lead from one membership to the next.
//!
//! Kept beside raft's own configuration, which knows no nodes, and judged here first: raft then meets only
//! changes that it can apply, wherever they come from.
use bytes::Bytes;
use model::NodeId;
use prost::Message as _;
use proto::peer::{AddedReplica, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, Reset};
use raft::eraftpb as raft_pb;
use std::collections::BTreeSet;
use storage::{Replica, ReplicaKind};

/// Replicas that one membership or one change of it may name.
pub(crate) const MOST_REPLICAS: usize = 1 << 10;

/// A change of a group's membership. One at a time: the next is taken when the last is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new replica, which follows and does not vote.
    AddLearner {
        /// Its id, never used in this group before.
        replica_id: u64,
        /// Where it is.
        node_id: NodeId,
        /// Whether it is a witness.
        witness: bool,
    },
    /// Learners that vote from now on, and replicas that go. Where that changes more than one replica, both
    /// memberships decide together for a while (raft's joint consensus); the leader ends that by itself.
    Replace {
        /// Learners.
        promote: Vec<u64>,
        /// Voters or learners; not the leader.
        remove: Vec<u64>,
    },
    /// Ends a joint membership whose leader did not: raft 0.7 forgets it in rare cases.
    Leave,
    /// One replica is all of the group, whatever was its membership before. Only that replica proposes it, which an
    /// operator has made so: the others are given up, and what they alone held is lost (docs/replication.md, "Accepted
    /// loss").
    Reset {
        /// The replica.
        replica_id: u64,
        /// An encoded [`Reset`]: where it is, and what was given up, for whoever reads the log later.
        record: Bytes,
    },
}

/// Why a change was not proposed, or not taken from a peer: it does not fit the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Not what this program writes.
    #[error("no configuration change of this program")]
    Form,
    /// Another one that two memberships decide about has not ended.
    #[error("two memberships decide together already")]
    Joint,
    /// There is no joint membership to end.
    #[error("the membership is not joint")]
    NotJoint,
    /// The replica is a member already, or named twice.
    #[error("replica {0} is there already")]
    Present(u64),
    /// There is no such replica.
    #[error("there is no replica {0}")]
    Absent(u64),
    /// Only learners can be promoted.
    #[error("replica {0} votes already")]
    Votes(u64),
    /// Nobody would be left to vote.
    #[error("nobody would vote")]
    NoVoters,
    /// A joint change must change who votes.
    #[error("nobody's vote changes")]
    Idle,
    /// Only a replica that votes alone is made all of its group.
    #[error("others vote")]
    NotAlone,
    /// A leader does not remove itself: it hands over first.
    #[error("the leader cannot remove itself")]
    Leader,
    /// More replicas than a group may have.
    #[error("more than {MOST_REPLICAS} replicas")]
    TooMany,
}

/// The members of a group, in the order of their coming.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    rows: Vec<Replica>,
}

impl Membership {
    /// From a checkpoint. Errors: no changes lead to it, and raft would panic.
    pub fn new(rows: Vec<Replica>) -> Result<Membership, Misfit> {
        let ids: BTreeSet<u64> = rows.iter().map(|r| r.id).collect();
        // Here a witness is a flag: it votes, learns, joins and leaves like the others.
        let known = |r: &Replica| ReplicaKind::try_from(r.kind).is_ok_and(|k| k != ReplicaKind::Witness);
        let known = rows.iter().all(known);
        if ids.len() != rows.len() || ids.contains(&0) || !known {
            return Err(Misfit::Form);
        }
        let members = Membership { rows };
        members.check()?;
        Ok(members)
    }

    fn check(&self) -> Result<(), Misfit> {
        // Witnesses alone could elect nobody.
        let votes_next =
            |r: &Replica| !r.witness && matches!(r.kind(), ReplicaKind::Voter | ReplicaKind::Joining);
        let voted = |r: &Replica| !r.witness && matches!(r.kind(), ReplicaKind::Voter | ReplicaKind::Leaving);
        if self.rows.len() > MOST_REPLICAS {
            return Err(Misfit::TooMany);
        }
        if !self.rows.iter().any(votes_next) || !self.rows.iter().any(voted) {
            return Err(Misfit::NoVoters);
        }
        Ok(())
    }

    /// The members and what each is.
    pub fn rows(&self) -> &[Replica] {
        &self.rows
    }

    /// Whether two memberships decide together at present.
    pub fn is_joint(&self) -> bool {
        self.rows.iter().any(|r| matches!(r.kind(), ReplicaKind::Joining | ReplicaKind::Leaving))
    }

    /// What `id` is; `None` for a stranger.
    pub fn kind_of(&self, id: u64) -> Option<ReplicaKind> {
        self.rows.iter().find(|r| r.id == id).map(Replica::kind)
    }

    /// Whether `id` is a witness, voting or not.
    pub fn is_witness(&self, id: u64) -> bool {
        self.rows.iter().any(|r| r.id == id && r.witness)
    }

    /// Whether there is one.
    pub fn has_witness(&self) -> bool {
        self.rows.iter().any(|r| r.witness)
    }

    fn of_kinds(&self, kinds: &[ReplicaKind]) -> Vec<u64> {
        self.rows.iter().filter(|r| kinds.contains(&r.kind())).map(|r| r.id).collect()
    }

    /// As raft starts from it.
    pub(crate) fn conf_state(&self) -> raft_pb::ConfState {
        let joint = self.is_joint();
        let outgoing: &[ReplicaKind] = if joint { &[ReplicaKind::Voter, ReplicaKind::Leaving] } else { &[] };
        raft_pb::ConfState {
            voters: self.of_kinds(&[ReplicaKind::Voter, ReplicaKind::Joining]),
            learners: self.of_kinds(&[ReplicaKind::Learner]),
            voters_outgoing: self.of_kinds(outgoing),
            auto_leave: joint,
            ..raft_pb::ConfState::default()
        }
    }

    /// The membership after the change in `payload`. Errors: it does not fit; nothing must be applied.
    pub fn after(&self, payload: &Bytes) -> Result<Membership, Misfit> {
        self.changed(&decode(payload)?)
    }

    fn changed(&self, change: &ConfChange) -> Result<Membership, Misfit> {
        let mut next = self.clone();
        match (change.transition(), &change.changes[..]) {
            (ConfChangeTransition::Auto, []) => {
                if !self.is_joint() {
                    return Err(Misfit::NotJoint);
                }
                next.rows.retain(|r| r.kind() != ReplicaKind::Leaving);
                for row in next.rows.iter_mut().filter(|r| r.kind() == ReplicaKind::Joining) {
                    row.set_kind(ReplicaKind::Voter);
                }
            }
            (ConfChangeTransition::Explicit, [one]) => {
                let record = Reset::decode(change.context.clone()).map_err(|_| Misfit::Form)?;
                if one.r#type() != ConfChangeType::AddNode || change.context.is_empty() {
                    return Err(Misfit::Form);
                }
                let kind = ReplicaKind::Voter as i32;
                next.rows =
                    vec![Replica { id: one.replica_id, node_id: record.node_id, kind, witness: false }];
            }
            _ if self.is_joint() => return Err(Misfit::Joint),
            (ConfChangeTransition::Auto, [one]) => next.change_one(one, &change.context)?,
            (ConfChangeTransition::Implicit, many) if many.len() > 1 => {
                next.change_many(many)?;
                if !next.is_joint() {
                    return Err(Misfit::Idle);
                }
            }
            _ => return Err(Misfit::Form),
        }
        next.check()?;
        Ok(next)
    }

    fn at(&self, id: u64) -> Result<usize, Misfit> {
        self.rows.iter().position(|r| r.id == id).ok_or(Misfit::Absent(id))
    }

    fn change_one(&mut self, one: &ConfChangeSingle, context: &Bytes) -> Result<(), Misfit> {
        let id = one.replica_id;
        match one.r#type() {
            ConfChangeType::AddLearner => {
                if self.kind_of(id).is_some() {
                    return Err(Misfit::Present(id));
                }
                let added = AddedReplica::decode(context.clone()).map_err(|_| Misfit::Form)?;
                let kind = ReplicaKind::Learner as i32;
                self.rows.push(Replica { id, node_id: added.node_id, kind, witness: added.witness });
            }
            ConfChangeType::AddNode => {
                let at = self.learner(id)?;
                self.rows[at].set_kind(ReplicaKind::Voter);
            }
            ConfChangeType::RemoveNode => {
                let at = self.at(id)?;
                self.rows.remove(at);
            }
        }
        Ok(())
    }

    fn change_many(&mut self, many: &[ConfChangeSingle]) -> Result<(), Misfit> {
        for one in many {
            let id = one.replica_id;
            let at = self.at(id)?;
            match (one.r#type(), self.rows[at].kind()) {
                (ConfChangeType::AddNode, _) => {
                    let at = self.learner(id)?;
                    self.rows[at].set_kind(ReplicaKind::Joining);
                }
                (ConfChangeType::RemoveNode, ReplicaKind::Voter) => {
                    self.rows[at].set_kind(ReplicaKind::Leaving);
                }
                (ConfChangeType::RemoveNode, ReplicaKind::Learner) => {
                    self.rows.remove(at);
                }
                // Named twice, or what no change of this program does.
                _ => return Err(Misfit::Form),
            }
        }
        Ok(())
    }

    fn learner(&self, id: u64) -> Result<usize, Misfit> {
        let at = self.at(id)?;
        if self.rows[at].kind() == ReplicaKind::Learner { Ok(at) } else { Err(Misfit::Votes(id)) }
    }
}

impl MemberChange {
    /// As it stands in the log: byte for byte raft's own encoding.
    pub(crate) fn encode(&self) -> Bytes {
        let one = |r#type: ConfChangeType, replica_id| ConfChangeSingle { r#type: r#type as i32, replica_id };
        let change = match self {
            MemberChange::AddLearner { replica_id, node_id, witness } => ConfChange {
                changes: vec![one(ConfChangeType::AddLearner, *replica_id)],
                context: AddedReplica { node_id: *node_id, witness: *witness }.encode_to_vec().into(),
                ..ConfChange::default()
            },
            MemberChange::Replace { promote, remove } => {
                let promote = promote.iter().map(|id| one(ConfChangeType::AddNode, *id));
                let remove = remove.iter().map(|id| one(ConfChangeType::RemoveNode, *id));
                let changes: Vec<_> = promote.chain(remove).collect();
                let joint = changes.len() > 1;
                let transition =
                    if joint { ConfChangeTransition::Implicit } else { ConfChangeTransition::Auto };
                ConfChange { transition: transition as i32, changes, ..ConfChange::default() }
            }
            MemberChange::Leave => ConfChange::default(),
            MemberChange::Reset { replica_id, record } => ConfChange {
                transition: ConfChangeTransition::Explicit as i32,
                changes: vec![one(ConfChangeType::AddNode, *replica_id)],
                context: record.clone(),
            },
        };
        change.encode_to_vec().into()
    }
}

/// Only what [`MemberChange::encode`] would write. The types that it does not know are zeros for prost: what
/// encodes differently again is refused.
fn decode(payload: &Bytes) -> Result<ConfChange, Misfit> {
    let change = ConfChange::decode(payload.clone()).map_err(|_| Misfit::Form)?;
    let known = ConfChangeTransition::try_from(change.transition).is_ok()
        && change.changes.len() <= MOST_REPLICAS
        && change.changes.iter().all(|c| ConfChangeType::try_from(c.r#type).is_ok() && c.replica_id != 0);
    if known && change.encode_to_vec() == payload[..] { Ok(change) } else { Err(Misfit::Form) }
}

/// The record of a [`MemberChange::Reset`], and the replica that it is about; `None` for any other change.
pub fn reset_of(payload: &Bytes) -> Option<(u64, Reset)> {
    let change = decode(payload).ok()?;
    match (change.transition(), &change.changes[..]) {
        (ConfChangeTransition::Explicit, [one]) => {
            Reset::decode(change.context.clone()).ok().map(|record| (one.replica_id, record))
        }
        _ => None,
    }
}

impl Membership {
    /// raft's form of a change that was judged: what it is to apply, one after the other.
    pub(crate) fn to_raft(&self, payload: &Bytes) -> Result<Vec<raft_pb::ConfChangeV2>, Misfit> {
        let change = decode(payload)?;
        if change.transition() != ConfChangeTransition::Explicit {
            return Ok(vec![to_raft(&change)]);
        }
        // Not one step of raft's: whatever is there goes, and what a joint membership waits for is over.
        let stays: Vec<u64> = change.changes.iter().map(|one| one.replica_id).collect();
        if !self.is_joint() && self.rows.iter().map(|r| r.id).eq(stays.iter().copied()) {
            let votes = self.rows.iter().all(|r| r.kind() == ReplicaKind::Voter);
            return if votes { Ok(Vec::new()) } else { Err(Misfit::Form) };
        }
        let left = self.rows.iter().filter(|r| !self.is_joint() || r.kind() != ReplicaKind::Leaving);
        let gone = left.map(|r| r.id).filter(|id| !stays.contains(id));
        let remove = |replica_id| ConfChangeSingle { r#type: ConfChangeType::RemoveNode as i32, replica_id };
        let changes = change.changes.iter().copied().chain(gone.map(remove)).collect();
        let all = ConfChange { changes, context: Bytes::new(), ..change };
        let leave = ConfChange::default();
        let first = self.is_joint().then(|| leave.clone());
        Ok(first.iter().chain([&all, &leave]).map(to_raft).collect())
    }
}

fn to_raft(change: &ConfChange) -> raft_pb::ConfChangeV2 {
    let mut raft = raft_pb::ConfChangeV2::default();
    raft.set_transition(match change.transition() {
        ConfChangeTransition::Auto => raft_pb::ConfChangeTransition::Auto,
        ConfChangeTransition::Implicit => raft_pb::ConfChangeTransition::Implicit,
        ConfChangeTransition::Explicit => raft_pb::ConfChangeTransition::Explicit,
    });
    let single = |one: &ConfChangeSingle| {
        let mut single = raft_pb::ConfChangeSingle { node_id: one.replica_id, ..Default::default() };
        single.set_change_type(match one.r#type() {
            ConfChangeType::AddNode => raft_pb::ConfChangeType::AddNode,
            ConfChangeType::RemoveNode => raft_pb::ConfChangeType::RemoveNode,
            ConfChangeType::AddLearner => raft_pb::ConfChangeType::AddLearnerNode,
        });
        single
    };
    raft.set_changes(change.changes.iter().map(single).collect::<Vec<_>>().into());
    raft
}

#[cfg(test)]
impl Membership {
    /// Voters with these ids, each on the node of that id.
    pub(crate) fn voters(ids: &[u64]) -> Membership {
        let row = |id: &u64| Replica { id: *id, node_id: *id as NodeId, ..Replica::default() };
        Membership::new(ids.iter().map(row).collect()).expect("a membership")
    }
}
