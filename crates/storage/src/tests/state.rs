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
