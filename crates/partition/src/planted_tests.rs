//! The planted bugs of this crate do what their names say, and only while they are planted.
use crate::test_rig::{Rig, numbered, plain};
use crate::txn_rig::{ends, values, with_transactions, within};
use crate::{Marker, Origin, PartitionConfig};
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

#[test]
fn a_last_stable_offset_too_high_shows_what_may_yet_be_aborted() {
    let read = || {
        let mut rig = Rig::serving(with_transactions());
        rig.append(1, plain(&["a"])).unwrap();
        rig.append_within(2, within(7, 0, 0, &["void"])).unwrap();
        let early = rig.read_committed(false);
        rig.end(3, ends(7, 1, false)).unwrap();
        (early, rig.read_committed(false))
    };
    let planted = Planted::new(Bug::LsoTooHigh);
    let (early, late) = read();
    assert_eq!((values(&early), values(&late)), (vec!["a", "void"], vec!["a"]));
    drop(planted);
    let (early, late) = read();
    assert_eq!((values(&early), values(&late)), (vec!["a"], vec!["a"]));
}

#[test]
fn a_marker_without_a_check_of_its_epoch_ends_a_later_transaction() {
    let ends_later = || {
        let mut rig = Rig::serving(with_transactions());
        rig.append_within(1, within(7, 0, 0, &["a"])).unwrap();
        let late = Marker { commit: false, ..ends(7, 1, true) };
        rig.end(2, ends(7, 1, true)).unwrap();
        rig.append_within(3, within(7, 1, 0, &["b"])).unwrap();
        rig.end(4, late).is_ok()
    };
    let planted = Planted::new(Bug::MarkerWithoutEpochCheck);
    assert!(ends_later());
    drop(planted);
    assert!(!ends_later());
}
