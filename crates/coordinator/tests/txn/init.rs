//! InitProducerId with a transactional id.
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;

#[test]
fn a_new_id_gets_a_producer_id_and_epoch_0() {
    let mut b = Bench::new();
    assert_eq!(b.init(), (1000, 0));
    assert_eq!((b.state(), b.value().client_version), (TxnState::Empty, TxnVersion::V0));
    assert_eq!((b.value().start, b.value().timeout_ms), (-1, 60_000));
}

#[test]
fn an_answer_waits_for_the_commit() {
    let mut b = Bench::new();
    b.auto = false;
    let token = b.ask_init(init_request(None));
    assert!(b.replies.is_empty());
    // Another one meanwhile is told to come back.
    assert_eq!(b.init_with(None).0, ErrorCode::ConcurrentTransactions);
    b.commit_one();
    assert_eq!(producer(&b.reply(token)), (ErrorCode::None, 1000, 0));
}

#[test]
fn idle_states_raise_the_epoch() {
    for state in [TxnState::Empty, TxnState::CompleteCommit, TxnState::CompleteAbort] {
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        assert_eq!(b.init(), (1, 5), "{state:?}");
        assert_eq!(b.state(), TxnState::Empty);
        assert_eq!(b.value().start, -1);
    }
}

#[test]
fn an_open_transaction_is_aborted_first_and_the_epoch_is_raised_once_for_each_step() {
    for version in [TxnVersion::V0, TxnVersion::V1, TxnVersion::V2] {
        let config = TxnConfig { version, ..TxnConfig::default() };
        let mut b = Bench::holding(config, &stored(TxnState::Ongoing, 4));
        assert_eq!(b.init_with(None).0, ErrorCode::ConcurrentTransactions);
        // KAFKA-19367: at TV2 too, the abort raises the epoch by one and not by two.
        assert_eq!((b.state(), b.value().producer_epoch), (TxnState::PrepareAbort, 5));
        assert_eq!((b.sent[0].producer_epoch, b.sent[0].commit), (5, false));
        // Markers are on their way: come back.
        assert_eq!(b.init_with(None).0, ErrorCode::ConcurrentTransactions);
        b.finish_markers();
        assert_eq!((b.state(), b.value().producer_epoch), (TxnState::CompleteAbort, 5));
        assert_eq!(b.init(), (1, 6));
        // Who had the transaction is fenced.
        assert_eq!(b.add((1, 4), 0), ErrorCode::ProducerFenced);
        assert_eq!(b.end1((1, 4), true).0, ErrorCode::ProducerFenced);
        assert_eq!(b.end2((1, 4), true).0, ErrorCode::ProducerFenced);
        assert!(b.events.iter().any(|e| matches!(e, TxnEvent::Fenced { producer_epoch: 4, .. })));
    }
}

#[test]
fn ending_states_tell_to_come_back() {
    for state in [TxnState::PrepareCommit, TxnState::PrepareAbort] {
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        assert_eq!(b.init_with(None).0, ErrorCode::ConcurrentTransactions);
        assert_eq!(b.state(), state);
    }
}

#[test]
fn a_producer_that_names_itself_goes_on_and_its_retry_gets_the_same_answer() {
    let mut b = Bench::new();
    let (id, epoch) = b.init();
    assert_eq!(b.init_with(Some((id, epoch))), (ErrorCode::None, id, 1));
    assert_eq!(b.init_with(Some((id, epoch))), (ErrorCode::None, id, 1), "the answer was lost");
    assert_eq!(b.init_with(Some((id, 1))), (ErrorCode::None, id, 2));
    assert_eq!(b.init_with(Some((id, 0))).0, ErrorCode::ProducerFenced);
    assert_eq!(b.init_with(Some((id + 1, 2))).0, ErrorCode::ProducerFenced);
}

#[test]
fn a_new_instance_fences_the_retry_of_the_one_before() {
    let mut b = Bench::new();
    let (id, epoch) = b.init();
    assert_eq!(b.init_with(Some((id, epoch))).2, 1);
    assert_eq!(b.init(), (id, 2));
    assert_eq!(b.init_with(Some((id, 0))).0, ErrorCode::ProducerFenced);
    assert_eq!(b.init_with(Some((id, 1))).0, ErrorCode::ProducerFenced);
}

#[test]
fn a_producer_that_names_itself_to_an_id_nobody_knows_gets_a_new_producer_id() {
    let mut b = Bench::new();
    assert_eq!(b.init_with(Some((77, 5))), (ErrorCode::None, 1000, 0));
}

