//! Three replicas in one process: elections, a follower that is behind, a log that is contradicted, and
//! messages that are refused.
use crate::{
    DataHead, Follower, Freed, Group, GroupFx, GroupParams, LogView, Membership, NewEntry, PeerMessage,
    Refused, Role,
};
use bytes::Bytes;
use model::{GroupKey, TopicId};
use raft::eraftpb::MessageType;
use std::collections::BTreeSet;
use storage::EntryKind;

const IDS: [u64; 3] = [1, 2, 3];

pub(crate) fn params(replica_id: u64, seed: u64) -> GroupParams {
    GroupParams {
        key: GroupKey { topic: TopicId([7; 16]), partition: 3 },
        replica_id,
        members: Membership::voters(&IDS),
        term: 1,
        vote: 0,
        commit: 1,
        max_uncommitted_bytes: 1 << 30,
        prompt_commit: false,
        changes_from: 0,
        seed,
    }
}

/// A replica with the log that it would keep.
pub(crate) struct Member {
    pub(crate) group: Group,
    pub(crate) log: Vec<NewEntry>,
    pub(crate) committed: u64,
    pub(crate) round: u64,
    /// While set, nothing becomes durable.
    pub(crate) slow: bool,
    /// Messages of the last turn.
    pub(crate) out: Vec<PeerMessage>,
    confirmed: Vec<(u64, u64)>,
    pub(crate) freed: Option<Freed>,
}

impl Member {
    pub(crate) fn new(id: u64, seed: u64) -> Member {
        let group = Group::new(params(id, seed), LogView::after(1, 1, 0));
        let (log, out, confirmed) = (Vec::new(), Vec::new(), Vec::new());
        Member { group, log, committed: 1, round: 0, slow: false, out, confirmed, freed: None }
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.log.last().map_or(0, |e| e.head.next_offset())
    }

    pub(crate) fn turn(&mut self) {
        loop {
            if !self.slow {
                self.group.on_persisted(self.last(), self.round);
            }
            let mut fx = GroupFx::default();
            self.group.ready(&mut fx);
            let quiet = fx.messages.is_empty() && fx.appends.is_empty() && fx.wanted.is_empty();
            let quiet = quiet && fx.hard_state.is_none() && fx.committed.is_empty();
            for entry in fx.appends {
                self.log.retain(|e| e.head.index < entry.head.index);
                assert_eq!(entry.head.base_offset, self.next_offset());
                self.log.push(entry);
            }
            if fx.hard_state.is_some() {
                self.round += 1;
                self.group.hard_state_rides(self.round);
            }
            self.out.extend(fx.messages);
            self.committed = fx.committed.last().map_or(self.committed, |c| c.index);
            self.confirmed.extend(fx.confirmed);
            self.freed = fx.freed.or(self.freed);
            for ask in fx.wanted {
                let found = self.log.iter().filter(|e| (ask.low..ask.high).contains(&e.head.index));
                self.group.on_entries(ask.number, found.take(2).cloned().collect());
            }
            if quiet {
                return;
            }
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.log.last().map_or(1, |e| e.head.index)
    }

    pub(crate) fn append(&mut self, count: usize) {
        for _ in 0..count {
            let head =
                DataHead { flags: 0, offset_count: 2, base_offset: self.next_offset(), append_time: 9 };
            self.group.propose_data(head, Bytes::from(vec![self.last() as u8; 10])).unwrap();
            self.turn();
        }
    }

    fn terms(&self) -> Vec<(u64, u64)> {
        self.log.iter().map(|e| (e.head.index, e.head.term)).collect()
    }
}

pub(crate) struct Trio {
    /// In the order of their ids, from 1 on; more than three where a test adds some.
    pub(crate) members: Vec<Member>,
    /// Replicas that nobody hears and that hear nobody.
    pub(crate) cut: BTreeSet<u64>,
}

impl Trio {
    pub(crate) fn new(seed: u64) -> Trio {
        Trio { members: IDS.iter().map(|id| Member::new(*id, seed)).collect(), cut: BTreeSet::new() }
    }

