//! A disk without space, a disk that fails, groups that need no sync.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;
use model::{GroupKey, TopicId};

const OTHER: GroupKey = GroupKey { topic: TopicId([8; 16]), partition: 0 };

#[test]
fn nothing_is_acknowledged_while_the_disk_is_full_and_everything_after() {
    let mut rig = Rig::new();
    rig.append(1);
    rig.settle();
    rig.disk.full = true;
    rig.append(1);
    rig.settle();
    rig.append(1);
    rig.settle();
    assert_eq!(rig.persisted, 2);
    assert!(rig.dir.full() && rig.events.iter().any(|e| matches!(e, DirEvent::DiskFull(true))));
    rig.disk.full = false;
    for _ in 0..10 {
        rig.settle();
    }
    assert_eq!(rig.persisted, 4);
    assert!(!rig.dir.full() && rig.events.iter().any(|e| matches!(e, DirEvent::DiskFull(false))));
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 4);
}

#[test]
fn a_checkpoint_that_finds_no_space_is_taken_again() {
    let mut rig = Rig::new();
    rig.append(1);
    rig.settle();
    rig.disk.full = true;
    assert!(rig.checkpoint());
    rig.settle();
    rig.disk.full = false;
    assert_eq!(rig.try_recover().unwrap().unwrap().checkpoint.index, 1);
    rig.reopen().unwrap();
    assert!(rig.checkpoint());
    rig.settle();
    assert_eq!(rig.try_recover().unwrap().unwrap().checkpoint.index, 2);
}

#[test]
fn a_failed_sync_fences_the_directory_for_good() {
    let mut rig = Rig::new();
    rig.append(1);
    rig.settle();
    rig.append(1);
    rig.disk.fail_sync = true;
    rig.settle();
    assert_eq!(rig.persisted, 2);
    assert!(rig.dir.fenced().is_some() && rig.events.iter().any(|e| matches!(e, DirEvent::Fenced { .. })));
    rig.append(1);
    let done = rig.disk.done;
    rig.dir.pump(rig.now);
    assert!(rig.dir.fx().ops.iter().all(|op| !matches!(op, DiskOp::Sync { .. })));
    assert_eq!((rig.persisted, rig.dir.next_deadline(), rig.disk.done), (2, None, done));
}

#[test]
fn relaxed_entries_persist_when_written_and_are_synced_later() {
    for (wait, left) in [(false, 2), (true, 3)] {
        let mut rig = Rig::new();
        rig.relaxed = true;
        rig.append(1);
        rig.settle();
        rig.append(1);
        rig.step();
        assert_eq!(rig.persisted, 3);
        if wait {
            rig.now.mono = rig.now.mono.after_ms(1001);
            rig.step();
        }
        rig.disk.power_off(|_| None);
        rig.reopen().unwrap();
        assert_eq!(rig.log().last_index(), left);
    }
}

#[test]
fn a_kill_keeps_relaxed_entries() {
    let mut rig = Rig::new();
    rig.relaxed = true;
    rig.append(1);
    rig.step();
    rig.append(1);
    rig.step();
    assert_eq!(rig.persisted, 3);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 3);
}

/// Three entries that are durable, then a disk with so much room and a barrier that found none.
fn stalled(room: u64) -> Rig {
    let mut rig = Rig::new();
    rig.gives_up = true;
    rig.append(1);
    rig.append(1);
    rig.settle();
    (rig.disk.full, rig.disk.room) = (true, room);
    rig.append_sized(1, 400, 1_000_000);
    rig.append_sized(1, 400, 1_000_000);
    rig.append(1);
    rig
}

#[test]
fn batches_without_room_are_given_up_and_nothing_waits_behind_them() {
    for room in 0..1_400 {
        let mut rig = stalled(room);
        rig.dir.set_hard_state(OTHER, HardState { term: 7, vote: 1 }, true);
        rig.settle();
        let last = rig.log().last_index();
        assert_eq!(rig.given_up, u32::from(last < 6), "{room}");
        assert_eq!((rig.persisted, rig.dir.stalled_since()), (last, None), "{room}");
        assert!(last >= 3 && rig.dir.idle() && rig.dir.fenced().is_none());
        // A record of another group came through, on a disk that is as full as before.
        let (_, states) = open(&rig.disk, rig.now).unwrap();
        assert_eq!(states.iter().find(|s| s.key == OTHER).unwrap().hard.term, 7);
        // The torn tail gave its room back.
        let (file, size) = (rig.path("00000000000000000002.log"), rig.log().size_bytes());
        assert!(rig.disk.get(&file).unwrap().len() as u64 <= size);
        rig.disk.full = false;
        rig.append_command(2, b"elected");
        rig.append(1);
        rig.settle();
        assert_eq!(rig.persisted, last + 2);
        let before = rig.read_all(0).unwrap();
        rig.disk.power_off(|_| None);
        rig.reopen().unwrap();
        assert_eq!((rig.log().last_index(), rig.read_all(0).unwrap()), (last + 2, before), "{room}");
    }
}

#[test]
fn room_that_comes_within_the_grace_gives_nothing_up() {
    let mut rig = stalled(0);
    rig.step();
    rig.disk.full = false;
    rig.settle();
    assert_eq!((rig.persisted, rig.given_up), (6, 0));
}

