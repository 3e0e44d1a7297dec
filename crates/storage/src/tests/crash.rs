//! Crashes at each point of docs/log-format.md.
use super::rig::*;
use crate::*;

#[test]
fn an_untouched_group_has_no_files_and_no_record() {
    let mut rig = Rig::new();
    rig.disk.power_off(|_| None);
    assert!(rig.try_recover().unwrap().is_none());
    assert!(rig.disk.names().iter().all(|n| !n.starts_with("groups")));
}

#[test]
fn what_was_persisted_is_there_after_power_fails() {
    let mut rig = Rig::new();
    for _ in 0..30 {
        rig.append(3);
        rig.step();
    }
    rig.settle();
    assert_eq!((rig.persisted, rig.log().next_offset()), (31, 90));
    let before = rig.read_all(0).unwrap();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((rig.log().last_index(), rig.log().next_offset()), (31, 90));
    rig.cool();
    assert_eq!(rig.read_all(0).unwrap(), before);
}

#[test]
fn unsynced_entries_and_their_record_are_lost_together_or_apart() {
    for (data, record) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new();
        rig.append(1);
        rig.dir.set_hard_state(KEY, HardState { term: 1, vote: 1 }, true);
        rig.dir.pump(rig.now);
        for op in rig.dir.ops().collect::<Vec<_>>() {
            if !matches!(op, DiskOp::Sync { .. }) {
                rig.disk.apply(op);
            }
        }
        rig.disk.power_off(|(file, _, bytes)| {
            let keep = if file.starts_with("groups") { data } else { record };
            keep.then(|| bytes.clone())
        });
        rig.reopen().unwrap();
        let last = rig.log().last_index();
        assert_eq!(last, if data && record { 2 } else { 1 }, "data {data} record {record}");
        rig.append(1);
        rig.settle();
        assert_eq!(rig.persisted, last + 1);
    }
}

#[test]
fn a_tail_above_the_mark_is_written_again_synced_and_marked_before_it_counts() {
    let mut rig = Rig::new();
    rig.append(1);
    rig.settle();
    rig.append(1);
    rig.dir.pump(rig.now);
    for op in rig.dir.ops().collect::<Vec<_>>() {
        if !matches!(op, DiskOp::Sync { .. }) {
            rig.disk.apply(op);
        }
    }
    let recovered = rig.try_recover().unwrap().unwrap();
    assert!(recovered.needs_rewrite());
    assert_eq!(recovered.last_index, 3);
    let log = Log::from_recovered(recovered, small(), rig.dir.fx());
    assert!(rig.dir.reopened(&log));
    rig.log = Some(log);
    rig.dir.pump(rig.now);
    let ops: Vec<_> = rig.dir.ops().collect();
    assert!(ops.iter().any(|op| matches!(op, DiskOp::Write { .. })));
    for op in ops {
        if let Some(c) = rig.disk.apply(op) {
            rig.dir.on_completion(rig.now, c, &mut rig.events);
        }
    }
    assert!(!rig.events.iter().any(|e| matches!(e, DirEvent::Persisted { .. })), "synced, not yet marked");
    rig.settle();
    assert_eq!(rig.persisted, 3);
    rig.disk.power_off(|_| None);
    assert!(!rig.try_recover().unwrap().unwrap().needs_rewrite());
}

#[test]
fn a_hole_above_the_mark_ends_the_log_whatever_follows() {
    let mut rig = Rig::new();
    rig.append(1);
    rig.settle();
    let mut writes = 0;
    for _ in 0..3 {
        rig.append(1);
        for op in rig.dir.ops().collect::<Vec<_>>() {
            rig.disk.apply(op);
        }
    }
    rig.disk.power_off(|(file, _, bytes)| {
        writes += usize::from(file.starts_with("groups"));
        (writes != 2).then(|| bytes.clone())
    });
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 3, "the first of three");
    rig.append(2);
    rig.settle();
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 4, "what followed the hole does not come back");
}

#[test]
fn bytes_of_a_recycled_file_never_link() {
    let mut rig = Rig::new();
    let mut other = Rig::new();
    for _ in 0..8 {
        other.append(1);
    }
    other.settle();
    let stale = other.disk.get(&other.path("00000000000000000002.log")).unwrap().to_vec();
    for _ in 0..4 {
        rig.disk.add_pooled(stale.clone());
    }
    for _ in 0..9 {
        rig.append(1);
        rig.settle();
    }
    assert!(rig.log().files().len() > 1, "the second file came from the pool");
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!((rig.log().last_index(), rig.log().next_offset()), (10, 9));
}

