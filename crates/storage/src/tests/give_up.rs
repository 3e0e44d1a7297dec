//! The end of a log is given up: what goes, what is told, what is on the disk when.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;
use model::planted::{Bug, plant};

/// A follower with the entries 2 to `last` of term 1, about 160 bytes each: persisted and marked, none committed.
pub(super) fn follower(last: u64) -> Rig {
    let mut rig = Rig::new();
    rig.replicated = true;
    rig.lead(1, last - 1, 50);
    rig.settle();
    assert_eq!((rig.persisted, rig.dir.durable_index(KEY)), (last, last));
    rig.told.clear();
    rig
}

pub(super) fn waits(rig: &Rig) -> bool {
    rig.log.as_ref().unwrap().waits.is_some()
}

pub(super) fn lowered(rig: &Rig) -> usize {
    rig.told.iter().filter(|told| **told == Told::Lowered).count()
}

/// Only what is persisted now is there after a power failure, and the log goes on.
pub(super) fn survives(rig: &mut Rig) {
    let (sure, history) = (rig.persisted, rig.history.clone());
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    rig.find_history(sure);
    assert_eq!(rig.history, history);
    let term = rig.log().last_term() + 1;
    rig.lead(term, 3, 50);
    rig.settle();
    assert_eq!(rig.persisted, sure + 3);
}

#[test]
fn what_a_durable_mark_claims_is_overwritten_after_a_lower_one_is_durable() {
    let mut rig = follower(6);
    let before = rig.disk.get(&rig.path("00000000000000000002.log")).unwrap().to_vec();
    assert_eq!(rig.give_up_after(3), Removal::Waits);
    assert_eq!((rig.log().last_index(), rig.dir.durable_index(KEY)), (3, 3));
    rig.disk.hold_syncs = true;
    rig.step();
    assert!(waits(&rig) && lowered(&rig) == 0);
    assert_eq!(rig.disk.get(&rig.path("00000000000000000002.log")).unwrap(), before);
    let mut crashed = rig.disk.clone();
    crashed.power_off(|_| None);
    let mut old = Rig { disk: crashed, history: rig.branches[0].clone(), ..Rig::new() };
    old.reopen().unwrap();
    old.find_history(6);
    rig.end_sync(0);
    assert!(!waits(&rig) && lowered(&rig) == 1);
    rig.disk.hold_syncs = false;
    rig.lead(2, 4, 70);
    rig.settle();
    assert_eq!((rig.persisted, rig.dir.durable_index(KEY)), (7, 7));
    survives(&mut rig);
}

#[test]
#[should_panic(expected = "nothing is overwritten before the lower mark is durable")]
fn an_append_before_the_mark_is_lowered_is_refused() {
    let mut rig = follower(6);
    assert_eq!(rig.give_up_after(3), Removal::Waits);
    rig.lead(2, 1, 0);
}

#[test]
#[should_panic(expected = "what is committed is never given up")]
fn what_is_committed_is_never_given_up() {
    let mut rig = follower(6);
    rig.commit(4);
    let _ = rig.give_up_after(3);
}

#[test]
fn what_no_mark_claims_is_overwritten_at_once_and_the_rest_is_told_once() {
    for after in 1..=7 {
        let mut rig = Rig::new();
        rig.replicated = true;
        rig.disk.hold_syncs = true;
        rig.lead(1, 3, 50);
        rig.step();
        rig.append(1);
        rig.append(1);
        rig.step();
        rig.append(1);
        // 2 to 4 are in a round that runs, 5 and 6 are written, 7 is on its way.
        assert_eq!(rig.told, [Told::Written(4), Told::Written(6)], "{after}");
        assert_eq!(rig.give_up_after(after), Removal::Now);
        rig.lead(2, 2, 90);
        rig.step();
        let written: Vec<Told> =
            if after == 7 { vec![Told::Written(9)] } else { vec![Told::Written(after + 2)] };
        assert_eq!(rig.told[2..], written, "{after}");
        rig.told.clear();
        rig.end_sync(0);
        let mark = rig.dir.groups[&KEY].mark.map_or(0, |mark| mark.durable_index);
        match after {
            1 => assert_eq!((rig.told.clone(), mark), (vec![Told::Persisted(0, 1)], 0)),
            _ => assert_eq!((rig.told.clone(), mark), (vec![Told::Persisted(after.min(4), 1)], after.min(4))),
        }
        rig.settle();
        let persisted: Vec<u64> =
            rig.told.iter().map(|t| if let Told::Persisted(i, _) = t { *i } else { 0 }).collect();
        let rising: Vec<u64> = persisted.into_iter().filter(|i| *i > 0).collect();
        assert!(rising.is_sorted_by(|a, b| a < b), "{after}: {rising:?}");
        assert_eq!(rig.persisted, after + 2);
        survives(&mut rig);
    }
}

