//! Partitions' leaders that ask while the id is busy.
use crate::bench::*;
use coordinator::Token;
use coordinator::txn::*;
use model::ErrorCode;

fn ask(b: &mut Bench, who: (i64, i16), partition: i32) -> Token {
    let token = b.token();
    let request = AddPartitionsRequest {
        transactional_id: ID.into(),
        producer_id: who.0,
        producer_epoch: who.1,
        verify_only: false,
        version: TxnVersion::V2,
        partitions: vec![tp("t", partition)],
    };
    b.step(|c, now, fx| c.add_partitions_when_free(now, token, request, fx));
    token
}

fn asks(b: &mut Bench, who: (i64, i16), partitions: std::ops::Range<i32>) -> Vec<Token> {
    partitions.map(|partition| ask(b, who, partition)).collect()
}

fn answers(b: &mut Bench, tokens: &[Token]) -> Vec<ErrorCode> {
    tokens.iter().map(|token| b.reply(*token).error()).collect()
}

#[test]
fn ten_leaders_that_ask_at_once_are_let_in_by_two_appends() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Empty, 4));
    b.auto = false;
    let tokens = asks(&mut b, (1, 4), 0..10);
    assert_eq!((b.open.len(), b.c.waiting_to_add()), (1, 9));
    b.commit_one();
    assert_eq!(answers(&mut b, &tokens[..1]), [ErrorCode::None]);
    assert_eq!(
        (b.open.len(), b.c.waiting_to_add(), b.replies.len()),
        (1, 0, 0),
        "nobody else is answered yet"
    );
    b.commit_one();
    assert_eq!(answers(&mut b, &tokens[1..]), [ErrorCode::None; 9]);
    assert_eq!((b.value().partitions.len(), b.log.len()), (10, 3));
}

#[test]
fn who_asks_during_the_markers_of_the_transaction_before_waits_for_their_end() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 4));
    let (error, id, epoch) = b.end2((1, 4), true);
    assert_eq!((error, b.state()), (ErrorCode::None, TxnState::PrepareCommit));
    let tokens = asks(&mut b, (id, epoch), 3..5);
    let late = ask(&mut b, (1, 4), 6);
    assert!(b.replies.is_empty());
    assert_eq!(b.add((id, epoch), 7), ErrorCode::ConcurrentTransactions, "clients are told as ever");
    b.finish_markers();
    assert_eq!(answers(&mut b, &tokens), [ErrorCode::None; 2]);
    assert_eq!(b.reply(late).error(), ErrorCode::ProducerFenced, "of the epoch before");
    assert_eq!(
        (b.state(), b.value().partitions.clone()),
        (TxnState::Ongoing, [tp("t", 3), tp("t", 4)].into())
    );
}

#[test]
fn an_append_that_fails_is_told_to_all_that_are_in_it_and_the_rest_tries_by_itself() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Empty, 4));
    b.auto = false;
    let tokens = asks(&mut b, (1, 4), 0..3);
    b.fail_one(ErrorCode::NotEnoughReplicas);
    assert_ne!(b.reply(tokens[0]).error(), ErrorCode::None);
    b.fail_one(ErrorCode::NotEnoughReplicas);
    assert!(answers(&mut b, &tokens[1..]).iter().all(|error| error.is_retriable()));
    assert_eq!((b.open.len(), b.state()), (0, TxnState::Empty));
}

#[test]
fn a_lost_lead_sends_them_away() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Empty, 4));
    b.auto = false;
    let mut tokens = asks(&mut b, (1, 4), 0..3);
    b.commit_one();
    tokens.push(ask(&mut b, (1, 4), 8));
    b.step(|c, now, fx| c.unload(now, fx));
    assert_eq!(answers(&mut b, &tokens[1..]), [ErrorCode::NotCoordinator; 3]);
    assert_eq!(b.c.waiting_to_add(), 0);
}

#[test]
fn beyond_the_bound_they_are_told_to_come_back() {
    let mut b =
        Bench::holding(TxnConfig { max_waiting: 2, ..TxnConfig::default() }, &stored(TxnState::Empty, 4));
    b.auto = false;
    let tokens = asks(&mut b, (1, 4), 0..4);
    assert_eq!(answers(&mut b, &tokens[3..]), [ErrorCode::ConcurrentTransactions]);
}

#[test]
fn where_not_all_fit_into_the_transaction_those_that_do_are_let_in() {
    let mut b =
        Bench::holding(TxnConfig { max_partitions: 3, ..TxnConfig::default() }, &stored(TxnState::Empty, 4));
    b.auto = false;
    let tokens = asks(&mut b, (1, 4), 0..5);
    b.commit_all();
    let told = answers(&mut b, &tokens);
    assert_eq!(told.iter().filter(|error| **error == ErrorCode::None).count(), 3);
    assert_eq!(told.iter().filter(|error| **error == ErrorCode::PolicyViolation).count(), 2);
    assert_eq!(b.value().partitions.len(), 3);
}
