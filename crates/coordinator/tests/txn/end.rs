//! EndTxn, before TV2 and with it.
use crate::bench::*;
use ErrorCode::{ConcurrentTransactions, InvalidProducerIdMapping, InvalidTxnState, ProducerFenced};
use coordinator::txn::*;
use model::ErrorCode;

fn at(state: TxnState) -> Bench {
    Bench::holding(TxnConfig::default(), &stored(state, 4))
}

const NO: (i64, i16) = (-1, -1);

fn refused(error: ErrorCode) -> (ErrorCode, i64, i16) {
    (error, NO.0, NO.1)
}

#[test]
fn before_tv2_an_open_transaction_ends_at_its_epoch() {
    for (commit, prepare, complete) in [
        (true, TxnState::PrepareCommit, TxnState::CompleteCommit),
        (false, TxnState::PrepareAbort, TxnState::CompleteAbort),
    ] {
        let mut b = at(TxnState::Ongoing);
        assert_eq!(b.end1((1, 4), commit), refused(ErrorCode::None));
        assert_eq!((b.state(), b.value().producer_epoch), (prepare, 4));
        let sent = &b.sent[0];
        assert_eq!((sent.producer_id, sent.producer_epoch, sent.commit), (1, 4, commit));
        assert_eq!((sent.version, sent.coordinator_epoch), (TxnVersion::V0, 7));
        b.finish_markers();
        assert_eq!((b.state(), b.value().producer_epoch), (complete, 4));
        assert!(b.value().partitions.is_empty());
    }
}

#[test]
fn before_tv2_the_state_tells_a_retry() {
    for (state, commit, error) in [
        (TxnState::Empty, true, InvalidTxnState),
        (TxnState::Empty, false, InvalidTxnState),
        // Kafka counts Complete as pending while markers are on their way, whatever is asked.
        (TxnState::PrepareCommit, true, ConcurrentTransactions),
        (TxnState::PrepareCommit, false, ConcurrentTransactions),
        (TxnState::PrepareAbort, true, ConcurrentTransactions),
        (TxnState::PrepareAbort, false, ConcurrentTransactions),
        (TxnState::CompleteCommit, true, ErrorCode::None),
        (TxnState::CompleteCommit, false, InvalidTxnState),
        (TxnState::CompleteAbort, true, InvalidTxnState),
        (TxnState::CompleteAbort, false, ErrorCode::None),
    ] {
        let mut b = at(state);
        assert_eq!(b.end1((1, 4), commit), refused(error), "{state:?} {commit}");
        assert_eq!((b.state(), b.log.len()), (state, 1));
        assert_eq!(b.end1((1, 3), commit), refused(ProducerFenced), "{state:?}");
        assert_eq!(b.end1((1, 5), commit), refused(ProducerFenced), "{state:?}");
        assert_eq!(b.end1((2, 4), commit), refused(InvalidProducerIdMapping), "{state:?}");
    }
}

#[test]
fn with_tv2_an_open_transaction_ends_above_its_epoch() {
    for (commit, prepare, complete) in [
        (true, TxnState::PrepareCommit, TxnState::CompleteCommit),
        (false, TxnState::PrepareAbort, TxnState::CompleteAbort),
    ] {
        let mut b = at(TxnState::Ongoing);
        assert_eq!(b.end2((1, 4), commit), (ErrorCode::None, 1, 5));
        assert_eq!((b.state(), b.value().producer_epoch), (prepare, 5));
        let sent = &b.sent[0];
        assert_eq!((sent.producer_epoch, sent.commit, sent.version), (5, commit, TxnVersion::V2));
        b.finish_markers();
        assert_eq!((b.state(), b.value().producer_epoch), (complete, 5));
        // Its retry has the same answer, now and after a change of the leader.
        assert_eq!(b.end2((1, 4), commit), (ErrorCode::None, 1, 5));
        b.fail_over();
        assert_eq!(b.end2((1, 4), commit), (ErrorCode::None, 1, 5));
        assert_eq!(b.end2((1, 4), !commit), refused(InvalidTxnState));
        assert_eq!(b.state(), complete);
    }
}

