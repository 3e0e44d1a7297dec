//! The flush of relaxed groups beside the rounds.
use super::rig::{KEY, Rig};
use crate::disk_op::OpToken;
use crate::*;
use model::{GroupKey, TopicId};

const OTHER: GroupKey = GroupKey { topic: TopicId([9; 16]), partition: 0 };

/// A rig whose group has relaxed entries up to index 3, and whose flush has begun; its sync is held back.
fn flushing() -> (Rig, OpToken, Vec<FileId>) {
    let mut rig = Rig::new();
    rig.relaxed = true;
    rig.append(1);
    rig.settle();
    rig.append(1);
    rig.step();
    rig.now.mono = rig.now.mono.after_ms(1001);
    let (token, files) = held_sync(&mut rig, true).unwrap();
    (rig, token, files)
}

/// A rig with a relaxed entry on the disk, and one for which there is no room.
fn no_room() -> Rig {
    let mut rig = Rig::new();
    rig.relaxed = true;
    rig.append(1);
    rig.settle();
    rig.disk.full = true;
    rig.append(1);
    rig
}

/// One turn in which a sync of that kind is not carried out.
fn held_sync(rig: &mut Rig, behind: bool) -> Option<(OpToken, Vec<FileId>)> {
    let mut held = None;
    rig.dir.pump(rig.now);
    for op in rig.dir.ops().collect::<Vec<_>>() {
        match op {
            DiskOp::Sync { files, token, behind: kind } if kind == behind => held = Some((token, files)),
            op => {
                if let Some(completion) = rig.disk.apply(op) {
                    rig.dir.on_completion(rig.now, completion, &mut rig.events);
                }
            }
        }
    }
    held
}

fn end(rig: &mut Rig, (token, files): (OpToken, Vec<FileId>)) {
    let completion = rig.disk.apply(DiskOp::Sync { files, token, behind: true }).unwrap();
    rig.dir.on_completion(rig.now, completion, &mut rig.events);
}

fn persisted(rig: &Rig, key: GroupKey) -> bool {
    rig.events.iter().any(|e| matches!(e, DirEvent::Persisted { key: k, .. } if *k == key))
}

/// The highest index that was told as persisted.
fn newest(rig: &Rig) -> u64 {
    let told = rig.events.iter().filter_map(|e| match e {
        DirEvent::Persisted { key, index, .. } if *key == KEY => Some(*index),
        _ => None,
    });
    told.max().unwrap_or(0)
}

#[test]
fn a_round_does_not_wait_for_a_flush() {
    let (mut rig, token, files) = flushing();
    rig.dir.set_hard_state(OTHER, HardState { term: 3, ..HardState::default() }, true);
    for _ in 0..5 {
        assert!(held_sync(&mut rig, true).is_none(), "one flush at a time");
    }
    assert!(persisted(&rig, OTHER));
    assert!(!rig.dir.idle());
    end(&mut rig, (token, files));
    rig.settle();
    assert!(rig.dir.idle());
}

#[test]
fn what_a_flush_has_not_synced_is_not_marked() {
    for ended in [false, true] {
        let (mut rig, token, files) = flushing();
        if ended {
            end(&mut rig, (token, files));
        }
        rig.dir.set_hard_state(OTHER, HardState::default(), true);
        for _ in 0..5 {
            rig.step();
        }
        rig.disk.power_off(|_| None);
        rig.reopen().unwrap();
        assert_eq!(rig.log().last_index(), if ended { 3 } else { 2 });
    }
}

#[test]
fn an_entry_that_must_be_synced_waits_for_the_flush_of_its_group() {
    let (mut rig, token, files) = flushing();
    rig.relaxed = false;
    rig.append(1);
    for _ in 0..5 {
        assert!(held_sync(&mut rig, false).is_none(), "its round would not cover what the flush holds");
    }
    assert_eq!(rig.dir.next_deadline(), None);
    assert!(!persisted(&rig, KEY));
    end(&mut rig, (token, files));
    rig.settle();
    assert_eq!(rig.persisted, 4);
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 4);
}

