//! Strong reads and refusals for good, among three replicas.
use crate::replicas_tests::{Trio, two_of_three};
use crate::test_rig::{Rig, numbered, plain};
use crate::{PartitionConfig, PartitionFx};
use model::ErrorCode;

impl Trio {
    fn ask(&mut self, node: i32, token: u64) {
        let rig = self.of(node);
        rig.part.confirm(token, &mut rig.fx);
    }

    fn begin_round(&mut self, node: i32) -> bool {
        let rig = self.of(node);
        rig.part.begin_round(rig.now, &mut rig.dir, &mut rig.fx)
    }
}

fn told(rig: &mut Rig) -> Vec<(u64, Result<(), ErrorCode>)> {
    let confirmed = |e: &mut PartitionFx| matches!(e, PartitionFx::Confirmed { .. });
    let told = rig.fx.extract_if(.., confirmed).map(|e| match e {
        PartitionFx::Confirmed { token, result } => (token, result),
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn a_replica_that_is_alone_confirms_at_once() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.part.confirm(5, &mut rig.fx);
    assert_eq!(told(&mut rig), [(5, Ok(()))]);
    assert_eq!(rig.part.rounds(), 0);
}

#[test]
fn all_that_is_asked_in_one_turn_shares_a_round_and_what_comes_meanwhile_the_next() {
    let mut trio = Trio::led(two_of_three());
    for token in 1..=5 {
        trio.ask(1, token);
    }
    assert!(told(trio.of(1)).is_empty());
    assert!(!trio.begin_round(1));
    trio.ask(1, 6);
    assert!(trio.begin_round(1), "one at a time");
    trio.settle();
    assert_eq!(told(trio.of(1)), [1, 2, 3, 4, 5].map(|token| (token, Ok(()))));
    assert!(!trio.begin_round(1));
    trio.settle();
    assert_eq!(told(trio.of(1)), [(6, Ok(()))]);
    assert_eq!(trio.of(1).part.rounds(), 2);
    trio.ask(2, 7);
    assert_eq!(told(trio.of(2)), [(7, Err(ErrorCode::NotLeaderOrFollower))]);
}

#[test]
fn a_leader_that_is_cut_off_confirms_nothing_and_says_so_when_it_knows() {
    let mut trio = Trio::led(two_of_three());
    trio.cut = [1].into();
    trio.ask(1, 1);
    trio.begin_round(1);
    trio.ask(1, 2);
    trio.settle();
    assert!(told(trio.of(1)).is_empty());
    trio.tick(60);
    let refused = Err(ErrorCode::NotLeaderOrFollower);
    assert_eq!(told(trio.of(1)), [(1, refused), (2, refused)]);
    assert!(!trio.begin_round(1));
}

#[test]
fn a_round_whose_messages_were_lost_is_asked_again_by_the_next_heartbeat() {
    let mut trio = Trio::led(two_of_three());
    trio.cut = [1].into();
    trio.ask(1, 1);
    trio.begin_round(1);
    trio.settle();
    trio.cut.clear();
    assert!(told(trio.of(1)).is_empty());
    trio.tick(4);
    assert_eq!(told(trio.of(1)), [(1, Ok(()))]);
}

#[test]
fn a_strong_read_sees_what_followers_may_have_shown_already() {
    let mut trio = Trio::led(two_of_three());
    trio.of(1).hold_syncs = true;
    trio.submit(1, 1, plain(&["a"]));
    trio.ask(1, 2);
    trio.begin_round(1);
    trio.settle();
    assert!(told(trio.of(1)).is_empty(), "committed by the others, and not applied here");
    trio.of(1).release_syncs();
    trio.settle();
    assert_eq!(told(trio.of(1)), [(2, Ok(()))]);
    assert_eq!(trio.of(1).part.high_watermark(), 1);
}

#[test]
fn a_deposed_leader_that_does_not_know_it_refuses_no_batch_for_good() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, numbered(5, 0, 0, &["a"])).unwrap();
    trio.cut = [1].into();
    trio.tick(15);
    // 2 and 3 have taken sequence 1; the producer comes back with sequence 2 to the old leader.
    trio.submit(1, 2, numbered(5, 0, 2, &["c"]));
    trio.begin_round(1);
    trio.settle();
    assert!(trio.of(1).answer(2).is_none(), "it knows nothing for certain");
    trio.tick(60);
    let refused = trio.of(1).answer(2).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotLeaderOrFollower);
}

#[test]
fn a_leader_of_the_present_refuses_for_good_after_a_round() {
    let mut trio = Trio::led(two_of_three());
    trio.append(1, 1, numbered(5, 1, 0, &["a"])).unwrap();
    trio.submit(1, 2, numbered(5, 1, 7, &["gap"]));
    trio.submit(1, 3, numbered(5, 0, 1, &["old epoch"]));
    assert!(trio.of(1).answer(2).is_none());
    trio.begin_round(1);
    trio.settle();
    assert_eq!(trio.of(1).answer(2).unwrap().unwrap_err().code, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(trio.of(1).answer(3).unwrap().unwrap_err().code, ErrorCode::InvalidProducerEpoch);
}
