//! Three replicas of one partition, each over its own disk, joined by hand.
use crate::test_rig::{Rig, numbered, plain};
use crate::{AppendError, Appended, Origin, PartitionConfig, PartitionFx};
use bytes::BytesMut;
use consensus::PeerMessage;
use model::ErrorCode;
use std::collections::BTreeSet;

pub(crate) struct Trio {
    pub(crate) rigs: Vec<Rig>,
    /// Nodes that nobody hears and that hear nobody.
    pub(crate) cut: BTreeSet<i32>,
}

impl Trio {
    fn new(cfg: PartitionConfig) -> Trio {
        let rigs = (1..=3).map(|id| Rig::replica(id, 3, cfg.clone())).collect();
        Trio { rigs, cut: BTreeSet::new() }
    }

    /// With node 1 leading.
    pub(crate) fn led(cfg: PartitionConfig) -> Trio {
        let mut trio = Trio::new(cfg);
        trio.elect(1);
        trio
    }

    pub(crate) fn of(&mut self, node: i32) -> &mut Rig {
        &mut self.rigs[node as usize - 1]
    }

    pub(crate) fn elect(&mut self, node: i32) {
        let rig = self.of(node);
        rig.part.campaign(rig.now, &mut rig.dir, &mut rig.fx);
        self.settle();
        assert!(self.of(node).part.leader_epoch().is_some(), "{node} leads");
    }

    /// Node `leader` knows that node `lost` is not there, and has known it for longer than appends are let in.
    pub(crate) fn lose(&mut self, leader: i32, lost: i32) {
        let rig = self.of(leader);
        rig.part.set_down(rig.now, |m| m.node_id == lost);
        rig.now.mono = rig.now.mono.after_ms(501);
    }

    fn take_messages(&mut self) -> Vec<(i32, i32, PeerMessage)> {
        let mut out = Vec::new();
        for (from, rig) in (1..).zip(&mut self.rigs) {
            rig.settle();
            rig.read_entries();
            for effect in std::mem::take(&mut rig.fx) {
                match effect {
                    PartitionFx::Send { node, message } => out.push((from, node, message)),
                    PartitionFx::Refused { node, why } => panic!("{from} refused a message of {node}: {why}"),
                    other => rig.fx.push(other),
                }
            }
        }
        out
    }

    pub(crate) fn settle(&mut self) {
        loop {
            let mut messages = self.take_messages();
            messages.retain(|(from, to, _)| !self.cut.contains(from) && !self.cut.contains(to));
            if messages.is_empty() {
                return;
            }
            for (_, to, message) in messages {
                let rig = self.of(to);
                rig.part.step(rig.now, message, &mut rig.dir, &mut rig.fx);
            }
        }
    }

    pub(crate) fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for rig in &mut self.rigs {
                rig.tick_group();
            }
            self.settle();
        }
    }

    pub(crate) fn submit(&mut self, node: i32, token: u64, records: BytesMut) {
        self.of(node).submit(token, records, -1, Origin::Client);
        self.settle();
    }

    pub(crate) fn append(
        &mut self,
        node: i32,
        token: u64,
        records: BytesMut,
    ) -> Result<Appended, AppendError> {
        self.submit(node, token, records);
        self.of(node).answer(token).expect("answered")
    }

    pub(crate) fn values(&mut self, node: i32) -> Vec<String> {
        let read = self.of(node).read_all();
        read.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
    }
}

pub(crate) fn two_of_three() -> PartitionConfig {
    PartitionConfig { min_insync_replicas: 2, ..PartitionConfig::default() }
}

#[test]
fn what_is_acknowledged_is_on_a_majority_and_every_replica_reads_the_same() {
    let mut trio = Trio::led(two_of_three());
    assert_eq!(trio.append(1, 1, plain(&["a", "b"])).unwrap().base_offset, 0);
    trio.cut = [3].into();
    assert_eq!(trio.append(1, 2, plain(&["c"])).unwrap().base_offset, 2);
    assert_eq!(trio.of(3).part.log_end(), 2);
    trio.cut.clear();
    trio.tick(8);
    for node in 1..=3 {
        assert_eq!(trio.values(node), ["a", "b", "c"], "node {node}");
    }
    let chains: BTreeSet<u32> = trio.rigs.iter().map(|r| r.part.log().chain()).collect();
    assert_eq!(chains.len(), 1);
    assert_eq!(trio.of(2).part.leader_node(), Some(1));
}

