//! Groups of one and of three, driven by hand.
use crate::{Committed, DataHead, Group, GroupFx, GroupParams, LogView, Membership, ProposeError, Role};
use bytes::Bytes;
use model::{GroupKey, TopicId};
use storage::EntryKind;

fn params(replica_id: u64, voters: &[u64], seed: u64) -> GroupParams {
    GroupParams {
        key: GroupKey { topic: TopicId([7; 16]), partition: 3 },
        replica_id,
        members: Membership::voters(voters),
        term: 1,
        vote: 0,
        commit: 1,
        max_uncommitted_bytes: 1000,
        prompt_commit: false,
        changes_from: 0,
        seed,
    }
}

fn one() -> Group {
    Group::new(params(1, &[1], 42), LogView::after(1, 1, 0))
}

fn drain(group: &mut Group) -> GroupFx {
    let mut fx = GroupFx::default();
    group.ready(&mut fx);
    fx
}

fn data(base_offset: i64) -> DataHead {
    DataHead { flags: 0, offset_count: 2, base_offset, append_time: 1000 }
}

fn kinds(committed: &[Committed]) -> Vec<(u64, EntryKind)> {
    committed.iter().map(|c| (c.index, c.kind)).collect()
}

#[test]
fn a_group_of_one_leads_at_once_and_serves_when_its_no_op_is_applied() {
    let mut group = one();
    assert_eq!(group.check_budget(1), Err(ProposeError::NotLeader));
    group.campaign();
    group.propose_data(data(0), Bytes::from_static(b"payload")).unwrap();
    let fx = drain(&mut group);
    assert_eq!(fx.role, Some(Role::Leader));
    let hard = fx.hard_state.unwrap();
    assert_eq!((hard.term, hard.vote, hard.must_sync), (2, 1, false));
    let heads: Vec<_> = fx.appends.iter().map(|e| (e.head.index, e.head.term, e.head.kind)).collect();
    assert_eq!(heads, [(2, 2, EntryKind::NoOp), (3, 2, EntryKind::Data)]);
    assert!(fx.committed.is_empty() && fx.messages.is_empty());
    assert_eq!(group.leader_epoch(), None);

    group.on_persisted(3, 0);
    let fx = drain(&mut group);
    assert_eq!(kinds(&fx.committed), [(2, EntryKind::NoOp), (3, EntryKind::Data)]);
    assert_eq!(group.leader_epoch(), Some(2));
    assert_eq!(group.uncommitted_bytes(), 0);
}

#[test]
fn the_only_voter_leads_again_when_its_log_is_persisted_and_not_before() {
    let mut group = one();
    group.campaign();
    let _ = drain(&mut group);
    group.on_persisted(2, 0);
    let _ = drain(&mut group);
    group.propose_data(data(0), Bytes::from_static(b"on its way")).unwrap();
    assert_eq!(drain(&mut group).appends.len(), 1);
    group.stand_down();
    group.campaign();
    (0..100).for_each(|_| group.tick());
    let _ = drain(&mut group);
    assert!(!group.is_leader());
    group.on_persisted(3, 0);
    assert!(group.is_leader() && group.term() == 3);
}

#[test]
fn entries_commit_only_when_they_are_persisted_and_data_comes_without_payload() {
    let mut group = one();
    group.campaign();
    let _ = drain(&mut group);
    group.on_persisted(2, 0);
    let _ = drain(&mut group);
    for i in 0..3i64 {
        group.propose_data(data(i * 2), Bytes::from(vec![i as u8; 10])).unwrap();
        let fx = drain(&mut group);
        assert_eq!(fx.appends.len(), 1);
        assert_eq!(fx.appends[0].payload, vec![i as u8; 10]);
        assert!(fx.committed.is_empty());
    }
    group.propose_command(6, 1000, Bytes::from_static(b"command")).unwrap();
    let _ = drain(&mut group);
    group.on_persisted(4, 0);
    let fx = drain(&mut group);
    assert_eq!(kinds(&fx.committed), [(3, EntryKind::Data), (4, EntryKind::Data)]);
    assert!(fx.committed.iter().all(|c| c.payload.is_empty()));
    group.on_persisted(6, 0);
    let fx = drain(&mut group);
    assert_eq!(kinds(&fx.committed), [(5, EntryKind::Data), (6, EntryKind::Command)]);
    assert_eq!(fx.committed[1].payload, &b"command"[..]);
}

#[test]
fn the_byte_budget_refuses_before_proposing_and_drains_on_commit() {
    let mut group = one();
    group.campaign();
    let _ = drain(&mut group);
    group.propose_data(data(0), Bytes::from(vec![0; 5000])).unwrap();
    let _ = drain(&mut group);
    let refused = group.propose_data(data(2), Bytes::from(vec![0; 1]));
    assert_eq!(refused, Err(ProposeError::Busy { uncommitted: 5000, limit: 1000 }));
    group.on_persisted(3, 0);
    let _ = drain(&mut group);
    assert_eq!(group.propose_data(data(2), Bytes::from(vec![0; 1])), Ok(()));
}

#[test]
fn a_restarted_group_commits_its_old_tail_with_its_no_op() {
    let mut view = LogView::after(1, 1, 0);
    view.push_applied(2, 2, 0);
    for (index, next_offset) in [(3, 4), (4, 9)] {
        let (term, kind, payload) = (2, EntryKind::Data, Bytes::new());
        let meta = crate::EntryMeta { index, term, kind, len: 5, next_offset, payload };
        view.push_unapplied(meta);
    }
    let mut group = Group::new(GroupParams { term: 2, vote: 1, commit: 2, ..params(1, &[1], 1) }, view);
    group.campaign();
    let fx = drain(&mut group);
    assert_eq!(
        (fx.appends[0].head.index, fx.appends[0].head.term, fx.appends[0].head.base_offset),
        (5, 3, 9)
    );
    assert!(fx.committed.is_empty());
    group.on_persisted(5, 0);
    assert_eq!(
        kinds(&drain(&mut group).committed),
        [(3, EntryKind::Data), (4, EntryKind::Data), (5, EntryKind::NoOp)]
    );
}
