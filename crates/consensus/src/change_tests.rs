//! Replicas that come and go.
use crate::peers_tests::{Member, Trio};
use crate::{ChangeError, MemberChange, Misfit, PeerMessage, Refused};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use storage::ReplicaKind;

/// Three voters, replica 1 leading, and a fourth that has nothing yet.
fn with_a_fourth() -> Trio {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(3);
    trio.settle();
    trio.members.push(Member::new(4, 1));
    trio
}

fn learner(id: u64) -> MemberChange {
    MemberChange::AddLearner { replica_id: id, node_id: id as i32, witness: false }
}

fn replace(promote: &[u64], remove: &[u64]) -> MemberChange {
    MemberChange::Replace { promote: promote.to_vec(), remove: remove.to_vec() }
}

impl Trio {
    fn change(&mut self, leader: u64, change: MemberChange) {
        self.of(leader).group.propose_change(&change).unwrap();
        self.settle();
        self.tick(4);
    }

    fn ids(&mut self, id: u64) -> Vec<(u64, ReplicaKind)> {
        self.of(id).group.members().iter().map(|r| (r.id, r.kind())).collect()
    }
}

#[test]
fn a_replica_is_moved_and_every_replica_knows_the_new_members() {
    let mut trio = with_a_fourth();
    trio.change(1, learner(4));
    assert_eq!(trio.of(4).last(), trio.of(1).last(), "it was sent all there is");
    assert!(!trio.of(4).group.is_leader());
    let matched = |t: &mut Trio| t.of(1).group.followers().find(|f| f.replica_id == 4).unwrap();
    let follower = matched(&mut trio);
    assert!(follower.replicating && follower.matched == trio.of(1).last());
    trio.change(1, replace(&[4], &[2]));
    let voter = ReplicaKind::Voter;
    for id in [1, 3, 4] {
        assert_eq!(trio.ids(id), [(1, voter), (3, voter), (4, voter)], "replica {id}");
        assert!(!trio.of(id).group.membership().is_joint());
    }
    // The old third is of no account: 1 and 4 decide.
    trio.cut = [2, 3].into();
    trio.of(1).append(2);
    trio.settle();
    let last = trio.of(1).last();
    assert_eq!(trio.of(1).committed, last);
}

#[test]
fn a_learner_neither_votes_nor_campaigns_and_nor_does_a_stranger() {
    let mut trio = with_a_fourth();
    trio.of(4).group.campaign();
    trio.settle();
    trio.change(1, learner(4));
    trio.cut = [2, 3].into();
    trio.of(1).append(1);
    trio.settle();
    assert!(trio.of(1).committed < trio.of(1).last(), "a learner's copy is no vote");
    trio.of(4).group.lose_leader();
    trio.of(4).group.campaign();
    trio.tick(40);
    assert!(!trio.of(4).group.is_leader());
}

#[test]
fn one_change_at_a_time_and_only_what_fits() {
    let mut trio = with_a_fourth();
    assert_eq!(trio.of(2).group.propose_change(&learner(4)), Err(ChangeError::NotLeader));
    assert_eq!(
        trio.of(1).group.propose_change(&replace(&[], &[1])),
        Err(ChangeError::Misfit(Misfit::Leader))
    );
    assert_eq!(trio.of(1).group.propose_change(&learner(3)), Err(ChangeError::Misfit(Misfit::Present(3))));
    trio.of(1).group.propose_change(&learner(4)).unwrap();
    assert_eq!(trio.of(1).group.propose_change(&learner(5)), Err(ChangeError::Pending));
    trio.settle();
    assert!(!trio.of(1).group.change_pending());
    trio.change(1, replace(&[], &[4]));
    assert_eq!(trio.ids(1).len(), 3);
}