#[test]
fn a_follower_that_is_behind_is_sent_what_is_in_memory_and_only_the_rest_from_files() {
    let mut trio = Trio::led(two_of_three());
    trio.cut = [3].into();
    let mut values: Vec<String> = (0..5).map(|n| n.to_string()).collect();
    for (token, value) in (1..).zip(&values) {
        trio.append(1, token, plain(&[value])).unwrap();
    }
    trio.cut.clear();
    trio.tick(8);
    assert_eq!((trio.values(3), trio.of(1).reads_for_followers), (values.clone(), 0));
    trio.cut = [3].into();
    trio.append(1, 9, plain(&["x"])).unwrap();
    trio.of(1).restart(false);
    let rig = trio.of(2);
    rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
    trio.elect(1);
    trio.append(1, 10, plain(&["y"])).unwrap();
    trio.cut.clear();
    trio.tick(8);
    values.extend(["x".to_owned(), "y".to_owned()]);
    assert_eq!(trio.values(3), values);
    assert!(trio.of(1).reads_for_followers > 0, "a new process remembers nothing");
}

#[test]
fn a_follower_refuses_appends_before_it_looks_at_sequences() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, numbered(5, 0, 0, &["a"])).unwrap();
    for sequence in [0, 7] {
        let refused = trio.append(2, 2, numbered(5, 0, sequence, &["x"])).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotLeaderOrFollower);
    }
}

#[test]
fn a_leader_that_is_not_confirmed_tells_nobody_that_a_sequence_is_wrong() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, numbered(5, 0, 0, &["a"])).unwrap();
    trio.cut = [1].into();
    // Node 1 has it, and may yet lead again and commit it.
    trio.submit(1, 2, numbered(5, 0, 1, &["b"]));
    let heir = trio.of(2);
    heir.part.lose_leader(heir.now, &mut heir.dir, &mut heir.fx);
    let other = trio.of(3);
    other.part.lose_leader(other.now, &mut other.dir, &mut other.fx);
    let heir = trio.of(2);
    heir.part.campaign(heir.now, &mut heir.dir, &mut heir.fx);
    while !trio.of(2).part.is_leader() {
        let messages = trio.take_messages();
        assert!(!messages.is_empty(), "node 2 is elected");
        for (_, to, message) in messages.into_iter().filter(|(from, to, _)| *from != 1 && *to != 1) {
            let rig = trio.of(to);
            rig.part.step(rig.now, message, &mut rig.dir, &mut rig.fx);
        }
    }
    trio.cut = [1, 2].into();
    let refused = trio.append(2, 3, numbered(5, 0, 2, &["c"])).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotLeaderOrFollower);
    trio.cut = [1].into();
    trio.tick(3);
    assert!(trio.of(2).part.leader_epoch().is_some());
    trio.submit(2, 4, numbered(5, 0, 2, &["c"]));
    let heir = trio.of(2);
    heir.part.begin_round(heir.now, &mut heir.dir, &mut heir.fx);
    trio.settle();
    let refused = trio.of(2).answer(4).expect("a majority follows").unwrap_err();
    assert_eq!(refused.code, ErrorCode::OutOfOrderSequenceNumber, "nothing else can be committed now");
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_nobody_is_told_that_it_failed() {
    let mut trio = Trio::led(PartitionConfig::default());
    trio.cut = [1].into();
    trio.submit(1, 7, plain(&["lost?"]));
    assert!(trio.of(1).answer(7).is_none());
    trio.tick(80);
    assert_eq!(trio.of(1).part.leader_epoch(), None, "check-quorum deposes it");
    let told = trio.of(1).answer(7).unwrap().unwrap_err();
    assert_eq!(told.code, ErrorCode::RequestTimedOut, "it may yet be committed");
}

