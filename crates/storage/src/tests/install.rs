//! A replica's files are put aside, looked at, and taken for its own by one record.
use super::rig::*;
use crate::install::look;
use crate::*;
use bytes::Bytes;

/// A log of several files, some of them base, with a checkpoint in the middle of the last one.
fn source() -> Rig {
    let mut rig = Rig::with(Default::default(), LogConfig { window_bytes: 1_500, ..small() });
    for _ in 0..3 {
        for _ in 0..8 {
            rig.append(2);
            rig.settle();
        }
        rig.checkpoint();
        rig.settle();
    }
    let log = rig.log.as_ref().unwrap();
    assert!(log.files().len() > 3 && log.first_index() > 2, "base, window and active file");
    rig
}

pub(super) fn job(rig: &Rig, dir: &str) -> AsideJob {
    let index = rig.log.as_ref().unwrap().newest_checkpoint().unwrap();
    AsideJob {
        key: KEY,
        dir: dir.to_owned(),
        index,
        birth: birth(KEY, members()),
        check: false,
        bare: false,
        only: None,
    }
}

pub(super) fn missing(job: &AsideJob, disk: &dyn DiskRead) -> Vec<MissingPart> {
    match look(job, disk).unwrap() {
        Aside::Missing(parts) => parts,
        Aside::Whole(_) | Aside::Good => Vec::new(),
        Aside::Stale(paths) => panic!("{paths:?}"),
        Aside::Bare { path, .. } => panic!("{path}"),
    }
}

/// Pulls what is missing, `piece` bytes at a time, but no more than `most` pieces; whether that was all.
pub(super) fn pull(source: &Rig, to: &mut Rig, job: &AsideJob, piece: u32, mut most: usize) -> bool {
    let log = source.log.as_ref().unwrap();
    loop {
        let parts = missing(job, &to.disk);
        if parts.is_empty() {
            return true;
        }
        for MissingPart { file, good, size } in parts {
            let mut pos = good;
            while pos < size {
                let Some(range) = log.file_range(job.index, file, pos, piece) else { break };
                let bytes = read_range(&source.disk, &range).unwrap().batches.remove(0);
                if bytes.is_empty() {
                    break;
                }
                if most == 0 {
                    return false;
                }
                most -= 1;
                let next = pos + bytes.len() as u64;
                to.dir.put_aside(KEY, aside_path(&job.dir, job.index, file), pos, bytes);
                pos = next;
            }
        }
        while to.step() {}
    }
}

fn bytes_of(log: &Log, disk: &dyn DiskRead) -> Vec<Bytes> {
    log.files().iter().map(|f| disk.read(&f.path, 0, f.bytes as usize).unwrap()).collect()
}

#[test]
fn what_is_pulled_in_pieces_is_whole_when_every_byte_of_it_is_good() {
    let source = source();
    let mut to = Rig::new();
    let job = job(&source, &generation_dir(KEY, 1));
    assert_eq!(missing(&job, &to.disk), [MissingPart { file: 0, good: 0, size: u64::MAX }]);
    assert!(pull(&source, &mut to, &job, 100, usize::MAX));
    let whole = to.disk.clone();
    let names: Vec<String> = whole.names().into_iter().filter(|n| n.starts_with(&job.dir)).collect();
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        for at in (0..whole.get(&name).unwrap().len()).step_by(29) {
            to.disk = whole.clone();
            to.disk.flip(&name, at);
            let parts = missing(&job, &to.disk);
            assert!(!parts.is_empty(), "{name} byte {at}");
            assert!(parts.iter().all(|p| p.good <= at as u64), "nothing behind the damage counts as good");
            assert!(pull(&source, &mut to, &job, 300, usize::MAX), "it heals");
        }
    }
}

