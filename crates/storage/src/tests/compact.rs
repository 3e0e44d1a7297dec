//! Compaction of one log: what is kept, how new files take the place of old ones, and crashes in between.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;
use bytes::Bytes;
use records::{BatchBuilder, ControlKind, EndMarker, NewRecord, Record};
use std::collections::BTreeMap;

/// A log whose files leave the window as soon as they are sealed.
pub(super) fn compacted() -> LogConfig {
    LogConfig { window_bytes: 0, segment_bytes: 2_000, ..small() }
}

pub(super) fn bounds(rig: &mut Rig) -> CleanBounds {
    let (now, upto) = (rig.now.wall, rig.log().next_offset());
    CleanBounds { now, upto, min_lag_ms: 0, max_lag_ms: i64::MAX }
}

pub(super) fn input(rig: &mut Rig) -> CleanInput {
    CleanInput {
        bounds: bounds(rig),
        delete_retention_ms: 1_000,
        map_bytes: 1 << 20,
        aborted: Vec::new(),
        producers: BTreeMap::new(),
    }
}

/// Appends the batch that `build` makes, as one entry.
pub(super) fn append(rig: &mut Rig, builder: BatchBuilder) -> i64 {
    let (index, offset, term) = (rig.log().last_index() + 1, rig.log().next_offset(), rig.log().last_term());
    let batch = Bytes::from(builder.base_offset(offset).finish().unwrap());
    append_batch(rig, index, term, batch);
    offset
}

fn append_batch(rig: &mut Rig, index: u64, term: u64, batch: Bytes) {
    let header = records::check_crc(&batch).unwrap();
    let head = EntryHead {
        index,
        term,
        kind: EntryKind::Data,
        flags: 0,
        offset_count: header.last_offset_delta as u32 + 1,
        base_offset: header.base_offset,
        append_time: rig.now.wall,
    };
    rig.append_entry(head, batch, header.max_timestamp);
}

/// One record; no value: a tombstone.
pub(super) fn put(rig: &mut Rig, key: &str, value: Option<&str>) -> i64 {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord::new(rig.now.wall, Some(key.as_bytes()), value.map(str::as_bytes)));
    append(rig, builder)
}

pub(super) fn marker(rig: &mut Rig, producer_id: i64, kind: ControlKind) -> i64 {
    let (index, offset, term) = (rig.log().last_index() + 1, rig.log().next_offset(), rig.log().last_term());
    let end =
        EndMarker { kind, producer_id, producer_epoch: 0, coordinator_epoch: 0, timestamp: rig.now.wall };
    append_batch(rig, index, term, Bytes::from(records::end_marker_batch(&end, offset, term as i32)));
    offset
}

/// Seals what there is, and lets it leave the window.
pub(super) fn seal(rig: &mut Rig) {
    rig.settle();
    let Rig { log, dir, .. } = rig;
    log.as_mut().unwrap().roll(dir.fx());
    rig.settle();
    if rig.checkpoint() {
        rig.settle();
    }
}

/// Carries a pass out. `None`: there was nothing to do, it was void, or the disk died.
pub(super) fn clean(rig: &mut Rig, input: CleanInput) -> Option<Cleaned> {
    let Rig { log, dir, .. } = rig;
    let job = log.as_mut().unwrap().begin_clean(input, dir.fx())?;
    let mut run = CleanRun::begin(job, dir);
    while rig.disk.done < rig.dies_at {
        rig.step();
        for event in std::mem::take(&mut rig.events) {
            let DirEvent::Aside { token, done, .. } = event else { panic!("{event:?}") };
            assert!(run.awaits(token));
            match run.on_aside(token, done, &mut rig.dir) {
                CleanProgress::Waits => {}
                CleanProgress::Rests(read) => {
                    assert!(read < 2 << 20);
                    run.go_on(&mut rig.dir);
                }
                CleanProgress::Over(job, end) => {
                    let Rig { log, dir, .. } = rig;
                    return log.as_mut().unwrap().cleaned(*job, &end, dir.fx());
                }
            }
        }
    }
    None
}

/// Lets the checkpoints be written that the log asks for, with an entry before each.
pub(super) fn relist(rig: &mut Rig) {
    for _ in 0..3 {
        rig.append_command(1, b"x");
        rig.settle();
        if rig.log().wants_checkpoint() {
            assert!(rig.checkpoint());
            rig.settle();
        }
    }
}

/// Every record, control batches left out, and the offsets of these.
pub(super) fn read(rig: &mut Rig) -> (Vec<Record>, Vec<i64>) {
    rig.cool();
    let from = rig.log().log_start();
    let bytes = Bytes::from(rig.read_all(from).unwrap());
    let (mut found, mut markers) = (Vec::new(), Vec::new());
    for (range, header) in records::batches(&bytes).map(Result::unwrap) {
        if header.is_control() {
            markers.extend((header.record_count > 0).then_some(header.base_offset));
        } else {
            let batch = bytes.slice(range);
            found.extend(records::records(&batch, 1 << 20).unwrap().map(Result::unwrap));
        }
    }
    (found, markers)
}

