//! Commands, machines, checkpoints, log start moves, reads.
use crate::test_rig::{Rig, numbered, plain};
use crate::{
    CommittedBody, FetchInput, Isolation, ListOffsetAsk, ListOffsetOutcome, ListOffsetStep, Origin,
    PartitionConfig, PartitionFx,
};
use bytes::Bytes;
use model::ErrorCode;
use storage::{LogConfig, ReadPlan, read_range};

fn machine() -> PartitionConfig {
    PartitionConfig { machine: true, ..PartitionConfig::default() }
}

fn committed(rig: &mut Rig) -> Vec<(Option<u64>, CommittedBody)> {
    let said = rig.fx.drain(..).filter_map(|e| match e {
        PartitionFx::Committed(entry) => Some((entry.token, entry.body)),
        _ => None,
    });
    said.collect()
}

fn command(text: &'static str) -> CommittedBody {
    CommittedBody::Command(Bytes::from_static(text.as_bytes()))
}

fn fetch(offset: i64) -> FetchInput {
    FetchInput {
        offset,
        max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        isolation: Isolation::ReadUncommitted,
        at_follower: false,
    }
}

#[test]
fn commands_and_coordinator_data_come_back_in_order_with_their_tokens() {
    let mut rig = Rig::serving(machine());
    rig.part.propose_command(rig.now, 5, Bytes::from_static(b"one"), &mut rig.dir, &mut rig.fx);
    let mut two = plain(&["a", "b"]);
    two.extend_from_slice(&plain(&["c"]));
    rig.submit(6, two, -1, Origin::Coordinator);
    assert!(committed(&mut rig).is_empty());
    rig.settle();
    let data = CommittedBody::Data { base_offset: 0, next_offset: 3 };
    assert_eq!(rig.read_all().len(), 3);
    assert_eq!(committed(&mut rig), [(Some(5), command("one")), (Some(6), data)]);
}

#[test]
fn a_machine_is_rebuilt_from_its_checkpoint_and_what_follows() {
    let mut rig = Rig::serving(machine());
    let propose = |rig: &mut Rig, text: &'static str| {
        rig.part.propose_command(rig.now, 1, Bytes::from_static(text.as_bytes()), &mut rig.dir, &mut rig.fx);
        rig.settle();
    };
    propose(&mut rig, "one");
    assert!(rig.part.checkpoint(Bytes::from_static(b"state"), false, &mut rig.dir));
    rig.settle();
    propose(&mut rig, "two");
    propose(&mut rig, "three");
    rig.restart(true);
    assert_eq!(rig.opened.machine, &b"state"[..]);
    rig.touch();
    let replayed =
        std::mem::take(&mut rig.opened.commands).into_iter().map(|(_, c)| CommittedBody::Command(c));
    let later = committed(&mut rig);
    assert!(later.iter().all(|(token, _)| token.is_none()));
    let all: Vec<_> = replayed.chain(later.into_iter().map(|(_, body)| body)).collect();
    assert_eq!(all, [command("two"), command("three")]);
}

#[test]
fn a_cached_partitions_checkpoint_is_written_when_everything_it_stands_for_is_durable() {
    for machine in [false, true] {
        let cfg = PartitionConfig { write_caching: true, machine, ..PartitionConfig::default() };
        let mut rig = Rig::serving(cfg);
        rig.append(1, numbered(7, 0, 0, &["a"])).unwrap();
        assert!(rig.part.checkpoint(Bytes::from_static(b"state"), false, &mut rig.dir));
        rig.append(2, numbered(7, 0, 1, &["b"])).unwrap();
        let written = |rig: &Rig| rig.disk.names().any(|path| path.ends_with(".ckpt"));
        assert!(!written(&rig), "what it stands for is in the page cache");
        assert!(!rig.part.checkpoint(Bytes::from_static(b"another"), false, &mut rig.dir));
        rig.now.mono = rig.now.mono.after_ms(60_000);
        rig.settle();
        assert!(written(&rig), "after the flush");
        rig.restart(true);
        assert_eq!(rig.opened.machine, &b"state"[..]);
        assert!(rig.append(3, numbered(7, 0, 1, &["b"])).unwrap().duplicate);
    }
}

