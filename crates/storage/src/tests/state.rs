//! The state log: promises kept, files used in turn, damage told from a torn tail.
use super::rig::*;
use crate::*;

fn vote(rig: &mut Rig, term: u64) {
    rig.dir.set_hard_state(KEY, HardState { term, vote: 1 }, true);
    while rig.step() {}
}

fn term(rig: &mut Rig) -> Result<u64, String> {
    rig.disk.kill();
    let (_, states) = open(&rig.disk, rig.now).map_err(|e| e.to_string())?;
    Ok(states.first().map_or(0, |s| s.hard.term))
}

#[test]
fn a_promise_is_kept_over_many_turns_of_the_files() {
    let mut rig = Rig::new();
    for n in 1..400 {
        vote(&mut rig, n);
        assert_eq!(term(&mut Rig { disk: rig.disk.clone(), ..Rig::new() }), Ok(n));
    }
    assert!(rig.disk.get("state-1.log").is_some());
    for n in 400..420 {
        rig.disk.power_off(|_| None);
        rig.try_recover().unwrap();
        vote(&mut rig, n);
        assert_eq!(term(&mut Rig { disk: rig.disk.clone(), ..Rig::new() }), Ok(n));
    }
}

#[test]
fn a_torn_record_is_no_damage_and_costs_nothing_that_was_promised() {
    let mut rig = Rig::new();
    for n in 1..60 {
        vote(&mut rig, n);
        let mut torn = rig.disk.clone();
        rig.dir.set_hard_state(KEY, HardState { term: n + 1, vote: 1 }, true);
        rig.dir.pump(rig.now);
        let ops: Vec<_> = rig.dir.ops().collect();
        rig.disk = torn.clone();
        for op in ops {
            if !matches!(op, DiskOp::Sync { .. }) {
                torn.apply(op);
            }
        }
        torn.power_off(|(_, _, bytes)| Some(bytes[..bytes.len() / 2].to_vec()));
        assert_eq!(term(&mut Rig { disk: torn, ..Rig::new() }), Ok(n));
        rig.disk.kill();
        rig.try_recover().unwrap();
        vote(&mut rig, n);
    }
}

#[test]
fn a_bad_record_that_a_later_one_claims_is_damage() {
    let mut rig = Rig::new();
    (1..5).for_each(|n| vote(&mut rig, n));
    let good = rig.disk.clone();
    let first = 40 + 33;
    for at in [5, 20, 45, first + 20, first + 60] {
        rig.disk = good.clone();
        rig.disk.flip("state-0.log", at);
        let error = term(&mut rig).unwrap_err();
        assert!(error.contains("state-0.log") && error.contains("made durable"), "byte {at}: {error}");
    }
    rig.disk.kill();
    let cfg = DirectoryConfig { accept_state_log_damage: true, ..DirectoryConfig::default() };
    rig.disk = good;
    rig.disk.flip("state-0.log", first + 170);
    let (_, states) = Directory::open(&rig.disk, cfg, rig.now).unwrap();
    assert!(states[0].hard.term >= 1);
}

#[test]
fn a_group_whose_row_was_behind_accepted_damage_is_recovered_from_its_files() {
    let mut rig = Rig::new();
    let other = model::GroupKey { partition: 9, ..KEY };
    for term in 1..5 {
        rig.dir.set_hard_state(other, HardState { term, vote: 1 }, true);
        while rig.step() {}
    }
    rig.append(1);
    rig.settle();
    rig.append(2);
    rig.settle();
    rig.disk.kill();
    rig.disk.flip("state-0.log", 40 + 33 + 20);
    assert!(Directory::open(&rig.disk, DirectoryConfig::default(), rig.now).is_err());
    let cfg = DirectoryConfig { accept_state_log_damage: true, ..DirectoryConfig::default() };
    let (dir, states) = Directory::open(&rig.disk, cfg, rig.now).unwrap();
    assert_eq!(dir.adopted(), [KEY]);
    assert!(states.iter().any(|state| state.key == KEY && state.mark.is_none()));
    let job = RecoverJob { key: KEY, dir: group_dir(KEY), mark: None, birth: birth(KEY, members()) };
    assert_eq!(recovery::recover(&job, &rig.disk).unwrap().last_index, 3);
}