    pub(crate) fn of(&mut self, id: u64) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    /// Carries messages until there are none.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut inbox = Vec::new();
            for member in &mut self.members {
                member.turn();
                inbox.append(&mut member.out);
            }
            inbox.retain(|m| !self.cut.contains(&m.from()) && !self.cut.contains(&m.to()));
            if inbox.is_empty() {
                return;
            }
            for message in inbox {
                self.of(message.to()).group.step(message).unwrap();
            }
        }
    }

    pub(crate) fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.members.iter_mut().for_each(|m| m.group.tick());
            self.settle();
        }
    }

    pub(crate) fn elect(&mut self, id: u64) {
        self.of(id).group.campaign();
        self.settle();
        assert!(self.of(id).group.is_leader());
    }

    pub(crate) fn equal_logs(&self) -> bool {
        self.members.windows(2).all(|pair| pair[0].log == pair[1].log)
    }
}

/// Returns the trace of (tick, leader, term).
fn elections(seed: u64, ticks: u64) -> Vec<(u64, u64, u64)> {
    let mut trio = Trio::new(seed);
    let mut trace = Vec::new();
    for tick in 0..ticks {
        // Every 80 ticks the network is cut for 40, so that leaders step down and are elected again.
        trio.cut = if (tick / 40) % 2 == 1 { IDS.into() } else { BTreeSet::new() };
        trio.tick(1);
        for (id, member) in IDS.iter().zip(&trio.members) {
            if member.group.is_leader() {
                trace.push((tick, *id, member.group.term()));
            }
        }
    }
    trace
}

#[test]
fn elections_replay_from_their_seed() {
    let mut distinct = BTreeSet::new();
    for seed in 0..20 {
        let first = elections(seed, 400);
        assert!(!first.is_empty(), "seed {seed} elects someone");
        assert_eq!(first, elections(seed, 400), "seed {seed}");
        distinct.insert(first);
    }
    assert!(distinct.len() > 1, "seeds differ");
}

#[test]
fn three_replicas_hold_equal_logs_and_followers_learn_of_commits_by_heartbeat() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(10);
    trio.settle();
    assert!(trio.equal_logs());
    assert_eq!((trio.of(1).committed, trio.of(1).last()), (12, 12));
    trio.tick(4);
    assert_eq!((trio.of(2).committed, trio.of(3).committed), (12, 12));
    let rows: Vec<Follower> = trio.of(1).group.followers().collect();
    assert!(rows.iter().all(|r| r.matched == 12) && rows.len() == 3);
    assert_eq!(trio.of(2).group.followers().count(), 0, "only a leader knows");
    assert_eq!(trio.of(2).group.leader(), Some(1));
}

#[test]
fn nothing_commits_before_a_majority_has_persisted_it() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(2).slow = true;
    trio.of(3).slow = true;
    trio.of(1).append(3);
    trio.settle();
    assert_eq!(trio.of(1).committed, 2, "the leader's own sync is not a majority");
    assert!(trio.equal_logs());
    trio.tick(15);
    assert!(trio.of(1).group.is_leader(), "slow syncs do not silence the answers to heartbeats");
    trio.of(3).slow = false;
    trio.settle();
    assert_eq!(trio.of(1).committed, 5);
}

#[test]
fn a_vote_leaves_only_when_it_is_durable() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.tick(4);
    trio.cut = [1].into();
    // 2 asks for 3's vote; 3 cannot sync.
    trio.tick(19);
    trio.of(3).slow = true;
    trio.of(2).slow = false;
    for id in [2, 3] {
        trio.of(id).group.lose_leader();
    }
    trio.of(2).group.campaign();
    trio.settle();
    assert!(!trio.of(2).group.is_leader(), "the vote is not durable yet");
    // A sync of entries that began before the vote says nothing of it.
    let (last, round) = (trio.of(3).last(), trio.of(3).round);
    trio.of(3).group.on_persisted(last, round - 1);
    trio.settle();
    assert!(!trio.of(2).group.is_leader());
    trio.of(3).slow = false;
    trio.settle();
    assert!(trio.of(2).group.is_leader());
}

