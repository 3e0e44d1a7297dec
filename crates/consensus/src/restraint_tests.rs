//! Replicas that have lost what they acknowledged, and what may be committed on their word.
use crate::peer_message::PeerMessage;
use crate::peers_tests::{Member, Trio, params};
use crate::{EntryMeta, Freed, Group, LogView, Membership};
use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};

impl Member {
    /// Starts again with its entries up to `last` alone, and knows that it may have had more.
    fn lose(&mut self, id: u64, last: u64) {
        self.lose_up_to(id, last, 0);
    }

    /// As well, and what it may have acknowledged ends with entry `floor`.
    fn lose_up_to(&mut self, id: u64, last: u64, floor: u64) {
        self.lose_as(id, last, floor, Membership::voters(&[1, 2, 3]));
    }

    /// As well, and these are the group's members as far as it knows.
    fn lose_as(&mut self, id: u64, last: u64, floor: u64, members: Membership) {
        let (term, committed) = (self.group.term(), self.committed.min(last));
        self.log.retain(|e| e.head.index <= last);
        let mut view = LogView::after(1, 1, 0);
        for head in self.log.iter().map(|e| e.head) {
            if head.index <= committed {
                view.push_applied(head.index, head.term, head.next_offset());
                continue;
            }
            view.push_unapplied(EntryMeta {
                index: head.index,
                term: head.term,
                kind: head.kind,
                len: 0,
                next_offset: head.next_offset(),
                payload: Bytes::new(),
            });
        }
        let mut params = params(id, 1);
        (params.term, params.commit, params.members) = (term, committed, members);
        self.group = Group::new(params, view);
        self.group.restrain(floor);
        (self.committed, self.round) = (committed, 0);
        self.out.clear();
        self.freed = None;
    }
}

/// Entries 3 to 7 are committed by 1 and 2; 3 has only entry 2, and 2 has lost what it had above `last`.
fn led_by_one(last: u64) -> Trio {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.tick(4);
    trio.cut = [3].into();
    trio.of(1).append(5);
    trio.settle();
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (7, 2));
    trio.of(2).lose(2, last);
    trio
}

#[test]
fn a_replica_that_lost_acknowledged_entries_elects_nobody_who_lacks_them() {
    let mut trio = led_by_one(2);
    trio.cut = [1].into();
    for id in [2, 3] {
        trio.of(id).group.lose_leader();
    }
    trio.tick(200);
    assert!(!trio.of(2).group.is_leader() && !trio.of(3).group.is_leader());
    trio.cut.clear();
    trio.tick(200);
    assert!(trio.of(1).group.is_leader(), "it alone has what is committed");
    assert!(trio.equal_logs() && trio.of(1).committed >= 7);
}

#[test]
fn it_is_sent_again_what_its_leader_believes_it_to_have_and_is_free() {
    for last in 2..=7 {
        let mut trio = led_by_one(last);
        trio.tick(3);
        assert_eq!((trio.of(2).last(), trio.of(2).freed), (7, Some(Freed::CaughtUp)), "lost after {last}");
        assert!(!trio.of(2).group.is_restrained());
        // Its vote counts again.
        trio.cut = [1].into();
        for id in [2, 3] {
            trio.of(id).group.lose_leader();
        }
        trio.tick(100);
        assert!(trio.of(2).group.is_leader());
        assert_eq!(trio.members[2].log[..6], trio.members[0].log[..6], "nothing is lost");
    }
}

#[test]
fn what_stands_where_its_entries_were_is_not_taken_for_them() {
    let mut trio = led_by_one(7);
    // An older tail came back at the places of what was acknowledged.
    for entry in &mut trio.of(2).log[2..] {
        entry.head.term = 1;
        entry.payload = Bytes::from_static(b"older");
    }
    trio.of(2).committed = 3;
    trio.of(2).lose(2, 7);
    trio.tick(4);
    assert_eq!(trio.of(2).freed, Some(Freed::CaughtUp));
    assert_eq!(trio.members[0].log, trio.members[1].log);
}