#[test]
fn the_deeper_of_two_counts_and_is_told_once() {
    let mut rig = follower(9);
    rig.disk.hold_syncs = true;
    assert_eq!(rig.give_up_after(7), Removal::Waits);
    rig.step();
    assert_eq!(rig.give_up_after(5), Removal::Waits);
    assert_eq!(rig.give_up_after(5), Removal::Waits);
    rig.step();
    rig.end_sync(0);
    assert!(waits(&rig) && lowered(&rig) == 0, "the first record says 7");
    rig.step();
    rig.end_sync(0);
    assert!(!waits(&rig) && lowered(&rig) == 1);
    assert_eq!(rig.give_up_after(4), Removal::Waits, "the mark says 5 now");
    rig.disk.hold_syncs = false;
    rig.settle();
    assert_eq!((lowered(&rig), rig.dir.durable_index(KEY)), (2, 4));
    rig.lead(2, 3, 10);
    rig.settle();
    survives(&mut rig);
}

#[test]
fn an_answer_that_is_late_does_not_end_the_wait_for_a_deeper_one() {
    let mut rig = follower(9);
    assert_eq!(rig.give_up_after(7), Removal::Waits);
    let Rig { log, dir, .. } = &mut rig;
    assert_eq!(log.as_mut().unwrap().lowered(dir), Removal::Waits);
    assert!(waits(&rig));
}

#[test]
fn a_log_that_gave_entries_up_is_like_one_that_never_had_them() {
    for last in [3, 9, 14, 20] {
        for after in 1..=last {
            let mut rig = follower(last);
            let (mut never, history) = (Rig::new(), rig.history.clone());
            never.replicated = true;
            for (head, payload) in history.into_iter().take(after as usize - 1) {
                let time = rig_time(&head, &payload);
                never.append_entry(head, payload, time);
            }
            never.settle();
            let _ = rig.give_up_after(after);
            rig.settle();
            same(&mut rig, &mut never);
            rig.lead(3, 9, 60);
            never.lead(3, 9, 60);
            rig.settle();
            never.settle();
            same(&mut rig, &mut never);
            let (sure, history) = (rig.persisted, rig.history.clone());
            rig.disk.power_off(|_| None);
            rig.reopen().unwrap();
            rig.find_history(sure);
            assert_eq!(rig.history, history);
            same(&mut rig, &mut never);
        }
    }
}

fn rig_time(head: &EntryHead, payload: &bytes::Bytes) -> i64 {
    if head.kind != EntryKind::Data {
        return -1;
    }
    records::batches(payload).flatten().map(|(_, header)| header.max_timestamp).max().unwrap()
}

fn same(rig: &mut Rig, never: &mut Rig) {
    let end = |rig: &mut Rig| {
        let log = rig.log();
        let state = (log.last_index(), log.last_term(), log.chain(), log.next_offset(), log.size_bytes());
        (state, log.epochs().clone(), log.term_runs().to_vec(), log.max_timestamp(i64::MAX))
    };
    assert_eq!(end(rig), end(never));
    rig.cool();
    never.cool();
    assert_eq!(rig.read_all(0), never.read_all(0));
    let last = rig.log().last_index();
    assert_eq!(rig.read_entries(2, last + 1), never.read_entries(2, last + 1));
    for time in (1_000..3_020).step_by(7) {
        let find = |rig: &mut Rig| match rig.log().offset_for_timestamp(time, 0, i64::MAX) {
            TimestampPlan::None => None,
            TimestampPlan::File(range) => Some(read_range(&rig.disk, &range).unwrap().batches),
        };
        assert_eq!(find(rig), find(never), "{time}");
    }
}

#[test]
fn files_above_the_new_end_go_when_the_lower_mark_is_durable() {
    let mut rig = follower(20);
    let files = rig.log().files();
    assert!(files.len() >= 4);
    let first = |n: usize| files[n].path[files[n].path.len() - 24..][..20].parse::<u64>().unwrap();
    // Into the middle of the second file.
    let after = first(1) + 1;
    let there = |rig: &Rig| -> Vec<bool> {
        let index = |file: &FileInfo| file.path.replace(".log", ".idx");
        files
            .iter()
            .flat_map(|f| [rig.disk.get(&f.path).is_some(), rig.disk.get(&index(f)).is_some()])
            .collect()
    };
    assert_eq!(there(&rig)[..4], [true; 4]);
    assert_eq!(rig.give_up_after(after), Removal::Waits);
    rig.disk.hold_syncs = true;
    rig.step();
    assert!(files.iter().all(|file| rig.disk.get(&file.path).is_some()), "as the mark says");
    rig.end_sync(0);
    rig.step();
    assert_eq!(there(&rig)[..4], [true, true, true, false], "its index would be that of the sealed file");
    assert!(there(&rig)[4..].iter().all(|there| !there));
    assert_eq!(rig.log().files().len(), 2);
    assert!(rig.log().files()[1].active);
    rig.disk.hold_syncs = false;
    rig.lead(2, 12, 40);
    rig.settle();
    assert!(rig.log().files().len() > 2 && !rig.log().files()[1].active);
    assert!(!there(&rig)[3], "the first reader makes its index, all of it");
    rig.cool();
    let whole = rig.read_all(0).unwrap();
    assert_eq!(
        records::batches(&whole).count(),
        rig.history.iter().filter(|(h, _)| h.offset_count > 0).count()
    );
    survives(&mut rig);
}