#[test]
fn delete_records_moves_the_log_start_when_it_is_committed_and_for_good() {
    let mut rig = Rig::serving(PartitionConfig::default());
    for i in 0..5 {
        rig.append(i, plain(&["a"])).unwrap();
    }
    let delete = |rig: &mut Rig, token, offset| {
        rig.fx.clear();
        rig.part.delete_records(rig.now, token, offset, &mut rig.dir, &mut rig.fx);
        let before = rig.part.log_start();
        rig.settle();
        let done = rig.fx.iter().find_map(|e| match e {
            PartitionFx::LogStartDone { token: t, result } if *t == token => Some(*result),
            _ => None,
        });
        (before, done.expect("answered"))
    };
    assert_eq!(delete(&mut rig, 1, 3), (0, Ok(3)));
    assert_eq!(delete(&mut rig, 2, 2), (3, Ok(3)));
    assert_eq!(delete(&mut rig, 3, 6), (3, Err(ErrorCode::OffsetOutOfRange)));
    assert_eq!(delete(&mut rig, 3, -2), (3, Err(ErrorCode::OffsetOutOfRange)));
    assert_eq!(rig.part.fetch(&fetch(2)).unwrap_err().code, ErrorCode::OffsetOutOfRange);
    rig.restart(true);
    rig.touch();
    assert_eq!(rig.part.log_start(), 3);
    assert_eq!(delete(&mut rig, 4, -1), (3, Ok(5)));
    assert_eq!(rig.append(9, plain(&["b"])).unwrap().base_offset, 5);

    let mut rig =
        Rig::serving(PartitionConfig { delete: false, compact: true, ..PartitionConfig::default() });
    rig.append(1, plain(&["a"])).unwrap();
    assert_eq!(delete(&mut rig, 5, 1), (0, Err(ErrorCode::PolicyViolation)));
}

#[test]
fn retention_removes_whole_files_by_a_committed_move() {
    let log = LogConfig { segment_bytes: 400, ..LogConfig::default() };
    let mut rig = Rig::serving(PartitionConfig { log, retention_ms: 1000, ..PartitionConfig::default() });
    for i in 0..10 {
        rig.append(i, plain(&["a"])).unwrap();
    }
    rig.now.wall += 500;
    rig.tick();
    assert_eq!(rig.part.log_start(), 0);
    rig.now.wall += 5000;
    let mut fresh = records::BatchBuilder::new();
    fresh.push(records::NewRecord::new(rig.now.wall, None, Some(b"b")));
    rig.append(10, fresh.finish().unwrap()).unwrap();
    rig.tick();
    let start = rig.part.log_start();
    assert!(start > 0, "old files went");
    rig.tick();
    assert_eq!(rig.read_all().first().map(|(offset, _)| *offset), Some(start));
    rig.restart(true);
    rig.touch();
    assert_eq!((rig.part.log_start(), rig.part.high_watermark()), (start, 11));
}

#[test]
fn fetches_are_fenced_by_epoch_and_bounded_by_the_high_watermark() {
    let mut rig = Rig::new(PartitionConfig::default());
    assert_eq!(rig.part.fetch(&fetch(0)).unwrap_err().code, ErrorCode::NotLeaderOrFollower);
    rig.touch();
    rig.append(1, plain(&["a", "b"])).unwrap();
    let ok = rig.part.fetch(&fetch(1)).unwrap();
    assert_eq!((ok.high_watermark, ok.last_stable_offset, ok.log_start), (2, 2, 0));
    let ReadPlan::Memory(batches) = ok.plan else { panic!("the tail is in memory") };
    assert_eq!(records::BatchHeader::parse(&batches[0]).unwrap().base_offset, 0, "the whole batch");
    assert_eq!(rig.part.fetch(&fetch(2)).unwrap().plan, ReadPlan::Empty);
    assert_eq!(rig.part.fetch(&fetch(3)).unwrap_err().code, ErrorCode::OffsetOutOfRange);
    let with = |epoch| rig.part.fetch(&FetchInput { current_leader_epoch: epoch, ..fetch(0) });
    assert!(with(2).is_ok());
    assert_eq!(with(1).unwrap_err().code, ErrorCode::FencedLeaderEpoch);
    assert_eq!(with(3).unwrap_err().code, ErrorCode::UnknownLeaderEpoch);

    rig.hold_syncs = true;
    rig.submit(2, plain(&["c"]), 1, Origin::Client);
    rig.settle();
    assert_eq!(rig.part.fetch(&fetch(2)).unwrap().plan, ReadPlan::Empty, "written is not visible");
    assert_eq!(rig.part.fetch(&fetch(3)).unwrap().plan, ReadPlan::Empty);
}

