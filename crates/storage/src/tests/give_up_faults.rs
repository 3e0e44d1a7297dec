//! Entries are given up while the disk is full, fails or lags behind, or the group stops, ends or is read back.
use super::give_up::{follower, lowered, survives, waits};
use super::rig::*;
use crate::*;
use model::Mono;

#[test]
fn a_file_that_has_no_room_to_begin_is_written_on_when_it_has() {
    let mut rig = follower(7);
    (rig.disk.full, rig.disk.room) = (true, 0);
    // Two files that cannot be made, and the first of them is the last one after it was sealed.
    rig.lead(2, 12, 50);
    rig.step();
    assert_eq!(rig.log().files().len(), 3);
    assert_eq!(rig.give_up_after(10), Removal::Now);
    rig.lead(3, 2, 50);
    rig.step();
    assert!(rig.dir.stalled_since().is_some());
    rig.disk.full = false;
    rig.settle();
    assert_eq!((rig.persisted, rig.dir.fenced()), (12, None));
    survives(&mut rig);
}

#[test]
fn what_has_no_room_is_given_up_and_not_written_any_more() {
    for room in (0..900).step_by(60) {
        let mut rig = follower(4);
        (rig.disk.full, rig.disk.room) = (true, room);
        rig.lead(2, 8, 100);
        for _ in 0..6 {
            rig.step();
            rig.now.mono = rig.now.mono.after_ms(60);
        }
        assert!(rig.dir.stalled_since().is_some(), "{room}");
        assert_eq!(rig.give_up_after(5), Removal::Now);
        rig.lead(3, 2, 20);
        rig.disk.full = false;
        rig.settle();
        assert_eq!((rig.persisted, rig.dir.stalled_since(), rig.dir.fenced()), (7, None, None), "{room}");
        survives(&mut rig);
    }
}

#[test]
fn a_mark_is_lowered_when_there_is_room_again() {
    let mut rig = follower(9);
    rig.disk.full = true;
    rig.lead(2, 8, 100);
    rig.settle();
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    rig.settle();
    assert!(rig.dir.stalled_since().is_some() || lowered(&rig) == 1);
    rig.disk.full = false;
    (0..3).for_each(|_| rig.settle());
    assert_eq!((lowered(&rig), rig.dir.stalled_since(), waits(&rig)), (1, None, false));
    rig.lead(3, 2, 20);
    rig.settle();
    survives(&mut rig);
}

#[test]
fn a_directory_that_is_fenced_lowers_no_mark() {
    let mut rig = follower(9);
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    rig.disk.fail_sync = true;
    rig.settle();
    assert!(rig.dir.fenced().is_some() && waits(&rig) && lowered(&rig) == 0);
    let old = rig.branches[0].clone();
    rig.history = old;
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    rig.find_history(9);
}

#[test]
fn a_group_that_is_read_back_before_its_mark_is_lowered_finds_all_it_had() {
    let mut rig = follower(9);
    rig.disk.hold_syncs = true;
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    rig.step();
    rig.give_up();
    rig.step();
    rig.find_history(4);
    assert_eq!(rig.log().last_index(), 9);
    // What is durable may still claim 9: a second time it must wait as well.
    while rig.dir.rounds.withheld.contains(&KEY) {
        assert!(rig.end_sync(0) || rig.step());
        rig.now.mono = rig.now.mono.after_ms(60);
    }
    assert_eq!(lowered(&rig), 0, "nobody waited");
    assert_eq!(rig.give_up_after(6), Removal::Waits);
    rig.settle();
    rig.lead(2, 3, 30);
    rig.settle();
    survives(&mut rig);
}

#[test]
fn a_group_that_is_deleted_while_it_waits_is_gone() {
    let mut rig = follower(20);
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    let log = rig.log.take().unwrap();
    log.delete(rig.dir.fx());
    rig.dir.forget(KEY);
    rig.dir.remove(KEY);
    rig.settle();
    assert_eq!((lowered(&rig), rig.dir.idle()), (0, true));
    assert!(rig.disk.names().iter().all(|n| !n.starts_with("groups/")));
}

#[test]
fn a_stop_while_it_waits_leaves_what_was_there() {
    let mut rig = follower(6);
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    rig.stop();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    rig.find_history(4);
    assert_eq!(rig.log().last_index(), 6, "nothing was overwritten");
}

#[test]
fn a_checkpoint_that_is_on_its_way_is_what_it_was() {
    for after in 16..=18 {
        let mut rig = follower(18);
        rig.commit(16);
        assert!(rig.checkpoint());
        let removal = rig.give_up_after(after);
        assert_eq!(removal == Removal::Now, after == 18);
        rig.settle();
        assert!(rig.log().pending_checkpoint.is_none());
        rig.lead(2, 3, 30);
        rig.settle();
        let recovered = rig.try_recover().unwrap().unwrap();
        assert_eq!((recovered.checkpoint.index, recovered.last_index), (16, after + 3));
        assert!(!recovered.needs_rewrite());
    }
}