#[test]
fn a_follower_that_is_behind_is_sent_what_was_read_back() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.cut = [3].into();
    trio.of(1).append(50);
    trio.tick(4);
    assert_eq!((trio.of(1).committed, trio.of(3).last()), (52, 2));
    trio.cut.clear();
    trio.tick(8);
    assert!(trio.equal_logs());
    assert_eq!(trio.of(3).committed, 52);
}

#[test]
fn a_new_leader_replaces_what_was_never_committed() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(2);
    trio.settle();
    trio.cut = [1].into();
    trio.of(1).append(5);
    trio.settle();
    trio.tick(60);
    let new = if trio.of(2).group.is_leader() { 2 } else { 3 };
    trio.of(new).append(3);
    trio.settle();
    let committed = trio.of(new).committed;
    assert_eq!(trio.of(1).last(), 9);
    trio.cut.clear();
    trio.tick(10);
    assert!(trio.equal_logs(), "{:?} {:?}", trio.members[0].terms(), trio.members[1].terms());
    assert_eq!((trio.of(1).committed, committed), (8, 8));
    assert!(!trio.of(1).group.is_leader());
}

#[test]
fn what_was_replaced_before_it_was_durable_is_never_acknowledged() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.settle();
    // Entries 3 and 4 of 1's term reach 3 alone, which cannot sync them.
    trio.cut = [2].into();
    trio.of(3).slow = true;
    trio.of(1).append(2);
    trio.settle();
    assert_eq!(trio.of(3).last(), 4);
    trio.of(1).out.clear();
    let append = |m: &PeerMessage| {
        m.0.get_msg_type() == MessageType::MsgAppendResponse && !m.0.reject && m.0.index > 2
    };
    // 2 leads in a later term and its log goes on at 3.
    let mut new = raft::eraftpb::Message {
        from: 2,
        to: 3,
        term: 9,
        log_term: 2,
        index: 2,
        commit: 2,
        ..Default::default()
    };
    new.set_msg_type(MessageType::MsgAppend);
    let no_op = raft::eraftpb::Entry { index: 3, term: 9, ..Default::default() };
    new.set_entries(vec![no_op].into());
    trio.of(3).group.step(PeerMessage(new)).unwrap();
    trio.of(3).turn();
    assert_eq!(trio.of(3).terms(), [(2, 2), (3, 9)]);
    assert!(!trio.of(3).out.iter().any(append), "nothing is durable yet");
    trio.of(3).slow = false;
    trio.of(3).turn();
    let said: Vec<_> = trio.of(3).out.iter().filter(|m| append(m)).map(|m| (m.0.term, m.0.index)).collect();
    assert_eq!(said, [(9, 3)], "4 of term 2 was never durable");
}

#[test]
fn a_leader_gives_way_to_a_term_that_it_is_told_of_and_one_leads_in_a_later_one() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    let term = trio.of(1).group.term();
    trio.of(1).group.hear_term(term);
    assert!(trio.of(1).group.is_leader(), "it knows of that one");
    trio.of(1).group.hear_term(term + 5);
    trio.settle();
    assert!(!trio.of(1).group.is_leader());
    trio.tick(100);
    let later =
        |trio: &mut Trio, id: u64| trio.of(id).group.is_leader() && trio.of(id).group.term() > term + 4;
    assert_eq!([1, 2, 3].iter().filter(|id| later(&mut trio, **id)).count(), 1);
}

#[test]
fn leadership_is_handed_over_and_a_leader_that_is_gone_is_not_waited_for() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(2);
    trio.of(1).group.transfer_leader(3);
    trio.settle();
    assert!(trio.of(3).group.is_leader() && !trio.of(1).group.is_leader());
    trio.cut = [3].into();
    trio.of(1).group.campaign();
    trio.settle();
    assert!(!trio.of(1).group.is_leader(), "2 hears of a leader still");
    for id in [1, 2] {
        trio.of(id).group.lose_leader();
        assert_eq!(trio.of(id).group.leader(), None);
    }
    trio.elect(1);
}