fn shown(rig: &mut Rig) -> Vec<(i64, String, Option<String>)> {
    let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
    let row = |r: Record| (r.offset, text(&r.key.unwrap()), r.value.as_ref().map(text));
    read(rig).0.into_iter().map(row).collect()
}

fn logs(rig: &Rig) -> Vec<String> {
    rig.disk.names().into_iter().filter(|n| n.ends_with(".log") && n.starts_with("groups")).collect()
}

#[test]
fn the_last_value_of_each_key_stays_at_its_offset() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..40 {
        put(&mut rig, &format!("k{}", n % 7), Some(&format!("v{n}")));
    }
    seal(&mut rig);
    put(&mut rig, "k0", Some("active"));
    rig.settle();
    let before = rig.log().size_bytes();
    let bounds = bounds(&mut rig);
    assert!(rig.log().dirtiness(&bounds).ratio() > 0.99 && rig.log().dirtiness(&bounds).wants(0.5));
    let i = input(&mut rig);
    let cleaned = clean(&mut rig, i).unwrap();
    assert_eq!(cleaned.stats.records.dropped, 33);
    let plan = rig.log().read_plan(0, 41, 1 << 20).unwrap();
    assert!(matches!(plan, ReadPlan::File(_)), "what is gone is not read from memory");
    let found = shown(&mut rig);
    let expected: Vec<(i64, String, Option<String>)> = (33..40)
        .map(|n| (n, format!("k{}", n % 7), Some(format!("v{n}"))))
        .chain([(40, "k0".to_owned(), Some("active".to_owned()))])
        .collect();
    assert_eq!(found, expected);
    assert!(rig.log().size_bytes() < before / 2);
    assert_eq!(rig.log().dirtiness(&bounds).ratio(), 0.0);
    for from in 0..41 {
        let first = rig.read_all(from).unwrap();
        let (_, header) = records::batches(&first).next().unwrap().unwrap();
        assert_eq!(header.base_offset, from.max(33), "a removed offset gives the next one");
    }
    let i = input(&mut rig);
    assert!(clean(&mut rig, i).is_none(), "nothing is new");
}

#[test]
fn old_files_go_when_no_checkpoint_names_them_and_a_crash_leaves_old_or_new_ones() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..60 {
        put(&mut rig, &format!("k{}", n % 5), Some(&format!("v{n}")));
    }
    seal(&mut rig);
    let old = logs(&rig);
    let i = input(&mut rig);
    clean(&mut rig, i).unwrap();
    rig.settle();
    let after = shown(&mut rig);
    assert_eq!(after.len(), 5);
    assert!(old.iter().all(|name| logs(&rig).contains(name)), "still named by checkpoints");
    // Before a checkpoint names the new files: the old ones, and nothing is left of the new ones.
    let mut crashed = Rig { disk: rig.disk.clone(), ..Rig::with(TestDisk::default(), compacted()) };
    crashed.disk.power_off(|_| None);
    crashed.reopen().unwrap();
    crashed.settle();
    assert_eq!((shown(&mut crashed).len(), logs(&crashed)), (60, old.clone()));
    // One does, and the older one yet names the old files.
    rig.append_command(1, b"x");
    rig.settle();
    assert!(rig.log().wants_checkpoint() && rig.checkpoint());
    rig.settle();
    assert!(old.iter().all(|name| logs(&rig).contains(name)));
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    rig.settle();
    assert_eq!(shown(&mut rig), after);
    assert!(old.iter().all(|name| logs(&rig).contains(name)), "the older checkpoint serves if need be");
    let newest = rig.log().newest_checkpoint().unwrap();
    let newest = rig.path(&checkpoint::checkpoint_name(newest));
    let mut damaged = Rig { disk: rig.disk.clone(), ..Rig::with(TestDisk::default(), compacted()) };
    damaged.disk.flip(&newest, 60);
    damaged.reopen().unwrap();
    assert_eq!((shown(&mut damaged).len(), damaged.log().base_damage().len()), (60, 0));
    relist(&mut rig);
    let left = logs(&rig);
    assert!(old.iter().all(|name| !left.contains(name)), "{left:?}");
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((shown(&mut rig), rig.log().clean_offset()), (after, 60));
}

