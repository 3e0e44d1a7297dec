//! Two replicas with data, on nodes 1 and 2, and a witness on node 3.
use crate::replicas_tests::Trio;
use crate::test_rig::{Rig, plain};
use crate::{FetchInput, Isolation, PartitionConfig};
use model::ErrorCode;
use std::collections::BTreeSet;
use storage::LogConfig;

fn trio(cfg: PartitionConfig) -> Trio {
    let rigs = (1..=3).map(|id| Rig::with_witness(id, cfg.clone())).collect();
    let mut trio = Trio { rigs, cut: BTreeSet::new() };
    trio.elect(1);
    trio.tick(4);
    trio
}

fn in_sync(trio: &mut Trio, node: i32) -> Vec<i32> {
    let rig = trio.of(node);
    rig.part.in_sync_replicas(rig.now)
}

fn lose(trio: &mut Trio, node: i32) {
    trio.cut.insert(node);
    for rig in &mut trio.rigs {
        rig.part.set_down(rig.now, |down| down.node_id == node);
    }
    trio.tick(2);
}

#[test]
fn what_is_acknowledged_is_on_both_disks_and_the_loss_of_either_stops_nothing() {
    for lost in [1, 2] {
        let mut trio = trio(PartitionConfig::default());
        assert_eq!(in_sync(&mut trio, 1), [1, 2]);
        trio.append(1, 1, plain(&["a", "b"])).unwrap();
        trio.of(2).hold_syncs = true;
        trio.submit(1, 2, plain(&["c"]));
        assert!(trio.of(1).answer(2).is_none(), "its second copy is not durable");
        assert_eq!(trio.of(3).part.log_end(), 2, "the witness hears of it last");
        trio.of(2).release_syncs();
        trio.settle();
        assert!(trio.of(1).answer(2).unwrap().is_ok());
        assert_eq!(trio.of(3).part.log_end(), 3);
        lose(&mut trio, lost);
        let leads = 3 - lost;
        if lost == 1 {
            for node in [2, 3] {
                let rig = trio.of(node);
                rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
            }
            trio.elect(2);
        }
        trio.append(leads, 3, plain(&["d"])).unwrap();
        trio.tick(4);
        assert_eq!(in_sync(&mut trio, leads), [leads]);
        assert_eq!(trio.values(leads), ["a", "b", "c", "d"]);
        // It comes back, is brought to the end, and counts again.
        trio.cut.clear();
        trio.rigs.iter_mut().for_each(|rig| rig.part.set_down(rig.now, |_| false));
        trio.tick(8);
        assert_eq!(in_sync(&mut trio, leads), [1, 2]);
        assert_eq!(trio.values(lost), ["a", "b", "c", "d"]);
    }
}

#[test]
fn a_silent_replica_holds_up_commits_until_it_counts_as_in_sync_no_more() {
    let cfg = PartitionConfig { replica_lag_ms: 2_000, ..PartitionConfig::default() };
    let mut trio = trio(cfg);
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.cut = [2].into();
    trio.submit(1, 2, plain(&["b"]));
    trio.tick(20);
    assert!(trio.of(1).answer(2).is_none());
    assert!(trio.of(1).part.held_back() > 0);
    trio.tick(25);
    assert!(trio.of(1).answer(2).unwrap().is_ok());
    assert_eq!((in_sync(&mut trio, 1), trio.of(1).part.held_back()), (vec![1], 0));
    trio.append(1, 3, plain(&["c"])).unwrap();
}

#[test]
fn after_a_long_sleep_the_second_copy_is_waited_for_as_before() {
    let mut trio = trio(PartitionConfig::default());
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.rigs.iter_mut().for_each(|rig| rig.now.mono = rig.now.mono.after_ms(3_600_000));
    trio.of(2).hold_syncs = true;
    trio.submit(1, 2, plain(&["b"]));
    assert!(trio.of(1).answer(2).is_none(), "its second copy is not durable");
    assert_eq!((in_sync(&mut trio, 1), trio.of(3).part.log_end()), (vec![1, 2], 1));
    trio.of(2).release_syncs();
    trio.settle();
    assert!(trio.of(1).answer(2).unwrap().is_ok());
}