#[test]
fn no_file_is_sealed_while_a_mark_claims_more_of_it() {
    let mut rig = follower(7);
    rig.commit(4);
    rig.disk.hold_syncs = true;
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    // All that is left is deleted: the file would be sealed, and a checkpoint say that it ends here.
    let start = rig.offset_after(4);
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().apply_log_start(start, dir.fx());
    assert!(rig.checkpoint());
    rig.step();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 7);
}

#[test]
fn no_file_is_cut_while_a_mark_claims_more_of_it() {
    let mut rig = follower(6);
    let file = rig.path("00000000000000000002.log");
    let before = rig.disk.get(&file).unwrap().to_vec();
    assert_eq!(rig.give_up_after(3), Removal::Waits);
    rig.log.as_ref().unwrap().cut_tail(rig.dir.fx());
    rig.disk.hold_syncs = true;
    rig.step();
    assert_eq!(rig.disk.get(&file).unwrap(), before);
    rig.end_sync(0);
    rig.log.as_ref().unwrap().cut_tail(rig.dir.fx());
    rig.step();
    assert_eq!(rig.disk.get(&file).unwrap().len() as u64, rig.log().end().pos);
}

#[test]
fn what_counts_when_written_is_flushed_up_to_the_new_end() {
    for after in 3..=6 {
        let mut rig = follower(3);
        rig.relaxed = true;
        (0..3).for_each(|_| rig.append(1));
        rig.step();
        assert_eq!((rig.persisted, rig.dir.durable_index(KEY)), (6, 3));
        rig.disk.hold_syncs = true;
        rig.now.mono = rig.now.mono.after_ms(1001);
        rig.step();
        rig.told.clear();
        assert_eq!(rig.give_up_after(after), Removal::Now);
        rig.lead(2, 2, 30);
        rig.step();
        assert_eq!(rig.persisted, after + 2);
        while rig.end_sync(0) {}
        assert_eq!(rig.dir.durable_index(KEY), after);
        assert_eq!(rig.told.contains(&Told::Flushed), after > 3, "only for what it made durable");
        rig.disk.hold_syncs = false;
        rig.now.mono = rig.now.mono.after_ms(1001);
        rig.settle();
        assert_eq!(rig.dir.durable_index(KEY), after + 2);
        survives(&mut rig);
    }
}

#[test]
fn what_waits_behind_a_round_counts_up_to_the_new_end() {
    for after in 3..=7 {
        let mut rig = follower(3);
        rig.disk.hold_syncs = true;
        rig.lead(1, 2, 50);
        rig.step();
        // 4 and 5 are being synced; 6 and 7 count as soon as they are.
        (rig.relaxed, rig.soft) = (true, true);
        rig.lead(1, 2, 50);
        rig.step();
        assert_eq!(rig.persisted, 3);
        assert_eq!(rig.give_up_after(after), Removal::Now);
        rig.step();
        rig.end_sync(0);
        assert_eq!(rig.persisted, after);
        rig.lead(2, 2, 50);
        rig.disk.hold_syncs = false;
        rig.settle();
        assert_eq!(rig.persisted, after + 2);
    }
}

#[test]
fn a_file_that_a_flush_did_not_sync_for_certain_stays_open_until_one_does() {
    let mut rig = follower(7);
    assert_eq!(rig.give_up_after(4), Removal::Waits);
    rig.settle();
    rig.lead(2, 1, 0);
    rig.settle();
    // The file is ended before the next one begins, and there is no room for either.
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().roll(dir.fx());
    let file = rig.path("00000000000000000002.log");
    let size = rig.log().end().pos as usize;
    let cut = rig.disk.get(&file).unwrap()[..size].to_vec();
    rig.disk.set(&file, cut);
    (rig.disk.full, rig.disk.hold_syncs, rig.relaxed, rig.soft) = (true, true, true, true);
    rig.lead(3, 2, 50);
    rig.now.mono = rig.now.mono.after_ms(1001);
    rig.dir.rounds.relaxed_since = Some(Mono(0));
    rig.step();
    assert!(rig.dir.rounds.flush.is_some() && rig.dir.stalled_since().is_some());
    assert_eq!(rig.give_up_after(5), Removal::Now);
    rig.end_sync(0);
    rig.disk.full = false;
    rig.disk.hold_syncs = false;
    rig.settle();
    assert_eq!((rig.dir.fenced(), rig.dir.stalled_since()), (None, None));
    rig.lead(4, 2, 50);
    rig.now.mono = rig.now.mono.after_ms(1001);
    (0..3).for_each(|_| rig.settle());
    assert_eq!(rig.dir.durable_index(KEY), 7);
    survives(&mut rig);
}
