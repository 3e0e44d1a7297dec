//! Phases, loading, checkpoints.
use crate::bench::*;
use coordinator::txn::*;
use coordinator::{Phase, RecordError};
use model::ErrorCode;

#[test]
fn requests_are_told_where_the_coordinator_stands() {
    let mut b = Bench::loading(TxnConfig::default());
    let load = ErrorCode::CoordinatorLoadInProgress;
    assert_eq!(b.init_with(None).0, load);
    assert_eq!(b.add((1, 0), 0), load);
    assert_eq!(b.verify((1, 0), 0), load);
    assert_eq!(b.add_offsets((1, 0)), load);
    assert_eq!(b.end1((1, 0), true).0, load);
    let token = b.ask_init(InitRequest { timeout_ms: 0, ..init_request(None) });
    assert_eq!(b.reply(token).error(), ErrorCode::InvalidTransactionTimeout, "as in Kafka, before the phase");
    assert_eq!(b.c.describe(ID).error, load);
    let filter = ListFilter::new(&ListTxnsRequest::default()).unwrap();
    assert_eq!(b.c.list(b.now(), &filter), Err(load));
    b.c.loaded(b.now(), 7);
    assert_eq!(b.init(), (1000, 0));
    b.step(|c, now, fx| c.unload(now, fx));
    assert_eq!((b.c.phase(), b.init_with(None).0), (Phase::Standby, ErrorCode::NotCoordinator));
    b.c.begin_loading();
    assert_eq!(b.init_with(None).0, load);
}

#[test]
fn an_unload_answers_everyone_and_forgets_what_was_not_committed() {
    let mut b = Bench::new();
    let who = b.init();
    b.auto = false;
    b.auto_ids = false;
    let add = b.ask_add(who, &[tp("t", 0)], false);
    let mut fresh = Vec::new();
    for n in 0..9 {
        fresh.push(b.ask_init(InitRequest { transactional_id: format!("n{n}"), ..init_request(None) }));
    }
    b.step(|c, now, fx| c.unload(now, fx));
    assert_eq!(b.reply(add).error(), ErrorCode::NotCoordinator);
    for token in fresh {
        assert_eq!(b.reply(token).error(), ErrorCode::NotCoordinator);
    }
    assert_eq!((b.state(), b.c.transactions().count(), b.c.open_batches()), (TxnState::Empty, 1, 0));
    assert_eq!(b.c.next_deadline().filter(|at| at.0 != u64::MAX), None);
    // Outcomes and ids that come now are of another time.
    let before = b.replies.len();
    let open = std::mem::take(&mut b.open);
    for (batch, _) in open {
        b.step(|c, now, fx| c.on_committed(now, batch, fx));
    }
    b.step(|c, now, fx| c.supply_producer_ids(now, 5000, 10, fx));
    assert_eq!((b.replies.len(), b.state()), (before, TxnState::Empty));
}

#[test]
fn a_pending_step_that_was_committed_after_all_is_found_in_the_log() {
    let mut b = Bench::new();
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    b.auto = false;
    let token = b.ask_end(who, true, TxnVersion::V2);
    // The lead is lost; the record is in the log all the same.
    let record = b.open[0].1[0].clone();
    b.log.push(record);
    b.auto = true;
    b.fail_over();
    assert_eq!(b.reply(token).error(), ErrorCode::NotCoordinator);
    assert_eq!((b.state(), b.sent.len()), (TxnState::PrepareCommit, 1));
    b.finish_markers();
    assert_eq!(b.end2(who, true), (ErrorCode::None, 1000, 1), "the retry hears of its success");
}

#[test]
fn a_checkpoint_holds_all_that_is_committed() {
    let mut b = Bench::new();
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    for n in 0..5 {
        b.ask_init(InitRequest { transactional_id: format!("n{n}"), ..init_request(None) });
    }
    let mut value = b.value().clone();
    value.next_producer_id = 5;
    value.next_producer_epoch = 6;
    let bytes = b.c.snapshot();
    let mut other = Bench::loading(TxnConfig::default());
    other.c.restore(&bytes).unwrap();
    let all = |b: &Bench| b.c.transactions().map(|(id, v)| (id.to_owned(), v.clone())).collect::<Vec<_>>();
    assert_eq!(all(&other), all(&b));
    assert_eq!(other.c.state_counts(), b.c.state_counts());
    assert_eq!(other.c.snapshot(), bytes);
    let later = Bench::holding(TxnConfig { version: TxnVersion::V0, ..TxnConfig::default() }, &value);
    let mut again = Bench::loading(TxnConfig::default());
    again.c.restore(&later.c.snapshot()).unwrap();
    assert_eq!(again.value(), &value, "whatever version is finalised");
}

#[test]
fn a_checkpoint_that_is_not_ours_is_refused() {
    let mut b = Bench::loading(TxnConfig::default());
    assert_eq!(b.c.restore(&[0, 1]), Err(RecordError::UnknownVersion(1)));
    assert!(b.c.restore(&[0]).is_err());
    assert!(b.c.restore(&[0, 0, 0, 0, 0, 9]).is_err());
    b.c.restore(&[0, 0]).unwrap();
}

#[test]
fn unknown_records_stop_the_loading() {
    let mut b = Bench::loading(TxnConfig::default());
    let value = encode_value(&stored(TxnState::Empty, 0), TxnVersion::V2);
    let key = bytes::Bytes::from_static(b"\x00\x01\x00\x01x");
    assert_eq!(b.c.replay(0, key.clone(), Some(value)), Err(RecordError::UnknownVersion(1)));
    assert_eq!(b.c.replay(0, key, None), Err(RecordError::UnknownVersion(1)));
    let newer = bytes::Bytes::from_static(b"\x00\x02rest");
    assert_eq!(b.c.replay(0, encode_key("x"), Some(newer)), Err(RecordError::UnknownVersion(2)));
}

#[test]
fn every_request_has_one_entry_and_a_refusal_of_its_shape() {
    let who = (1, 4);
    let partitions = vec![tp("t", 0)];
    let requests = [
        Request::Init(init_request(None)),
        Request::AddPartitions(AddPartitionsRequest {
            transactional_id: ID.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            verify_only: true,
            version: TxnVersion::V2,
            partitions: partitions.clone(),
        }),
        Request::AddOffsets(AddOffsetsRequest {
            transactional_id: ID.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            offsets_partition: partitions[0].clone(),
        }),
        Request::End(EndRequest {
            transactional_id: ID.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            commit: true,
            version: TxnVersion::V2,
            connection: 0,
        }),
    ];
    let mut b = Bench::loading(TxnConfig::default());
    for request in requests {
        assert_eq!(request.transactional_id(), ID);
        let refusal = request.refusal(ErrorCode::CoordinatorLoadInProgress);
        let token = b.token();
        b.step(|c, now, fx| c.ask(now, token, request, fx));
        assert_eq!(b.reply(token), refusal, "the coordinator's own words");
    }
}