#[test]
fn a_group_that_never_got_a_file_is_born_again() {
    let mut rig = Rig::new();
    rig.gives_up = true;
    rig.disk.full = true;
    rig.append(1);
    rig.settle();
    assert_eq!((rig.given_up, rig.log().last_index(), rig.persisted), (1, 1, 1));
    rig.disk.full = false;
    rig.append(1);
    rig.settle();
    assert_eq!(rig.persisted, 2);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 2);
}

#[test]
fn what_a_relaxed_group_acknowledged_is_found_after_it_was_given_up() {
    let mut rig = Rig::new();
    (rig.gives_up, rig.relaxed) = (true, true);
    rig.append(1);
    rig.settle();
    rig.append(1);
    rig.step();
    assert_eq!(rig.persisted, 3);
    rig.disk.full = true;
    rig.append(1);
    rig.settle();
    assert_eq!((rig.given_up, rig.log().last_index(), rig.persisted), (1, 3, 3));
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 3, "it was synced when it was read back");
}

#[test]
fn the_reserve_is_spent_when_no_batch_can_take_it() {
    let mut rig = stalled(0);
    rig.disk.reserve = 1_000;
    rig.step();
    assert_eq!(rig.disk.reserve, 1_000, "batches wait");
    rig.settle();
    assert_eq!((rig.given_up, rig.disk.reserve, rig.disk.room > 0), (1, 0, true));
    let mut rig = Rig::new();
    (rig.disk.full, rig.disk.reserve) = (true, 1_000);
    rig.append_command(1, b"make room");
    rig.step();
    rig.step();
    rig.settle();
    assert_eq!((rig.persisted, rig.disk.reserve), (2, 0));
}

#[test]
fn commands_that_find_no_room_at_all_are_given_up_later() {
    let mut rig = Rig::new();
    (rig.disk.full, rig.gives_up) = (true, true);
    rig.append_command(1, b"an election");
    rig.dir.set_hard_state(OTHER, HardState { term: 7, vote: 1 }, true);
    let begun = rig.now.mono;
    while rig.given_up == 0 {
        rig.settle();
        assert!(rig.now.mono.since(begun).as_secs() < 5);
    }
    rig.settle();
    assert_eq!((rig.persisted, rig.log().last_index(), rig.dir.stalled_since()), (1, 1, None));
    let (_, states) = open(&rig.disk, rig.now).unwrap();
    assert!(states.iter().any(|s| s.key == OTHER));
}

#[test]
fn a_group_deleted_while_its_writes_find_no_room_is_gone() {
    let mut rig = stalled(100);
    rig.step();
    assert!(rig.dir.stalled_since().is_some());
    let log = rig.log.take().unwrap();
    log.delete(rig.dir.fx());
    rig.dir.forget(KEY);
    rig.settle();
    assert_eq!((rig.dir.fenced(), rig.dir.stalled_since()), (None, None));
    let (_, states) = open(&rig.disk, rig.now).unwrap();
    assert_eq!((states.len(), rig.disk.names().iter().any(|n| n.starts_with("groups/"))), (0, false));
}

#[test]
fn a_stop_on_a_full_disk_ends() {
    let mut rig = stalled(0);
    rig.step();
    rig.stop();
    assert_eq!((rig.given_up, rig.persisted), (1, 3));
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 3);
}

#[test]
fn a_checkpoint_on_its_way_is_none_of_the_group_that_comes_after() {
    let mut rig = Rig::new();
    rig.append(2);
    rig.settle();
    assert!(rig.checkpoint());
    rig.append(1);
    rig.give_up();
    rig.settle();
    assert!(!rig.events.iter().any(|e| matches!(e, DirEvent::CheckpointDone { .. })));
    let last = rig.log().last_index();
    rig.append(1);
    rig.settle();
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), last + 1);
}

fn on_a_full_disk() -> Rig {
    let mut disk = TestDisk::default();
    disk.full = true;
    Rig::with(disk, small())
}

#[test]
fn a_new_directory_on_a_full_disk_writes_nothing_else_before_its_own_files() {
    // The disk is full for so many operations, then the process dies.
    for patience in 0..12 {
        let mut rig = on_a_full_disk();
        assert!(rig.dir.full(), "clients are refused");
        assert_eq!(rig.disk.names(), Vec::<String>::new());
        rig.append(1);
        rig.settle();
        assert_eq!((rig.persisted, rig.disk.names()), (1, Vec::new()));
        rig.disk.full = false;
        for _ in 0..patience {
            rig.now.mono = rig.now.mono.after_ms(60);
            rig.step();
        }
        rig.reopen().unwrap_or_else(|e| panic!("after {patience} steps: {e}"));
        rig.append(1);
        rig.settle();
        rig.reopen().unwrap();
        assert!(rig.log().last_index() >= 2);
    }
}

#[test]
fn a_new_directory_begins_by_itself_when_there_is_room() {
    let mut rig = on_a_full_disk();
    rig.append(1);
    rig.settle();
    rig.disk.full = false;
    rig.settle();
    assert_eq!(rig.persisted, 2);
    assert!(!rig.dir.full() && rig.events.iter().any(|e| matches!(e, DirEvent::DiskFull(false))));
}
