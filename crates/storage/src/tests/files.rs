//! Rolling, retention, indexes, timestamps.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;

#[test]
fn one_append_run_is_one_write() {
    let mut rig = Rig::with(TestDisk::default(), LogConfig::default());
    for _ in 0..10 {
        rig.append(1);
    }
    let writes = rig.dir.fx().ops.iter().filter(|op| matches!(op, DiskOp::Write { .. })).count();
    assert_eq!(writes, 1);
    rig.settle();
    assert_eq!(rig.persisted, 11);
}

#[test]
fn reads_start_anywhere_and_follow_files_without_gaps() {
    let mut rig = Rig::new();
    for n in 0..60 {
        if n % 7 == 0 {
            rig.append_command(1 + n / 20, b"between");
        } else {
            rig.append_sized(2, 20 + n as usize * 3, 0);
        }
        rig.step();
    }
    rig.settle();
    let whole = rig.read_all(0).unwrap();
    rig.cool();
    assert_eq!(rig.read_all(0).unwrap(), whole);
    for from in 0..rig.log().next_offset() {
        let part = rig.read_all(from).unwrap();
        assert!(whole.ends_with(&part), "from {from}");
        let (_, first) = records::batches(&part).next().unwrap().unwrap();
        assert!(first.base_offset <= from && first.next_offset() > from);
    }
}

#[test]
fn a_lost_index_is_rebuilt_when_it_is_needed() {
    let mut rig = Rig::new();
    for _ in 0..40 {
        rig.append(1);
        rig.step();
    }
    rig.settle();
    let whole = rig.read_all(0).unwrap();
    let names = rig.disk.names();
    let indexes: Vec<&String> = names.iter().filter(|n| n.ends_with(".idx")).collect();
    assert!(indexes.len() > 2);
    rig.disk.take(indexes[0]);
    rig.disk.flip(indexes[1], 3);
    rig.cool();
    assert_eq!(rig.read_all(0).unwrap(), whole);
}

#[test]
fn retention_moves_the_start_by_whole_files_and_removes_them_after_a_checkpoint() {
    let mut rig = Rig::new();
    for _ in 0..40 {
        rig.now.wall += 1000;
        rig.append(1);
        rig.settle();
    }
    let files = rig.log().files();
    let size = rig.log().size_bytes();
    let end = rig.log().next_offset();
    let now = rig.now;
    let by_size = rig.log().retention_start(now, -1, size as i64 - files[0].bytes as i64, end);
    assert_eq!(by_size, Some(files[0].next_offset));
    assert_eq!(rig.log().retention_start(now, -1, -1, end), None);
    let by_time = rig.log().retention_start(now, now.wall - files[1].max_timestamp - 1, -1, end).unwrap();
    assert_eq!(by_time, files[1].next_offset);
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().apply_log_start(by_time, dir.fx());
    rig.settle();
    assert!(rig.disk.get(&files[0].path).is_some(), "still there before the checkpoint");
    assert!(rig.log().wants_checkpoint() && rig.checkpoint());
    rig.settle();
    assert!(rig.disk.get(&files[0].path).is_none() && rig.disk.get(&files[2].path).is_some());
    assert!(rig.log().read_plan(0, end, 1).is_err());
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((rig.log().log_start(), rig.log().next_offset()), (by_time, end));
    assert_eq!(rig.log().first_index(), 2 + by_time as u64);
    let before = rig.log().first_index() - 1;
    assert_eq!(rig.log().term(before), Some(1));
    rig.cool();
    assert_eq!(records::batches(&rig.read_all(by_time).unwrap()).count() as i64, end - by_time);
}

#[test]
fn deleting_everything_leaves_an_empty_window_that_goes_on() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.append(2);
    }
    rig.settle();
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().apply_log_start(10, dir.fx());
    assert!(rig.log().wants_checkpoint() && rig.checkpoint());
    rig.settle();
    assert_eq!((rig.log().first_index(), rig.log().last_index()), (7, 6));
    assert_eq!((rig.log().size_bytes(), rig.log().term(6)), (0, Some(1)));
    assert!(!rig.log().wants_checkpoint());
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((rig.log().last_index(), rig.log().next_offset(), rig.log().log_start()), (6, 10, 10));
    rig.append(2);
    rig.settle();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((rig.log().last_index(), rig.log().next_offset()), (7, 12));
}