#[test]
fn a_checkpoint_that_is_pulled_over_a_longer_one_has_to_be_the_only_one_there() {
    let source = source();
    let (mut to, job) = (Rig::new(), job(&source, &generation_dir(KEY, 1)));
    let path = aside_path(&job.dir, job.index, 0);
    to.dir.put_aside(KEY, path.clone(), 0, Bytes::from(vec![7; 1 << 16]));
    while to.step() {}
    for there in [true, false] {
        if !there {
            to.dir.fx().ops.push(DiskOp::Remove { paths: vec![path.clone()], recycle: false });
        }
        let checkpoint = source.disk.read(&aside_path(&group_dir(KEY), job.index, 0), 0, 1 << 20).unwrap();
        to.dir.put_aside(KEY, path.clone(), 0, checkpoint);
        while to.step() {}
        assert_eq!(missing(&job, &to.disk)[0].file == 0, there, "another leader's is longer or shorter");
    }
}

#[test]
fn a_checkpoint_that_was_taken_again_at_its_index_has_to_be_pulled_again() {
    let mut source = source();
    let log = source.log.as_mut().unwrap();
    let oldest = log.files()[0].clone();
    log.pin(log.newest_checkpoint());
    log.apply_log_start(oldest.next_offset, source.dir.fx());
    source.append(2);
    source.settle();
    assert!(source.checkpoint());
    source.settle();
    let (mut to, job) = (Rig::new(), job(&source, &generation_dir(KEY, 1)));
    assert!(!pull(&source, &mut to, &job, 1 << 20, 1), "the checkpoint, and not its files");
    let named = missing(&job, &to.disk);
    // Nobody asked for any of them for a while: what had to be kept goes, with no entry more than before.
    source.log.as_mut().unwrap().pin(None);
    assert!(source.checkpoint());
    source.settle();
    let log = source.log.as_ref().unwrap();
    assert_eq!(log.newest_checkpoint(), Some(job.index));
    assert_eq!(log.file_range(job.index, named[0].file, 0, 1), None, "{named:?}");
    let paths = vec![aside_path(&job.dir, job.index, 0)];
    to.dir.fx().ops.push(DiskOp::Remove { paths, recycle: false });
    assert!(pull(&source, &mut to, &job, 1 << 20, usize::MAX));
    assert!(matches!(look(&job, &to.disk).unwrap(), Aside::Whole(_)));
}

#[test]
fn a_witness_takes_the_numbers_of_a_checkpoint_and_none_of_its_files() {
    let source = source();
    let mut to = Rig::new();
    let job = AsideJob { bare: true, ..job(&source, &generation_dir(KEY, 1)) };
    let name = aside_path(&job.dir, job.index, 0);
    let checkpoint = source.disk.read(&aside_path(&group_dir(KEY), job.index, 0), 0, 1 << 20).unwrap();
    to.dir.put_aside(KEY, name.clone(), 0, checkpoint.clone());
    while to.step() {}
    let Aside::Bare { path, bytes } = look(&job, &to.disk).unwrap() else { panic!("it has files") };
    assert_eq!(path, name);
    to.dir.fx().ops.push(DiskOp::Remove { paths: vec![path.clone()], recycle: false });
    to.dir.put_aside(KEY, path, 0, bytes);
    while to.step() {}
    let Aside::Whole(recovered) = look(&job, &to.disk).unwrap() else { panic!("nothing is missing") };
    let theirs = checkpoint::decode(KEY, &checkpoint).unwrap();
    assert_eq!((recovered.last_index, recovered.last_term), (theirs.index, theirs.term));
    assert_eq!(
        (recovered.next_offset, recovered.checkpoint.log_start),
        (theirs.next_offset, theirs.next_offset)
    );
    assert_eq!(recovered.checkpoint.members, theirs.members);
    // It lives on from there with heads alone, and is found again.
    let mut fx = StorageFx::new(1 << 20);
    let mut log = Log::from_recovered(*recovered, small(), &mut fx);
    assert_eq!((log.first_index(), log.term(theirs.index)), (theirs.index + 1, Some(theirs.term)));
    let head = EntryHead {
        term: theirs.term,
        ..test_data::head(theirs.index + 1, EntryKind::Bare, 7, theirs.next_offset)
    };
    log.append(to.now, &head, Bytes::new(), -1, &mut fx);
    assert_eq!((log.last_index(), log.next_offset()), (theirs.index + 1, theirs.next_offset + 7));
}

