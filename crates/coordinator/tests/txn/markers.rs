//! Markers: sent, lost, late, repeated, refused.
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;

fn two_partitions() -> Bench {
    let mut b = Bench::new();
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    assert_eq!(b.add(who, 1), ErrorCode::None);
    b
}

fn ended() -> (Bench, Markers) {
    let mut b = two_partitions();
    assert_eq!(b.end2((1000, 0), true).0, ErrorCode::None);
    assert_eq!(b.sent.len(), 1);
    let markers = b.sent.remove(0);
    (b, markers)
}

#[test]
fn complete_waits_for_every_partition() {
    let (mut b, m) = ended();
    assert_eq!(m.partitions, [tp("t", 0), tp("t", 1)]);
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    b.marker(&m, &tp("t", 9), MarkerOutcome::Done);
    assert_eq!(b.state(), TxnState::PrepareCommit);
    b.marker(&m, &tp("t", 1), MarkerOutcome::Done);
    assert_eq!(b.state(), TxnState::CompleteCommit);
    assert!(b.events.iter().any(|e| matches!(e, TxnEvent::Ended { commit: true, .. })));
}

#[test]
fn a_partition_that_cannot_now_is_asked_again_later_and_later() {
    let (mut b, m) = ended();
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    let mut gaps = Vec::new();
    for _ in 0..10 {
        b.marker(&m, &tp("t", 1), MarkerOutcome::AskAgain);
        let from = b.now_ms;
        while b.sent.is_empty() {
            b.wait(1);
        }
        gaps.push(b.now_ms - from);
        assert_eq!(b.sent.remove(0).partitions, [tp("t", 1)]);
    }
    assert_eq!(gaps, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    assert_eq!(b.state(), TxnState::PrepareCommit);
    b.marker(&m, &tp("t", 1), MarkerOutcome::Done);
    assert_eq!(b.state(), TxnState::CompleteCommit);
}

#[test]
fn a_marker_without_any_answer_is_asked_for_again() {
    let (mut b, m) = ended();
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    b.wait(29_999);
    assert!(b.sent.is_empty());
    b.wait(1);
    assert_eq!(b.sent.remove(0).partitions, [tp("t", 1)]);
    b.wait(30_000);
    assert_eq!(b.sent.len(), 1);
}

#[test]
fn a_deleted_partition_is_left_out() {
    for why in [MarkerOutcome::Gone, MarkerOutcome::Superseded] {
        let (mut b, m) = ended();
        b.marker(&m, &tp("t", 0), why);
        b.marker(&m, &tp("t", 1), MarkerOutcome::Done);
        assert_eq!(b.state(), TxnState::CompleteCommit);
        assert!(b.events.iter().any(|e| matches!(e, TxnEvent::PartitionLeftOut { why: w, .. } if *w == why)));
    }
}

#[test]
fn a_fenced_coordinator_never_completes_by_that() {
    let (mut b, m) = ended();
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    b.marker(&m, &tp("t", 1), MarkerOutcome::CoordinatorFenced);
    assert_eq!(b.state(), TxnState::PrepareCommit);
    assert!(b.events.iter().any(|e| matches!(e, TxnEvent::CoordinatorFenced { .. })));
    b.wait(4_999);
    assert!(b.sent.is_empty());
    b.wait(1);
    assert_eq!(b.sent.len(), 1);
}

#[test]
fn answers_to_older_markers_do_not_count_even_at_the_same_epoch() {
    let mut b = two_partitions();
    assert_eq!(b.end1((1000, 0), true).0, ErrorCode::None);
    let first = b.sent.remove(0);
    first.partitions.iter().for_each(|p| b.marker(&first, p, MarkerOutcome::Done));
    assert_eq!(b.state(), TxnState::CompleteCommit);
    // The same producer, epoch and partition once more.
    assert_eq!(b.add((1000, 0), 0), ErrorCode::None);
    assert_eq!(b.end1((1000, 0), false).0, ErrorCode::None);
    let second = b.sent.remove(0);
    assert_eq!((first.producer_epoch, second.producer_epoch), (0, 0));
    b.marker(&first, &tp("t", 0), MarkerOutcome::Done);
    assert_eq!(b.state(), TxnState::PrepareAbort);
    b.marker(&second, &tp("t", 0), MarkerOutcome::Done);
    assert_eq!(b.state(), TxnState::CompleteAbort);
}

#[test]
fn a_new_coordinator_sends_them_again_and_hears_no_answers_to_the_old_ones() {
    let (mut b, m) = ended();
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    b.fail_over();
    let again = b.sent.remove(0);
    assert_eq!((again.coordinator_epoch, again.commit), (8, true));
    assert_eq!(again.partitions, [tp("t", 0), tp("t", 1)]);
    b.marker(&m, &tp("t", 0), MarkerOutcome::Done);
    b.marker(&m, &tp("t", 1), MarkerOutcome::Done);
    assert_eq!(b.state(), TxnState::PrepareCommit);
    again.partitions.iter().for_each(|p| b.marker(&again, p, MarkerOutcome::Done));
    assert_eq!(b.state(), TxnState::CompleteCommit);
}

#[test]
fn complete_is_tried_again_where_it_could_not_be_stored() {
    let (mut b, m) = ended();
    b.auto = false;
    m.partitions.iter().for_each(|p| b.marker(&m, p, MarkerOutcome::Done));
    for _ in 0..3 {
        assert_eq!(b.open.len(), 1);
        b.fail_one(ErrorCode::MessageTooLarge);
        assert_eq!((b.state(), b.open.len()), (TxnState::PrepareCommit, 0));
        b.wait(200);
    }
    b.commit_one();
    assert_eq!(b.state(), TxnState::CompleteCommit);
}

#[test]
fn codes_of_partitions_mean_what_they_say() {
    assert_eq!(marker_outcome(ErrorCode::None), MarkerOutcome::Done);
    assert_eq!(marker_outcome(ErrorCode::TransactionCoordinatorFenced), MarkerOutcome::CoordinatorFenced);
    assert_eq!(marker_outcome(ErrorCode::InvalidProducerEpoch), MarkerOutcome::Superseded);
    for code in [
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::RequestTimedOut,
        ErrorCode::KafkaStorageError,
        ErrorCode::UnknownServerError,
        ErrorCode::CorruptMessage,
    ] {
        assert_eq!(marker_outcome(code), MarkerOutcome::AskAgain, "{code:?}");
    }
}