#[test]
fn with_tv2_the_epoch_tells_a_retry_from_another_end() {
    let raised = (ErrorCode::None, 1, 5);
    for (state, epoch, commit, answer) in [
        (TxnState::Empty, 3, true, refused(ProducerFenced)),
        (TxnState::Empty, 3, false, refused(ProducerFenced)),
        (TxnState::Empty, 4, true, refused(InvalidTxnState)),
        (TxnState::Empty, 4, false, raised),
        (TxnState::Ongoing, 3, true, refused(ProducerFenced)),
        (TxnState::Ongoing, 3, false, refused(ProducerFenced)),
        (TxnState::Ongoing, 5, true, refused(ProducerFenced)),
        (TxnState::PrepareCommit, 3, true, refused(ConcurrentTransactions)),
        (TxnState::PrepareCommit, 3, false, refused(ConcurrentTransactions)),
        (TxnState::PrepareAbort, 4, false, refused(ConcurrentTransactions)),
        (TxnState::CompleteCommit, 3, true, (ErrorCode::None, 1, 4)),
        (TxnState::CompleteCommit, 3, false, refused(InvalidTxnState)),
        (TxnState::CompleteCommit, 4, true, refused(InvalidTxnState)),
        (TxnState::CompleteCommit, 4, false, raised),
        (TxnState::CompleteCommit, 2, true, refused(ProducerFenced)),
        (TxnState::CompleteCommit, 5, true, refused(ProducerFenced)),
        (TxnState::CompleteAbort, 3, false, (ErrorCode::None, 1, 4)),
        (TxnState::CompleteAbort, 3, true, refused(InvalidTxnState)),
        (TxnState::CompleteAbort, 4, true, refused(InvalidTxnState)),
        (TxnState::CompleteAbort, 4, false, raised),
        (TxnState::CompleteAbort, 2, false, refused(ProducerFenced)),
    ] {
        let mut b = at(state);
        assert_eq!(b.end2((1, epoch), commit), answer, "{state:?} {epoch} {commit}");
        if answer == raised {
            // An abort without partitions: Prepare and Complete in two steps, and no marker.
            assert_eq!((b.state(), b.log.len(), b.sent.len()), (TxnState::CompleteAbort, 3, 0));
            assert_eq!(b.value().start, START);
        } else {
            assert_eq!((b.state(), b.log.len()), (state, 1), "{state:?} {epoch} {commit}");
        }
    }
}

#[test]
fn who_was_fenced_before_an_end_without_tv2_did_not_ask_for_it() {
    let mut b = at(TxnState::Ongoing);
    assert_eq!(b.end1((1, 4), false), refused(ErrorCode::None));
    b.finish_markers();
    assert_eq!((b.state(), b.value().producer_epoch), (TxnState::CompleteAbort, 4));
    assert_eq!(b.end2((1, 3), false), refused(ProducerFenced), "the epoch below is another producer");
}

#[test]
fn with_tv2_another_producer_has_no_place() {
    for state in [TxnState::Empty, TxnState::Ongoing, TxnState::CompleteCommit] {
        assert_eq!(at(state).end2((2, 4), true), refused(InvalidProducerIdMapping));
    }
    assert_eq!(Bench::new().end2((1, 0), true), refused(InvalidProducerIdMapping));
    assert_eq!(Bench::new().end1((1, 0), true), refused(InvalidProducerIdMapping));
}

