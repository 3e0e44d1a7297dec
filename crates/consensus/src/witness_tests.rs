//! Two data replicas, 1 and 2, and a witness, 3.
use crate::peers_tests::{Member, Trio, params};
use crate::{Group, GroupParams, LogView, MemberChange, Membership, PeerMessage, Refused};
use bytes::Bytes;
use model::{GroupKey, TopicId};
use raft::eraftpb::{Message, MessageType};
use storage::{EntryKind, Replica, ReplicaKind};

fn row(id: u64) -> Replica {
    Replica { id, node_id: id as i32, witness: id == 3, ..Replica::default() }
}

fn with_witness(seed: u64) -> Trio {
    let mut trio = Trio::new(seed);
    for (id, member) in (1..).zip(&mut trio.members) {
        let members = Membership::new([1, 2, 3].map(row).to_vec()).unwrap();
        let params = GroupParams { members, ..params(id, seed) };
        member.group = Group::new(params, LogView::after(1, 1, 0));
        if id == 3 {
            member.group.be_witness();
        }
    }
    trio
}

#[test]
fn a_witness_holds_the_heads_of_all_entries_and_no_batches() {
    let mut trio = with_witness(1);
    trio.elect(1);
    trio.of(1).append(3);
    trio.of(1).group.propose_command(6, 9, Bytes::from_static(b"command")).unwrap();
    trio.settle();
    trio.tick(4);
    assert_eq!((trio.of(1).committed, trio.of(3).committed), (6, 6));
    let (data, witness) = (trio.of(1).log.clone(), trio.of(3).log.clone());
    assert_eq!(data, trio.of(2).log);
    for (theirs, ours) in data.iter().zip(&witness) {
        let bare = theirs.head.kind == EntryKind::Data;
        let kind = if bare { EntryKind::Bare } else { theirs.head.kind };
        assert_eq!(ours.head, storage::EntryHead { kind, ..theirs.head });
        assert_eq!(ours.payload, if bare { Bytes::new() } else { theirs.payload.clone() });
    }
    assert_eq!(data.len(), witness.len());
}

#[test]
fn nothing_goes_to_a_witness_before_the_data_replicas_that_are_waited_for_hold_it() {
    let mut trio = with_witness(1);
    trio.elect(1);
    trio.of(1).append(2);
    trio.settle();
    trio.of(2).slow = true;
    trio.of(1).append(5);
    trio.settle();
    trio.tick(8);
    assert_eq!((trio.of(1).last(), trio.of(2).last(), trio.of(3).last()), (9, 9, 4));
    assert_eq!(trio.of(1).committed, 4, "one disk is not enough while the other is waited for");
    assert!(trio.of(1).group.held_back() > 0);
    trio.of(2).slow = false;
    trio.settle();
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (9, 9));
    assert_eq!((trio.of(1).group.held_back(), trio.of(1).group.released_index()), (0, 9));
}

#[test]
fn a_data_replica_that_is_not_waited_for_holds_up_nothing() {
    let mut trio = with_witness(1);
    trio.elect(1);
    trio.cut = [2].into();
    trio.of(1).append(4);
    trio.settle();
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (2, 2));
    assert!(trio.of(1).group.await_replicas(Vec::new()));
    trio.settle();
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (6, 6));
    assert!(!trio.of(1).group.await_replicas(Vec::new()), "it is so already");
    // Its own disk is always waited for.
    trio.of(1).slow = true;
    trio.of(1).append(1);
    trio.settle();
    assert_eq!(trio.of(3).last(), 6);
    trio.of(1).slow = false;
    trio.settle();
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (7, 7));
}

#[test]
fn what_is_held_back_is_bounded_and_goes_on_where_it_stopped() {
    let mut trio = with_witness(1);
    trio.elect(1);
    trio.of(2).slow = true;
    for _ in 0..300 {
        trio.of(1).append(1);
        trio.settle();
    }
    // Each answer to a heartbeat lets raft send one more.
    trio.tick(600);
    assert_eq!(trio.of(1).group.held_back(), 128);
    trio.of(2).slow = false;
    trio.settle();
    trio.tick(10);
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (302, 302));
}