#[test]
fn a_missing_state_log_or_meta_is_refused() {
    let mut rig = Rig::new();
    rig.append(1);
    rig.settle();
    let mut without = rig.disk.clone();
    without.take("state-0.log");
    without.take("state-1.log");
    assert!(matches!(open(&without, rig.now), Err(OpenError::Damaged(_))));
    let mut without = rig.disk.clone();
    without.take("meta");
    assert!(matches!(open(&without, rig.now), Err(OpenError::Damaged(_))));
    let other = DirectoryConfig { node_id: 9, ..DirectoryConfig::default() };
    assert!(matches!(Directory::open(&rig.disk, other, rig.now), Err(OpenError::Foreign(_))));
}

#[test]
fn a_failed_mark_and_the_boot_are_kept() {
    let mut rig = Rig::new();
    rig.dir.set_failed(KEY, Some("panicked".into()));
    rig.settle();
    rig.disk.power_off(|_| None);
    rig.try_recover().unwrap();
    assert_eq!(rig.state.as_ref().unwrap().failed.as_deref(), Some("panicked"));
    assert!(!rig.dir.was_other_boot() && !rig.dir.was_clean());
    let cfg = DirectoryConfig { boot_id: [4; 16], ..DirectoryConfig::default() };
    assert!(Directory::open(&rig.disk, cfg, rig.now).unwrap().0.was_other_boot());
}

/// Term and vote with the number of their round.
fn promise(rig: &mut Rig, term: u64, must_sync: bool) -> u64 {
    rig.dir.set_hard_state(KEY, HardState { term, vote: 1 }, must_sync)
}

/// A group whose row is durable, and whose events begin here.
fn known() -> Rig {
    let mut rig = Rig::new();
    promise(&mut rig, 1, true);
    rig.dir.relax(KEY);
    rig.settle();
    rig.told.clear();
    rig
}

#[test]
fn hard_state_alone_is_told_with_index_0_when_its_round_is_synced() {
    let mut rig = known();
    rig.disk.hold_syncs = true;
    let number = promise(&mut rig, 2, true);
    rig.step();
    assert_eq!(rig.told, []);
    rig.end_sync(0);
    assert_eq!(rig.told, [Told::Persisted(0, number)]);
    // One that need not be synced rides along with the next.
    let number = promise(&mut rig, 3, false);
    rig.step();
    assert_eq!((rig.told.len(), rig.dir.next_deadline()), (1, None));
    rig.append(1);
    rig.step();
    rig.end_sync(0);
    assert_eq!(rig.told[1..], [Told::Written(2), Told::Persisted(2, number)]);
}

#[test]
fn hard_state_with_entries_is_told_with_them() {
    let mut rig = known();
    rig.disk.hold_syncs = true;
    let number = promise(&mut rig, 2, true);
    rig.append(1);
    rig.append(1);
    rig.step();
    assert_eq!(rig.told, [Told::Written(3)]);
    // What comes while a round runs waits for the next, whatever that one says.
    let later = promise(&mut rig, 3, true);
    assert_eq!(later, number + 1);
    rig.step();
    rig.end_sync(0);
    assert_eq!(rig.told[1..], [Told::Persisted(3, number)]);
    rig.step();
    rig.end_sync(0);
    assert_eq!(rig.told[2..], [Told::Persisted(0, later)]);
}

#[test]
fn relaxed_entries_that_were_written_do_not_tell_of_hard_state() {
    let mut rig = known();
    rig.disk.hold_syncs = true;
    rig.relaxed = true;
    let number = promise(&mut rig, 2, true);
    rig.append(1);
    rig.step();
    assert_eq!(rig.told, [Told::Written(2), Told::Persisted(2, number - 1)]);
    rig.append(1);
    rig.step();
    assert_eq!(rig.told[2..], [Told::Written(3), Told::Persisted(3, number - 1)]);
    rig.end_sync(0);
    assert_eq!(rig.told[4..], [Told::Persisted(0, number)]);
}

