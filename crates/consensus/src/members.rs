//! The replicas of a group and the changes that lead from one membership to the next.
//!
//! Kept beside raft's own configuration, which knows no nodes, and judged here first: raft then meets only
//! changes that it can apply, wherever they come from.
use bytes::Bytes;
use model::NodeId;
use prost::Message as _;
use proto::peer::{AddedReplica, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType};
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
        // Witnesses are planned and nothing makes one yet.
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
        let votes_next = |r: &Replica| matches!(r.kind(), ReplicaKind::Voter | ReplicaKind::Joining);
        let voted = |r: &Replica| matches!(r.kind(), ReplicaKind::Voter | ReplicaKind::Leaving);
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
                self.rows.push(Replica { id, node_id: added.node_id, kind });
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
            MemberChange::AddLearner { replica_id, node_id } => ConfChange {
                changes: vec![one(ConfChangeType::AddLearner, *replica_id)],
                context: AddedReplica { node_id: *node_id }.encode_to_vec().into(),
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

/// raft's form of a change that was judged.
pub(crate) fn to_raft(payload: &Bytes) -> Result<raft_pb::ConfChangeV2, Misfit> {
    let change = decode(payload)?;
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
    Ok(raft)
}

#[cfg(test)]
impl Membership {
    /// Voters with these ids, each on the node of that id.
    pub(crate) fn voters(ids: &[u64]) -> Membership {
        let row = |id: &u64| Replica { id: *id, node_id: *id as NodeId, kind: ReplicaKind::Voter as i32 };
        Membership::new(ids.iter().map(row).collect()).expect("a membership")
    }
}