#[test]
fn what_is_there_is_not_pulled_again_after_power_failed() {
    let source = source();
    let mut to = Rig::new();
    let job = job(&source, &generation_dir(KEY, 1));
    assert!(!pull(&source, &mut to, &job, 100, 20), "interrupted");
    while to.step() {}
    to.dir.sync_aside(KEY, job.dir.clone());
    while to.step() {}
    assert!(!pull(&source, &mut to, &job, 100, 5));
    while to.step() {}
    to.disk.power_off(|_| None);
    to.reopen().unwrap();
    let parts = missing(&job, &to.disk);
    assert!(
        parts.iter().all(|p| p.file > 0) && parts.iter().any(|p| p.good > 0 || parts.len() < 4),
        "{parts:?}"
    );
    assert!(pull(&source, &mut to, &job, 100, usize::MAX));
}

#[test]
fn one_record_ends_the_old_life_and_begins_the_new_one() {
    let source = source();
    let from = source.log.as_ref().unwrap();
    for durable in [false, true] {
        let mut to = Rig::new();
        to.append(1);
        to.settle();
        to.dir.set_hard_state(KEY, HardState { term: 7, vote: 2 }, true);
        to.settle();
        let job = job(&source, &generation_dir(KEY, 1));
        assert!(pull(&source, &mut to, &job, 1 << 20, usize::MAX));
        to.dir.sync_aside(KEY, job.dir.clone());
        while to.step() {}
        let Ok(Aside::Whole(recovered)) = look(&job, &to.disk) else { panic!() };
        let log = to.log.take().unwrap();
        let (state, _) = to.dir.begin_life(KEY, &recovered, 0);
        assert_eq!((state.generation, state.hard), (1, HardState { term: 7, vote: 2 }));
        log.close(to.dir.fx());
        if durable {
            to.settle();
        }
        to.disk.power_off(|_| None);
        let (_, states) = open(&to.disk, to.now).unwrap();
        let state = states.iter().find(|s| s.key == KEY).unwrap();
        assert_eq!((state.generation, state.hard.term), (u32::from(durable), 7));
        let dir = generation_dir(KEY, state.generation);
        let job = RecoverJob { key: KEY, dir, mark: state.mark, birth: birth(KEY, members()) };
        let found = recovery::recover(&job, &to.disk).unwrap();
        let last = if durable { from.newest_checkpoint().unwrap() } else { 2 };
        assert_eq!((found.last_index, found.needs_rewrite()), (last, false), "one or the other, no mixture");
        if durable {
            let log = Log::from_recovered(found, small(), to.dir.fx());
            let (ours, theirs) = (bytes_of(&log, &to.disk), bytes_of(from, &source.disk));
            assert!(ours.iter().zip(&theirs).all(|(a, b)| b.starts_with(a)) && ours.len() == theirs.len());
            assert_eq!(log.chain_at(last), from.chain_at(last));
        }
    }
}

#[test]
fn what_is_being_sent_stays_until_it_is_let_go() {
    let mut rig = source();
    let before = rig.log().first_index();
    let index = rig.log().newest_checkpoint();
    rig.log().pin(index);
    for _ in 0..30 {
        rig.append(2);
        rig.settle();
    }
    let end = rig.log().next_offset();
    let log = rig.log.as_mut().unwrap();
    log.apply_log_start(end, rig.dir.fx());
    rig.checkpoint();
    rig.settle();
    assert!(rig.log().file_range(0, 2, 0, 10).is_some(), "the first file is there");
    assert!(rig.log().first_index() <= index.unwrap() + 1 && rig.log().first_index() >= before);
    rig.log().pin(None);
    rig.append(1);
    rig.settle();
    assert!(rig.log().wants_checkpoint());
    rig.checkpoint();
    rig.settle();
    assert!(rig.log().file_range(0, 2, 0, 10).is_none());
}