#[test]
fn a_producer_is_named_with_both_fields_or_none() {
    assert_eq!(expected_producer(-1, -1), Ok(None));
    assert_eq!(expected_producer(5, 3), Ok(Some((5, 3))));
    assert_eq!(expected_producer(5, -1), Err(ErrorCode::InvalidRequest));
    assert_eq!(expected_producer(-1, 3), Err(ErrorCode::InvalidRequest));
}

#[test]
fn what_the_request_says_itself_is_checked_first() {
    let mut b = Bench::new();
    let cases = [
        (InitRequest { transactional_id: String::new(), ..init_request(None) }, ErrorCode::InvalidRequest),
        (
            InitRequest { transactional_id: "x".repeat(40_000), ..init_request(None) },
            ErrorCode::InvalidRequest,
        ),
        (InitRequest { timeout_ms: 0, ..init_request(None) }, ErrorCode::InvalidTransactionTimeout),
        (InitRequest { timeout_ms: -1, ..init_request(None) }, ErrorCode::InvalidTransactionTimeout),
        (InitRequest { timeout_ms: 900_001, ..init_request(None) }, ErrorCode::InvalidTransactionTimeout),
        (
            InitRequest { enable_2pc: true, timeout_ms: 0, ..init_request(None) },
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        (
            InitRequest { keep_prepared: true, timeout_ms: 0, ..init_request(None) },
            ErrorCode::UnsupportedVersion,
        ),
    ];
    for (request, error) in cases {
        let token = b.ask_init(request);
        assert_eq!(producer(&b.reply(token)), (error, -1, -1));
    }
    let token = b.ask_init(InitRequest { timeout_ms: 900_000, ..init_request(None) });
    assert_eq!(b.reply(token).error(), ErrorCode::None);
    assert!(b.log.len() == 1);
}

#[test]
fn requests_wait_for_producer_ids_and_are_told_when_there_are_none() {
    let mut b = Bench::new();
    b.auto_ids = false;
    let first = b.ask_init(init_request(None));
    let other = b.ask_init(InitRequest { transactional_id: "other".into(), ..init_request(None) });
    assert!(b.replies.is_empty() && b.asked_ids > 0);
    b.give_ids();
    assert_eq!(producer(&b.reply(first)).1, 1000);
    assert_eq!(producer(&b.reply(other)).1, 1001);
    // Those at hand are used up, then the next are refused.
    let tokens: Vec<_> = (0..7)
        .map(|n| b.ask_init(InitRequest { transactional_id: format!("more-{n}"), ..init_request(None) }))
        .collect();
    b.step(|c, _, fx| c.refuse_producer_ids(fx));
    let errors: Vec<_> = tokens.into_iter().map(|t| b.reply(t).error()).collect();
    assert_eq!(errors.iter().filter(|e| e.is_none()).count(), 6);
    assert_eq!(errors[6], ErrorCode::CoordinatorLoadInProgress);
}

#[test]
fn many_that_wait_are_served_by_two_supplies() {
    let mut b = Bench::new();
    b.auto_ids = false;
    let tokens: Vec<_> = (0..50)
        .map(|n| b.ask_init(InitRequest { transactional_id: format!("id-{n}"), ..init_request(None) }))
        .collect();
    b.give_ids();
    assert!(b.asked_ids >= 42, "{}", b.asked_ids);
    b.give_ids();
    let mut given: Vec<_> = tokens.into_iter().map(|t| producer(&b.reply(t)).1).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 50, "no producer id is given twice");
}

#[test]
fn an_append_that_failed_leaves_nothing() {
    let mut b = Bench::new();
    b.auto = false;
    let token = b.ask_init(init_request(None));
    b.fail_one(ErrorCode::MessageTooLarge);
    assert_eq!(producer(&b.reply(token)), (ErrorCode::UnknownServerError, -1, -1));
    assert!(b.c.get(ID).is_none());
    b.auto = true;
    assert_eq!(b.init(), (1001, 0));
    // A failed fence does not use up epochs either.
    assert_eq!(b.add((1001, 0), 0), ErrorCode::None);
    b.auto = false;
    for _ in 0..3 {
        let token = b.ask_init(init_request(None));
        b.fail_one(ErrorCode::NotEnoughReplicas);
        assert_eq!(b.reply(token).error(), ErrorCode::CoordinatorNotAvailable);
    }
    assert_eq!((b.state(), b.value().producer_epoch), (TxnState::Ongoing, 0));
}