#[test]
fn timestamps_are_found_in_sealed_and_active_files() {
    let mut rig = Rig::new();
    for n in 0..40 {
        rig.append_sized(1, 60, 10_000 + n * 10);
        rig.step();
    }
    rig.settle();
    rig.cool();
    for n in 0..40 {
        let TimestampPlan::File(range) = rig.log().offset_for_timestamp(10_000 + n * 10 - 5, 0, 99) else {
            panic!("record {n}");
        };
        let found = read_range(&rig.disk, &range).unwrap();
        let (_, header) = records::batches(&found.batches[0]).next().unwrap().unwrap();
        assert_eq!((header.base_offset, found.batches.len()), (n, 1));
    }
    assert_eq!(rig.log().offset_for_timestamp(99_999, 0, 99), TimestampPlan::None);
    assert_eq!(rig.log().max_timestamp(40), Some((10_390, 39)));
}

#[test]
fn an_idle_log_is_small() {
    let mut rig = Rig::with(TestDisk::default(), LogConfig::default());
    assert!(std::mem::size_of::<Log>() <= 700, "{}", std::mem::size_of::<Log>());
    rig.append(1);
    rig.settle();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    let ops: Vec<_> = rig.dir.ops().collect();
    assert!(ops.is_empty(), "opening a group opens no file: {ops:?}");
}

#[test]
fn a_deleted_group_leaves_nothing_and_is_forgotten() {
    let mut rig = Rig::new();
    for _ in 0..20 {
        rig.append(1);
    }
    rig.settle();
    let log = rig.log.take().unwrap();
    log.delete(rig.dir.fx());
    rig.dir.forget(KEY);
    rig.dir.remove(KEY);
    rig.settle();
    assert!(rig.disk.names().iter().all(|n| !n.starts_with("groups/")), "{:?}", rig.disk.names());
    assert!(rig.try_recover().unwrap().is_none());
}

#[test]
fn an_old_file_is_rolled_by_time() {
    let mut rig = Rig::with(TestDisk::default(), LogConfig { segment_ms: 100, ..LogConfig::default() });
    rig.append(1);
    rig.now.wall += 100;
    assert!(rig.log().files().len() == 1);
    rig.append(1);
    assert_eq!(rig.log().files().len(), 2);
}

/// What a file of the pool has behind the log's end is of no use to anybody.
#[test]
fn a_file_that_time_seals_keeps_no_room_that_it_does_not_use() {
    let mut rig = Rig::with(TestDisk::default(), LogConfig { segment_ms: 100, ..LogConfig::default() });
    rig.append(1);
    rig.settle();
    let last = rig.log().last_index();
    let file = rig.log().file_with(last).unwrap();
    let mut bytes = rig.disk.get(&file).unwrap().to_vec();
    let size = bytes.len();
    bytes.resize(1 << 20, 0);
    rig.disk.set(&file, bytes);
    rig.now.wall += 100;
    rig.append(1);
    rig.settle();
    assert_eq!(rig.disk.get(&file).unwrap().len(), size);
    rig.reopen().unwrap();
    assert_eq!(rig.log().next_offset(), 2);
}

#[test]
fn what_time_seals_leaves_the_window_of_a_compacted_log_also_while_it_is_appended_to() {
    let config = LogConfig { segment_ms: 100, cleaned: true, ..LogConfig::default() };
    for cleaned in [true, false] {
        let mut rig = Rig::with(TestDisk::default(), LogConfig { cleaned, ..config.clone() });
        rig.append(1);
        rig.now.wall += 100;
        rig.append(1);
        rig.settle();
        let last = rig.log().last_index();
        rig.commit(last);
        assert_eq!(rig.log().wants_checkpoint(), cleaned);
    }
}

#[test]
fn a_read_does_not_look_at_frames_that_are_not_written_yet() {
    let mut rig = Rig::with(TestDisk::default(), LogConfig::default());
    (0..5).for_each(|_| rig.append(1));
    rig.settle();
    let file = rig.path("00000000000000000002.log");
    let mut bytes = rig.disk.get(&file).unwrap().to_vec();
    bytes.extend([0x55; 5000]);
    rig.disk.set(&file, bytes);
    (0..3).for_each(|_| rig.append(1));
    rig.cool();
    for from in 0..5 {
        let ReadPlan::File(range) = rig.log().read_plan(from, 5, 1 << 20).unwrap() else { panic!("cold") };
        let read = read_range(&rig.disk, &range).unwrap();
        assert_eq!((read.next_offset, read.batches.len() as i64), (5, 5 - from));
        let data = rig.disk.read(&range.path, range.pos, range.len as usize).unwrap();
        assert_eq!(extract(&range, data).unwrap(), read);
    }
}
