//! Memberships by themselves.
use crate::{MemberChange, Membership, Misfit};
use bytes::Bytes;
use protobuf::Message as _;
use storage::{Replica, ReplicaKind};

fn voters(ids: &[u64]) -> Membership {
    Membership::voters(ids)
}

fn learner(id: u64) -> MemberChange {
    MemberChange::AddLearner { replica_id: id, node_id: id as i32, witness: false }
}

fn replace(promote: &[u64], remove: &[u64]) -> MemberChange {
    MemberChange::Replace { promote: promote.to_vec(), remove: remove.to_vec() }
}

fn after(members: &Membership, change: &MemberChange) -> Result<Membership, Misfit> {
    members.after(&change.encode())
}

#[test]
fn a_move_goes_through_a_learner_and_a_joint_membership() {
    let members = voters(&[1, 2, 3]);
    let with = after(&members, &learner(4)).unwrap();
    assert_eq!(with.kind_of(4), Some(ReplicaKind::Learner));
    assert_eq!(with.rows()[3].node_id, 4);
    let joint = after(&with, &replace(&[4], &[1])).unwrap();
    assert!(joint.is_joint());
    assert_eq!(
        (joint.kind_of(1), joint.kind_of(4)),
        (Some(ReplicaKind::Leaving), Some(ReplicaKind::Joining))
    );
    let state = joint.conf_state();
    assert_eq!((&state.voters[..], &state.voters_outgoing[..]), (&[2, 3, 4][..], &[1, 2, 3][..]));
    assert!(state.auto_leave);
    let done = after(&joint, &MemberChange::Leave).unwrap();
    assert_eq!(done.conf_state().voters, [2, 3, 4]);
    assert!(!done.is_joint() && done.conf_state().voters_outgoing.is_empty());
    assert_eq!(Membership::new(joint.rows().to_vec()), Ok(joint));
}

#[test]
fn what_does_not_fit_is_refused() {
    let three = voters(&[1, 2, 3]);
    let with = after(&three, &learner(4)).unwrap();
    let joint = after(&with, &replace(&[4], &[1])).unwrap();
    let cases = [
        (&three, learner(3), Misfit::Present(3)),
        (&three, replace(&[2], &[]), Misfit::Votes(2)),
        (&three, replace(&[9], &[]), Misfit::Absent(9)),
        (&three, replace(&[], &[9]), Misfit::Absent(9)),
        (&three, replace(&[], &[1, 2, 3]), Misfit::NoVoters),
        (&three, replace(&[], &[1, 1]), Misfit::Form),
        (&three, MemberChange::Leave, Misfit::NotJoint),
        (&with, replace(&[4, 4], &[]), Misfit::Votes(4)),
        (&with, replace(&[4], &[4]), Misfit::Form),
        (&joint, learner(5), Misfit::Joint),
        (&joint, replace(&[], &[2]), Misfit::Joint),
    ];
    for (members, change, why) in cases {
        assert_eq!(after(members, &change), Err(why), "{change:?}");
    }
    assert_eq!(after(&voters(&[1]), &replace(&[], &[1])), Err(Misfit::NoVoters));
    for bytes in [&b"\xff\xff"[..], b"\x08\x02", b"\x08\x01", b"\x1a\x00"] {
        assert_eq!(three.after(&Bytes::copy_from_slice(bytes)), Err(Misfit::Form), "{bytes:?}");
    }
}

#[test]
fn a_checkpoint_names_no_impossible_membership() {
    let row = |id, kind: ReplicaKind| Replica { id, node_id: 1, kind: kind as i32, witness: false };
    let new = |rows: &[(u64, ReplicaKind)]| Membership::new(rows.iter().map(|(i, k)| row(*i, *k)).collect());
    use ReplicaKind::{Joining, Learner, Leaving, Voter, Witness};
    assert!(new(&[(1, Voter), (2, Learner)]).is_ok());
    assert!(new(&[(1, Leaving), (2, Joining)]).is_ok());
    for bad in [
        &[][..],
        &[(1, Learner)],
        &[(0, Voter)],
        &[(1, Voter), (1, Learner)],
        &[(1, Leaving), (2, Learner)],
        &[(1, Joining)],
        &[(1, Voter), (2, Witness)],
    ] {
        assert!(new(bad).is_err(), "{bad:?}");
    }
    assert!(Membership::new(vec![Replica { id: 1, node_id: 1, kind: 77, witness: false }]).is_err());
}

#[test]
fn a_change_is_encoded_as_raft_itself_would() {
    for change in [learner(4), replace(&[4], &[]), replace(&[4, 5], &[1]), MemberChange::Leave] {
        let bytes = change.encode();
        let mut raft = voters(&[1]).to_raft(&bytes).unwrap().remove(0);
        raft.context = raft::eraftpb::ConfChangeV2::parse_from_bytes(&bytes).unwrap().context;
        assert_eq!(raft.write_to_bytes().unwrap(), bytes, "{change:?}");
    }
}
