//! Entries read back by index.
use super::rig::*;
use crate::disk_op::DiskError;
use crate::frame::FRAME_HEADER;
use crate::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::cell::Cell;

/// Sixty entries of every kind in many files, some of them large.
fn mixed() -> Rig {
    let mut rig = Rig::new();
    for n in 0..60u64 {
        match n % 5 {
            0 => rig.append_command(1 + n / 20, b"command"),
            1 => {
                let log = rig.log();
                let kind = if n % 2 == 0 { EntryKind::NoOp } else { EntryKind::ConfChange };
                let head = test_data::head(log.last_index() + 1, kind, 0, log.next_offset());
                let head = EntryHead { term: log.last_term(), flags: n as u16, append_time: 7, ..head };
                rig.append_entry(head, Bytes::from(vec![n as u8; n as usize % 3]), -1);
            }
            _ => rig.append_sized(2, (n * 37 % 700) as usize, 5),
        }
        rig.step();
    }
    rig.settle();
    assert!(rig.log().files().len() > 5);
    rig
}

fn file(rig: &Rig, low: u64, high: u64, max_bytes: usize) -> FileRange {
    match rig.log.as_ref().unwrap().entries_plan(low, high, max_bytes, &rig.dir) {
        EntriesPlan::File(range) => range,
        other => panic!("{other:?}"),
    }
}

fn size(entry: &(EntryHead, Bytes)) -> usize {
    FRAME_HEADER + entry.1.len()
}

/// Every [low, high) comes back as far as it is in one file and fits.
fn all_come_back(rig: &Rig) {
    let last = rig.history.len() as u64 + 1;
    for low in 2..=last {
        for (high, max) in [(low + 1, 1), (low + 3, 400), (last + 1, 1_000), (last + 9, 1 << 20)] {
            let found = read_range(&rig.disk, &file(rig, low, high, max)).unwrap();
            let entries = &found.entries;
            assert_eq!(entries[..], rig.history[low as usize - 2..][..entries.len()], "[{low}, {high})");
            assert!(!entries.is_empty() && entries.len() as u64 <= high - low && found.batches.is_empty());
            let near = rig.log.as_ref().unwrap().entries_in_memory(low, high, max);
            assert_eq!(near[..], rig.history[low as usize - 2..][..near.len()], "in memory [{low}, {high})");
            let bytes: usize = entries.iter().map(size).sum();
            assert!(entries.len() == 1 || bytes <= max, "{bytes} of {max}");
            assert!(rig.log.as_ref().unwrap().holds(entries));
            assert_eq!(found.next_offset, entries.last().unwrap().0.next_offset());
        }
    }
    assert_eq!(rig.read_entries(2, last + 1).unwrap(), rig.history);
}

#[test]
fn entries_of_every_kind_come_back_whole() {
    let mut rig = mixed();
    all_come_back(&rig);
    let names = rig.disk.names();
    for index in names.iter().filter(|n| n.ends_with(".idx")).step_by(2) {
        rig.disk.take(index);
    }
    all_come_back(&rig);
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    all_come_back(&rig);
}

#[test]
fn an_entry_that_is_not_in_its_file_yet_is_not_read() {
    let mut rig = mixed();
    let last = rig.log().last_index();
    let plan = |rig: &Rig, low| rig.log.as_ref().unwrap().entries_plan(low, last + 9, 1 << 20, &rig.dir);
    assert_eq!(plan(&rig, last + 1), EntriesPlan::NotYet, "there is none");
    (0..3).for_each(|_| rig.append(1));
    assert_eq!(plan(&rig, last + 1), EntriesPlan::NotYet, "nothing was written");
    let EntriesPlan::File(range) = plan(&rig, last) else { panic!("it was written") };
    assert_eq!(range.entries.unwrap().high, last + 1);
    assert_eq!(read_range(&rig.disk, &range).unwrap().entries, rig.history[last as usize - 2..][..1]);
    rig.pump();
    let before_barrier = rig.queue.iter().position(|op| matches!(op, DiskOp::Barrier { .. })).unwrap();
    rig.carry_out(before_barrier);
    assert_eq!(plan(&rig, last + 1), EntriesPlan::NotYet, "nobody said that it was written");
    rig.append(1);
    rig.carry_out(1);
    let EntriesPlan::File(range) = plan(&rig, last + 1) else { panic!("three were written") };
    assert_eq!(range.entries.unwrap().high, last + 4);
    rig.settle();
    all_come_back(&rig);
}

#[test]
fn what_a_full_disk_refused_is_not_read() {
    let mut rig = mixed();
    let last = rig.log().last_index();
    rig.disk.full = true;
    rig.append(1);
    rig.settle();
    let log = rig.log.as_ref().unwrap();
    assert_eq!(log.entries_plan(last + 1, last + 2, 99, &rig.dir), EntriesPlan::NotYet);
    assert!(matches!(log.entries_plan(last, last + 2, 99, &rig.dir), EntriesPlan::File(_)));
}