#[test]
fn reads_that_were_planned_before_give_what_is_there_or_nothing() {
    let mut rig = follower(14);
    rig.commit(6);
    rig.cool();
    let upto = rig.offset_after(6);
    let batches = rig.log().read_plan(0, upto, 1 << 20).unwrap();
    let whole = rig.read_all(0).unwrap();
    let plan = |rig: &Rig, low| match rig.log.as_ref().unwrap().entries_plan(low, 99, 1 << 20, &rig.dir) {
        EntriesPlan::File(range) => range,
        other => panic!("{other:?}"),
    };
    let plans: Vec<FileRange> = (2..=14).map(|low| plan(&rig, low)).collect();
    assert_eq!(rig.give_up_after(7), Removal::Waits);
    rig.settle();
    rig.lead(2, 6, 33);
    rig.settle();
    let ReadPlan::File(range) = batches else { panic!("cold") };
    let found = read_range(&rig.disk, &range).unwrap().batches.concat();
    assert!(!found.is_empty() && whole.starts_with(&found));
    for (low, range) in (2..=14).zip(&plans) {
        match read_range(&rig.disk, range) {
            Ok(found) if rig.log().holds(&found.entries) => {
                assert_eq!(found.entries[..], rig.history[low - 2..][..found.entries.len()], "{low}");
                assert!(!found.entries.is_empty());
            }
            Ok(_) | Err(ExtractError::Disk(_) | ExtractError::Unsettled(_)) => {
                assert!(low > 6, "{low} is committed")
            }
            Err(ExtractError::Damaged(damage)) => panic!("{low}: {damage}"),
        }
    }
}

#[test]
fn new_entries_that_end_where_an_old_frame_begins_do_not_link_to_it() {
    let mut rig = Rig::new();
    rig.replicated = true;
    for time in 1..=6 {
        rig.append_sized(1, 60, time);
    }
    rig.settle();
    assert_eq!(rig.give_up_after(3), Removal::Waits);
    rig.settle();
    // Of the same size and even the same term: nothing but its content differs.
    rig.append_sized(1, 60, 77);
    rig.settle();
    let end = rig.log().end();
    let file = rig.disk.get(&rig.path("00000000000000000002.log")).unwrap();
    let behind = frame::check(&file[end.pos as usize..]).unwrap();
    let due = (end.index + 1, rig.log.as_ref().unwrap().next_offset(), rig.log.as_ref().unwrap().last_term());
    assert_eq!((behind.head.index, behind.head.base_offset, behind.head.term), due);
    assert_ne!(behind.prev_crc, end.chain);
    survives(&mut rig);
}

/// A follower whose file holds 2 to 7 of term 1, of which 5 came back as it was after it had been given up: a
/// frame of the entry 6 as it was stands behind it, and links.
fn followed() -> Rig {
    let mut rig = follower(7);
    assert_eq!(rig.log().files().len(), 1);
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    rig.settle();
    let (head, payload) = rig.branches[0][3].clone();
    rig.append_entry(head, payload, -1);
    rig.settle();
    assert_eq!((rig.persisted, head.index), (5, 5));
    rig
}

#[test]
fn an_entry_that_comes_back_may_bring_its_followers_after_a_crash() {
    let mut rig = followed();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    rig.find_history(5);
    assert_eq!(rig.history, rig.branches[0], "as if they had not been given up");
}

#[test]
fn a_file_whose_frames_might_go_on_is_ended_before_the_next_one_begins() {
    for killed in [false, true] {
        let mut rig = followed();
        let Rig { log, dir, .. } = &mut rig;
        log.as_mut().unwrap().roll(dir.fx());
        rig.lead(4, 3, 50);
        if killed {
            // All is written and nothing synced; the next process finds it in the page cache.
            rig.disk.hold_syncs = true;
            rig.step();
            rig.reopen().unwrap();
            rig.find_history(8);
            rig.disk.hold_syncs = false;
        }
        rig.settle();
        assert_eq!((rig.persisted, rig.log().files().len()), (8, 2));
        survives(&mut rig);
    }
}