#[test]
fn a_witness_elects_and_is_never_elected() {
    let mut trio = with_witness(1);
    trio.elect(1);
    trio.of(1).append(2);
    trio.settle();
    trio.tick(4);
    trio.cut = [1].into();
    // Alone with a dead leader it waits; time alone makes the other data replica lead.
    trio.cut.insert(2);
    trio.tick(200);
    trio.of(3).group.campaign();
    trio.settle();
    assert!(!trio.of(3).group.is_leader() && trio.of(3).group.term() == 2);
    let mut now = Message { from: 1, to: 3, term: 2, ..Message::default() };
    now.set_msg_type(MessageType::MsgTimeoutNow);
    trio.of(3).group.step(PeerMessage(now)).unwrap();
    trio.settle();
    assert_eq!(trio.of(3).group.term(), 2, "the word to campaign is not for it");
    trio.cut = [1].into();
    trio.tick(100);
    assert!(trio.of(2).group.is_leader());
    // The old leader is waited for, as far as the group itself knows.
    assert_eq!(trio.of(2).committed, 4);
    trio.of(2).group.await_replicas(Vec::new());
    trio.settle();
    assert_eq!(trio.of(2).committed, 5);
}

#[test]
fn each_replica_takes_entries_of_its_own_form_alone() {
    let mut trio = with_witness(1);
    trio.elect(1);
    trio.cut = [2, 3].into();
    trio.of(1).append(1);
    trio.of(1).turn();
    let out = std::mem::take(&mut trio.of(1).out);
    let append = out.into_iter().find(|m| m.to() == 2 && m.data().count() == 1).unwrap();
    let mut readdressed = append.0.clone();
    readdressed.to = 3;
    assert_eq!(trio.of(3).group.step(PeerMessage(readdressed)), Err(Refused::Bare { index: 3 }));
    trio.of(1).group.await_replicas(Vec::new());
    trio.of(1).turn();
    let out = std::mem::take(&mut trio.of(1).out);
    let bare = out.into_iter().find(|m| m.to() == 3 && !m.0.entries.is_empty()).unwrap();
    let mut readdressed = bare.0.clone();
    readdressed.to = 2;
    assert_eq!(trio.of(2).group.step(PeerMessage(readdressed)), Err(Refused::Bare { index: 3 }));
    // On the wire it is heads and nothing else; a payload is refused.
    let key = GroupKey { topic: TopicId([7; 16]), partition: 3 };
    let (message, payloads) = bare.clone().into_wire(key).unwrap();
    assert!(payloads.iter().all(Bytes::is_empty));
    assert_eq!(PeerMessage::from_wire(message.clone(), payloads.clone()), Ok((key, bare)));
    let mut fat = message.clone();
    fat.entries[0].length = 1;
    assert!(PeerMessage::from_wire(fat, vec![Bytes::from_static(b"x")]).is_err());
    let mut of_nothing = message;
    of_nothing.entries[0].offset_count = 0;
    assert!(PeerMessage::from_wire(of_nothing, payloads).is_err());
    trio.cut.clear();
    trio.tick(8);
    assert_eq!((trio.of(1).committed, trio.of(2).committed, trio.of(3).committed), (3, 3, 3));
}

#[test]
fn a_witness_joins_as_a_learner_and_witnesses_alone_are_no_group() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(2);
    trio.settle();
    let mut fourth = Member::new(4, 1);
    fourth.group.be_witness();
    trio.members.push(fourth);
    let change = |trio: &mut Trio, change| {
        trio.of(1).group.propose_change(&change).unwrap();
        trio.settle();
        trio.tick(4);
    };
    change(&mut trio, MemberChange::AddLearner { replica_id: 4, node_id: 4, witness: true });
    assert_eq!(trio.of(4).last(), trio.of(1).last());
    assert!(trio.of(4).log.iter().all(|e| e.head.kind != EntryKind::Data));
    change(&mut trio, MemberChange::Replace { promote: vec![4], remove: vec![3] });
    for id in [1, 2, 4] {
        let members = trio.of(id).group.membership().clone();
        assert!(members.is_witness(4) && members.kind_of(4) == Some(ReplicaKind::Voter), "replica {id}");
        assert!(Membership::new(members.rows().to_vec()) == Ok(members));
    }
    let lone = Replica { id: 9, node_id: 9, witness: true, ..Replica::default() };
    assert!(Membership::new(vec![lone]).is_err());
}
