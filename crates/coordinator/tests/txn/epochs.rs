//! The last epochs of a producer id: 32,765, 32,766 (the last of a client) and 32,767 (the coordinator's own).
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;

fn open_at(epoch: i16) -> Bench {
    Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, epoch))
}

fn old_server(epoch: i16) -> Bench {
    let config = TxnConfig { version: TxnVersion::V1, ..TxnConfig::default() };
    Bench::holding(config, &stored(TxnState::Ongoing, epoch))
}

#[test]
fn an_end_at_32765_gives_the_last_epoch() {
    let mut b = open_at(32_765);
    b.auto_markers = true;
    assert_eq!(b.end2((1, 32_765), true), (ErrorCode::None, 1, 32_766));
    assert_eq!(b.add((1, 32_766), 0), ErrorCode::None);
}

/// KAFKA-18660: the answer names the next producer id, the markers the old one.
#[test]
fn an_end_at_32766_gives_a_new_producer_id_and_markers_the_old_one() {
    for commit in [true, false] {
        let mut b = open_at(32_766);
        assert_eq!(b.end2((1, 32_766), commit), (ErrorCode::None, 1000, 0));
        assert_eq!((b.sent[0].producer_id, b.sent[0].producer_epoch), (1, 32_767));
        assert_eq!((b.value().producer_id, b.value().next_producer_id), (1, 1000));
        // The client goes on under the new id while markers are on their way: it is not fenced by itself.
        assert_eq!(b.add((1000, 0), 0), ErrorCode::ConcurrentTransactions);
        assert_eq!(b.end2((1000, 0), commit).0, ErrorCode::ConcurrentTransactions);
        b.finish_markers();
        let value = b.value();
        assert_eq!((value.producer_id, value.producer_epoch, value.next_producer_id), (1000, 0, -1));
        assert_eq!(value.previous_producer_id, 1);
        // The retry of the end, under the old id, has the same answer; another result has none.
        assert_eq!(b.end2((1, 32_766), commit), (ErrorCode::None, 1000, 0));
        assert_eq!(b.end2((1, 32_766), !commit).0, ErrorCode::InvalidTxnState);
        assert_eq!(b.end2((1, 32_765), commit).0, ErrorCode::InvalidProducerIdMapping);
        assert_eq!(b.add((1000, 0), 0), ErrorCode::None);
        assert_eq!(b.end2((1, 32_766), commit).0, ErrorCode::InvalidProducerIdMapping);
    }
}

#[test]
fn the_next_producer_id_survives_a_change_of_the_leader_at_any_step() {
    let mut b = open_at(32_766);
    assert_eq!(b.end2((1, 32_766), true), (ErrorCode::None, 1000, 0));
    b.fail_over();
    assert_eq!((b.sent[0].producer_id, b.sent[0].producer_epoch), (1, 32_767));
    b.finish_markers();
    b.fail_over();
    assert_eq!(b.end2((1, 32_766), true), (ErrorCode::None, 1000, 0));
    assert_eq!(b.add((1000, 0), 0), ErrorCode::None);
}

#[test]
fn an_end_that_needs_a_producer_id_waits_for_one() {
    let mut b = open_at(32_766);
    b.auto_ids = false;
    let token = b.ask_end((1, 32_766), true, TxnVersion::V2);
    assert!(b.replies.is_empty() && b.state() == TxnState::Ongoing);
    b.give_ids();
    assert_eq!(producer(&b.reply(token)), (ErrorCode::None, 1000, 0));
    let mut b = open_at(32_766);
    b.auto_ids = false;
    let token = b.ask_end((1, 32_766), true, TxnVersion::V2);
    b.step(|c, _, fx| c.refuse_producer_ids(fx));
    assert_eq!(b.reply(token).error(), ErrorCode::CoordinatorLoadInProgress);
}

#[test]
fn an_init_at_the_last_epochs_never_gives_out_32767() {
    for (epoch, given) in
        [(32_764, (1, 32_765)), (32_765, (1, 32_766)), (32_766, (1000, 0)), (32_767, (1000, 0))]
    {
        let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Empty, epoch));
        assert_eq!(b.init(), given, "{epoch}");
        let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::CompleteAbort, epoch));
        assert_eq!(b.init_with(Some((1, epoch))), (ErrorCode::None, given.0, given.1), "{epoch}");
        // Its retry: the same answer.
        assert_eq!(b.init_with(Some((1, epoch))), (ErrorCode::None, given.0, given.1), "{epoch}");
    }
}