#[test]
fn a_checkpoint_of_another_offer_is_in_the_way() {
    let source = source();
    let mut to = Rig::new();
    let job = job(&source, &generation_dir(KEY, 1));
    assert!(pull(&source, &mut to, &job, 1 << 20, usize::MAX));
    for other in [job.index - 1, job.index + 1] {
        let path = aside_path(&job.dir, other, 0);
        to.disk.set(&path, b"whatever it holds".to_vec());
        assert!(matches!(look(&job, &to.disk), Ok(Aside::Stale(paths)) if paths == [path.clone()]));
        to.disk.take(&path);
    }
    assert!(missing(&job, &to.disk).is_empty());
}

#[test]
fn each_file_can_be_read_again_by_itself_as_far_as_it_is_settled() {
    let mut rig = source();
    let last = rig.log().last_index();
    let dir = group_dir(KEY);
    let (mut after, mut end, mut read) = (0, 0, 0);
    while let Some((row, link)) = rig.log().next_settled(after, last) {
        (after, end) = (row.first_index, row.end_index);
        let path = aside_path(&dir, 0, after);
        let job = AsideJob { check: true, only: Some((row, link)), ..job(&rig, &dir) };
        assert!(matches!(look(&job, &rig.disk), Ok(Aside::Good)));
        let whole = rig.disk.clone();
        rig.disk.flip(&path, 130);
        assert_eq!(missing(&job, &rig.disk).len(), 1);
        rig.disk = whole;
        read += 1;
    }
    assert!(read > 2, "{read} files");
    assert_eq!(end, last, "the file that is still written, too");
    assert!(rig.log().next_settled(after - 1, last - 1).is_none(), "not above what is synced");
}

#[test]
fn the_chain_value_after_any_committed_entry_is_in_memory_or_one_small_read_away() {
    let mut rig = source();
    let end = rig.log().last_index();
    rig.append(1);
    rig.settle();
    let first = rig.log().next_settled(0, u64::MAX).unwrap().0.first_index;
    let (mut known, mut read) = (0, 0);
    for file in rig.log().files() {
        for at in crate::inspect::frames(&rig.disk.clone(), &file.path).unwrap() {
            let frame = at.unwrap().frame.header;
            match rig.log.as_ref().unwrap().chain_plan(frame.head.index, &rig.dir) {
                ChainPlan::Known(chain) => {
                    assert_eq!(chain, frame.crc);
                    known += 1;
                }
                ChainPlan::File(range) => {
                    assert!(range.len < 64 << 10, "{range:?}");
                    let found = read_range(&rig.disk, &range).unwrap();
                    let indexes: Vec<u64> = found.entries.iter().map(|(head, _)| head.index).collect();
                    assert_eq!((found.chain, &indexes[..]), (Some(frame.crc), &[frame.head.index][..]));
                    read += 1;
                }
                ChainPlan::Unknown => assert!(frame.head.index > end, "{}", frame.head.index),
            }
        }
    }
    assert!(known > 3 && read > 10, "{known} in memory, {read} read");
    let plan = |index| rig.log.as_ref().unwrap().chain_plan(index, &rig.dir);
    assert_eq!(plan(first - 1), ChainPlan::Unknown, "before the first file");
    assert_eq!(plan(end + 5), ChainPlan::Unknown, "not there yet");
}

#[test]
fn names_of_lives_are_told_apart() {
    for generation in [0, 1, 17] {
        let dir = generation_dir(KEY, generation);
        let name = dir.strip_prefix("groups/").unwrap();
        assert_eq!(parse_group_dir(name), Some((KEY, generation)));
    }
    for other in ["", "x.1", &format!("{KEY}.0"), &format!("{KEY}.01"), &format!("{KEY}.x")] {
        assert_eq!(parse_group_dir(other), None, "{other}");
    }
}
