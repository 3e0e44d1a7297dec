//! Transactions that take too long, and ids that do nothing for long.
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;

#[test]
fn a_transaction_is_aborted_at_its_timeout_and_its_producer_is_fenced() {
    let mut b = Bench::new();
    let who = b.init();
    b.wait(100_000);
    assert_eq!(b.state(), TxnState::Empty, "no transaction, no timeout");
    assert_eq!(b.add(who, 0), ErrorCode::None);
    b.wait(59_000);
    assert_eq!(b.add(who, 1), ErrorCode::None, "what is added later makes it no younger");
    b.wait(999);
    assert_eq!(b.state(), TxnState::Ongoing);
    b.wait(1);
    assert_eq!((b.state(), b.value().producer_epoch), (TxnState::PrepareAbort, 1));
    assert_eq!((b.sent[0].producer_epoch, b.sent[0].commit), (1, false));
    b.finish_markers();
    assert_eq!(b.state(), TxnState::CompleteAbort);
    assert_eq!(b.add(who, 1), ErrorCode::ProducerFenced);
    assert_eq!(b.end1(who, true).0, ErrorCode::ProducerFenced);
    assert!(b.events.iter().any(|e| matches!(e, TxnEvent::TimedOut { producer_epoch: 0, .. })));
}

#[test]
fn with_tv2_a_late_end_after_a_timeout_hears_what_became_of_it() {
    let mut b = Bench::new();
    b.auto_markers = true;
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    b.wait(60_000);
    assert_eq!(b.end2(who, true).0, ErrorCode::InvalidTxnState, "a commit that was not");
    assert_eq!(b.end2(who, false), (ErrorCode::None, 1000, 1), "its own abort, as a retry");
}

#[test]
fn a_new_leader_counts_from_the_start_that_the_log_has() {
    let mut b = Bench::new();
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    b.wait(40_000);
    b.fail_over();
    b.wait(19_999);
    assert_eq!(b.state(), TxnState::Ongoing);
    b.wait(1);
    assert_eq!(b.state(), TxnState::PrepareAbort);
}

#[test]
fn a_leader_that_loads_late_aborts_at_once() {
    let mut value = stored(TxnState::Ongoing, 4);
    value.start = START - 1_000_000;
    let mut b = Bench::holding(TxnConfig::default(), &value);
    b.wait(0);
    assert_eq!(b.state(), TxnState::PrepareAbort);
}

#[test]
fn a_clock_that_went_back_adds_no_more_than_the_timeout() {
    let mut value = stored(TxnState::Ongoing, 4);
    value.start = START + 1_000_000_000;
    let mut b = Bench::holding(TxnConfig::default(), &value);
    b.wait(60_000);
    assert_eq!(b.state(), TxnState::PrepareAbort);
}

#[test]
fn a_timeout_whose_append_failed_is_tried_again_at_the_same_epoch() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 4));
    b.auto = false;
    b.wait(60_000);
    b.fail_one(ErrorCode::KafkaStorageError);
    assert_eq!(b.state(), TxnState::Ongoing);
    b.wait(100);
    b.commit_one();
    assert_eq!((b.state(), b.value().producer_epoch), (TxnState::PrepareAbort, 5));
}

#[test]
fn a_timeout_that_needs_a_producer_id_waits_for_one() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 32_766));
    b.auto_ids = false;
    b.wait(60_500);
    assert_eq!(b.state(), TxnState::Ongoing);
    b.give_ids();
    assert_eq!(b.state(), TxnState::PrepareAbort);
    // Refused: looked at again before long.
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 32_766));
    b.auto_ids = false;
    b.wait(60_000);
    b.asked_ids = 0;
    b.step(|c, _, fx| c.refuse_producer_ids(fx));
    b.auto_ids = true;
    b.wait(5_000);
    assert_eq!(b.state(), TxnState::PrepareAbort);
}

fn idle_ids(count: usize, config: TxnConfig) -> Bench {
    let mut b = Bench::with(config);
    for n in 0..count {
        let id = format!("id-{n:05}");
        b.ask_init(InitRequest { transactional_id: id, ..init_request(None) });
    }
    b
}

#[test]
fn idle_ids_are_removed_in_bounded_batches() {
    let config = TxnConfig { id_expiration_ms: 10_000_000, expiration_batch: 10, ..TxnConfig::default() };
    let mut b = idle_ids(25, config);
    let stored = b.log.len();
    b.wait(7_200_000);
    assert_eq!(b.log.len(), stored, "too early");
    b.auto = false;
    b.wait(3_600_200);
    // A batch waits for its commit while the next are appended.
    assert_eq!(b.open.iter().map(|(_, r)| r.len()).collect::<Vec<_>>(), [10, 10, 5]);
    assert!(b.open.iter().flat_map(|(_, r)| r).all(|r| r.value.is_none()));
    b.commit_all();
    assert_eq!(b.c.transactions().count(), 0);
    assert_eq!(b.c.state_counts().iter().map(|(_, n)| n).sum::<usize>(), 0);
    b.fail_over();
    assert_eq!(b.c.transactions().count(), 0);
}

#[test]
fn only_ids_that_did_nothing_and_have_nothing_open_are_removed() {
    let config = TxnConfig { id_expiration_ms: 10_000, ..TxnConfig::default() };
    for (state, kept) in [
        (TxnState::Empty, false),
        (TxnState::CompleteCommit, false),
        (TxnState::CompleteAbort, false),
        (TxnState::PrepareCommit, true),
        (TxnState::PrepareAbort, true),
    ] {
        let mut b = Bench::holding(config.clone(), &stored(state, 4));
        b.wait(3_600_000);
        assert_eq!(b.c.get(ID).is_some(), kept, "{state:?}");
    }
    let mut young = stored(TxnState::Empty, 4);
    young.last_update = START + 3_595_000;
    assert!({
        let mut b = Bench::holding(config, &young);
        b.wait(3_600_000);
        b.c.get(ID).is_some()
    });
}

#[test]
fn a_request_to_an_id_that_is_being_removed_comes_back_and_is_unknown_then() {
    let config = TxnConfig { id_expiration_ms: 10_000, ..TxnConfig::default() };
    let mut b = Bench::holding(config, &stored(TxnState::Empty, 4));
    b.auto = false;
    b.wait(3_600_000);
    assert_eq!(b.add((1, 4), 0), ErrorCode::ConcurrentTransactions);
    b.commit_one();
    assert_eq!(b.add((1, 4), 0), ErrorCode::InvalidProducerIdMapping);
    assert!(b.events.contains(&TxnEvent::Expired { count: 1 }));
}

#[test]
fn a_removal_that_failed_leaves_the_id() {
    let config = TxnConfig { id_expiration_ms: 10_000, ..TxnConfig::default() };
    let mut b = Bench::holding(config, &stored(TxnState::Empty, 4));
    b.auto = false;
    b.wait(3_600_000);
    b.fail_one(ErrorCode::KafkaStorageError);
    b.auto = true;
    assert_eq!(b.add((1, 4), 0), ErrorCode::None);
}
