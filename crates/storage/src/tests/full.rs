//! A disk without space, a disk that fails, groups that need no sync.
use super::rig::*;
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