#[test]
fn a_file_that_was_found_at_a_start_is_ended_too() {
    let mut rig = follower(4);
    rig.disk.hold_syncs = true;
    for _ in 0..3 {
        rig.lead(1, 1, 0);
        rig.step();
    }
    let mut writes = 0;
    rig.disk.power_off(|(_, _, bytes)| {
        writes += 1;
        (writes > 1).then(|| bytes.clone())
    });
    rig.reopen().unwrap();
    rig.branches.push(rig.history.clone());
    rig.find_history(4);
    assert_eq!((writes, rig.log().last_index()), (3, 4), "the first of three is lost");
    // The leader sends it again, and another one goes on from there, in another file.
    let (head, payload) = rig.branches[0][3].clone();
    rig.append_entry(head, payload, -1);
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().roll(dir.fx());
    rig.lead(4, 3, 50);
    rig.settle();
    survives(&mut rig);
}

#[test]
fn a_file_that_a_checkpoint_calls_sealed_is_ended_too() {
    let mut rig = followed();
    rig.commit(5);
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().roll(dir.fx());
    assert!(rig.checkpoint());
    rig.settle();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((rig.log().last_index(), rig.log().active.is_none()), (5, true));
    rig.lead(4, 3, 50);
    rig.settle();
    // An older checkpoint reads what the newer one knew to be sealed.
    rig.disk.flip(&rig.path("00000000000000000005.ckpt"), 60);
    let recovered = rig.try_recover().unwrap().unwrap();
    assert_eq!((recovered.checkpoint.index, recovered.last_index), (1, 8));
}

#[test]
fn a_file_of_given_up_entries_is_not_used_again() {
    let mut rig = follower(12);
    let files = rig.log().files();
    assert_eq!((files.len(), rig.log().segments[0].end_index), (2, 7));
    assert_eq!(rig.give_up_after(7), Removal::Waits);
    rig.settle();
    // Its first entry comes back and is alone in its file: the others, were they in it, would link.
    let (head, payload) = rig.branches[0][6].clone();
    rig.append_entry(head, payload, -1);
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().roll(dir.fx());
    rig.lead(4, 3, 50);
    rig.settle();
    assert_eq!(rig.log().files().len(), 3);
    survives(&mut rig);
}

#[test]
fn a_removed_file_is_not_taken_for_the_one_that_got_its_name() {
    let mut rig = Rig::new();
    (rig.replicated, rig.disk.hold_syncs) = (true, true);
    rig.lead(1, 16, 50);
    rig.step();
    let names = |rig: &mut Rig| rig.log().files().into_iter().map(|f| f.path).collect::<Vec<_>>();
    let before = names(&mut rig);
    assert_eq!((before.len(), rig.log().segments[0].end_index), (3, 7));
    // The files above are sealed and not synced, so they stay open.
    assert_eq!(rig.give_up_after(7), Removal::Now);
    rig.lead(2, 10, 50);
    rig.step();
    assert_eq!(names(&mut rig)[..2], before[..2]);
    assert_eq!(rig.give_up_after(9), Removal::Now);
    rig.lead(3, 3, 50);
    rig.disk.hold_syncs = false;
    rig.settle();
    assert_eq!(rig.persisted, 12);
    survives(&mut rig);
}

#[test]
fn the_planted_overwrite_makes_good_entries_look_like_damage() {
    let mut rig = follower(9);
    plant(Some(Bug::MarkNotLowered));
    let removal = rig.give_up_after(4);
    rig.lead(2, 2, 30);
    rig.disk.hold_syncs = true;
    rig.step();
    plant(None);
    assert_eq!(removal, Removal::Now);
    rig.disk.power_off(|(_, _, bytes)| Some(bytes.clone()));
    assert!(rig.reopen().unwrap_err().contains("made durable"));
}

#[test]
fn a_removed_file_that_comes_back_does_not_link() {
    let mut rig = Rig::with(TestDisk::default(), LogConfig { file_bytes: 500, ..small() });
    rig.replicated = true;
    rig.lead(1, 12, 50);
    rig.settle();
    let files = rig.log().files();
    let bytes: Vec<Vec<u8>> = files.iter().map(|f| rig.disk.get(&f.path).unwrap().to_vec()).collect();
    assert_eq!(rig.give_up_after(3), Removal::Waits);
    rig.settle();
    rig.lead(2, 3, 50);
    rig.settle();
    for (file, bytes) in files.iter().zip(bytes) {
        if rig.disk.get(&file.path).is_none() {
            rig.disk.set(&file.path, bytes);
        }
    }
    survives(&mut rig);
}