#[test]
fn the_first_entries_of_a_group_are_synced_with_the_record_that_it_is_there() {
    for promised in [false, true] {
        let mut rig = Rig::new();
        rig.relaxed = true;
        rig.disk.hold_syncs = true;
        if promised {
            promise(&mut rig, 1, false);
        }
        rig.append(1);
        rig.step();
        rig.append(1);
        rig.step();
        assert_eq!(rig.told, [Told::Written(2), Told::Written(3)], "a start would not know the group");
        rig.end_sync(0);
        rig.step();
        while rig.end_sync(0) {}
        assert_eq!(rig.persisted, 3);
        rig.append(1);
        rig.step();
        assert_eq!(rig.persisted, 4, "as soon as it is written");
        rig.reopen().unwrap();
        assert_eq!(rig.log().last_index(), 4);
    }
}

#[test]
fn after_a_failed_sync_what_was_relaxed_is_restrained_in_the_same_boot_until_it_is_free() {
    let mut rig = Rig::new();
    rig.relaxed = true;
    rig.append(2);
    rig.settle();
    rig.reopen().unwrap();
    assert_eq!(rig.dir.below_their_floor(), 0, "a process that was killed lost nothing");
    rig.disk.set(FAILED, b"cannot sync".to_vec());
    // The process that finds the note may die before anything follows from it.
    for _ in 0..2 {
        rig.try_recover().unwrap();
        assert!(rig.dir.had_failed() && !rig.dir.was_other_boot());
        assert_eq!(rig.dir.below_their_floor(), 1);
    }
    rig.reopen().unwrap();
    assert!(!rig.disk.names().iter().any(|name| name == FAILED), "it is in the state log now");
    rig.reopen().unwrap();
    assert!(!rig.dir.had_failed());
    assert_eq!(rig.dir.below_their_floor(), 1, "nobody has freed it");
}

mod promises {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Promise(bool),
        Append,
        Relaxed(bool),
        Some(usize),
        EndSync(usize),
        Time(i64),
        Full(bool),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => any::<bool>().prop_map(Act::Promise),
            4 => Just(Act::Append),
            2 => any::<bool>().prop_map(Act::Relaxed),
            6 => (1usize..9).prop_map(Act::Some),
            4 => (0usize..2).prop_map(Act::EndSync),
            2 => (1i64..1_200).prop_map(Act::Time),
            1 => any::<bool>().prop_map(Act::Full),
        ]
    }

    proptest! {
        #[test]
        fn a_round_that_is_told_is_on_the_medium(acts in proptest::collection::vec(act(), 1..80)) {
            let mut rig = known();
            rig.disk.hold_syncs = true;
            let (mut promised, mut sure) = (vec![(1, 1)], 1);
            for act in acts {
                match act {
                    Act::Promise(must_sync) => {
                        let next = promised.len() as u64 + 1;
                        let number = promise(&mut rig, next, must_sync);
                        promised.push((number, next));
                    }
                    Act::Append => rig.append(1),
                    Act::Relaxed(relaxed) => {
                        rig.relaxed = relaxed;
                        rig.soft |= relaxed;
                    }
                    Act::Some(count) => {
                        rig.pump();
                        rig.carry_out(count);
                    }
                    Act::EndSync(nth) => _ = rig.end_sync(nth),
                    Act::Time(ms) => rig.now.mono = rig.now.mono.after_ms(ms),
                    Act::Full(full) => rig.disk.full = full,
                }
                for told in rig.told.drain(..) {
                    let Told::Persisted(_, round) = told else { continue };
                    let newest = promised.iter().filter(|(number, _)| *number <= round).map(|(_, term)| *term).max();
                    sure = sure.max(newest.unwrap_or(0));
                }
                let mut crashed = rig.disk.clone();
                crashed.power_off(|_| None);
                let found = term(&mut Rig { disk: crashed, ..Rig::new() }).unwrap();
                prop_assert!(found >= sure, "{sure} was promised, {found} is there");
            }
        }
    }
}