#[test]
fn a_deposed_leaders_tail_gives_way_to_its_successors() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, numbered(5, 0, 0, &["a"])).unwrap();
    trio.cut = [1].into();
    for (token, value) in [(2, "old b"), (3, "old c"), (4, "old d")] {
        trio.submit(1, token, numbered(5, 0, token as i32 - 1, &[value]));
    }
    // Its own disk has them, and marks that say so.
    trio.of(1).settle();
    assert_eq!(trio.of(1).part.log_end(), 4);
    trio.tick(60);
    let new = if trio.of(2).part.is_leader() { 2 } else { 3 };
    trio.append(new, 5, numbered(5, 0, 1, &["b"])).unwrap();
    trio.cut.clear();
    trio.tick(10);
    assert_eq!(trio.values(1), ["a", "b"]);
    assert_eq!(trio.of(1).part.log().chain(), trio.of(new).part.log().chain());
    // Its memory of the producer followed its log: sequence 2 is the next one, not a duplicate.
    trio.elect_from(1, new);
    assert_eq!(trio.append(1, 6, numbered(5, 0, 2, &["c"])).unwrap().base_offset, 2);
    trio.tick(4);
    for node in 1..=3 {
        trio.of(node).restart(true);
        assert_eq!(trio.of(node).part.log_end(), 3, "node {node}");
    }
}

impl Trio {
    pub(crate) fn elect_from(&mut self, node: i32, leader: i32) {
        let rig = self.of(leader);
        assert!(rig.part.transfer_leader(rig.now, node, &mut rig.dir, &mut rig.fx));
        self.settle();
        assert!(self.of(node).part.leader_epoch().is_some());
    }
}

/// Power is lost on the deposed leader when its `after`th message has come and no sync has ended since the
/// `held`th: whether the log held the old entry, neither, or the new one waited for the mark.
fn crash_while_the_tail_gives_way(held: usize, after: usize) -> bool {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.cut = [1].into();
    trio.submit(1, 2, plain(&["old"]));
    trio.of(1).now.mono = trio.of(1).now.mono.after_ms(100);
    trio.of(1).settle();
    trio.tick(60);
    let new = if trio.of(2).part.is_leader() { 2 } else { 3 };
    trio.append(new, 3, plain(&["new"])).unwrap();
    trio.cut.clear();
    let (mut come, mut waited) = (0, false);
    'ticks: for _ in 0..10 {
        trio.of(new).tick_group();
        loop {
            let messages = trio.take_messages();
            if messages.is_empty() {
                break;
            }
            for (_, to, message) in messages {
                let rig = trio.of(to);
                rig.part.step(rig.now, message, &mut rig.dir, &mut rig.fx);
                if to == 1 {
                    come += 1;
                    trio.of(1).hold_syncs = come >= held;
                    waited |= trio.of(1).part.log_end() == 1;
                    if come == after {
                        break 'ticks;
                    }
                }
            }
        }
    }
    trio.of(1).restart(true);
    trio.tick(12);
    assert_eq!(trio.values(1), ["a", "new"], "{held} {after}");
    waited
}

#[test]
fn entries_of_a_new_leader_wait_until_the_old_mark_is_lowered() {
    let mut waited = 0;
    for held in 1..8 {
        for after in held..9 {
            waited += usize::from(crash_while_the_tail_gives_way(held, after));
        }
    }
    assert!(waited > 3, "{waited}");
}

#[test]
fn min_insync_replicas_above_a_majority_delays_the_answer_and_refuses_when_one_is_gone() {
    let mut trio = Trio::led(PartitionConfig { min_insync_replicas: 3, ..PartitionConfig::default() });
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.of(3).hold_syncs = true;
    trio.submit(1, 2, plain(&["b"]));
    assert!(trio.of(1).answer(2).is_none(), "committed, but on two disks only");
    assert_eq!(trio.of(1).part.high_watermark(), 2);
    trio.of(3).release_syncs();
    trio.settle();
    assert_eq!(trio.of(1).answer(2).unwrap().unwrap().base_offset, 1);
    trio.lose(1, 3);
    let refused = trio.append(1, 3, plain(&["c"])).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotEnoughReplicas);
    let now = trio.of(1).now;
    assert_eq!(trio.of(1).part.in_sync_replicas(now), [1, 2]);
}

