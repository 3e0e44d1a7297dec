//! Random histories: what was persisted is there after any crash; arbitrary bytes never panic.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Append(u32, usize),
    Command,
    Step,
    Settle,
    Checkpoint,
    Delete(i64),
    Kill,
    Power(u64),
    /// The disk is full but for so many bytes, or has room again.
    Full(Option<u64>),
    /// The group is given up, whether it must be or not.
    GiveUp,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1u32..4, 0usize..300).prop_map(|(n, b)| Act::Append(n, b)),
        2 => Just(Act::Command),
        5 => Just(Act::Step),
        2 => Just(Act::Settle),
        1 => Just(Act::Checkpoint),
        1 => (1i64..20).prop_map(Act::Delete),
        1 => Just(Act::Kill),
        2 => any::<u64>().prop_map(Act::Power),
        1 => proptest::option::of(0u64..1_500).prop_map(Act::Full),
        1 => Just(Act::GiveUp),
    ]
}

/// Loses, keeps or tears by 512-byte sectors.
fn tear(seed: &mut u64, (_, pos, bytes): &test_disk::Unsynced) -> Option<Vec<u8>> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    };
    match next() % 3 {
        0 => None,
        1 => Some(bytes.clone()),
        _ => {
            let sector = 512 - (*pos as usize % 512);
            let cut = (sector + 512 * (next() as usize % 3)).min(bytes.len());
            Some(bytes[..cut].to_vec())
        }
    }
}

struct Model {
    batches: Vec<u8>,
    ends: Vec<(u64, usize)>,
}

fn run(acts: &[Act]) {
    let mut rig =
        Rig::with(TestDisk::default(), LogConfig { checkpoint_bytes: 600, window_bytes: 900, ..small() });
    let mut model = Model { batches: Vec::new(), ends: vec![(1, 0)] };
    rig.gives_up = true;
    for act in acts {
        let (persisted, given_up) = (rig.persisted, rig.given_up);
        match act {
            Act::Append(count, body) => {
                let from = rig.log().next_offset();
                rig.append_sized(*count, *body, 5);
                model.batches.extend(test_data::sized_batch(from, *count, 5, *body));
                model.ends.push((rig.log().last_index(), model.batches.len()));
            }
            Act::Command => {
                let term = rig.log().last_term() + 1;
                rig.append_command(term, b"command");
                model.ends.push((rig.log().last_index(), model.batches.len()));
            }
            Act::Step => _ = rig.step(),
            Act::Settle => rig.settle(),
            Act::Checkpoint => {
                if rig.persisted == rig.log().last_index() && rig.log().wants_checkpoint() {
                    rig.checkpoint();
                }
            }
            Act::Delete(by) => {
                if rig.persisted == rig.log().last_index() {
                    let Rig { log, dir, .. } = &mut rig;
                    let log = log.as_mut().unwrap();
                    log.apply_log_start((log.log_start() + by).min(log.next_offset()), dir.fx());
                }
            }
            Act::Kill => restart(&mut rig, &mut model),
            Act::Power(seed) => {
                let mut seed = *seed;
                rig.disk.power_off(|write| tear(&mut seed, write));
                restart(&mut rig, &mut model);
            }
            Act::Full(room) => (rig.disk.full, rig.disk.room) = (room.is_some(), room.unwrap_or(0)),
            Act::GiveUp => rig.give_up(),
        }
        if rig.given_up > given_up {
            read_back(&mut rig, &mut model, persisted);
        }
    }
    rig.disk.full = false;
    let given_up = rig.given_up;
    (0..10).for_each(|_| rig.settle());
    assert_eq!(rig.given_up, given_up, "there is room");
    let last = rig.log().last_index();
    assert_eq!(rig.persisted, last);
    check(&mut rig, &model);
}

fn restart(rig: &mut Rig, model: &mut Model) {
    let persisted = rig.persisted;
    // A start needs room for its own record.
    let full = std::mem::replace(&mut rig.disk.full, false);
    rig.reopen().unwrap();
    rig.disk.full = full;
    forget_what_is_lost(rig, model, persisted);
}

/// The group was given up: what was persisted is there, and its next term begins.
fn read_back(rig: &mut Rig, model: &mut Model, persisted: u64) {
    while rig.log.is_none() {
        assert!(rig.step(), "a recovery ends");
    }
    forget_what_is_lost(rig, model, persisted);
    let term = rig.log().last_term() + 1;
    rig.append_command(term, b"command");
    model.ends.push((rig.log().last_index(), model.batches.len()));
}

fn forget_what_is_lost(rig: &mut Rig, model: &mut Model, persisted: u64) {
    let last = rig.log().last_index();
    assert!(last >= persisted, "index {persisted} was persisted, {last} is the last now");
    model.ends.retain(|(index, _)| *index <= last);
    model.batches.truncate(model.ends.last().unwrap().1);
    assert_eq!(model.ends.last().unwrap().0, last);
    check(rig, model);
}

fn check(rig: &mut Rig, model: &Model) {
    rig.cool();
    let start = rig.log().log_start();
    let read = rig.read_all(start).unwrap();
    assert!(model.batches.ends_with(&read));
    let end = records::batches(&model.batches).last().map_or(0, |b| b.unwrap().1.next_offset());
    assert_eq!(rig.log().next_offset(), end);
}

#[test]
fn a_disk_full_twice_around_a_kill_loses_no_entry() {
    use Act::{Append, Full, Kill, Step};
    run(&[
        Kill,
        Full(Some(0)),
        Append(1, 188),
        Append(1, 29),
        Step,
        Full(None),
        Append(1, 287),
        Append(1, 61),
        Step,
        Full(Some(0)),
        Kill,
        Append(1, 5),
        Append(1, 82),
        Append(1, 59),
        Append(1, 92),
        Append(1, 218),
        Step,
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_persisted_survives_any_crash(acts in proptest::collection::vec(act(), 1..120)) {
        run(&acts);
    }

    #[test]
    fn arbitrary_bytes_as_a_file_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), keep in 0usize..700, entries in 0usize..5,
    ) {
        let mut rig = Rig::new();
        (0..entries).for_each(|_| rig.append(1));
        rig.settle();
        let file = rig.path("00000000000000000002.log");
        let mut whole = rig.disk.get(&file).unwrap_or_default().to_vec();
        whole.truncate(keep);
        whole.extend(&bytes);
        rig.disk.set(&file, whole);
        rig.disk.set(&rig.path("00000000000000000001.ckpt"), bytes.clone());
        rig.disk.set(&rig.path("00000000000000000003.log"), bytes.clone());
        let _ = rig.try_recover();
        rig.disk.set("state-0.log", bytes.clone());
        let _ = rig.try_recover();
        rig.disk.set("meta", bytes);
        let _ = rig.try_recover();
    }
}
