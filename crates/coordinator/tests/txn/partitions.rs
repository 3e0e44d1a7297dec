//! AddPartitionsToTxn and AddOffsetsToTxn.
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;

const IDLE: [TxnState; 3] = [TxnState::Empty, TxnState::CompleteCommit, TxnState::CompleteAbort];
const ENDING: [TxnState; 2] = [TxnState::PrepareCommit, TxnState::PrepareAbort];

#[test]
fn an_idle_id_begins_a_transaction() {
    for state in IDLE {
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        b.now_ms = 5;
        assert_eq!(b.add((1, 4), 2), ErrorCode::None, "{state:?}");
        assert_eq!((b.state(), b.value().start), (TxnState::Ongoing, START + 5));
        assert_eq!(b.value().partitions, [tp("t", 2)].into());
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        assert_eq!(b.add_offsets((1, 4)), ErrorCode::None);
        assert_eq!(b.value().partitions, [tp("__consumer_offsets", 3)].into());
        assert_eq!(b.value().client_version, TxnVersion::V0);
    }
}

#[test]
fn an_open_transaction_takes_more_and_keeps_its_start() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 4));
    b.now_ms = 5;
    assert_eq!(b.add((1, 4), 2), ErrorCode::None);
    assert_eq!(b.value().start, START);
    assert_eq!(b.value().partitions, [tp("t", 0), tp("t", 2)].into());
}

#[test]
fn nothing_is_appended_where_the_partition_is_there() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 4));
    let token = b.ask_add((1, 4), &[tp("t", 0)], false);
    let (reply, confirm) = b.replies.remove(&token).unwrap();
    assert_eq!((reply.error(), b.log.len()), (ErrorCode::None, 1));
    assert!(confirm, "it is said from memory, which may be that of an old leader");
}

#[test]
fn an_ending_transaction_takes_no_more() {
    for state in ENDING {
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        assert_eq!(b.add((1, 4), 0), ErrorCode::ConcurrentTransactions);
        assert_eq!(b.add_offsets((1, 4)), ErrorCode::ConcurrentTransactions);
        assert_eq!(b.verify((1, 4), 0), ErrorCode::ConcurrentTransactions);
        // Said before anything else: a client may hold the producer id that comes with Complete.
        assert_eq!(b.add((2, 0), 0), ErrorCode::ConcurrentTransactions);
    }
}

#[test]
fn who_asks_is_checked_in_every_state() {
    for state in IDLE.into_iter().chain([TxnState::Ongoing]) {
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        for (who, error) in [
            ((2, 4), ErrorCode::InvalidProducerIdMapping),
            ((1, 3), ErrorCode::ProducerFenced),
            ((1, 5), ErrorCode::ProducerFenced),
        ] {
            assert_eq!(b.add(who, 0), error);
            assert_eq!(b.add_offsets(who), error);
            assert_eq!(b.verify(who, 0), error);
        }
    }
    let mut b = Bench::new();
    assert_eq!(b.add((1, 0), 0), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(b.verify((1, 0), 0), ErrorCode::InvalidProducerIdMapping);
}

#[test]
fn an_append_under_way_hinders_adding_and_not_verifying() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 4));
    b.auto = false;
    let token = b.ask_add((1, 4), &[tp("t", 1)], false);
    assert_eq!(b.add((1, 4), 0), ErrorCode::ConcurrentTransactions);
    assert_eq!(b.add((9, 9), 0), ErrorCode::ConcurrentTransactions);
    assert_eq!(b.verify((1, 4), 0), ErrorCode::None);
    assert_eq!(b.verify((1, 4), 1), ErrorCode::TransactionAbortable, "not committed yet");
    b.commit_one();
    assert_eq!(b.reply(token).error(), ErrorCode::None);
    assert_eq!(b.verify((1, 4), 1), ErrorCode::None);
}

#[test]
fn verify_tells_for_each_partition_and_changes_nothing() {
    let mut b = Bench::holding(TxnConfig::default(), &stored(TxnState::Ongoing, 4));
    let token = b.ask_add((1, 4), &[tp("t", 0), tp("t", 9), tp("u", 0)], true);
    let Reply::AddPartitions(reply) = b.reply(token) else { panic!() };
    let outcomes: Vec<_> = reply.partitions.iter().map(|(_, e)| *e).collect();
    let absent = ErrorCode::TransactionAbortable;
    assert_eq!(outcomes, [ErrorCode::None, absent, absent]);
    for state in IDLE {
        let mut b = Bench::holding(TxnConfig::default(), &stored(state, 4));
        assert_eq!(b.verify((1, 4), 0), absent);
        assert_eq!((b.state(), b.log.len()), (state, 1));
    }
}

#[test]
fn an_empty_id_is_an_invalid_request() {
    let mut b = Bench::new();
    let token = b.token();
    let request = AddPartitionsRequest {
        transactional_id: String::new(),
        producer_id: 1,
        producer_epoch: 0,
        verify_only: false,
        version: TxnVersion::V2,
        partitions: vec![tp("t", 0)],
    };
    b.step(|c, now, fx| c.add_partitions(now, token, request, fx));
    assert_eq!(b.reply(token).error(), ErrorCode::InvalidRequest);
}

#[test]
fn fenced_is_said_in_the_words_of_the_clients_version() {
    assert_eq!(client_code(ErrorCode::ProducerFenced, 1, 2), ErrorCode::InvalidProducerEpoch);
    assert_eq!(client_code(ErrorCode::ProducerFenced, 2, 2), ErrorCode::ProducerFenced);
    assert_eq!(client_code(ErrorCode::InvalidTxnState, 0, 2), ErrorCode::InvalidTxnState);
}
