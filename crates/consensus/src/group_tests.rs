//! Groups of one and of three, driven by hand.
use crate::{Committed, DataHead, Group, GroupFx, GroupParams, LogView, PeerMessage, ProposeError, Role};
use bytes::Bytes;
use model::{GroupKey, TopicId};
use storage::EntryKind;

fn params(replica_id: u64, voters: &[u64], seed: u64) -> GroupParams {
    GroupParams {
        key: GroupKey { topic: TopicId([7; 16]), partition: 3 },
        replica_id,
        voters: voters.to_vec(),
        learners: vec![],
        term: 1,
        vote: 0,
        commit: 1,
        max_uncommitted_bytes: 1000,
        seed,
    }
}

fn one() -> Group {
    Group::new(params(1, &[1], 42), LogView::after(1, 1))
}

fn drain(group: &mut Group, next_offset: i64) -> GroupFx {
    let mut fx = GroupFx::default();
    group.ready(next_offset, &mut fx);
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
    let fx = drain(&mut group, 0);
    assert_eq!(fx.role, Some(Role::Leader));
    let hard = fx.hard_state.unwrap();
    assert_eq!((hard.term, hard.vote, hard.must_sync), (2, 1, false));
    let heads: Vec<_> = fx.appends.iter().map(|e| (e.head.index, e.head.term, e.head.kind)).collect();
    assert_eq!(heads, [(2, 2, EntryKind::NoOp), (3, 2, EntryKind::Data)]);
    assert!(fx.committed.is_empty() && fx.messages.is_empty());
    assert_eq!(group.leader_epoch(), None);

    group.on_persisted(3);
    let fx = drain(&mut group, 2);
    assert_eq!(kinds(&fx.committed), [(2, EntryKind::NoOp), (3, EntryKind::Data)]);
    assert_eq!(group.leader_epoch(), Some(2));
    assert_eq!(group.uncommitted_bytes(), 0);
}

#[test]
fn entries_commit_only_when_they_are_persisted_and_data_comes_without_payload() {
    let mut group = one();
    group.campaign();
    let _ = drain(&mut group, 0);
    group.on_persisted(2);
    let _ = drain(&mut group, 0);
    for i in 0..3i64 {
        group.propose_data(data(i * 2), Bytes::from(vec![i as u8; 10])).unwrap();
        let fx = drain(&mut group, i * 2);
        assert_eq!(fx.appends.len(), 1);
        assert_eq!(fx.appends[0].payload, vec![i as u8; 10]);
        assert!(fx.committed.is_empty());
    }
    group.propose_command(6, 1000, Bytes::from_static(b"command")).unwrap();
    let _ = drain(&mut group, 6);
    group.on_persisted(4);
    let fx = drain(&mut group, 6);
    assert_eq!(kinds(&fx.committed), [(3, EntryKind::Data), (4, EntryKind::Data)]);
    assert!(fx.committed.iter().all(|c| c.payload.is_empty()));
    group.on_persisted(6);
    let fx = drain(&mut group, 6);
    assert_eq!(kinds(&fx.committed), [(5, EntryKind::Data), (6, EntryKind::Command)]);
    assert_eq!(fx.committed[1].payload, &b"command"[..]);
}

#[test]
fn the_byte_budget_refuses_before_proposing_and_drains_on_commit() {
    let mut group = one();
    group.campaign();
    let _ = drain(&mut group, 0);
    group.propose_data(data(0), Bytes::from(vec![0; 5000])).unwrap();
    let _ = drain(&mut group, 0);
    let refused = group.propose_data(data(2), Bytes::from(vec![0; 1]));
    assert_eq!(refused, Err(ProposeError::Busy { uncommitted: 5000, limit: 1000 }));
    group.on_persisted(3);
    let _ = drain(&mut group, 2);
    assert_eq!(group.propose_data(data(2), Bytes::from(vec![0; 1])), Ok(()));
}

#[test]
fn a_restarted_group_commits_its_old_tail_with_its_no_op() {
    let mut view = LogView::after(1, 1);
    view.push_applied(2, 2);
    for index in [3, 4] {
        let meta = crate::EntryMeta { index, term: 2, kind: EntryKind::Data, len: 5, payload: Bytes::new() };
        view.push_unapplied(meta);
    }
    let mut group = Group::new(GroupParams { term: 2, vote: 1, commit: 2, ..params(1, &[1], 1) }, view);
    group.campaign();
    let fx = drain(&mut group, 9);
    assert_eq!(
        (fx.appends[0].head.index, fx.appends[0].head.term, fx.appends[0].head.base_offset),
        (5, 3, 9)
    );
    assert!(fx.committed.is_empty());
    group.on_persisted(5);
    assert_eq!(
        kinds(&drain(&mut group, 9).committed),
        [(3, EntryKind::Data), (4, EntryKind::Data), (5, EntryKind::NoOp)]
    );
}

/// Three replicas whose messages arrive in order and whose writes persist at once; returns the trace of
/// (tick, leader, term).
fn elections(seed: u64, ticks: u64) -> Vec<(u64, u64, u64)> {
    let ids = [1u64, 2, 3];
    let mut groups: Vec<Group> =
        ids.iter().map(|id| Group::new(params(*id, &ids, seed), LogView::after(1, 1))).collect();
    let mut trace = Vec::new();
    for tick in 0..ticks {
        // Every 80 ticks the network is cut for 40, so that leaders step down and are elected again.
        let cut = (tick / 40) % 2 == 1;
        groups.iter_mut().for_each(Group::tick);
        let mut inbox: Vec<PeerMessage> = Vec::new();
        loop {
            for group in &mut groups {
                let fx = drain(group, 0);
                group.on_persisted(u64::MAX);
                inbox.extend(fx.messages);
                let fx = drain(group, 0);
                inbox.extend(fx.messages);
            }
            if inbox.is_empty() {
                break;
            }
            for message in inbox.drain(..).filter(|_| !cut) {
                let to = message.to() as usize - 1;
                groups[to].step(message);
            }
        }
        for (id, group) in ids.iter().zip(&groups) {
            if group.is_leader() {
                trace.push((tick, *id, group.term()));
            }
        }
    }
    trace
}

#[test]
fn elections_replay_from_their_seed() {
    let mut distinct = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let first = elections(seed, 400);
        assert!(!first.is_empty(), "seed {seed} elects someone");
        assert_eq!(first, elections(seed, 400), "seed {seed}");
        distinct.insert(first);
    }
    assert!(distinct.len() > 1, "seeds differ");
}