#[test]
fn a_node_that_is_lost_for_a_moment_refuses_no_append() {
    let mut trio = Trio::led(PartitionConfig { min_insync_replicas: 2, ..PartitionConfig::default() });
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.cut = [1].into();
    let rig = trio.of(1);
    rig.part.set_down(rig.now, |m| m.node_id != 1);
    assert_eq!(rig.part.in_sync_replicas(rig.now), [1], "clients are told at once");
    trio.submit(1, 2, plain(&["b"]));
    assert!(trio.of(1).answer(2).is_none(), "let in, and not acknowledged");
    trio.cut.clear();
    let rig = trio.of(1);
    rig.part.set_down(rig.now, |_| false);
    trio.tick(4);
    assert_eq!(trio.of(1).answer(2).unwrap().unwrap().base_offset, 1);
    // Lost once more, the time begins anew; known as lost again and again, it does not.
    let rig = trio.of(1);
    for _ in 0..6 {
        rig.part.set_down(rig.now, |m| m.node_id != 1);
        rig.now.mono = rig.now.mono.after_ms(100);
    }
    assert_eq!(trio.append(1, 3, plain(&["c"])).unwrap_err().code, ErrorCode::NotEnoughReplicas);
}

#[test]
fn a_partition_that_slept_takes_one_append_after_the_other() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, plain(&["a"])).unwrap();
    let rig = trio.of(1);
    rig.now.mono = rig.now.mono.after_ms(3_600_000);
    for token in 2..5 {
        trio.of(1).submit(token, plain(&["b"]), -1, Origin::Client);
    }
    let rig = trio.of(1);
    assert_eq!(rig.part.in_sync_replicas(rig.now), [1, 2, 3], "nobody had time to answer");
    trio.settle();
    for token in 2..5 {
        trio.of(1).answer(token).unwrap().unwrap();
    }
}

#[test]
fn a_follower_that_lacks_nothing_is_caught_up_now_and_one_that_is_lost_was_until_then() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, plain(&["a"])).unwrap();
    let later = |trio: &mut Trio| {
        let rig = trio.of(1);
        rig.now.mono = rig.now.mono.after_ms(60_000);
        rig.now
    };
    let now = later(&mut trio);
    assert_eq!(trio.of(1).part.caught_up_at(now, 3), Some(now.mono), "nothing was appended");
    assert_eq!(trio.of(2).part.caught_up_at(now, 3), None, "who follows knows of nobody");
    trio.cut = [3].into();
    trio.of(1).part.set_down(now, |m| m.node_id == 3);
    let after = later(&mut trio);
    assert_eq!(trio.of(1).part.caught_up_at(after, 3), Some(now.mono), "it is not there");
    trio.append(1, 2, plain(&["b"])).unwrap();
    trio.of(1).part.set_down(after, |m| m.node_id == 3);
    assert_eq!(trio.of(1).part.caught_up_at(after, 3), Some(now.mono), "an append changes nothing");
    assert_eq!(trio.of(1).part.caught_up_at(after, 2), Some(after.mono));
}

#[test]
fn a_leader_knows_by_how_many_entries_each_other_replica_is_behind() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, plain(&["a", "b"])).unwrap();
    let lags = |trio: &mut Trio, node| trio.of(node).part.replica_lags().collect::<Vec<_>>();
    assert_eq!(lags(&mut trio, 1), [(2, 0), (3, 0)]);
    trio.cut = [3].into();
    for token in 2..4 {
        trio.append(1, token, plain(&["c", "d"])).unwrap();
    }
    assert_eq!(lags(&mut trio, 1), [(2, 0), (3, 2)], "entries, not records");
    assert_eq!(lags(&mut trio, 2), [], "who follows says nothing of others");
    trio.cut.clear();
    trio.tick(8);
    assert_eq!(lags(&mut trio, 1), [(2, 0), (3, 0)]);
}

