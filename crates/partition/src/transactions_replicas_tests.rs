//! Transactions over replicas: changes of the lead, followers that serve, damage, witnesses.
use crate::append::Prepared;
use crate::replicas_tests::Trio;
use crate::test_rig::{Rig, built, plain};
use crate::txn_rig::{ends, values, with_transactions, within};
use crate::{Origin, PartitionConfig, PartitionFx};
use bytes::BytesMut;
use model::ErrorCode;
use records::BatchBuilder;

fn append_within(trio: &mut Trio, node: i32, token: u64, batch: BytesMut) -> i64 {
    trio.of(node).submit_within(token, batch, 2);
    trio.settle();
    trio.of(node).answer(token).expect("answered").unwrap().base_offset
}

fn end(trio: &mut Trio, node: i32, token: u64, commit: bool) -> i64 {
    trio.of(node).submit_marker(token, ends(7, 1, commit));
    trio.settle();
    trio.of(node).answer(token).expect("answered").unwrap().base_offset
}

#[test]
fn a_new_leader_finds_what_is_open_in_its_log_and_asks_nobody() {
    let mut trio = Trio::led(with_transactions());
    append_within(&mut trio, 1, 1, within(7, 0, 0, &["a"]));
    trio.elect_from(2, 1);
    let batch = within(7, 0, 1, &["b"]);
    assert_eq!(trio.of(2).ask(&batch, 2), Ok(None));
    assert_eq!(append_within(&mut trio, 2, 2, batch), 1);
    assert_eq!(end(&mut trio, 2, 3, true), 2);
    trio.tick(8);
    for node in 1..=3 {
        let rig = trio.of(node);
        assert_eq!(rig.part.last_stable_offset(), 3, "node {node}");
        assert_eq!(values(&rig.read_committed(node != 2)), ["a", "b"], "node {node}");
    }
}

#[test]
fn what_was_asked_under_a_former_reign_counts_no_more() {
    let mut trio = Trio::led(with_transactions());
    let batch = within(7, 0, 0, &["a"]);
    let ticket = trio.of(1).ask(&batch, 2).unwrap().unwrap();
    trio.elect_from(2, 1);
    assert!(!trio.of(1).submit_verified(1, batch.clone(), ticket, Origin::Client));
    assert_eq!(trio.of(1).ask(&batch, 2).unwrap_err().code, ErrorCode::NotLeaderOrFollower);
    trio.elect_from(1, 2);
    assert!(!trio.of(1).submit_verified(2, batch.clone(), ticket, Origin::Client));
    assert_eq!(append_within(&mut trio, 1, 3, batch), 0);
}

#[test]
fn a_begin_mark_and_a_marker_that_nobody_else_has_are_gone_with_the_lead() {
    let mut trio = Trio::led(with_transactions());
    append_within(&mut trio, 1, 1, within(7, 0, 0, &["a"]));
    trio.cut = [1].into();
    trio.of(1).submit_within(2, within(8, 0, 0, &["lost"]), 2);
    trio.of(1).submit_marker(3, ends(7, 1, true));
    trio.settle();
    assert_eq!(trio.of(1).part.last_stable_offset(), 0);
    trio.tick(60);
    let new = if trio.of(2).part.is_leader() { 2 } else { 3 };
    trio.submit(new, 4, plain(&["b"]));
    trio.cut.clear();
    trio.tick(10);
    let open: Vec<i64> = trio.of(1).part.open_transactions().map(|open| open.producer_id).collect();
    assert_eq!((open, trio.of(1).part.high_watermark()), (vec![7], 2));
    trio.elect_from(1, new);
    assert_eq!(append_within(&mut trio, 1, 5, within(7, 0, 1, &["c"])), 2, "it is open still");
    assert!(trio.of(1).ask(&within(8, 0, 0, &["d"]), 2).unwrap().is_some(), "and this is not");
    assert_eq!(end(&mut trio, 1, 6, false), 3, "not taken for a repeat");
    trio.tick(4);
    assert_eq!(values(&trio.of(new).read_committed(true)), ["b"]);
}