/// Node 2 leads by the witness's vote, and waits for node 1 before its epoch is confirmed.
fn led_by_the_second() -> Trio {
    let mut trio = trio(PartitionConfig::default());
    trio.append(1, 1, plain(&["a"])).unwrap();
    trio.cut = [1].into();
    for node in [2, 3] {
        let rig = trio.of(node);
        rig.part.lose_leader(rig.now, &mut rig.dir, &mut rig.fx);
    }
    let rig = trio.of(2);
    rig.part.campaign(rig.now, &mut rig.dir, &mut rig.fx);
    trio.settle();
    assert!(trio.of(2).part.is_leader() && trio.of(2).part.leader_epoch().is_none());
    trio
}

#[test]
fn a_new_leader_waits_for_the_other_replica_before_it_has_heard_of_it() {
    let mut trio = led_by_the_second();
    trio.cut.clear();
    trio.tick(8);
    assert!(trio.of(2).part.leader_epoch().is_some());
    assert_eq!(in_sync(&mut trio, 2), [1, 2]);
}

/// Its node was unregistered, and lives again with another replica.
#[test]
fn a_new_leader_does_not_wait_for_a_replica_whose_files_are_lost() {
    let mut trio = led_by_the_second();
    let rig = trio.of(2);
    rig.part.set_down(rig.now, |m| m.id == 1);
    trio.tick(2);
    assert!(trio.of(2).part.leader_epoch().is_some());
    trio.append(2, 2, plain(&["b"])).unwrap();
}

#[test]
fn a_witness_serves_nothing_counts_for_nothing_and_keeps_little() {
    let log = LogConfig { checkpoint_bytes: 600, segment_bytes: 500, ..LogConfig::default() };
    let mut trio = trio(PartitionConfig { min_insync_replicas: 2, log, ..PartitionConfig::default() });
    let value = "v".repeat(1000);
    for token in 0..60 {
        trio.append(1, token, plain(&[&value])).unwrap();
        trio.tick(1);
        trio.of(3).tick();
    }
    trio.tick(4);
    let (data, witness) = (trio.of(1).part.log().size_bytes(), trio.of(3).part.log().size_bytes());
    assert!(data > 60_000 && witness < 2_000, "{data} {witness}");
    assert_eq!(trio.of(3).part.log_end(), 60);
    let input = FetchInput {
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        offset: 0,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadUncommitted,
        at_follower: true,
    };
    assert_eq!(trio.of(3).part.fetch(&input).unwrap_err().code, ErrorCode::NotLeaderOrFollower);
    assert!(trio.of(2).part.fetch(&input).is_ok());
    let rig = trio.of(1);
    assert!(!rig.part.transfer_leader(rig.now, 3, &mut rig.dir, &mut rig.fx));
    // It is found again after a loss of power, and votes by what it has.
    trio.of(3).restart(true);
    assert_eq!(trio.of(3).part.log_end(), 60);
    trio.tick(4);
    lose(&mut trio, 2);
    trio.tick(10);
    let refused = trio.append(1, 99, plain(&["x"])).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotEnoughReplicas, "a witness is no copy");
}

#[test]
fn write_caching_has_no_effect_with_a_witness() {
    let mut trio = trio(PartitionConfig { write_caching: true, ..PartitionConfig::default() });
    trio.append(1, 1, plain(&["a"])).unwrap();
    for node in 1..=3 {
        trio.of(node).restart(true);
    }
    trio.elect(1);
    trio.tick(4);
    assert_eq!(trio.values(1), ["a"]);
    assert!(trio.rigs.iter().all(|rig| !rig.part.is_restrained()));
}
