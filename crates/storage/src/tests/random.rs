//! Random histories: what was persisted is there after any crash, what was given up comes back whole or not at
//! all; arbitrary bytes never panic.
use super::rig::*;
use crate::test_disk::TestDisk;
use crate::*;
use bytes::Bytes;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Append(u32, usize),
    Command,
    Step,
    /// So many operations of the disk.
    Some(usize),
    Settle,
    Checkpoint,
    Delete(i64),
    Kill,
    Power(u64),
    /// The disk is full but for so many bytes, or has room again.
    Full(Option<u64>),
    /// The group is given up, whether it must be or not.
    GiveUp,
    /// So many of the entries that may be persisted commit, where persisting alone does not commit them.
    Commit(u64),
    /// So many entries at the end are given up, as far as they are not committed.
    GiveUpLast(u64),
    /// So many of the entries that were given up come back as they were.
    Return(usize),
    /// Syncs end when they are told to.
    HoldSyncs(bool),
    EndSync(usize),
    Relaxed(bool),
    /// Plans reads, and carries out those that were planned last.
    Read(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => (1u32..4, 0usize..300).prop_map(|(n, b)| Act::Append(n, b)),
        2 => Just(Act::Command),
        5 => Just(Act::Step),
        5 => (1usize..6).prop_map(Act::Some),
        2 => Just(Act::Settle),
        1 => Just(Act::Checkpoint),
        1 => (1i64..20).prop_map(Act::Delete),
        1 => Just(Act::Kill),
        2 => any::<u64>().prop_map(Act::Power),
        1 => proptest::option::of(0u64..1_500).prop_map(Act::Full),
        1 => Just(Act::GiveUp),
        2 => (1u64..6).prop_map(Act::Commit),
        4 => (0u64..12).prop_map(Act::GiveUpLast),
        2 => (1usize..4).prop_map(Act::Return),
        1 => any::<bool>().prop_map(Act::HoldSyncs),
        3 => (0usize..2).prop_map(Act::EndSync),
        1 => any::<bool>().prop_map(Act::Relaxed),
        3 => (0u64..1_000).prop_map(Act::Read),
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

/// What the checks need beside the rig.
#[derive(Default)]
struct Seen {
    /// The term of what is appended next.
    term: u64,
    plans: Option<(EntriesPlan, ReadPlan)>,
}

/// `replicated`: entries commit when told, as on one of several replicas, and not when they are persisted.
/// `mixed`: some count as persisted when they are written.
fn run(acts: &[Act], replicated: bool, mixed: bool) {
    let mut rig =
        Rig::with(TestDisk::default(), LogConfig { checkpoint_bytes: 600, window_bytes: 900, ..small() });
    rig.disk.removals_are_lost = true;
    (rig.gives_up, rig.replicated) = (true, replicated);
    let mut seen = Seen { term: 1, plans: None };
    // What found no space before there is room again may still be told.
    let room = [Act::Full(None), Act::Step, Act::Step];
    for act in acts.iter().chain(&room).filter(|act| mixed || !matches!(act, Act::Relaxed(_))) {
        let (sure, given_up) = (rig.persisted, rig.given_up);
        carry_out(&mut rig, &mut seen, act);
        if rig.given_up > given_up {
            read_back(&mut rig, &mut seen, sure);
        }
        assert_eq!(rig.dir.fenced(), None);
    }
    let given_up = rig.given_up;
    (0..10).for_each(|_| rig.settle());
    assert_eq!(rig.given_up, given_up, "there is room");
    let last = rig.log().last_index();
    assert_eq!(rig.persisted, last);
    assert_eq!((rig.dir.idle(), rig.dir.fenced()), (true, None));
    check(&mut rig);
}

fn carry_out(rig: &mut Rig, seen: &mut Seen, act: &Act) {
    let waits = rig.log().waits.is_some();
    // A group starts when its tail is marked; what is appended before all the same must be synced.
    let begun = !rig.dir.rounds.withheld.contains(&KEY);
    match act {
        Act::Append(..) | Act::Command | Act::Return(_) if waits || (rig.relaxed && !begun) => {}
        Act::Append(count, body) => {
            let log = rig.log();
            let (index, offset) = (log.last_index() + 1, log.next_offset());
            let head = test_data::head(index, EntryKind::Data, *count, offset);
            let payload = Bytes::from(test_data::sized_batch(offset, *count, 5, *body));
            rig.append_entry(EntryHead { term: seen.term, ..head }, payload, 5);
        }
        Act::Command => {
            seen.term += 1;
            rig.append_command(seen.term, b"command");
        }
        Act::Step => _ = rig.step(),
        Act::Some(count) => {
            rig.pump();
            rig.carry_out(*count);
        }
        Act::Settle => rig.settle(),
        Act::Checkpoint => {
            let last = rig.log().last_index();
            if !rig.replicated && rig.persisted == last {
                rig.commit(last);
            }
            if (rig.replicated || rig.persisted == last) && rig.log().wants_checkpoint() {
                rig.checkpoint();
            }
        }
        Act::Delete(by) => {
            let commit = rig.log().commit();
            let upto = rig.offset_after(commit);
            let Rig { log, dir, .. } = rig;
            let log = log.as_mut().unwrap();
            log.apply_log_start((log.log_start() + by).min(upto), dir.fx());
        }
        Act::Kill => {
            let sure = rig.persisted;
            restart(rig, seen, sure);
        }
        Act::Power(seed) => {
            let (mut seed, sure) = (*seed, rig.durable());
            rig.disk.power_off(|write| tear(&mut seed, write));
            restart(rig, seen, sure);
        }
        Act::Full(room) => (rig.disk.full, rig.disk.room) = (room.is_some(), room.unwrap_or(0)),
        // One that was never touched is not read back.
        Act::GiveUp if rig.dir.groups.contains_key(&KEY) => rig.give_up(),
        Act::GiveUp => {}
        Act::Commit(count) => {
            let upto = (rig.log().commit() + count).min(rig.persisted);
            rig.commit(upto);
        }
        Act::GiveUpLast(_) if !begun => {}
        Act::GiveUpLast(count) => {
            let log = rig.log();
            let after = log.last_index().saturating_sub(*count).max(log.commit());
            let removal = rig.give_up_after(after);
            assert_eq!(removal == Removal::Waits, rig.log().waits.is_some());
            seen.term += 1;
        }
        Act::Return(count) => {
            let len = rig.history.len();
            let longer = rig.branches.iter().rfind(|b| b.len() > len && b.starts_with(&rig.history));
            let back: Vec<_> = longer.iter().flat_map(|b| &b[len..]).take(*count).cloned().collect();
            for (head, payload) in back {
                let timestamp = if head.kind == EntryKind::Data { 5 } else { -1 };
                rig.append_entry(head, payload, timestamp);
            }
        }
        Act::HoldSyncs(hold) => rig.disk.hold_syncs = *hold,
        Act::EndSync(nth) => _ = rig.end_sync(*nth),
        Act::Relaxed(relaxed) => {
            rig.relaxed = *relaxed;
            rig.soft |= relaxed;
        }
        Act::Read(at) => read(rig, seen, *at),
    }
}

/// Carries out what was planned some time ago, and plans anew.
fn read(rig: &mut Rig, seen: &mut Seen, at: u64) {
    let whole = batches(rig);
    let log = rig.log.as_ref().unwrap();
    let (entries, batches) = seen.plans.take().unwrap_or((EntriesPlan::NotYet, ReadPlan::Empty));
    if let EntriesPlan::File(range) = entries {
        match read_range(&rig.disk, &range) {
            Ok(found) if log.holds(&found.entries) => {
                let low = range.entries.unwrap().low as usize - 2;
                assert_eq!(found.entries, rig.history[low..low + found.entries.len()]);
                assert!(!found.entries.is_empty());
            }
            Ok(_) | Err(ExtractError::Disk(_) | ExtractError::Unsettled(_)) => {}
            Err(ExtractError::Damaged(damage)) => panic!("{damage}"),
        }
    }
    if let ReadPlan::File(range) = batches {
        match read_range(&rig.disk, &range) {
            Ok(found) => {
                let bytes = found.batches.concat();
                assert!(!bytes.is_empty() && whole.windows(bytes.len()).any(|part| part == bytes));
            }
            Err(ExtractError::Disk(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let (first, last) = (log.first_index(), log.last_index());
    let low = first + at % (last + 2 - first);
    let entries = log.entries_plan(low, last + 1, 300, &rig.dir);
    if low < first {
        assert_eq!(entries, EntriesPlan::Compacted);
    }
    rig.cool();
    let upto = rig.offset_after(rig.log.as_ref().unwrap().commit());
    let log = rig.log.as_ref().unwrap();
    let from = log.log_start() + at as i64 % 50;
    let batches = if from < upto { log.read_plan(from, upto, 300).unwrap() } else { ReadPlan::Empty };
    seen.plans = Some((entries, batches));
}

/// All batches of the log.
fn batches(rig: &Rig) -> Vec<u8> {
    let data = rig.history.iter().filter(|(head, _)| head.kind == EntryKind::Data);
    data.flat_map(|(_, payload)| payload.to_vec()).collect()
}

fn restart(rig: &mut Rig, seen: &mut Seen, sure: u64) {
    // A start needs room for its own record.
    let full = std::mem::replace(&mut rig.disk.full, false);
    rig.reopen().unwrap();
    rig.disk.full = full;
    found(rig, seen, sure);
}

/// The group was given up: what was persisted is there, and its next term begins.
fn read_back(rig: &mut Rig, seen: &mut Seen, sure: u64) {
    while rig.log.is_none() {
        assert!(rig.step() || rig.end_sync(0), "a recovery ends");
    }
    found(rig, seen, sure);
    seen.term += 1;
    if !rig.relaxed {
        rig.append_command(seen.term, b"command");
    }
}

fn found(rig: &mut Rig, seen: &mut Seen, sure: u64) {
    rig.find_history(sure);
    check(rig);
    seen.term += 1;
    seen.plans = None;
}

fn check(rig: &mut Rig) {
    rig.cool();
    let start = rig.log().log_start();
    let (read, whole) = (rig.read_all(start).unwrap(), batches(rig));
    assert!(whole.ends_with(&read));
    let end = rig.history.last().map_or(0, |(head, _)| head.next_offset());
    assert_eq!(rig.log().next_offset(), end);
    let (last, term) = (rig.log().last_index(), rig.log().last_term());
    assert_eq!(rig.history.last().map_or((1, 1), |(head, _)| (head.index, head.term)), (last, term));
}

#[test]
fn a_disk_full_twice_around_a_kill_loses_no_entry() {
    use Act::{Append, Full, Kill, Step};
    let acts = [
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
    ];
    run(&acts, false, false);
}

#[test]
fn a_file_that_was_never_made_is_not_made_over_one_that_is_there() {
    use Act::{Append, Command, Full, GiveUp, Kill, Step};
    let (full, none) = (Full(Some(379)), Act::Some(2));
    // The group that is born after the kill has no room for its file; what is read back is the former one's.
    run(
        &[
            Command,
            full,
            Append(1, 215),
            none,
            Kill,
            Append(1, 0),
            Step,
            GiveUp,
            Append(1, 0),
            Append(1, 131),
            Append(1, 109),
        ],
        true,
        false,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_persisted_survives_any_crash(
        acts in proptest::collection::vec(act(), 1..120), mixed: bool,
    ) {
        run(&acts, false, mixed);
    }

    #[test]
    fn what_was_persisted_and_not_given_up_survives_any_crash(
        acts in proptest::collection::vec(act(), 1..160), mixed: bool,
    ) {
        run(&acts, true, mixed);
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
