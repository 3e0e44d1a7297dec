//! A disk without space, a disk that fails, groups that need no sync.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;

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