#[test]
fn a_diverged_reader_is_told_where() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.append(1, plain(&["a", "b"])).unwrap();
    rig.restart(true);
    rig.append(2, plain(&["c"])).unwrap();
    let fetch = |offset, epoch| {
        rig.part.fetch(&FetchInput { last_fetched_epoch: epoch, ..fetch(offset) }).map(|ok| ok.diverging)
    };
    assert_eq!(fetch(2, 2), Ok(None));
    assert_eq!(fetch(3, 3), Ok(None));
    assert_eq!(fetch(3, 2), Ok(Some((2, 2))));
    assert_eq!(fetch(3, 9).unwrap_err().code, ErrorCode::OffsetOutOfRange);
    assert_eq!(rig.part.offset_for_leader_epoch(-1, 2), Ok((2, 2)));
    assert_eq!(rig.part.offset_for_leader_epoch(3, 3), Ok((3, 3)));
    assert_eq!(rig.part.offset_for_leader_epoch(-1, 8), Ok((-1, -1)));
    assert_eq!(rig.part.offset_for_leader_epoch(-1, -1), Ok((-1, -1)));
    // Below the first epoch: where that begins.
    assert_eq!(rig.part.offset_for_leader_epoch(-1, -2), Ok((-2, 0)));
    assert_eq!(rig.part.offset_for_leader_epoch(2, 2), Err(ErrorCode::FencedLeaderEpoch));
}

fn list(rig: &Rig, timestamp: i64) -> Result<(i64, i64, i32), ErrorCode> {
    let ask = ListOffsetAsk { timestamp, current_leader_epoch: -1, isolation: Isolation::ReadUncommitted };
    let mut step = rig.part.list_offset(ask)?;
    loop {
        match step {
            ListOffsetStep::Done(ListOffsetOutcome { offset, timestamp, leader_epoch }) => {
                return Ok((offset, timestamp, leader_epoch));
            }
            ListOffsetStep::Read { range, search } => {
                let found = read_range(&rig.disk, &range).unwrap();
                step = rig.part.list_offset_read(search, &found)?;
            }
        }
    }
}

#[test]
fn list_offsets_answers_every_sentinel_and_times() {
    let mut rig = Rig::serving(PartitionConfig::default());
    assert_eq!(list(&rig, -1), Ok((0, -1, 2)));
    assert_eq!(list(&rig, -3), Ok((-1, -1, -1)));
    for (i, base) in [100, 300, 200].into_iter().enumerate() {
        let mut batch = records::BatchBuilder::new();
        for delta in 0..2 {
            batch.push(records::NewRecord::new(base + delta, None, Some(b"v")));
        }
        rig.append(i as u64, batch.finish().unwrap()).unwrap();
    }
    assert_eq!(list(&rig, -1), Ok((6, -1, 2)));
    assert_eq!(list(&rig, -2), Ok((0, -1, 2)));
    assert_eq!(list(&rig, -4), Ok((0, -1, 2)));
    assert_eq!(list(&rig, -3), Ok((3, 301, 2)));
    assert_eq!((list(&rig, -5), list(&rig, -6)), (Ok((-1, -1, -1)), Ok((-1, -1, -1))));
    assert_eq!(list(&rig, -7), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(list(&rig, 0), Ok((0, 100, 2)));
    assert_eq!(list(&rig, 101), Ok((1, 101, 2)));
    assert_eq!(list(&rig, 102), Ok((2, 300, 2)));
    assert_eq!(list(&rig, 301), Ok((3, 301, 2)));
    assert_eq!(list(&rig, 302), Ok((-1, -1, -1)));
}