#[test]
fn what_left_the_window_is_compacted() {
    let mut rig = Rig::with(Default::default(), LogConfig { window_bytes: 500, ..small() });
    (0..30).for_each(|_| rig.append(1));
    rig.settle();
    assert!(rig.log().wants_checkpoint() && rig.checkpoint());
    rig.settle();
    let first = rig.log().first_index();
    assert!(first > 2);
    let log = rig.log.as_ref().unwrap();
    assert_eq!(log.entries_plan(first - 1, first + 5, 1 << 20, &rig.dir), EntriesPlan::Compacted);
    assert_eq!(rig.read_entries(first, 32).unwrap(), rig.history[first as usize - 2..]);
}

#[test]
fn damage_is_told_where_entries_are_committed_and_what_is_before_it_is_read() {
    for committed in [true, false] {
        let mut rig = Rig::new();
        rig.replicated = true;
        let mut ends = vec![0];
        for _ in 0..5 {
            rig.append(1);
            ends.push(rig.log().end().pos as usize);
        }
        rig.settle();
        if committed {
            rig.commit(6);
        }
        let path = rig.path("00000000000000000002.log");
        for at in [0, 20, 60, 100] {
            let good = rig.disk.clone();
            rig.disk.flip(&path, ends[2] + at);
            let before = read_range(&rig.disk, &file(&rig, 2, 7, 1 << 20)).unwrap();
            assert_eq!(before.entries, rig.history[..2], "{at}");
            match read_range(&rig.disk, &file(&rig, 4, 7, 1 << 20)) {
                Err(ExtractError::Damaged(damage)) => {
                    assert!(committed);
                    assert_eq!((damage.file, damage.pos as usize), (path.clone(), ends[2]));
                }
                // It may have been given up since.
                Err(ExtractError::Unsettled(_)) => assert!(!committed),
                Err(error) => panic!("{at}: {error}"),
                Ok(found) => panic!("{at}: {found:?}"),
            }
            rig.disk = good;
        }
    }
}

#[test]
fn a_frame_of_another_history_is_no_entry_of_this_one() {
    let mut rig = Rig::new();
    rig.replicated = true;
    let mut other = Rig::new();
    for time in 1..=5 {
        rig.append_sized(1, 60, time);
        other.append_sized(1, 60, if time < 4 { time } else { 99 });
    }
    rig.settle();
    other.settle();
    let (path, end) = (rig.path("00000000000000000002.log"), rig.log().end().pos as usize);
    let mut bytes = rig.disk.get(&path).unwrap().to_vec();
    // The last frame alone is of the other one.
    bytes[end / 5 * 4..].copy_from_slice(&other.disk.get(&path).unwrap()[end / 5 * 4..]);
    rig.disk.set(&path, bytes);
    let found = read_range(&rig.disk, &file(&rig, 2, 7, 1 << 20)).unwrap();
    assert_eq!(found.entries, rig.history[..4]);
}

/// Notes how much is read at once.
struct Counting<'a>(&'a test_disk::TestDisk, Cell<usize>);

impl DiskRead for Counting<'_> {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.0.list(dir)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        self.0.len(path)
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        self.1.set(self.1.get().max(len));
        self.0.read(path, pos, len)
    }
}

#[test]
fn no_more_is_read_at_once_than_was_asked_for_or_one_entry_takes() {
    let mut rig = Rig::with(Default::default(), LogConfig::default());
    for body in [100, 3 << 20, 200, 300, 2 << 20] {
        rig.append_sized(1, body, 5);
    }
    (0..4_000).for_each(|_| rig.append_sized(1, 1_000, 5));
    rig.settle();
    rig.cool();
    for (low, max) in [(2, 1), (3, 1), (4, 10_000), (6, 1 << 20), (3_000, 1 << 20), (3_900, 50_000)] {
        let reads = Counting(&rig.disk, Cell::new(0));
        let found = read_range(&reads, &file(&rig, low, u64::MAX, max)).unwrap();
        let largest = found.entries.iter().map(size).max().unwrap();
        assert!(reads.1.get() <= max + largest + (1 << 20), "{low}: {}", reads.1.get());
        assert_eq!(found.entries[0], rig.history[low as usize - 2]);
    }
}

#[test]
fn a_range_that_ends_early_says_how_much_it_takes() {
    let rig = mixed();
    for low in [2, 7, 30, 61] {
        let mut range = file(&rig, low, low + 4, 1 << 20);
        range.index = None;
        let bytes = rig.disk.read(&range.path, range.pos, 1 << 20).unwrap();
        let whole = extract(&range, bytes.clone()).unwrap();
        assert_eq!(whole.entries[0], rig.history[low as usize - 2]);
        let mut have = 0;
        loop {
            let found = extract(&range, bytes.slice(..have)).unwrap();
            let Some(more) = found.need_more else { break assert!(!found.entries.is_empty()) };
            assert!(more as usize > have && found.entries.is_empty());
            have = more as usize;
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), low in 0u64..4) {
        let rig = mixed();
        let mut range = file(&rig, 2, 9, 1 << 20);
        range.file_end = bytes.len() as u64;
        range.entries = Some(EntryRange { low, high: low + 3, settled: 2 });
        let _ = extract(&range, Bytes::from(bytes));
    }
}