#[test]
fn a_deposed_leader_that_does_not_know_it_refuses_no_marker_for_good() {
    let mut trio = Trio::led(with_transactions());
    append_within(&mut trio, 1, 1, within(7, 1, 0, &["a"]));
    trio.cut = [1].into();
    trio.of(1).submit_marker(2, ends(7, 1, true));
    trio.settle();
    assert_eq!(trio.of(1).answer(2), None);
    trio.tick(80);
    let told = trio.of(1).answer(2).unwrap().unwrap_err();
    assert_eq!(told.code, ErrorCode::NotLeaderOrFollower, "another node may know better");
}

/// A control batch whose checksum is right and whose record is none of a marker.
fn broken() -> BytesMut {
    built(BatchBuilder::new().producer(7, 1, -1).transactional().control(), &["no marker"])
}

/// Proposes it as no leader would.
fn propose_broken(rig: &mut Rig) {
    let prepared = Prepared::of_marker(broken(), ends(7, 1, true), -1).unwrap();
    let level = crate::acks::Level::None;
    rig.part.commit_to_order(rig.now, 1, level, Origin::Coordinator, prepared, &mut rig.fx).unwrap();
    rig.part.touch(rig.now, &mut rig.dir, &mut rig.fx);
}

#[test]
fn a_control_record_that_cannot_be_read_is_refused_by_followers() {
    let mut trio = Trio::led(with_transactions());
    propose_broken(trio.of(1));
    let rig = trio.of(1);
    rig.settle();
    let sent = std::mem::take(&mut rig.fx).into_iter().find_map(|effect| match effect {
        PartitionFx::Send { node: 2, message } if message.data().count() > 0 => Some(message),
        _ => None,
    });
    let rig = trio.of(2);
    rig.part.step(rig.now, sent.unwrap(), &mut rig.dir, &mut rig.fx);
    let refused = |e: &PartitionFx| matches!(e, PartitionFx::Refused { why, .. } if why.contains("control"));
    assert!(rig.fx.iter().any(refused), "{:?}", rig.fx);
    assert_eq!(rig.part.log_end(), 0);
}

#[test]
fn a_replica_whose_log_holds_such_a_record_stops_and_does_not_skip_it() {
    for committed in [true, false] {
        let mut rig = Rig::serving(with_transactions());
        rig.hold_syncs = !committed;
        propose_broken(&mut rig);
        rig.settle();
        if committed {
            // The next round says that it is.
            rig.append(2, plain(&["a"])).unwrap();
            rig.now.mono = rig.now.mono.after_ms(1_000);
            rig.settle();
        }
        rig.restart(false);
        rig.touch();
        let failed = rig.fx.iter().any(|effect| matches!(effect, PartitionFx::Failed(_)));
        assert!(rig.opened.failed.is_some() || failed, "committed: {committed}");
        let refused = rig.append(3, plain(&["b"])).unwrap_err();
        assert_eq!(refused.code, ErrorCode::KafkaStorageError);
    }
}

#[test]
fn a_witness_keeps_nothing_of_transactions_and_holds_nothing_back() {
    let cfg = PartitionConfig { min_insync_replicas: 1, ..with_transactions() };
    let rigs = (1..=3).map(|id| Rig::with_witness(id, cfg.clone())).collect();
    let mut trio = Trio { rigs, cut: [].into() };
    trio.elect(1);
    append_within(&mut trio, 1, 1, within(7, 0, 0, &["a"]));
    append_within(&mut trio, 1, 2, within(8, 0, 0, &["b"]));
    end(&mut trio, 1, 3, true);
    trio.tick(8);
    for restarted in [false, true] {
        let witness = &trio.of(3).part;
        assert_eq!(witness.transactions().open, 0, "restarted: {restarted}");
        assert_eq!(witness.last_stable_offset(), witness.high_watermark());
        assert_eq!(witness.describe_producers(), []);
        trio.of(3).restart(true);
        trio.tick(8);
    }
    assert_eq!(trio.of(2).part.transactions().open, 1);
}
