//! Appends, acknowledgements and idempotence over a real log.
use crate::test_rig::{Rig, built, numbered, plain};
use crate::{AppendError, Origin, PartitionConfig, PartitionFx};
use bytes::BytesMut;
use model::ErrorCode;
use records::{BatchBuilder, BatchHeader, Codec, CompressionTarget, NewRecord, TimestampType};

fn code(result: Result<crate::Appended, AppendError>) -> ErrorCode {
    result.expect_err("refused").code
}

fn offsets(rig: &Rig) -> Vec<i64> {
    rig.read_all().iter().map(|(offset, _)| *offset).collect()
}

#[test]
fn a_touching_append_rides_in_the_write_of_the_no_op_and_is_served_after_it() {
    let mut rig = Rig::new(PartitionConfig::default());
    assert_eq!((rig.part.leader_epoch(), rig.part.announced_epoch()), (None, 2));
    rig.hold_syncs = true;
    rig.submit(1, plain(&["a", "b"]), -1, Origin::Client);
    rig.settle();
    assert_eq!((rig.answer(1), rig.part.leader_epoch(), rig.part.high_watermark()), (None, None, 0));
    rig.release_syncs();
    let done = rig.answer(1).unwrap().unwrap();
    assert_eq!((done.base_offset, done.last_offset, done.log_append_time, done.duplicate), (0, 1, -1, false));
    assert_eq!(rig.part.leader_epoch(), Some(2));
    assert!(rig.fx.contains(&PartitionFx::Became(2)) && rig.fx.contains(&PartitionFx::HighWatermark(2)));
    assert_eq!(rig.read_all(), [(0, b"a".to_vec()), (1, b"b".to_vec())]);
}

#[test]
fn each_acks_level_answers_when_its_promise_holds() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.hold_syncs = true;
    rig.submit(1, plain(&["a"]), 0, Origin::Client);
    assert!(rig.answer(1).unwrap().is_ok());
    rig.submit(2, plain(&["b"]), 1, Origin::Client);
    rig.submit(3, plain(&["c"]), -1, Origin::Client);
    assert_eq!(rig.answer(2), None);
    rig.settle();
    assert_eq!(rig.answer(2).unwrap().unwrap().base_offset, 1);
    assert_eq!((rig.answer(3), rig.part.high_watermark(), rig.part.log_end()), (None, 0, 3));
    rig.release_syncs();
    assert_eq!(rig.answer(3).unwrap().unwrap().base_offset, 2);
    assert_eq!(rig.part.high_watermark(), 3);
    for acks in [2, -2, i16::MAX] {
        rig.submit(9, plain(&["d"]), acks, Origin::Client);
        assert_eq!(code(rig.answer(9).unwrap()), ErrorCode::InvalidRequiredAcks);
    }
}

#[test]
fn write_caching_acknowledges_what_is_written() {
    let mut rig = Rig::serving(PartitionConfig { write_caching: true, ..PartitionConfig::default() });
    rig.hold_syncs = true;
    rig.submit(1, plain(&["a"]), -1, Origin::Client);
    rig.settle();
    assert!(rig.answer(1).unwrap().is_ok());
    assert_eq!(rig.part.high_watermark(), 1);
}

#[test]
fn acks_all_needs_min_insync_replicas_and_acks_one_does_not() {
    let mut rig = Rig::serving(PartitionConfig { min_insync_replicas: 2, ..PartitionConfig::default() });
    assert_eq!(code(rig.append(1, plain(&["a"]))), ErrorCode::NotEnoughReplicas);
    rig.submit(2, plain(&["a"]), 1, Origin::Client);
    rig.settle();
    assert!(rig.answer(2).unwrap().is_ok());
}