#[test]
fn a_leader_that_dies_in_a_joint_membership_is_followed_by_one_that_ends_it() {
    let mut trio = with_a_fourth();
    trio.change(1, learner(4));
    trio.of(1).group.propose_change(&replace(&[4], &[2])).unwrap();
    // The change reaches all, the leader dies before it can end it.
    trio.of(1).turn();
    for message in std::mem::take(&mut trio.of(1).out) {
        let to = message.to();
        trio.of(to).group.step(message).unwrap();
    }
    trio.cut = [1].into();
    for id in [2, 3, 4] {
        trio.of(id).group.lose_leader();
    }
    trio.elect(3);
    trio.tick(4);
    let voter = ReplicaKind::Voter;
    assert_eq!(trio.ids(3), [(1, voter), (3, voter), (4, voter)]);
    assert_eq!(trio.ids(4), trio.ids(3));
    trio.cut.clear();
    trio.tick(8);
    assert_eq!(trio.ids(1), trio.ids(3), "whoever comes back learns of it");
}

#[test]
fn a_leader_that_was_elected_to_remove_itself_steps_down() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(1);
    trio.settle();
    trio.of(1).group.propose_change(&replace(&[], &[2])).unwrap();
    trio.of(1).turn();
    for message in std::mem::take(&mut trio.of(1).out).into_iter().filter(|m| m.to() == 2) {
        trio.of(2).group.step(message).unwrap();
    }
    trio.of(2).turn();
    trio.of(2).out.clear();
    trio.cut = [1].into();
    trio.of(3).group.lose_leader();
    trio.of(2).group.lose_leader();
    trio.of(2).group.campaign();
    trio.settle();
    assert!(!trio.of(2).group.is_leader());
    assert_eq!(trio.ids(2).len(), 2);
    trio.cut.clear();
    trio.tick(60);
    let leaders: Vec<u64> = [1, 3].into_iter().filter(|id| trio.of(*id).group.is_leader()).collect();
    assert_eq!(leaders.len(), 1, "the others go on");
    assert_eq!(trio.ids(3).len(), 2);
}

#[test]
fn a_peers_change_that_does_not_fit_is_refused_and_changes_nothing() {
    let mut trio = with_a_fourth();
    trio.tick(4);
    let (term, last) = (trio.of(1).group.term(), trio.of(1).last());
    let entry = |index, change: &MemberChange| {
        let mut entry = Entry { index, term, data: change.encode(), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry
    };
    let step = |trio: &mut Trio, entries: Vec<Entry>, commit| {
        let mut m =
            Message { from: 1, to: 2, term, log_term: term, index: last, commit, ..Message::default() };
        m.set_msg_type(MessageType::MsgAppend);
        m.set_entries(entries.into());
        let result = trio.of(2).group.step(PeerMessage(m));
        trio.of(2).turn();
        result
    };
    let refused = |index, misfit| Err(Refused::Members { index, misfit });
    let all = replace(&[], &[1, 2, 3]);
    assert_eq!(step(&mut trio, vec![entry(last + 1, &all)], last), refused(last + 1, Misfit::NoVoters));
    assert_eq!(
        step(&mut trio, vec![entry(last + 1, &MemberChange::Leave)], last),
        refused(last + 1, Misfit::NotJoint)
    );
    // Judged one after the other, those of the same message and those that were appended before it.
    let twice = vec![entry(last + 1, &learner(5)), entry(last + 2, &learner(5))];
    assert_eq!(step(&mut trio, twice, last), refused(last + 2, Misfit::Present(5)));
    assert_eq!(trio.of(2).last(), last);
    assert_eq!(step(&mut trio, vec![entry(last + 1, &learner(5))], last), Ok(()));
    let again = vec![entry(last + 1, &learner(5)), entry(last + 2, &learner(5))];
    assert_eq!(step(&mut trio, again, last), refused(last + 2, Misfit::Present(5)));
    let more = vec![entry(last + 1, &learner(5)), entry(last + 2, &learner(6))];
    assert_eq!(step(&mut trio, more, last + 2), Ok(()));
    assert_eq!(trio.ids(2).len(), 5);
}
