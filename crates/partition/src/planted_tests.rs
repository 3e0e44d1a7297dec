//! The planted bugs of this crate do what their names say, and only while they are planted.
use crate::test_rig::{Rig, numbered, plain};
use crate::{Origin, PartitionConfig};
use model::planted::{Bug, plant};

/// Removes the bug even when the test fails.
struct Planted;

impl Planted {
    fn new(bug: Bug) -> Planted {
        plant(Some(bug));
        Planted
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

#[test]
fn without_dedupe_after_restart_a_batch_is_there_twice() {
    let mut rig = Rig::serving(PartitionConfig::default());
    rig.append(1, numbered(7, 0, 0, &["a"])).unwrap();
    let planted = Planted::new(Bug::NoDedupeAfterRestart);
    rig.restart(true);
    drop(planted);
    assert!(!rig.append(2, numbered(7, 0, 0, &["a"])).unwrap().duplicate);
    assert_eq!(rig.part.log_end(), 2);
}

#[test]
fn a_high_watermark_too_high_shows_what_is_not_committed() {
    for bug in [Bug::HighWatermarkTooHigh, Bug::ApplyBeforeCommit] {
        let mut rig = Rig::serving(PartitionConfig::default());
        let _planted = Planted::new(bug);
        rig.hold_syncs = true;
        rig.submit(1, plain(&["a"]), -1, Origin::Client);
        rig.settle();
        rig.submit(2, plain(&["b"]), -1, Origin::Client);
        rig.submit(3, plain(&["c"]), -1, Origin::Client);
        // The sync of the first append ends; that of the others is still to come.
        rig.release_one_sync();
        assert!(rig.part.high_watermark() > 1, "{bug:?}");
        rig.release_syncs();
        assert_eq!(rig.part.high_watermark(), 3, "{bug:?}");
    }
}