#[test]
fn a_damaged_batch_from_a_peer_is_refused_and_changes_nothing() {
    let mut trio = Trio::led(two_of_three());
    trio.of(1).submit(1, plain(&["a"]), -1, Origin::Client);
    let messages = trio.take_messages();
    let (_, _, message) = messages.into_iter().find(|(_, to, m)| *to == 2 && m.data().count() > 0).unwrap();
    let damaged = message.with_damaged_payload();
    let rig = trio.of(2);
    rig.part.step(rig.now, damaged, &mut rig.dir, &mut rig.fx);
    assert!(rig.fx.iter().any(|e| matches!(e, PartitionFx::Refused { node: 1, .. })));
    assert_eq!(rig.part.log_end(), 0);
    rig.fx.clear();
    rig.part.step(rig.now, message, &mut rig.dir, &mut rig.fx);
    assert_eq!(rig.part.log_end(), 1);
}

#[test]
fn every_replica_comes_back_after_a_power_cut_with_all_that_was_acknowledged() {
    let mut trio = Trio::led(two_of_three());
    for n in 0..20 {
        trio.append(1, n, plain(&[&format!("v{n}")])).unwrap();
    }
    for node in 1..=3 {
        trio.of(node).restart(true);
    }
    trio.elect(2);
    trio.tick(8);
    let expected: Vec<String> = (0..20).map(|n| format!("v{n}")).collect();
    for node in 1..=3 {
        assert_eq!(trio.values(node), expected, "node {node}");
    }
}

#[test]
fn a_replica_that_lacks_what_it_acknowledged_elects_nobody_before_it_holds_it() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.tick(8);
    let floor = trio.of(1).part.last_index() + 2;
    let rig = trio.of(2);
    rig.part.restrain(floor, &mut rig.dir);
    // Node 1 is gone: the two others are a majority, but one of them may not vote.
    trio.cut = [1].into();
    for node in [3, 2] {
        let rig = trio.of(node);
        rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
    }
    for _ in 0..5 {
        let rig = trio.of(3);
        rig.part.campaign(rig.now, &mut rig.dir, &mut rig.fx);
        trio.settle();
        let rig = trio.of(2);
        rig.part.campaign(rig.now, &mut rig.dir, &mut rig.fx);
        trio.settle();
        trio.tick(40);
    }
    assert!((2..=3).all(|node| !trio.of(node).part.is_leader()));
    // It follows all the same, and may vote when it has everything.
    trio.cut.clear();
    trio.tick(80);
    let leads = (1..=3).find(|node| trio.of(*node).part.leader_epoch().is_some()).unwrap();
    assert_ne!(leads, 2);
    for token in 10..14 {
        trio.append(leads, token, plain(&["b"])).unwrap();
    }
    trio.tick(8);
    assert!(!trio.of(2).part.is_restrained());
    trio.cut = [leads].into();
    for node in (1..=3).filter(|node| *node != leads) {
        let rig = trio.of(node);
        rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
    }
    trio.elect(2);
}

#[test]
fn a_follower_learns_from_the_word_of_its_leader_what_is_committed_and_only_where_it_has_that_very_entry() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, plain(&["a", "b"])).unwrap();
    let (index, term) = (trio.of(1).part.last_index(), trio.of(1).part.last_term());
    let known = |trio: &mut Trio, entry| {
        let rig = trio.of(2);
        rig.part.known_committed(rig.now, entry, &mut rig.dir, &mut rig.fx);
        rig.settle();
        (rig.part.committed_index(), rig.part.high_watermark())
    };
    let before = (index - 1, 0);
    assert_eq!(trio.of(2).part.last_index(), index, "it has the entry, and was not told yet");
    assert_eq!(known(&mut trio, (index, term + 1)), before, "its entry there is another");
    assert_eq!(known(&mut trio, (index + 1, term)), before, "it has none there");
    assert_eq!(known(&mut trio, (index, term)), (index, 2));
    assert_eq!(trio.values(2), ["a", "b"], "without a heartbeat");
}