#[test]
fn a_tombstone_stays_for_its_time_and_until_the_horizon_is_committed() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    put(&mut rig, "a", Some("1"));
    put(&mut rig, "a", None);
    put(&mut rig, "b", Some("2"));
    seal(&mut rig);
    let i = input(&mut rig);
    assert_eq!(clean(&mut rig, i).unwrap().horizon, None, "its time has just begun");
    let both = [(1, "a".to_owned(), None), (2, "b".to_owned(), Some("2".to_owned()))];
    assert_eq!(shown(&mut rig), both);
    let next = |rig: &mut Rig| {
        put(rig, "c", Some("3"));
        seal(rig);
        let i = input(rig);
        clean(rig, i).unwrap().horizon
    };
    rig.now.wall += 500;
    assert_eq!(next(&mut rig), None);
    rig.now.wall += 600;
    assert_eq!(next(&mut rig), Some(5), "everything below has had its time");
    assert_eq!(shown(&mut rig)[..2], both, "the horizon is not committed");
    rig.log().apply_clean_horizon(5);
    assert_eq!(next(&mut rig), None);
    assert_eq!(shown(&mut rig)[0].0, 2, "the tombstone is gone");
    relist(&mut rig);
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().clean_horizon(), 5);
}

#[test]
fn records_of_aborted_transactions_go_and_markers_follow_their_data() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    let data = |rig: &mut Rig, id: i64, key: &str, value: &str| {
        let mut builder = BatchBuilder::new().producer(id, 0, 0).transactional();
        builder.push(NewRecord::new(rig.now.wall, Some(key.as_bytes()), Some(value.as_bytes())));
        append(rig, builder)
    };
    put(&mut rig, "a", Some("before"));
    let first_offset = data(&mut rig, 7, "a", "aborted");
    data(&mut rig, 8, "b", "committed");
    let last_offset = marker(&mut rig, 7, ControlKind::Abort);
    let commit = marker(&mut rig, 8, ControlKind::Commit);
    seal(&mut rig);
    let with_aborted = |rig: &mut Rig| {
        let aborted = vec![AbortedRange { producer_id: 7, first_offset, last_offset }];
        CleanInput { aborted, ..input(rig) }
    };
    let i = with_aborted(&mut rig);
    clean(&mut rig, i).unwrap();
    let (found, markers) = read(&mut rig);
    assert_eq!(found.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 2], "the value before counts");
    assert_eq!(markers, [last_offset, commit], "their data was there when the pass came by");
    // The data is gone, but readers are told of the transaction: what its producer writes later is left out by them until
    // they meet its marker. Once they are not, the marker's time begins, ends, and the horizon is committed.
    for (later, listed, left) in
        [(0, true, 2), (2_000, true, 2), (0, true, 2), (0, false, 2), (2_000, false, 2), (0, false, 1)]
    {
        rig.now.wall += later;
        put(&mut rig, "c", Some("3"));
        seal(&mut rig);
        let i = if listed { with_aborted(&mut rig) } else { input(&mut rig) };
        if let Some(horizon) = clean(&mut rig, i).unwrap().horizon {
            rig.log().apply_clean_horizon(horizon);
        }
        assert_eq!(read(&mut rig).1.len(), left);
    }
    assert_eq!(read(&mut rig).1, [commit], "its data is there");
}

#[test]
fn the_last_batch_of_a_producer_stays_without_records() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..3 {
        let mut builder = BatchBuilder::new().producer(5, 0, n);
        builder.push(NewRecord::new(1, Some(b"k"), Some(b"v")));
        append(&mut rig, builder);
    }
    put(&mut rig, "k", Some("newer"));
    seal(&mut rig);
    let i = CleanInput { producers: BTreeMap::from([(5, 2)]), ..input(&mut rig) };
    clean(&mut rig, i).unwrap();
    rig.cool();
    let bytes = rig.read_all(0).unwrap();
    let headers: Vec<_> = records::batches(&bytes).map(|b| b.unwrap().1).collect();
    assert_eq!(headers.iter().map(|h| (h.base_offset, h.record_count)).collect::<Vec<_>>(), [(2, 0), (3, 1)]);
    assert_eq!((headers[0].producer_id, headers[0].last_sequence()), (5, 2));
}

#[test]
fn a_map_that_is_full_ends_the_pass_and_the_next_one_goes_on() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..300 {
        put(&mut rig, &format!("k{}", n % 150), Some(&format!("v{n}")));
        if n % 50 == 0 {
            rig.settle();
        }
    }
    seal(&mut rig);
    let mut last = 0;
    for pass in 0.. {
        // Room for 57 keys.
        let i = CleanInput { map_bytes: 1, ..input(&mut rig) };
        if clean(&mut rig, i).is_none() {
            assert!(pass > 3);
            break;
        }
        assert!(rig.log().clean_offset() > last);
        last = rig.log().clean_offset();
    }
    assert_eq!(shown(&mut rig).iter().map(|r| r.0).collect::<Vec<_>>(), (150..300).collect::<Vec<_>>());
}