/// KAFKA-17754: the client commits, hears nothing, commits again and goes on; the first request was only slow.
#[test]
fn a_late_end_of_an_older_transaction_finds_no_place_with_tv2() {
    let mut b = Bench::new();
    b.auto_markers = true;
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    let (_, id, epoch) = b.end2(who, true);
    // The next transaction is open when the first commit comes again.
    assert_eq!(b.add((id, epoch), 1), ErrorCode::None);
    assert_eq!(b.end2(who, true), refused(ProducerFenced));
    assert_eq!(b.end2(who, false), refused(ProducerFenced));
    assert_eq!(b.state(), TxnState::Ongoing);
    // And when the next one is aborted, the late commit does not count as its retry.
    assert_eq!(b.end2((id, epoch), false).0, ErrorCode::None);
    assert_eq!(b.end2(who, true), refused(ProducerFenced));
}

/// The same before TV2: one epoch is for all, but the client asked again by another connection.
#[test]
fn a_late_end_by_a_connection_that_was_given_up_is_refused_before_tv2() {
    let mut b = Bench::new();
    b.auto_markers = true;
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    b.connection = 2;
    assert_eq!(b.end1(who, true).0, ErrorCode::None);
    assert_eq!(b.add(who, 1), ErrorCode::None);
    b.connection = 1;
    for commit in [true, false] {
        assert_eq!(b.end1(who, commit), refused(ErrorCode::NotCoordinator));
        assert!(matches!(b.events.last(), Some(TxnEvent::LateEnd { commit: c, .. }) if *c == commit));
    }
    assert_eq!(b.state(), TxnState::Ongoing);
    b.connection = 3;
    assert_eq!(b.end1(who, false).0, ErrorCode::None);
    assert_eq!(b.state(), TxnState::CompleteAbort);
    // Another start of the producer has nothing to do with it.
    let next = b.init();
    assert_eq!(b.add(next, 0), ErrorCode::None);
    b.connection = 1;
    assert_eq!(b.end1(who, true), refused(ProducerFenced));
    assert_eq!(b.state(), TxnState::Ongoing);
    // Nor has the connection by which it comes: it may be older than that of the one before.
    assert_eq!(b.end1(next, true).0, ErrorCode::None);
    assert_eq!(b.state(), TxnState::CompleteCommit);
}

/// By the same connection nothing tells them apart, but there no request overtakes another. Kafka has no more to go by.
#[test]
fn before_tv2_an_end_by_the_same_connection_ends_what_is_open() {
    let mut b = Bench::new();
    b.auto_markers = true;
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    assert_eq!(b.end1(who, true).0, ErrorCode::None);
    assert_eq!(b.end1(who, false), refused(InvalidTxnState), "what is complete is not ended otherwise");
    assert_eq!(b.add(who, 1), ErrorCode::None);
    assert_eq!(b.end1(who, true).0, ErrorCode::None);
    assert_eq!(b.state(), TxnState::CompleteCommit);
}

#[test]
fn an_end_is_answered_when_prepare_is_committed_and_not_before() {
    let mut b = at(TxnState::Ongoing);
    b.auto = false;
    let token = b.ask_end((1, 4), true, TxnVersion::V2);
    assert!(b.replies.is_empty() && b.sent.is_empty());
    assert_eq!(b.end2((1, 4), true), refused(ConcurrentTransactions));
    b.commit_one();
    assert_eq!(producer(&b.reply(token)), (ErrorCode::None, 1, 5));
    assert_eq!(b.sent.len(), 1);
}

#[test]
fn an_end_that_could_not_be_stored_is_not_decided() {
    let mut b = at(TxnState::Ongoing);
    b.auto = false;
    let token = b.ask_end((1, 4), true, TxnVersion::V2);
    b.fail_one(ErrorCode::KafkaStorageError);
    assert_eq!(producer(&b.reply(token)), refused(ErrorCode::NotCoordinator));
    assert_eq!((b.state(), b.sent.len()), (TxnState::Ongoing, 0));
    b.auto = true;
    assert_eq!(b.end2((1, 4), false), (ErrorCode::None, 1, 5));
}
