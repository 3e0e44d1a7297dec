//! A replica that is made all of its group, and those that come to it.
use crate::peers_tests::{Member, Trio, params};
use crate::{
    ChangeError, EntryMeta, Group, GroupParams, LogView, MemberChange, Membership, Misfit, reset_of,
};
use bytes::Bytes;
use prost::Message as _;
use proto::peer::Reset;
use storage::{EntryKind, ReplicaKind};

const FROM_TERM: u64 = 70_000;
const VOTER: ReplicaKind = ReplicaKind::Voter;

fn reset(id: u64) -> MemberChange {
    let given_up = vec![storage::Replica { id: 2, node_id: 2, kind: 0, witness: false }];
    let record =
        Reset { node_id: 4, given_up, from_offset: 7, principal: "User:op".into(), ..Reset::default() };
    MemberChange::Reset { replica_id: id, record: record.encode_to_vec().into() }
}

/// The log of `old` read back by replica 4, which an operator has made all of the group.
fn alone(old: &Member) -> Member {
    let mut view = LogView::after(1, 1, 0);
    for entry in &old.log {
        let (head, payload) = (entry.head, entry.payload.clone());
        if head.index <= old.committed {
            view.push_applied(head.index, head.term, head.next_offset());
            continue;
        }
        view.push_unapplied(EntryMeta {
            index: head.index,
            term: head.term,
            kind: head.kind,
            len: payload.len() as u32,
            next_offset: head.next_offset(),
            payload: if head.kind == EntryKind::Data { Bytes::new() } else { payload },
        });
    }
    let members =
        Membership::new(vec![storage::Replica { id: 4, node_id: 4, kind: 0, witness: false }]).unwrap();
    let (commit, term) = (old.committed, FROM_TERM - 1);
    let params =
        GroupParams { replica_id: 4, members, commit, term, changes_from: FROM_TERM, ..params(4, 1) };
    let mut member = Member::new(4, 1);
    (member.group, member.log, member.committed) = (Group::new(params, view), old.log.clone(), commit);
    member
}

fn change(trio: &mut Trio, change: &MemberChange) {
    trio.of(4).group.propose_change(change).unwrap();
    trio.settle();
    trio.tick(4);
}

fn ids(trio: &mut Trio, id: u64) -> Vec<(u64, ReplicaKind)> {
    trio.of(id).group.members().iter().map(|r| (r.id, r.kind())).collect()
}

/// Two of three are lost; the third, which led last, has a tail that nobody else has, with `tail` in it.
fn left_alone(before: Option<&MemberChange>, tail: &MemberChange) -> Trio {
    let mut trio = Trio::new(1);
    // A replica that never came.
    trio.cut = [9].into();
    trio.elect(1);
    trio.of(1).append(3);
    trio.settle();
    if let Some(before) = before {
        trio.of(1).group.propose_change(before).unwrap();
        trio.settle();
        trio.tick(4);
    }
    trio.cut = [2, 3, 9].into();
    trio.of(1).group.propose_change(tail).unwrap();
    trio.settle();
    trio.of(1).append(2);
    assert!(trio.of(1).committed < trio.of(1).last());
    let alone = alone(trio.of(1));
    trio.cut = [1, 2, 3, 9].into();
    trio.members.push(alone);
    trio.members.push(Member::new(5, 1));
    trio
}

#[test]
fn it_leads_alone_with_all_that_it_has_and_who_comes_to_it_learns_the_same_from_its_log() {
    let learner = |id: u64| MemberChange::AddLearner { replica_id: id, node_id: id as i32, witness: false };
    let joint = MemberChange::Replace { promote: vec![9], remove: vec![2] };
    for (before, tail) in [(None, learner(9)), (Some(learner(9)), joint)] {
        let mut trio = left_alone(before.as_ref(), &tail);
        let had = trio.of(4).last();
        trio.of(4).group.campaign();
        trio.settle();
        let group = &trio.of(4).group;
        assert!(group.is_leader() && group.term() >= FROM_TERM, "above what the lost ones may have used");
        assert_eq!(group.committed(), had + 1, "what it has, and its no-op");
        assert_eq!(ids(&mut trio, 4), [(4, VOTER)], "a change of what was given up is none");
        assert!(!trio.of(4).group.was_reset());
        change(&mut trio, &reset(4));
        assert!(trio.of(4).group.was_reset());
        change(&mut trio, &learner(5));
        change(&mut trio, &MemberChange::Replace { promote: vec![5], remove: Vec::new() });
        for id in [4, 5] {
            assert_eq!(ids(&mut trio, id), [(4, VOTER), (5, VOTER)], "{tail:?}, replica {id}");
            assert_eq!(trio.of(id).group.voters(), [4, 5]);
        }
        assert!(trio.members[3].log == trio.members[4].log, "from the first entry on");
        // With two voters nobody goes on alone.
        assert_eq!(trio.of(4).group.propose_change(&reset(4)), Err(ChangeError::Misfit(Misfit::NotAlone)));
        trio.cut.insert(4);
        trio.of(5).group.campaign();
        trio.tick(40);
        assert!(!trio.of(5).group.is_leader());
    }
}

#[test]
fn the_record_is_read_back_and_no_other_change_is_taken_for_one() {
    let (id, record) = reset_of(&reset(4).encode()).unwrap();
    assert_eq!((id, record.from_offset, record.principal.as_str()), (4, 7, "User:op"));
    assert_eq!(record.given_up.len(), 1);
    assert_eq!(reset_of(&MemberChange::Leave.encode()), None);
    assert_eq!(
        reset_of(&MemberChange::AddLearner { replica_id: 4, node_id: 4, witness: false }.encode()),
        None
    );
    let members = Membership::voters(&[1, 2, 3]);
    let row = |m: &Membership| m.rows().iter().map(|r| (r.id, r.node_id)).collect::<Vec<_>>();
    assert_eq!(row(&members.after(&reset(9).encode()).unwrap()), [(9, 4)]);
    let bare = MemberChange::Reset { replica_id: 9, record: Bytes::new() };
    assert_eq!(members.after(&bare.encode()), Err(Misfit::Form), "it says where it is");
    let mut trio = Trio::new(1);
    trio.elect(1);
    let refused = trio.of(1).group.propose_change(&reset(1));
    assert_eq!(refused, Err(ChangeError::Misfit(Misfit::NotAlone)), "the others may have voted otherwise");
}
