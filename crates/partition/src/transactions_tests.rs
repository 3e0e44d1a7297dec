//! Transactions at one partition, rule by rule.
use crate::test_rig::{Rig, built, numbered, plain};
use crate::tickets::MOST;
use crate::txn_rig::{ends, values, with_transactions, within};
use crate::{
    AppendError, Appended, CommittedBody, Isolation, ListOffsetAsk, ListOffsetStep, Marker, Origin,
    PartitionConfig, PartitionFx, TransactionStatus,
};
use model::ErrorCode;
use records::{BatchBuilder, NewRecord};
use storage::{LogConfig, ReadPlan, read_range};

fn serving() -> Rig {
    Rig::serving(with_transactions())
}

fn code(result: Result<Appended, AppendError>) -> ErrorCode {
    result.expect_err("refused").code
}

fn offsets(rig: &Rig) -> (i64, i64) {
    (rig.part.last_stable_offset(), rig.part.high_watermark())
}

fn tv1(producer_id: i64, producer_epoch: i16, commit: bool, coordinator_epoch: i32) -> Marker {
    Marker { producer_id, producer_epoch, commit, coordinator_epoch, txn_version: 1 }
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset_back_and_its_marker_lets_it_go() {
    let mut rig = serving();
    rig.append(1, plain(&["a"])).unwrap();
    assert_eq!(rig.append_within(2, within(7, 0, 0, &["b", "c"])).unwrap().base_offset, 1);
    rig.append(3, plain(&["d"])).unwrap();
    assert_eq!(rig.append_within(4, within(7, 0, 2, &["e"])).unwrap().base_offset, 4);
    assert_eq!(offsets(&rig), (1, 5));
    assert_eq!(values(&rig.read_committed(false)), ["a"]);
    let done = rig.end(5, ends(7, 1, true)).unwrap();
    assert_eq!((done.base_offset, done.last_offset, done.duplicate), (5, 5, false), "a marker has an offset");
    assert_eq!(offsets(&rig), (6, 6));
    assert_eq!(values(&rig.read_committed(false)), ["a", "b", "c", "d", "e"]);
    assert_eq!(rig.part.transactions(), TransactionStatus::default());
}

#[test]
fn an_aborted_transaction_is_named_to_readers_and_survives_a_restart() {
    let mut rig = serving();
    rig.append_within(1, within(7, 0, 0, &["void"])).unwrap();
    rig.append_within(2, within(8, 0, 0, &["kept"])).unwrap();
    rig.end(3, ends(7, 1, false)).unwrap();
    assert_eq!(offsets(&rig), (1, 3));
    assert_eq!(values(&rig.read_committed(false)), [""; 0]);
    rig.end(4, ends(8, 1, true)).unwrap();
    for checkpoint in [false, true] {
        assert_eq!(values(&rig.read_committed(false)), ["kept"]);
        assert_eq!(rig.part.transactions().aborted, 1);
        if checkpoint {
            assert!(rig.part.checkpoint(bytes::Bytes::new(), false, &mut rig.dir));
            rig.settle();
        }
        rig.restart(true);
        rig.touch();
    }
    assert_eq!((offsets(&rig), values(&rig.read_committed(false))), ((4, 4), vec!["kept"]));
}

#[test]
fn a_transactional_batch_needs_the_coordinators_word_once() {
    let mut rig = serving();
    let first = within(7, 0, 0, &["a"]);
    assert_eq!(code(rig.append(1, first.clone())), ErrorCode::InvalidTxnState);
    let ticket = rig.ask(&first, 2).unwrap().expect("nothing is open");
    assert_eq!((ticket.producer_id(), ticket.producer_epoch()), (7, 0));
    let second = within(7, 0, 1, &["b"]);
    assert_eq!(rig.ask(&second, 2).unwrap(), Some(ticket), "one question for both");
    assert!(rig.submit_verified(2, first.clone(), ticket, Origin::Client));
    assert!(rig.submit_verified(3, second, ticket, Origin::Client), "the first began it");
    assert_eq!(rig.ask(&within(7, 0, 2, &["c"]), 2).unwrap(), None);
    rig.settle();
    assert_eq!(rig.answer(3).unwrap().unwrap().base_offset, 1);
    assert!(rig.append_within(4, first).unwrap().duplicate, "a repeat is found before anything is asked");
    // One begin mark: the no-op of the term, the mark, two batches.
    assert_eq!(rig.part.last_index(), 1 + 4);
}

#[test]
fn a_marker_or_a_newer_epoch_between_question_and_answer_voids_it() {
    let mut rig = serving();
    let batch = within(7, 3, 0, &["late"]);
    let ticket = rig.ask(&batch, 1).unwrap().unwrap();
    rig.end(1, tv1(7, 3, false, 1)).unwrap();
    assert!(!rig.submit_verified(2, batch.clone(), ticket, Origin::Client));
    assert_eq!(rig.part.log_end(), 1, "nothing but the marker");

    let ticket = rig.ask(&batch, 1).unwrap().unwrap();
    // A repeat is appended no second time and voids what was asked all the same.
    assert!(rig.end(3, tv1(7, 3, false, 1)).unwrap().duplicate);
    assert!(!rig.submit_verified(4, batch.clone(), ticket, Origin::Client));

    let ticket = rig.ask(&batch, 1).unwrap().unwrap();
    assert!(rig.ask(&within(7, 4, 0, &["newer"]), 1).unwrap().is_some());
    assert!(!rig.submit_verified(5, batch.clone(), ticket, Origin::Client));

    let ticket = rig.ask(&batch, 1).unwrap().unwrap();
    rig.restart(false);
    rig.touch();
    assert!(!rig.submit_verified(6, batch.clone(), ticket, Origin::Client), "another process");
    let ticket = rig.ask(&batch, 1).unwrap().unwrap();
    assert!(rig.submit_verified(7, batch, ticket, Origin::Client));
    rig.settle();
    assert!(rig.answer(7).unwrap().is_ok());
}

#[test]
fn a_batch_does_not_overtake_an_earlier_one_that_was_asked_about() {
    let mut rig = serving();
    let (first, second) = (within(7, 0, 4, &["a"]), within(7, 0, 5, &["b"]));
    let ticket = rig.ask(&first, 1).unwrap().unwrap();
    assert_eq!(rig.ask(&second, 1).unwrap(), Some(ticket));
    assert!(rig.submit_verified(1, second, ticket, Origin::Client));
    assert_eq!(code(rig.answer(1).unwrap()), ErrorCode::OutOfOrderSequenceNumber);
    assert!(rig.submit_verified(2, first, ticket, Origin::Client));
    rig.settle();
    assert!(rig.answer(2).unwrap().is_ok(), "an unknown producer of version 1 begins with any sequence");
    // Of version 2 at 0 alone.
    for sequence in [3, i32::MAX] {
        let late = within(8, 0, sequence, &["c"]);
        assert_eq!(code(rig.append_within(3, late)), ErrorCode::OutOfOrderSequenceNumber);
    }
    assert!(rig.append_within(4, within(8, 0, 0, &["c"])).is_ok());
}

#[test]
fn a_batch_of_a_newer_epoch_joins_nothing_that_is_open_at_an_older_one() {
    let mut rig = serving();
    rig.append_within(1, within(7, 0, 0, &["a"])).unwrap();
    let next = within(7, 1, 0, &["b"]);
    assert_eq!(code(rig.append(2, next.clone())), ErrorCode::InvalidTxnState);
    assert_eq!(code(rig.append_within(3, next.clone())), ErrorCode::ConcurrentTransactions, "it hangs");
    assert_eq!(code(rig.append_within(4, within(7, 1, 3, &["b"]))), ErrorCode::OutOfOrderSequenceNumber);
    rig.end(5, ends(7, 1, true)).unwrap();
    let begun = rig.append_within(6, next).unwrap();
    assert_eq!((begun.base_offset, offsets(&rig)), (2, (2, 3)));
    let late = within(7, 0, 1, &["late"]);
    assert_eq!(rig.ask(&late, 2), Ok(None), "there is nothing to ask");
    assert_eq!(code(rig.append(7, late)), ErrorCode::InvalidProducerEpoch);
}

#[test]
fn after_a_marker_a_producer_of_version_one_goes_on_counting_and_one_of_version_two_begins_anew() {
    let mut rig = serving();
    rig.submit_within(1, within(7, 0, 0, &["a"]), 1);
    rig.settle();
    rig.end(2, tv1(7, 0, true, 1)).unwrap();
    assert_eq!(code(rig.append_within(3, within(7, 0, 5, &["b"]))), ErrorCode::OutOfOrderSequenceNumber);
    rig.submit_within(4, within(7, 0, 1, &["b"]), 1);
    rig.settle();
    assert!(rig.answer(4).unwrap().is_ok());
    rig.end(5, ends(7, 1, true)).unwrap();
    assert_eq!(code(rig.append_within(6, within(7, 1, 2, &["c"]))), ErrorCode::OutOfOrderSequenceNumber);
    assert!(rig.append_within(7, within(7, 1, 0, &["c"])).is_ok());
}

#[test]
fn what_does_not_belong_to_a_transaction_does_not_mix_with_it() {
    let mut rig = serving();
    rig.append_within(1, within(7, 0, 0, &["a"])).unwrap();
    assert_eq!(code(rig.append(2, numbered(7, 0, 1, &["b"]))), ErrorCode::InvalidTxnState);
    rig.append(3, numbered(8, 0, 0, &["another producer"])).unwrap();
    rig.append(4, plain(&["none"])).unwrap();
    rig.end(5, ends(7, 1, true)).unwrap();
    assert!(rig.append(6, numbered(7, 1, 0, &["b"])).is_ok());
    let nobody = built(BatchBuilder::new().transactional(), &["c"]);
    assert_eq!(rig.ask(&nobody, 2), Ok(None));
    assert_eq!(code(rig.append(7, nobody)), ErrorCode::InvalidRecord);
    let marker = built(BatchBuilder::new().producer(7, 1, 1).transactional().control(), &["d"]);
    rig.submit(8, marker, -1, Origin::Coordinator);
    assert_eq!(code(rig.answer(8).unwrap()), ErrorCode::InvalidRecord, "markers have a way of their own");
}

#[test]
fn markers_follow_the_rules_of_their_transaction_version() {
    let mut rig = serving();
    rig.append_within(1, within(7, 4, 0, &["a"])).unwrap();
    for (marker, refused) in [
        (ends(7, 4, true), ErrorCode::InvalidProducerEpoch),
        (tv1(7, 3, true, 1), ErrorCode::InvalidProducerEpoch),
        (Marker { coordinator_epoch: -1, ..ends(7, 5, true) }, ErrorCode::InvalidRequest),
    ] {
        assert_eq!(code(rig.end(2, marker)), refused, "{marker:?}");
    }
    assert_eq!(offsets(&rig), (0, 1));
    let newer = Marker { coordinator_epoch: 9, ..ends(7, 5, true) };
    let first = rig.end(3, newer).unwrap();
    let again = rig.end(4, newer).unwrap();
    assert_eq!((again.base_offset, again.duplicate, rig.part.log_end()), (first.base_offset, true, 2));
    assert_eq!(code(rig.end(5, ends(7, 6, true))), ErrorCode::TransactionCoordinatorFenced);
    let otherwise = Marker { commit: false, ..newer };
    assert_eq!(code(rig.end(6, otherwise)), ErrorCode::InvalidTxnState);
    // A marker that ends nothing fences what comes late.
    rig.end(7, ends(30, 2, false)).unwrap();
    assert_eq!(code(rig.append(8, numbered(30, 1, 0, &["late"]))), ErrorCode::InvalidProducerEpoch);
    assert_eq!((offsets(&rig), rig.part.transactions().aborted), ((3, 3), 0));
    rig.restart(true);
    rig.touch();
    assert!(rig.end(9, newer).unwrap().duplicate, "the log tells of it");
    assert_eq!(code(rig.end(10, ends(7, 6, true))), ErrorCode::TransactionCoordinatorFenced);
}

#[test]
fn a_repeat_of_a_marker_that_is_not_committed_waits_for_it() {
    let mut rig = serving();
    rig.append_within(1, within(7, 0, 0, &["a"])).unwrap();
    rig.hold_syncs = true;
    rig.submit_marker(2, ends(7, 1, true));
    rig.submit_marker(3, ends(7, 1, true));
    rig.settle();
    assert_eq!((rig.answer(2), rig.answer(3), offsets(&rig)), (None, None, (0, 1)));
    assert_eq!(rig.part.log_end(), 2);
    rig.release_syncs();
    assert_eq!(rig.answer(2).unwrap().unwrap().base_offset, 1);
    assert_eq!(rig.answer(3).unwrap().unwrap().base_offset, 1);
}

#[test]
fn markers_of_many_producers_ride_in_one_commit() {
    let mut rig = serving();
    for id in 0..5 {
        rig.append_within(1, within(id, 0, 0, &["a"])).unwrap();
    }
    rig.hold_syncs = true;
    for id in 0..5 {
        rig.submit_marker(10 + id as u64, ends(id, 1, id % 2 == 0));
    }
    rig.settle();
    rig.hold_syncs = false;
    rig.release_one_sync();
    let done: Vec<i64> = (10..15).map(|token| rig.answer(token).unwrap().unwrap().base_offset).collect();
    assert_eq!(done, [5, 6, 7, 8, 9]);
    assert_eq!((offsets(&rig), rig.part.transactions().aborted), ((10, 10), 2));
}

#[test]
fn a_marker_is_kafkas_control_batch_to_the_byte() {
    let mut rig = serving();
    rig.now.wall = 0x0102_0304_0506;
    rig.append_within(1, within(7, 0x0b, 0, &["a"])).unwrap();
    let marker = Marker { coordinator_epoch: 0x0c0d_0e0f, ..ends(7, 0x0c, true) };
    rig.end(2, marker).unwrap();
    let ReadPlan::Memory(batches) = rig.part.replay_plan(1, 1 << 20).unwrap() else { panic!("in memory") };
    let found = &batches.concat()[..];
    assert_eq!(found.len(), 78);
    let mut wanted = Vec::new();
    wanted.extend(1i64.to_be_bytes()); // base offset
    wanted.extend(66i32.to_be_bytes()); // length
    wanted.extend(2i32.to_be_bytes()); // leader epoch
    wanted.push(2); // format
    wanted.extend(&found[17..21]); // its checksum, looked at below
    wanted.extend(0x30i16.to_be_bytes()); // transactional, control
    wanted.extend(0i32.to_be_bytes()); // last offset delta
    wanted.extend(0x0102_0304_0506i64.to_be_bytes()); // base timestamp
    wanted.extend(0x0102_0304_0506i64.to_be_bytes()); // largest timestamp
    wanted.extend(7i64.to_be_bytes());
    wanted.extend(0x0ci16.to_be_bytes());
    wanted.extend((-1i32).to_be_bytes()); // no sequence
    wanted.extend(1i32.to_be_bytes()); // one record
    wanted.extend([0x20, 0, 0, 0]); // record: length 16, attributes, deltas
    wanted.extend([8, 0, 0, 0, 1]); // key: 4 bytes, version 0, COMMIT
    wanted.extend([12, 0, 0, 0x0c, 0x0d, 0x0e, 0x0f]); // value: 6 bytes, version 0, coordinator epoch
    wanted.push(0); // no headers
    assert_eq!(found, &wanted[..]);
    records::check_crc(found).unwrap();
}

#[test]
fn transactions_need_their_feature_level() {
    let mut rig = Rig::serving(PartitionConfig::default());
    let batch = within(7, 0, 0, &["a"]);
    assert_eq!(rig.ask(&batch, 2), Ok(None));
    assert_eq!(code(rig.append(1, batch)), ErrorCode::UnsupportedVersion);
    assert_eq!(code(rig.end(2, ends(7, 1, true))), ErrorCode::UnsupportedVersion);
    assert_eq!(rig.part.log_end(), 0);
}

#[test]
fn open_transactions_and_questions_are_bounded_and_what_is_refused_is_counted() {
    let mut rig = Rig::serving(PartitionConfig { max_open_transactions: 2, ..with_transactions() });
    let late = rig.ask(&within(9, 0, 0, &["c"]), 2).unwrap().unwrap();
    rig.append_within(1, within(7, 0, 0, &["a"])).unwrap();
    rig.append_within(2, within(8, 0, 0, &["b"])).unwrap();
    assert_eq!(code(rig.append_within(3, within(10, 0, 0, &["c"]))), ErrorCode::CoordinatorLoadInProgress);
    assert!(rig.submit_verified(4, within(9, 0, 0, &["c"]), late, Origin::Client));
    assert_eq!(code(rig.answer(4).unwrap()), ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(rig.part.counters().transactions_refused, 2);
    rig.append_within(5, within(7, 0, 1, &["what is open goes on"])).unwrap();
    rig.end(6, ends(7, 1, true)).unwrap();
    rig.append_within(7, within(10, 0, 0, &["c"])).unwrap();

    let mut rig = serving();
    for id in 0..MOST as i64 {
        assert!(rig.ask(&within(id, 0, 0, &["a"]), 2).unwrap().is_some());
    }
    let refused = rig.ask(&within(-1 + i64::MAX, 0, 0, &["a"]), 2).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(rig.part.counters().transactions_refused, 1);
}

#[test]
fn a_producer_with_something_open_is_never_forgotten() {
    let cfg = PartitionConfig { producer_expiration_ms: 1000, max_producers: 8, ..with_transactions() };
    let mut rig = Rig::serving(cfg);
    rig.append_within(1, within(7, 0, 0, &["a"])).unwrap();
    rig.now.wall += 100_000;
    rig.tick();
    for id in 100..130 {
        rig.append(2, numbered(id, 0, 0, &["b"])).unwrap();
    }
    assert_eq!((rig.part.describe_producers()[0].producer_id, offsets(&rig).0), (7, 0));
    assert!(rig.part.describe_producers().len() <= 8);
    rig.end(3, ends(7, 1, true)).unwrap();
    assert_eq!(offsets(&rig).0, 32);
    rig.now.wall += 100_000;
    rig.tick();
    assert_eq!(rig.part.describe_producers(), []);
}

#[test]
fn what_is_open_is_shown_with_its_owner() {
    let mut rig = serving();
    rig.append(1, plain(&["x"])).unwrap();
    rig.now.wall = 5_000_000;
    rig.append_within(2, within(7, 4, 0, &["a", "b"])).unwrap();
    rig.append_within(3, within(8, 0, 0, &["c"])).unwrap();
    for restarted in [false, true] {
        let status = rig.part.transactions();
        assert_eq!((status.open, status.lag), (2, 3), "restarted: {restarted}");
        let oldest = status.oldest.unwrap();
        assert_eq!((oldest.producer_id, oldest.epoch, oldest.first_offset), (7, 4, 1));
        assert_eq!((oldest.transactional_id.as_str(), oldest.begun_at), ("payments", 5_000_000));
        assert_eq!((oldest.principal.as_str(), oldest.client_id.as_str()), ("User:ada", "till-3"));
        let rows = rig.part.describe_producers();
        assert_eq!((rows[0].current_txn_start_offset, rows[0].coordinator_epoch, rows[0].epoch), (1, -1, 4));
        assert!(rig.part.checkpoint(bytes::Bytes::new(), false, &mut rig.dir));
        rig.settle();
        rig.restart(true);
        rig.touch();
    }
    rig.end(4, Marker { coordinator_epoch: 6, ..ends(7, 5, false) }).unwrap();
    let row = rig.part.describe_producers()[0];
    assert_eq!((row.current_txn_start_offset, row.coordinator_epoch, row.epoch), (-1, 6, 5));
    assert_eq!((row.last_sequence, row.last_timestamp), (-1, 5_000_000));
}

#[test]
fn the_log_start_takes_aborted_transactions_along_and_may_pass_an_open_one() {
    let mut rig = serving();
    rig.append_within(1, within(7, 0, 0, &["void"])).unwrap();
    rig.end(2, ends(7, 1, false)).unwrap();
    rig.append_within(3, within(7, 1, 0, &["open", "still"])).unwrap();
    rig.append(4, plain(&["last"])).unwrap();
    let delete = |rig: &mut Rig, upto| {
        rig.part.delete_records(rig.now, 9, upto, &mut rig.dir, &mut rig.fx);
        rig.settle();
        (rig.part.last_stable_offset(), rig.part.transactions().aborted)
    };
    assert_eq!(delete(&mut rig, 1), (2, 1), "its marker can be read still");
    assert_eq!(delete(&mut rig, 2), (2, 0));
    assert_eq!(delete(&mut rig, 4), (4, 0), "in the middle of what is open");
    rig.restart(true);
    rig.touch();
    assert_eq!((offsets(&rig), rig.part.transactions().open), ((4, 5), 1));
    rig.end(5, ends(7, 2, true)).unwrap();
    assert_eq!(values(&rig.read_committed(false)), ["last"]);
}

fn list(rig: &Rig, timestamp: i64, isolation: Isolation) -> (i64, i64) {
    let ask = ListOffsetAsk { timestamp, current_leader_epoch: -1, isolation };
    let mut step = rig.part.list_offset(ask).unwrap();
    loop {
        match step {
            ListOffsetStep::Done(done) => return (done.offset, done.timestamp),
            ListOffsetStep::Read { range, search } => {
                let found = read_range(&rig.disk, &range).unwrap();
                step = rig.part.list_offset_read(search, &found).unwrap();
            }
        }
    }
}

#[test]
fn list_offsets_of_a_reader_of_committed_transactions_ends_at_the_last_stable_offset() {
    use Isolation::{ReadCommitted, ReadUncommitted};
    for segment_bytes in [1 << 20, 300] {
        let log = LogConfig { segment_bytes, ..LogConfig::default() };
        let mut rig = Rig::serving(PartitionConfig { log, ..with_transactions() });
        let at = |builder: BatchBuilder, times: &[i64]| {
            let mut builder = builder;
            times.iter().for_each(|time| {
                builder.push(NewRecord::new(*time, None, Some(b"v")));
            });
            builder.finish().unwrap()
        };
        for (token, times) in (1..).zip([[100, 300], [200, 250], [10, 20]]) {
            rig.append(token, at(BatchBuilder::new(), &times)).unwrap();
        }
        let txn = BatchBuilder::new().producer(7, 0, 0).transactional();
        rig.append_within(9, at(txn, &[900, 800])).unwrap();
        for restarted in [false, true] {
            let why = format!("files of {segment_bytes} bytes, restarted: {restarted}");
            assert_eq!(list(&rig, -1, ReadCommitted), (6, -1), "{why}");
            assert_eq!(list(&rig, -1, ReadUncommitted), (8, -1), "{why}");
            assert_eq!(list(&rig, -3, ReadUncommitted), (6, 900), "{why}");
            assert_eq!(list(&rig, -3, ReadCommitted), (1, 300), "{why}");
            assert_eq!(list(&rig, 301, ReadCommitted), (-1, -1), "{why}");
            assert_eq!(list(&rig, 301, ReadUncommitted), (6, 900), "{why}");
            rig.restart(true);
            rig.touch();
        }
        rig.part.delete_records(rig.now, 50, 2, &mut rig.dir, &mut rig.fx);
        rig.settle();
        let largest = list(&rig, -3, ReadCommitted);
        assert!(largest.0 >= 2, "what was deleted does not count: {largest:?}");
        assert!(segment_bytes == 300 || largest == (3, 250), "{largest:?}");
        rig.part.delete_records(rig.now, 51, 7, &mut rig.dir, &mut rig.fx);
        rig.settle();
        assert_eq!(list(&rig, -3, ReadCommitted), (-1, -1));
        rig.now.wall = 400;
        rig.end(60, ends(7, 1, true)).unwrap();
        assert_eq!(list(&rig, -1, ReadCommitted), (9, -1));
    }
}

#[test]
fn a_machine_hears_of_markers_and_coordinators_append_within_transactions() {
    let mut rig = Rig::serving(PartitionConfig { machine: true, ..with_transactions() });
    // As TxnOffsetCommit leaves it: a producer and no sequence.
    let commit = || built(BatchBuilder::new().producer(7, 2, -1).transactional(), &["offset"]);
    rig.submit(1, commit(), -1, Origin::Coordinator);
    assert_eq!(code(rig.answer(1).unwrap()), ErrorCode::InvalidTxnState);
    let ticket = rig.ask(&commit(), 2).unwrap().unwrap();
    assert!(rig.submit_verified(2, commit(), ticket, Origin::Coordinator));
    rig.submit(3, commit(), -1, Origin::Coordinator);
    rig.settle();
    assert_eq!(offsets(&rig), (0, 2));
    rig.end(4, ends(7, 3, true)).unwrap();
    let heard = rig.fx.drain(..).filter_map(|effect| match effect {
        PartitionFx::Committed(entry) => Some((entry.token, entry.body)),
        _ => None,
    });
    let marker = CommittedBody::Marker {
        producer_id: 7,
        producer_epoch: 3,
        commit: true,
        coordinator_epoch: 1,
        offset: 2,
    };
    let data = |base_offset| CommittedBody::Data { base_offset, next_offset: base_offset + 1 };
    assert_eq!(heard.collect::<Vec<_>>(), [(Some(2), data(0)), (Some(3), data(1)), (Some(4), marker)]);
    rig.submit(5, commit(), -1, Origin::Coordinator);
    assert_eq!(code(rig.answer(5).unwrap()), ErrorCode::InvalidProducerEpoch);
}