#[test]
fn of_a_majority_that_lost_power_the_longest_log_leads_once_every_voter_was_heard() {
    let mut trio = led_by_one(5);
    trio.of(1).lose(1, 6);
    trio.tick(200);
    assert!(trio.members.iter().all(|m| !m.group.is_leader()), "3 may have more than both");
    trio.cut.clear();
    trio.tick(200);
    assert!(trio.of(1).group.is_leader());
    assert_eq!(trio.of(1).freed, Some(Freed::Leads));
    assert_eq!(trio.of(2).freed, Some(Freed::CaughtUp));
    assert!(trio.equal_logs() && trio.of(1).log.len() >= 5, "entries up to 6 and a new no-op");
    assert!(!trio.of(3).group.is_restrained());
}

#[test]
fn a_replica_that_was_damaged_is_free_when_it_holds_the_last_entry_that_it_may_have_acknowledged() {
    let mut trio = led_by_one(2);
    trio.of(2).lose_up_to(2, 2, 9);
    trio.tick(4);
    assert_eq!((trio.of(2).last(), trio.of(2).committed), (7, 7));
    assert!(trio.of(2).group.is_restrained(), "9 may have been acknowledged");
    trio.of(1).append(1);
    trio.tick(2);
    assert!(trio.of(2).group.is_restrained());
    trio.of(1).append(1);
    trio.tick(2);
    assert_eq!((trio.of(2).last(), trio.of(2).freed), (9, Some(Freed::CaughtUp)));
}

#[test]
fn a_replica_that_was_damaged_does_not_lead_as_the_only_member_of_an_earlier_checkpoint() {
    let mut trio = led_by_one(2);
    trio.cut = [1, 3].into();
    trio.of(2).lose_as(2, 2, 7, Membership::voters(&[2]));
    trio.of(2).group.campaign();
    trio.tick(200);
    assert!(trio.of(2).group.is_restrained() && !trio.of(2).group.is_leader(), "others came after that");
    assert_eq!(trio.of(2).last(), 2, "it adds nothing of its own");
    // Where it has all that it may have acknowledged, nobody else knows more.
    trio.of(2).lose_as(2, 2, 2, Membership::voters(&[2]));
    assert!(!trio.of(2).group.is_restrained());
    trio.of(2).group.campaign();
    trio.tick(2);
    assert!(trio.of(2).group.is_leader());
}

#[test]
fn where_files_were_damaged_the_longest_log_does_not_lead_for_being_the_longest() {
    let mut trio = led_by_one(5);
    trio.of(1).lose_up_to(1, 6, 7);
    trio.cut.clear();
    trio.tick(300);
    assert!(trio.members.iter().all(|m| !m.group.is_leader()), "1 had more than its log shows");
}

#[test]
fn what_is_not_persisted_frees_nobody() {
    let mut trio = led_by_one(6);
    trio.of(2).slow = true;
    trio.tick(4);
    let two = &trio.of(2).group;
    assert_eq!((two.is_restrained(), two.last_index(), two.committed()), (true, 7, 7));
    trio.of(2).slow = false;
    trio.tick(4);
    assert_eq!(trio.of(2).freed, Some(Freed::CaughtUp));
}

#[test]
fn where_a_log_ended_once_says_nothing_of_where_it_ends_now() {
    let mut trio = led_by_one(5);
    // 3 lost power, too, and remembers what 1 said before it led and acknowledged entries 3 to 7.
    trio.of(3).lose(3, 2);
    let term = trio.of(3).group.term();
    let mut asked =
        Message { from: 1, to: 3, term: term + 1, index: 2, log_term: term, ..Message::default() };
    asked.set_msg_type(MessageType::MsgRequestPreVote);
    asked.reject_hint = 1;
    trio.of(3).group.step(PeerMessage(asked)).unwrap();
    trio.cut = [1].into();
    for id in [2, 3] {
        trio.of(id).group.lose_leader();
    }
    trio.tick(400);
    assert!([2, 3].iter().all(|id| !trio.of(*id).group.is_leader()), "1 alone has 6 and 7");
    trio.cut.clear();
    trio.tick(200);
    assert!(trio.equal_logs() && trio.of(1).committed >= 7);
}