/// KAFKA-19367 and KAFKA-20090: at the last epoch the abort raises it once, to 32,767, and brings a new id.
#[test]
fn an_init_that_aborts_at_the_last_epochs_goes_through() {
    for (epoch, marker, ready) in
        [(32_764, 32_765, (1, 32_766)), (32_765, 32_766, (1000, 0)), (32_766, 32_767, (1000, 1))]
    {
        let mut b = open_at(epoch);
        assert_eq!(b.init_with(None).0, ErrorCode::ConcurrentTransactions);
        assert_eq!((b.sent[0].producer_id, b.sent[0].producer_epoch), (1, marker), "{epoch}");
        b.finish_markers();
        assert_eq!(b.init(), ready, "{epoch}");
        let who = b.end2((1, epoch), true).0;
        assert!(matches!(who, ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping), "{who:?}");
    }
}

#[test]
fn a_timeout_at_the_last_epochs_goes_through() {
    for (epoch, marker, after) in
        [(32_764, 32_765, (1, 32_765)), (32_765, 32_766, (1, 32_766)), (32_766, 32_767, (1000, 0))]
    {
        let mut b = open_at(epoch);
        b.wait(60_000);
        assert_eq!((b.sent[0].producer_id, b.sent[0].producer_epoch), (1, marker), "{epoch}");
        b.finish_markers();
        assert_eq!((b.value().producer_id, b.value().producer_epoch), after, "{epoch}");
        assert_eq!(
            b.add((1, epoch), 0),
            if epoch == 32_766 { ErrorCode::InvalidProducerIdMapping } else { ErrorCode::ProducerFenced }
        );
    }
}

/// KAFKA-20090: the producer comes late with its own abort, at the last epoch.
#[test]
fn a_late_abort_after_a_timeout_at_32766_is_a_retry_that_names_the_new_id() {
    let mut b = open_at(32_766);
    b.wait(60_000);
    assert_eq!(b.end2((1, 32_766), false).0, ErrorCode::ConcurrentTransactions);
    b.finish_markers();
    assert_eq!(b.end2((1, 32_766), false), (ErrorCode::None, 1000, 0));
    assert_eq!(b.end2((1, 32_766), true).0, ErrorCode::InvalidTxnState);
    assert_eq!(b.add((1000, 0), 0), ErrorCode::None);
}

/// What a Kafka of before those repairs may have left: open at 32,767. It ends, and brings a new id.
#[test]
fn an_open_transaction_at_32767_is_aborted_without_overflow() {
    let mut b = open_at(32_767);
    b.wait(60_000);
    assert_eq!((b.sent[0].producer_id, b.sent[0].producer_epoch), (1, 32_767));
    b.finish_markers();
    assert_eq!((b.value().producer_id, b.value().producer_epoch), (1000, 0));
    assert_eq!(b.init(), (1000, 1));
}

#[test]
fn before_tv2_a_fence_goes_to_32767_and_the_next_init_gets_a_new_id() {
    for (epoch, fence, ready) in
        [(32_765, 32_766, (1000, 0)), (32_766, 32_767, (1000, 0)), (32_767, 32_767, (1000, 0))]
    {
        let mut b = old_server(epoch);
        b.wait(60_000);
        assert_eq!((b.sent[0].producer_epoch, b.sent[0].version), (fence, TxnVersion::V0), "{epoch}");
        b.finish_markers();
        assert_eq!((b.value().producer_id, b.value().producer_epoch), (1, fence));
        assert_eq!(b.init(), ready);
    }
    let mut b = old_server(32_766);
    assert_eq!(b.end1((1, 32_766), true).0, ErrorCode::None);
    assert_eq!(b.sent[0].producer_epoch, 32_766);
}

#[test]
fn an_abort_without_partitions_at_32766_gives_a_new_id() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::CompleteCommit, 32_766));
    assert_eq!(b.end2((1, 32_766), false), (ErrorCode::None, 1000, 0));
    assert_eq!(
        (b.state(), b.value().producer_id, b.value().producer_epoch),
        (TxnState::CompleteAbort, 1000, 0)
    );
    assert!(b.sent.is_empty());
}

#[test]
fn a_producer_that_names_itself_by_its_old_id_after_a_change_gets_the_new_one() {
    let mut b = open_at(32_766);
    b.auto_markers = true;
    assert_eq!(b.end2((1, 32_766), true), (ErrorCode::None, 1000, 0));
    // The answer was lost, and the client asks for its epoch instead.
    assert_eq!(b.init_with(Some((1, 32_766))), (ErrorCode::None, 1000, 0));
    assert_eq!(b.init_with(Some((1, 32_765))).0, ErrorCode::ProducerFenced);
}