#[test]
fn a_damaged_file_is_left_out_and_what_deletes_behind_it_stays() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..30 {
        put(&mut rig, &format!("k{}", n % 3), Some(&format!("v{n}")));
    }
    put(&mut rig, "k0", None);
    put(&mut rig, "end", Some("1"));
    seal(&mut rig);
    rig.log().apply_clean_horizon(1_000);
    let files = rig.log().files();
    assert!(files.len() > 3);
    rig.disk.flip(&files[1].path, 100);
    let i = input(&mut rig);
    assert!(clean(&mut rig, i).is_none(), "the pass is void");
    let named: Vec<String> = rig.log().uncleanable().map(str::to_owned).collect();
    assert!(named.len() == 1 && named[0].contains(&files[1].path), "{named:?}");
    assert!(logs(&rig).len() == files.len(), "it leaves nothing: {:?}", logs(&rig));
    for _ in 0..3 {
        rig.now.wall += 5_000;
        put(&mut rig, "end", Some("2"));
        seal(&mut rig);
        let i = input(&mut rig);
        assert!(clean(&mut rig, i).is_some(), "the others go on");
    }
    let bad = rig.log().files().iter().find(|f| f.path == files[1].path).cloned().unwrap();
    rig.disk.flip(&files[1].path, 100);
    let found = shown(&mut rig);
    let kept = |r: &&(i64, String, Option<String>)| r.1 == "k0" && r.2.is_none();
    assert_eq!(found.iter().filter(kept).count(), 1, "the file that was left out may hold what it deletes");
    let outside = |r: &&(i64, String, Option<String>)| !(bad.first_offset..bad.next_offset).contains(&r.0);
    assert_eq!(found.iter().filter(outside).count(), 4);
    // After a start it can be read again: what was let go of keys and what deletes them is held against it now.
    relist(&mut rig);
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    for _ in 0..4 {
        rig.now.wall += 5_000;
        put(&mut rig, "end", Some("3"));
        seal(&mut rig);
        let i = input(&mut rig);
        assert!(clean(&mut rig, i).is_some());
    }
    let mut last = BTreeMap::new();
    shown(&mut rig).into_iter().for_each(|(_, key, value)| _ = last.insert(key, value));
    assert!(last.get("k0").is_none_or(Option::is_none), "a deleted key lives again: {last:?}");
    assert_eq!(last.values().flatten().count(), 3);
}

#[test]
fn retention_during_a_pass_makes_it_void() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..40 {
        put(&mut rig, &format!("k{}", n % 3), Some(&format!("v{n}")));
    }
    seal(&mut rig);
    let i = input(&mut rig);
    let Rig { log, dir, .. } = &mut rig;
    let mut job = log.as_mut().unwrap().begin_clean(i, dir.fx()).unwrap();
    let end = loop {
        let step = job.step(&rig.disk);
        if step.end != CleanEnd::More {
            break step.end;
        }
    };
    let first = rig.log().files()[0].next_offset;
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().apply_log_start(first, dir.fx());
    assert!(rig.checkpoint());
    rig.settle();
    let files = rig.log().files();
    let Rig { log, dir, .. } = &mut rig;
    assert!(log.as_mut().unwrap().cleaned(job, &end, dir.fx()).is_none());
    assert_eq!(rig.log().files(), files);
}

#[test]
fn lag_bounds_say_what_may_and_what_must_be_cleaned() {
    let mut rig = Rig::with(TestDisk::default(), compacted());
    for n in 0..40 {
        rig.now.wall += 100;
        put(&mut rig, &format!("k{n}"), Some("some value that takes its room"));
        rig.settle();
    }
    seal(&mut rig);
    let all = bounds(&mut rig);
    let whole = rig.log().dirtiness(&all);
    assert!(whole.dirty_bytes > 0 && !whole.overdue);
    let young = rig.log().dirtiness(&CleanBounds { min_lag_ms: 2_000, ..all });
    assert!(young.dirty_bytes < whole.dirty_bytes && young.dirty_bytes > 0);
    let stable = rig.log().dirtiness(&CleanBounds { upto: 20, ..all });
    assert!(stable.dirty_bytes < whole.dirty_bytes && stable.dirty_bytes > 0);
    let late = rig.log().dirtiness(&CleanBounds { max_lag_ms: 1_000, ..all });
    assert!(late.overdue && late.wants(1.0));
    let i = input(&mut rig);
    clean(&mut rig, i).unwrap();
    put(&mut rig, "k", Some("new"));
    seal(&mut rig);
    let all = bounds(&mut rig);
    let late = rig.log().dirtiness(&CleanBounds { max_lag_ms: 1_000, ..all });
    assert!(!late.overdue && late.dirty_bytes > 0);
}