#[test]
fn bad_batches_are_refused_and_leave_no_trace() {
    let mut rig = Rig::serving(PartitionConfig { max_message_bytes: 200, ..PartitionConfig::default() });
    let mut damaged = plain(&["a"]);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert_eq!(code(rig.append(1, damaged)), ErrorCode::CorruptMessage);
    assert_eq!(code(rig.append(2, plain(&["0123456789"; 20]))), ErrorCode::MessageTooLarge);
    assert_eq!(code(rig.append(3, BytesMut::new())), ErrorCode::InvalidRecord);
    assert_eq!(code(rig.append(4, built(BatchBuilder::new().control(), &["a"]))), ErrorCode::InvalidRecord);
    let transactional = built(BatchBuilder::new().producer(1, 0, 0).transactional(), &["a"]);
    assert_eq!(code(rig.append(5, transactional)), ErrorCode::UnsupportedVersion);
    let mut two = plain(&["a"]);
    two.extend_from_slice(&plain(&["b"]));
    assert_eq!(code(rig.append(6, two)), ErrorCode::CorruptMessage);
    rig.now.wall = 0;
    let early = rig.append(7, built(BatchBuilder::new(), &["a"]));
    assert!(early.is_ok(), "a quarter of an hour into the future is within the bounds");
    rig.now.wall = -10_000_000;
    assert_eq!(code(rig.append(8, plain(&["a"]))), ErrorCode::InvalidTimestamp);
    assert_eq!(offsets(&rig), [0]);
    assert_eq!((rig.part.counters().refused, rig.part.counters().records_in), (7, 1));
}

#[test]
fn log_append_time_is_written_into_the_batch_and_answered() {
    let cfg = PartitionConfig { timestamp_type: TimestampType::LogAppendTime, ..PartitionConfig::default() };
    let mut rig = Rig::serving(cfg);
    rig.now.wall = 5_000_000;
    let first = rig.append(1, numbered(7, 0, 0, &["a"])).unwrap();
    assert_eq!(first.log_append_time, 5_000_000);
    rig.now.wall = 6_000_000;
    let again = rig.append(2, numbered(7, 0, 0, &["a"])).unwrap();
    assert_eq!((again.log_append_time, again.duplicate), (5_000_000, true));
    assert_eq!(rig.read_all().len(), 1);
}

#[test]
fn compaction_needs_keys_and_a_codec_mismatch_is_rewritten() {
    let mut rig = Rig::serving(PartitionConfig { compact: true, ..PartitionConfig::default() });
    let mut keyless = BatchBuilder::new();
    keyless.push(NewRecord::new(1_000_000, None, Some(b"value")));
    let refused = rig.append(1, keyless.finish().unwrap()).unwrap_err();
    assert_eq!((refused.code, refused.issues.len()), (ErrorCode::InvalidRecord, 1));
    assert!(rig.append(2, plain(&["a"])).is_ok());

    let compression = CompressionTarget::Codec(Codec::Lz4, None);
    let mut rig = Rig::serving(PartitionConfig { compression, ..PartitionConfig::default() });
    rig.append(1, plain(&["a", "b"])).unwrap();
    assert_eq!(rig.read_all().len(), 2);
    let plan = rig.part.replay_plan(0, 1000).unwrap();
    let storage::ReadPlan::Memory(batches) = plan else { panic!("the tail is in memory") };
    let header = BatchHeader::parse(&batches[0]).unwrap();
    assert_eq!((header.codec(), header.partition_leader_epoch), (Ok(Codec::Lz4), 2));
}

#[test]
fn a_header_that_lies_about_its_largest_timestamp_is_put_right_where_records_are_walked() {
    for (compact, told) in [(true, 1_000_000), (false, 1)] {
        let mut rig = Rig::serving(PartitionConfig { compact, ..PartitionConfig::default() });
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord::new(1_000_000, Some(b"key"), None));
        let mut batch = builder.finish().unwrap();
        records::set_max_timestamp(&mut batch, 1);
        rig.append(1, batch).unwrap();
        let plan = rig.part.replay_plan(0, 1000).unwrap();
        let storage::ReadPlan::Memory(batches) = plan else { panic!("the tail is in memory") };
        assert_eq!(BatchHeader::parse(&batches[0]).unwrap().max_timestamp, told);
        assert!(records::check_crc(&batches[0]).is_ok());
    }
}