#[test]
fn a_stop_waits_for_the_flush() {
    let (mut rig, token, files) = flushing();
    rig.append(1);
    rig.dir.clean_stop();
    for _ in 0..5 {
        assert!(held_sync(&mut rig, false).is_none());
    }
    end(&mut rig, (token, files));
    rig.settle();
    assert!(rig.events.iter().any(|e| matches!(e, DirEvent::Stopped)));
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 4);
}

#[test]
fn a_flush_of_what_found_no_space_is_made_good() {
    let mut rig = no_room();
    rig.now.mono = rig.now.mono.after_ms(1001);
    rig.step();
    rig.disk.full = false;
    rig.disk.room = 1 << 20;
    rig.settle();
    rig.now.mono = rig.now.mono.after_ms(1001);
    rig.settle();
    assert_eq!(rig.persisted, 3);
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 3);
}

#[test]
fn a_flush_that_ends_after_what_found_no_space_was_written_again_does_not_count() {
    let mut rig = no_room();
    rig.now.mono = rig.now.mono.after_ms(1001);
    let mut held = held_sync(&mut rig, true);
    rig.disk.full = false;
    for _ in 0..3 {
        rig.now.mono = rig.now.mono.after_ms(201);
        held = held_sync(&mut rig, true).or(held);
    }
    assert_eq!(newest(&rig), 3, "written again by now");
    let (token, _) = held.unwrap();
    // As if it had gone over the files before that.
    let synced = Completion::Synced { token, result: Ok(()), micros: 1 };
    rig.dir.on_completion(rig.now, synced, &mut rig.events);
    rig.dir.set_hard_state(OTHER, HardState::default(), true);
    for _ in 0..5 {
        held_sync(&mut rig, true);
    }
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 2, "no mark claims what no sync covered");
}

#[test]
fn a_relaxed_entry_does_not_count_before_one_that_must_be_synced() {
    for gathered in [false, true] {
        let mut rig = Rig::new();
        rig.append(1);
        rig.settle();
        rig.append(1);
        let round = gathered.then(|| held_sync(&mut rig, false).unwrap());
        rig.relaxed = true;
        rig.append(1);
        rig.events.clear();
        let later = held_sync(&mut rig, false);
        held_sync(&mut rig, false);
        assert!(!persisted(&rig, KEY), "the entry before it is not on the medium");
        end(&mut rig, round.or(later).unwrap());
        assert_eq!(newest(&rig), 4, "and then both count");
    }
}

#[test]
fn a_stall_does_not_ask_for_a_flush_over_and_over() {
    let mut rig = no_room();
    rig.step();
    rig.step();
    assert!(rig.dir.stalled_since().is_some());
    assert!(rig.dir.next_deadline().is_some_and(|at| at > rig.now.mono));
}

#[test]
fn a_group_that_is_forgotten_leaves_the_flush() {
    let (mut rig, token, files) = flushing();
    rig.dir.forget(KEY);
    end(&mut rig, (token, files));
    rig.settle();
    assert!(rig.dir.idle());
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 1, "as if never touched");
}

#[test]
fn many_bytes_are_flushed_before_their_time() {
    let cfg = DirectoryConfig { relaxed_sync_bytes: 100_000, ..DirectoryConfig::default() };
    let mut rig = Rig::new();
    let (dir, _) = Directory::open(&rig.disk, cfg, rig.now).unwrap();
    rig.dir = dir;
    rig.relaxed = true;
    rig.settle();
    rig.append_sized(1, 400, 1_000_000);
    rig.settle();
    let mut flushed = 0;
    for _ in 0..30 {
        rig.append_sized(1, 1000, 1_000_000);
        if let Some(held) = held_sync(&mut rig, true) {
            flushed += 1;
            end(&mut rig, held);
        }
    }
    assert!((2..=3).contains(&flushed), "{flushed}");
}

#[test]
fn a_round_of_marks_alone_keeps_nobody_waiting() {
    let (mut rig, token, files) = flushing();
    end(&mut rig, (token, files));
    rig.now.mono = rig.now.mono.after_ms(1_000);
    let marks = held_sync(&mut rig, false).unwrap();
    assert_eq!(rig.dir.syncing_since(), None);
    end(&mut rig, marks);
    rig.relaxed = false;
    rig.append(1);
    held_sync(&mut rig, false).unwrap();
    assert_eq!(rig.dir.syncing_since(), Some(rig.now.mono));
}