#[test]
fn a_crash_between_roll_and_first_frame_leaves_a_whole_log() {
    let mut rig = Rig::new();
    for _ in 0..4 {
        rig.append(1);
    }
    rig.settle();
    let Rig { log, dir, .. } = &mut rig;
    log.as_mut().unwrap().roll(dir.fx());
    rig.settle();
    rig.disk.set(&rig.path("00000000000000000006.log"), vec![0; 300]);
    rig.disk.power_off(|_| None);
    rig.reopen().unwrap();
    assert_eq!(rig.log().last_index(), 5);
    rig.append(1);
    rig.settle();
    assert_eq!(rig.persisted, 6);
}

#[test]
fn a_clean_stop_reads_a_checkpoint_and_nothing_else() {
    let mut rig = Rig::new();
    for _ in 0..20 {
        rig.append(2);
        rig.step();
    }
    rig.settle();
    assert!(rig.checkpoint());
    rig.settle();
    rig.stop();
    let recovered = rig.try_recover().unwrap().unwrap();
    assert!(rig.dir.was_clean());
    assert_eq!((recovered.entries.len(), recovered.last_index, recovered.commit), (0, 21, 21));
    assert_eq!(&recovered.checkpoint.producers[..], b"producers");
    assert!(!recovered.needs_rewrite());
    rig.reopen().unwrap();
    rig.append(2);
    rig.settle();
    assert_eq!(records::batches(&rig.read_all(0).unwrap()).count(), 21);
}

#[test]
fn replay_begins_at_the_checkpoint_and_keeps_terms_and_epochs() {
    let mut rig = Rig::new();
    rig.append(2);
    rig.append_command(3, b"noop");
    rig.settle();
    assert!(rig.checkpoint());
    rig.settle();
    rig.append_command(5, b"x");
    rig.settle();
    rig.disk.power_off(|_| None);
    let recovered = rig.try_recover().unwrap().unwrap();
    assert_eq!(recovered.entries.len(), 1);
    assert!(matches!(&recovered.entries[0].body, EntryBody::Whole(b) if &b[..] == b"x"));
    assert_eq!(recovered.last_term, 5);
    rig.reopen().unwrap();
    let terms: Vec<_> = (1..=4).map(|i| rig.log().term(i)).collect();
    assert_eq!(terms, [Some(1), Some(1), Some(3), Some(5)]);
    assert_eq!(rig.log().epochs().rows(), &[(3, 2), (5, 2)]);
}

/// A follower gives up what is above `after` and takes eight entries of another leader; the process dies when
/// the disk has done `dies_at` operations. Whether it came to the end.
fn give_up(after: u64, dies_at: u64) -> (Rig, bool) {
    let mut rig = Rig::new();
    (rig.replicated, rig.dies_at) = (true, dies_at);
    rig.lead(1, 12, 50);
    rig.settle();
    rig.commit(3.min(rig.persisted));
    rig.lead(2, 2, 50);
    rig.step();
    let _ = rig.give_up_after(after);
    rig.settle();
    if rig.log().waits.is_some() {
        return (rig, false);
    }
    rig.lead(3, 8, 40);
    rig.settle();
    let done = rig.disk.done < dies_at;
    assert!(!done || rig.persisted == after + 8);
    (rig, done)
}

#[test]
fn a_crash_anywhere_while_entries_are_given_up_leaves_one_history() {
    for after in [3, 6, 7, 8, 13, 14] {
        let mut dies_at = 8;
        while dies_at < 1_000 {
            let (rig, done) = give_up(after, dies_at);
            for chance in 0..6u64 {
                let mut rig = Rig {
                    disk: rig.disk.clone(),
                    history: rig.history.clone(),
                    branches: rig.branches.clone(),
                    persisted: rig.persisted,
                    ..Rig::new()
                };
                rig.replicated = true;
                rig.disk.removals_are_lost = chance % 2 == 1;
                let (sure, mut nth) = (rig.persisted, 0u64);
                rig.disk.power_off(|(file, _, bytes)| {
                    nth += 1;
                    let half = bytes[..bytes.len() / 2].to_vec();
                    match chance {
                        0 => None,
                        1 => Some(bytes.clone()),
                        2 => file.starts_with("groups").then(|| bytes.clone()),
                        3 => (!file.starts_with("groups")).then(|| bytes.clone()),
                        _ if (nth + chance).is_multiple_of(2) => Some(bytes.clone()),
                        _ => Some(half),
                    }
                });
                rig.reopen().unwrap_or_else(|e| panic!("{after}, {dies_at}, {chance}: {e}"));
                rig.find_history(sure);
                rig.lead(9, 3, 20);
                rig.settle();
                let (sure, history) = (rig.persisted, rig.history.clone());
                rig.disk.power_off(|_| None);
                rig.reopen().unwrap_or_else(|e| panic!("{after}, {dies_at}, {chance}, again: {e}"));
                rig.find_history(sure);
                assert_eq!(rig.history, history, "{after}, {dies_at}, {chance}");
            }
            dies_at = if done { u64::MAX } else { dies_at + 1 };
        }
        assert_eq!(dies_at, u64::MAX, "the story has an end");
    }
}