#[test]
fn a_duplicate_of_a_pending_batch_waits_for_it() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.hold_syncs = true;
    rig.submit(1, numbered(7, 0, 0, &["a"]), -1, Origin::Client);
    rig.submit(2, numbered(7, 0, 1, &["b"]), -1, Origin::Client);
    rig.submit(3, numbered(7, 0, 0, &["a"]), -1, Origin::Client);
    rig.settle();
    assert_eq!((rig.answer(1), rig.answer(3)), (None, None));
    rig.release_syncs();
    let first = rig.answer(1).unwrap().unwrap();
    let again = rig.answer(3).unwrap().unwrap();
    assert_eq!((first.base_offset, again.base_offset, again.duplicate), (0, 0, true));
    assert_eq!(rig.read_all().len(), 2);
    assert_eq!(rig.part.counters().duplicates, 1);
}

#[test]
fn sequence_errors_have_kafkas_codes() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.append(1, numbered(7, 3, 40, &["a"])).unwrap();
    assert_eq!(code(rig.append(2, numbered(7, 3, 42, &["c"]))), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(code(rig.append(3, numbered(7, 2, 41, &["b"]))), ErrorCode::InvalidProducerEpoch);
    assert_eq!(code(rig.append(4, numbered(7, 4, 41, &["b"]))), ErrorCode::OutOfOrderSequenceNumber);
    rig.append(5, numbered(7, 4, 0, &["b"])).unwrap();
    assert_eq!(code(rig.append(6, numbered(7, 3, 41, &["b"]))), ErrorCode::InvalidProducerEpoch);
    let producers = rig.part.describe_producers();
    assert_eq!((producers.len(), producers[0].epoch, producers[0].last_sequence), (1, 4, 0));
}

#[test]
fn producers_are_remembered_over_every_kind_of_restart() {
    for checkpoint in [false, true] {
        for power in [false, true] {
            let mut rig = Rig::serving(PartitionConfig::default());
            rig.append(1, numbered(7, 0, 0, &["a"])).unwrap();
            if checkpoint {
                assert!(rig.part.checkpoint(bytes::Bytes::new(), false, &mut rig.dir));
                rig.settle();
            }
            rig.append(2, numbered(7, 0, 1, &["b"])).unwrap();
            rig.restart(power);
            let again = rig.append(3, numbered(7, 0, 0, &["a"])).unwrap();
            assert_eq!((again.base_offset, again.duplicate), (0, true), "{checkpoint} {power}");
            let next = rig.append(4, numbered(7, 0, 2, &["c"])).unwrap();
            assert_eq!((next.base_offset, next.duplicate), (2, false));
            assert_eq!(rig.part.leader_epoch(), Some(3));
        }
    }
}

#[test]
fn nothing_is_served_or_followed_until_the_tail_is_durable_again() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.hold_syncs = true;
    rig.submit(1, plain(&["a"]), 1, Origin::Client);
    rig.settle();
    assert!(rig.answer(1).unwrap().is_ok());
    rig.restart(false);
    rig.append(2, plain(&["b"])).unwrap();
    assert_eq!(rig.read_all(), [(0, b"a".to_vec()), (1, b"b".to_vec())]);
}

#[test]
fn a_failed_partition_answers_everybody_and_refuses_the_rest() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.hold_syncs = true;
    rig.submit(1, plain(&["a"]), -1, Origin::Client);
    rig.part.fail(ErrorCode::KafkaStorageError, &mut rig.fx);
    assert_eq!(code(rig.answer(1).unwrap()), ErrorCode::KafkaStorageError);
    rig.submit(2, plain(&["a"]), -1, Origin::Client);
    assert_eq!(code(rig.answer(2).unwrap()), ErrorCode::KafkaStorageError);
    rig.release_syncs();
    assert_eq!(rig.part.high_watermark(), 0);
}

#[test]
fn the_byte_budget_refuses_with_a_retriable_code() {
    let mut rig = Rig::serving(PartitionConfig { max_uncommitted_bytes: 100, ..PartitionConfig::default() });
    rig.hold_syncs = true;
    rig.submit(1, plain(&["a"]), -1, Origin::Client);
    rig.submit(2, plain(&["b"]), -1, Origin::Client);
    assert_eq!(code(rig.answer(2).unwrap()), ErrorCode::RequestTimedOut);
    rig.release_syncs();
    assert!(rig.append(3, plain(&["b"])).is_ok());
    assert_eq!(offsets(&rig), [0, 1]);
}