#[test]
fn a_strong_read_is_confirmed_by_a_majority_and_not_by_an_old_leader() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(1);
    trio.settle();
    assert!(trio.of(1).group.read_index(77));
    trio.settle();
    assert_eq!(trio.of(1).confirmed, [(77, 3)]);
    trio.cut = [1].into();
    assert!(trio.of(1).group.read_index(78));
    trio.settle();
    assert_eq!(trio.of(1).confirmed.len(), 1);
    assert!(!trio.of(2).group.read_index(79), "a follower does not answer");
}

#[test]
fn a_woken_leader_gives_the_others_time_to_answer() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.tick(19);
    // It sleeps, nobody ticks; the others may have been asleep for longer.
    trio.of(1).group.wake();
    trio.cut = [1].into();
    for _ in 0..19 {
        trio.of(1).group.tick();
    }
    assert!(trio.of(1).group.is_leader());
    for _ in 0..30 {
        trio.of(1).group.tick();
    }
    assert!(!trio.of(1).group.is_leader(), "but not for ever");
}

#[test]
fn messages_that_contradict_the_log_are_refused_and_change_nothing() {
    let mut trio = Trio::new(1);
    trio.elect(1);
    trio.of(1).append(3);
    trio.tick(4);
    let term = trio.of(1).group.term();
    let message = |kind, index: u64, log_term, commit| {
        let (from, to) = (1, 2);
        let mut m = raft::eraftpb::Message { from, to, term, index, log_term, commit, ..Default::default() };
        m.set_msg_type(kind);
        m
    };
    let entry = |index, term, base_offset| {
        let context = crate::context::EntryContext {
            kind: EntryKind::Data,
            flags: 0,
            offset_count: 2,
            base_offset,
            append_time: 9,
        };
        raft::eraftpb::Entry { index, term, context: context.encode(), ..Default::default() }
    };
    let mut step = |mut m: raft::eraftpb::Message, entries: Vec<raft::eraftpb::Entry>| {
        m.set_entries(entries.into());
        let result = trio.of(2).group.step(PeerMessage(m));
        trio.of(2).turn();
        result
    };
    let append = MessageType::MsgAppend;
    assert_eq!(
        step(message(MessageType::MsgHeartbeat, 0, 0, 9), vec![]),
        Err(Refused::Lost { theirs: 9, last: 5 })
    );
    let contradicted = Err(Refused::ContradictsCommit { index: 5 });
    assert_eq!(step(message(append, 5, 1, 5), vec![]), contradicted);
    assert_eq!(
        step(message(append, 5, term, 5), vec![entry(6, term, 8)]),
        Err(Refused::Offsets { index: 6, found: 8, expected: 6 })
    );
    assert_eq!(
        step(message(append, 5, term, 5), vec![entry(6, term, 6), entry(7, term, 9)]),
        Err(Refused::Offsets { index: 7, found: 9, expected: 8 })
    );
    assert_eq!(step(message(MessageType::MsgSnapshot, 0, 0, 0), vec![]), Err(Refused::Unexpected));
    assert_eq!(step(message(append, 5, term, 5), vec![entry(6, term, 6)]), Ok(()));
    assert_eq!(trio.of(2).last(), 6);
    let mut ack = message(MessageType::MsgAppendResponse, 99, 0, 0);
    (ack.from, ack.to) = (2, 1);
    let never_sent = Err(Refused::NeverSent { theirs: 99, last: 5 });
    assert_eq!(trio.of(1).group.step(PeerMessage(ack.clone())), never_sent);
    // It may be of an earlier process of this replica, which led in this term and sent what its disk lost.
    (ack.from, ack.to) = (1, 2);
    assert_eq!(trio.of(2).group.step(PeerMessage(ack)), Ok(()));
    assert_eq!(trio.of(1).group.is_leader().then_some(Role::Leader), Some(Role::Leader));
}
