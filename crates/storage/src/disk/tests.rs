//! The real disk, in a directory on a file system that stores (not tmpfs).
use super::*;
use crate::test_data::{head, sized_batch};
use crate::*;
use bytes::Bytes;
use model::{GroupKey, Mono, Now, TopicId};
use std::time::{Duration, Instant};

/// How long a busy disk may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn directory() -> tempfile::TempDir {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "../../target".to_string());
    std::fs::create_dir_all(&target).unwrap();
    tempfile::tempdir_in(target).unwrap()
}

struct Node {
    disk: RealDisk,
    completions: mpsc::Receiver<Completion>,
    dir: Directory,
    states: Vec<GroupState>,
    logs: Vec<Option<Log>>,
    persisted: Vec<u64>,
    /// What is persisted is committed.
    commits: bool,
    cfg: LogConfig,
    begun: Instant,
}

fn key(n: usize) -> GroupKey {
    GroupKey { topic: TopicId([5; 16]), partition: n as i32 }
}

impl Node {
    fn open(root: &Path, groups: usize, cfg: LogConfig) -> Node {
        let (sink, completions) = mpsc::channel();
        let options = DiskOptions { pool_bytes: 96 << 20, open_files: 16, ..DiskOptions::default() };
        let disk = RealDisk::open(root, options, Box::new(move |c| _ = sink.send(c))).unwrap();
        let now = Now { mono: Mono(0), wall: 1_000_000 };
        let (dir, states) = Directory::open(&*disk.reader(), DirectoryConfig::default(), now).unwrap();
        let mut node = Node {
            disk,
            completions,
            dir,
            states,
            logs: Vec::new(),
            persisted: vec![1; groups],
            commits: true,
            cfg,
            begun: Instant::now(),
        };
        (0..groups).for_each(|n| node.open_group(n));
        node.settle();
        node
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.begun.elapsed().as_nanos() as u64), wall: 1_000_000 }
    }

    fn open_group(&mut self, n: usize) {
        let birth = birth(key(n), Vec::new());
        match self.states.iter().find(|s| s.key == key(n)) {
            Some(state) => {
                let job = RecoverJob { key: key(n), dir: group_dir(key(n)), mark: state.mark, birth };
                self.logs.push(None);
                self.dir.recover(job);
            }
            None => self.logs.push(Some(Log::born(key(n), group_dir(key(n)), birth, self.cfg.clone()))),
        }
    }

    fn append(&mut self, n: usize, body: usize) {
        let now = self.now();
        let log = self.logs[n].as_mut().unwrap();
        let h = head(log.last_index() + 1, EntryKind::Data, 1, log.next_offset());
        let payload = Bytes::from(sized_batch(log.next_offset(), 1, 7, body));
        log.append(now, &h, payload, 7, self.dir.fx());
        self.dir.dirty(log, false, true);
    }

    fn pump(&mut self) {
        self.dir.pump(self.now());
        for op in self.dir.ops().collect::<Vec<_>>() {
            self.disk.submit(op);
        }
    }

    fn settle(&mut self) {
        let begun = Instant::now();
        loop {
            self.pump();
            if self.dir.idle() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the disk does not come to rest");
            if let Ok(completion) = self.completions.recv_timeout(Duration::from_millis(20)) {
                let mut events = Vec::new();
                self.dir.on_completion(self.now(), completion, &mut events);
                events.into_iter().for_each(|e| self.note(e));
            }
        }
    }

    /// For what nobody completes: removals and the pool.
    fn wait_until(&self, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never happens");
            let _ = self.completions.recv_timeout(Duration::from_millis(10));
        }
    }

    fn note(&mut self, event: DirEvent) {
        match event {
            DirEvent::Persisted { key, index, .. } => {
                let n = key.partition as usize;
                self.persisted[n] = self.persisted[n].max(index);
                if let Some(log) = self.logs[n].as_mut().filter(|_| self.commits) {
                    log.set_commit(index);
                }
            }
            DirEvent::Lowered { key } => {
                let log = self.logs[key.partition as usize].as_mut().unwrap();
                assert_eq!(log.lowered(&mut self.dir), Removal::Now);
            }
            DirEvent::CheckpointDone { key, index, ok } => {
                assert!(ok);
                let log = self.logs[key.partition as usize].as_mut().unwrap();
                log.checkpoint_done(index, ok, self.dir.fx());
            }
            DirEvent::Recovered { key, result } => {
                let recovered = (*result).unwrap();
                let log = Log::from_recovered(recovered, self.cfg.clone(), self.dir.fx());
                self.dir.reopened(&log);
                self.logs[key.partition as usize] = Some(log);
            }
            DirEvent::Fenced { detail } => panic!("{detail}"),
            _ => {}
        }
    }

    fn read(&mut self, n: usize) -> Vec<u8> {
        let log = self.logs[n].as_mut().unwrap();
        log.tail = None;
        let (mut at, mut out) = (log.log_start(), Vec::new());
        while at < log.next_offset() {
            let plan = log.read_plan(at, log.next_offset(), 1 << 16).unwrap();
            let ReadPlan::File(range) = plan else { panic!("cold") };
            let read = read_range(&*self.disk.reader(), &range).unwrap();
            if let Some(again) = self.disk.try_read_range(&range) {
                assert_eq!(again.unwrap(), read);
            }
            at = read.next_offset;
            out.extend(read.batches.concat());
        }
        out
    }
}

#[test]
fn a_range_that_is_read_in_steps_is_checked_to_its_last_byte() {
    let root = directory();
    let mut node = Node::open(root.path(), 1, LogConfig::default());
    (0..12).for_each(|_| node.append(0, 70_000));
    node.settle();
    drop(node);
    let node = Node::open(root.path(), 1, LogConfig::default());
    let log = node.logs[0].as_ref().unwrap();
    let file = root.path().join(&log.files()[0].path);
    let frame = usize::try_from(log.size_bytes() / 12).unwrap();
    let ReadPlan::File(range) = log.read_plan(0, log.next_offset(), 8 << 20).unwrap() else { panic!("cold") };
    let whole = read_range(&*node.disk.reader(), &range).unwrap();
    assert_eq!((whole.batches.len(), whole.next_offset), (12, log.next_offset()));
    for at in [20, frame - 1, 2 * frame, 5 * frame + 60_000, 12 * frame - 1] {
        let flip = || {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[at] ^= 4;
            std::fs::write(&file, bytes).unwrap();
        };
        flip();
        let read = read_range(&*node.disk.reader(), &range);
        assert_eq!(node.disk.try_read_range(&range).unwrap(), read, "{at}");
        match read {
            Ok(read) => assert_eq!(read.batches, whole.batches[..at / frame], "{at}"),
            Err(error) => assert!(at < frame && matches!(error, ExtractError::Damaged(_)), "{at}: {error}"),
        }
        flip();
    }
}

#[test]
fn many_groups_survive_a_restart_with_few_files_open() {
    let root = directory();
    let cfg = LogConfig { file_bytes: 20_000, ..LogConfig::default() };
    let mut node = Node::open(root.path(), 40, cfg.clone());
    for round in 0..12 {
        (0..40).for_each(|n| node.append(n, 1000 + n * 17 + round));
        node.pump();
    }
    node.settle();
    assert!(node.persisted.iter().all(|p| *p == 13), "{:?}", node.persisted);
    let before: Vec<_> = (0..40).map(|n| node.read(n)).collect();
    drop(node);
    let mut node = Node::open(root.path(), 40, cfg);
    let after: Vec<_> = (0..40).map(|n| node.read(n)).collect();
    assert!(before == after);
    (0..40).for_each(|n| node.append(n, 10));
    node.settle();
    assert!(node.logs.iter().all(|l| l.as_ref().unwrap().last_index() == 14));
    assert!(node.persisted.iter().all(|p| *p == 14), "{:?}", node.persisted);
}

#[test]
fn entries_are_given_up_and_others_take_their_place() {
    const GROUPS: usize = 24;
    let root = directory();
    let cfg = LogConfig { file_bytes: 6_000, ..LogConfig::default() };
    let mut node = Node::open(root.path(), GROUPS, cfg.clone());
    node.commits = false;
    for _ in 0..12 {
        (0..GROUPS).for_each(|n| node.append(n, 1_000 + n * 17));
        node.pump();
    }
    node.settle();
    let before: Vec<_> = (0..GROUPS).map(|n| node.read(n)).collect();
    for n in 0..GROUPS {
        let log = node.logs[n].as_mut().unwrap();
        assert_eq!(log.give_up_after(1 + n as u64 % 12, &mut node.dir), Removal::Waits);
        node.persisted[n] = 1;
    }
    node.settle();
    for _ in 0..7 {
        (0..GROUPS).for_each(|n| node.append(n, 700 + n * 31));
        node.pump();
    }
    node.settle();
    for open in [true, false] {
        for (n, before) in before.iter().enumerate() {
            let last = 8 + n as u64 % 12;
            let log = node.logs[n].as_ref().unwrap();
            assert_eq!(log.last_index(), last, "{n}, {open}");
            let (mut low, mut count) = (2, 0);
            while low <= last {
                let plan = log.entries_plan(low, last + 1, 3_000, &node.dir);
                let EntriesPlan::File(range) = plan else { panic!("{plan:?}") };
                let found = read_range(&*node.disk.reader(), &range).unwrap();
                assert_eq!(
                    node.disk.try_read_range(&range).unwrap_or_else(|| Ok(found.clone())).unwrap(),
                    found
                );
                low += found.entries.len() as u64;
                count += found
                    .entries
                    .iter()
                    .filter(|(_, p)| p.len() == records::HEADER_LEN + 700 + n * 31)
                    .count();
            }
            assert_eq!(count, 7);
            let (whole, kept) = (node.read(n), (records::HEADER_LEN + 1_000 + n * 17) * (n % 12));
            assert_eq!(whole[..kept], before[..kept], "{n}");
            assert_eq!(records::batches(&whole).count(), 7 + n % 12);
        }
        if open {
            assert!(node.persisted.iter().enumerate().all(|(n, p)| *p == 8 + n as u64 % 12));
            drop(node);
            node = Node::open(root.path(), GROUPS, cfg.clone());
        }
    }
}

#[test]
fn files_are_sealed_deleted_and_recycled_through_the_pool() {
    let root = directory();
    let mut node = Node::open(root.path(), 1, LogConfig::default());
    for _ in 0..80 {
        node.append(0, 1 << 20);
    }
    node.settle();
    let ready = || {
        let pool = std::fs::read_dir(root.path().join("pool"));
        pool.is_ok_and(|dir| dir.flatten().any(|e| e.path().extension().is_none()))
    };
    node.wait_until(ready);
    for _ in 0..80 {
        node.append(0, 1 << 20);
    }
    node.settle();
    let files = node.logs[0].as_ref().unwrap().files();
    let pooled = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().len() == crate::FILE_BYTES;
    assert!(files.iter().any(|f| pooled(&f.path)), "no file came from the pool: {files:?}");
    let whole = node.read(0);
    assert_eq!(records::batches(&whole).count(), 160);
    let log = node.logs[0].as_mut().unwrap();
    let start = files[3].next_offset;
    log.apply_log_start(start, node.dir.fx());
    let at = AppliedPoint { index: 161, term: 1, next_offset: 160, log_start: start };
    assert!(log.checkpoint(Bytes::new(), Bytes::new(), Vec::new(), at));
    log.put_checkpoint(at.index, node.dir.fx());
    node.settle();
    node.wait_until(|| !root.path().join(&files[0].path).exists());
    let rest = node.read(0);
    assert!(whole.ends_with(&rest) && rest.len() < whole.len());
    drop(node);
    let mut node = Node::open(root.path(), 1, LogConfig::default());
    assert_eq!(node.logs[0].as_ref().unwrap().log_start(), start);
    assert!(node.read(0) == rest);
}

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_directory() {
    let root = directory();
    let open = || RealDisk::open(root.path(), DiskOptions::default(), Box::new(|_| ()));
    let first = open().unwrap();
    let error = open().unwrap_err();
    assert!(error.detail.contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    assert!(open().is_ok());
}

#[test]
fn an_index_is_mapped_once_checked_and_rebuilt_when_damaged() {
    let root = directory();
    let cfg = LogConfig { file_bytes: 100_000, index_interval_bytes: 500, ..LogConfig::default() };
    let mut node = Node::open(root.path(), 1, cfg.clone());
    (0..300).for_each(|_| node.append(0, 900));
    node.settle();
    let whole = node.read(0);
    let path = format!("{}/{:020}.idx", group_dir(key(0)), 2);
    drop(node);
    let mut bytes = std::fs::read(root.path().join(&path)).unwrap();
    bytes[40] ^= 1;
    std::fs::write(root.path().join(&path), &bytes).unwrap();
    let mut node = Node::open(root.path(), 1, cfg);
    assert!(node.disk.reader().index(&path).is_none());
    assert!(node.read(0) == whole);
    assert!(node.disk.reader().index(&path).is_some(), "put back by the first reader");
}

#[test]
fn an_operation_on_a_file_that_is_not_there_fences() {
    let root = directory();
    let mut node = Node::open(root.path(), 1, LogConfig::default());
    node.append(0, 10);
    node.settle();
    node.disk.submit(DiskOp::Open { file: FileId(u64::MAX), path: "groups/none".into() });
    node.disk.submit(DiskOp::Write { file: FileId(u64::MAX), pos: 0, bufs: vec![Bytes::from_static(b"x")] });
    node.append(0, 10);
    node.pump();
    let mut events = Vec::new();
    while node.dir.fenced().is_none() {
        let completion = node.completions.recv_timeout(Duration::from_secs(5)).unwrap();
        node.dir.on_completion(node.now(), completion, &mut events);
    }
    assert_eq!(node.persisted[0], 2);
}

/// A directory with a broker in it, which `disturb` then moves or replaces; why it was fenced.
fn fenced_by(disturb: impl Fn(&Path)) -> String {
    let above = directory();
    let root = above.path().join("data");
    let mut node = Node::open(&root, 1, LogConfig::default());
    node.append(0, 10);
    node.settle();
    disturb(&root);
    // Nothing is appended: the directory says so by itself.
    let mut events = Vec::new();
    while node.dir.fenced().is_none() {
        let completion = node.completions.recv_timeout(PATIENCE).unwrap();
        node.dir.on_completion(node.now(), completion, &mut events);
    }
    assert!(events.iter().any(|event| matches!(event, DirEvent::Fenced { .. })));
    let file = FileId(u64::MAX);
    node.disk.submit(DiskOp::Create { file, path: "late".into(), source: FileSource::New });
    node.disk.submit(DiskOp::Write { file, pos: 0, bufs: vec![Bytes::from_static(b"x")] });
    node.disk.submit(DiskOp::Barrier { token: OpToken(1 << 40) });
    let passed = loop {
        match node.completions.recv_timeout(PATIENCE).unwrap() {
            Completion::Written { token: OpToken(token), result } if token == 1 << 40 => break result,
            _ => {}
        }
    };
    assert!(passed.is_err(), "nothing is written after it");
    node.dir.fenced().unwrap().to_owned()
}

#[test]
fn a_directory_that_is_removed_moved_or_replaced_under_the_process_is_fenced() {
    // The pool that is being filled may put a file into what is being removed.
    let removed = fenced_by(|root| while root.exists() && std::fs::remove_dir_all(root).is_err() {});
    assert!(removed.contains("was removed or moved under the running broker"), "{removed}");
    let moved = fenced_by(|root| std::fs::rename(root, root.with_extension("moved")).unwrap());
    assert!(moved.contains("was removed or moved under the running broker"), "{moved}");
    let replaced = fenced_by(|root| {
        std::fs::write(root.join("other"), "process 1").unwrap();
        std::fs::rename(root.join("other"), root.join("lock")).unwrap();
    });
    assert!(replaced.contains("was replaced under the running broker"), "{replaced}");
}

fn bare(root: &Path, pool_bytes: u64) -> (RealDisk, mpsc::Receiver<Completion>) {
    let (sink, completions) = mpsc::channel();
    let options = DiskOptions { pool_bytes, ..DiskOptions::default() };
    (RealDisk::open(root, options, Box::new(move |c| _ = sink.send(c))).unwrap(), completions)
}

/// Until everything submitted is written.
fn drained(disk: &RealDisk, completions: &mpsc::Receiver<Completion>) {
    disk.submit(DiskOp::Barrier { token: OpToken(1) });
    let done = std::iter::from_fn(|| completions.recv_timeout(PATIENCE).ok());
    let mut written =
        done.filter_map(|c| if let Completion::Written { result, .. } = c { Some(result) } else { None });
    written.next().unwrap().unwrap();
}

/// It would wait for the file system's journal, and a node that is silent for so long is taken for dead.
#[test]
fn who_must_not_wait_writes_nothing_while_a_flush_runs() {
    for prompt in [false, true] {
        let root = directory();
        let options = DiskOptions { pool_bytes: 0, prompt, ..DiskOptions::default() };
        let (sink, completions) = mpsc::channel();
        let disk = RealDisk::open(root.path(), options, Box::new(move |c| _ = sink.send(c))).unwrap();
        let file = FileId(1);
        disk.submit(DiskOp::Create { file, path: "1.log".to_owned(), source: FileSource::New });
        drained(&disk, &completions);
        let lane = disk.ops.as_ref().unwrap();
        let refused = || lane.at_once(DiskOp::Write { file, pos: 0, bufs: vec![Bytes::from_static(b"x")] });
        // A write that was slow by chance is not tried here again for a while.
        let waits = || {
            let begun = Instant::now();
            while refused().is_some() && begun.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(20));
            }
            refused().is_some()
        };
        assert!(!waits());
        disk.shared.set_flushes(true);
        assert_eq!(waits(), prompt);
        disk.shared.set_flushes(false);
        assert!(!waits());
    }
}

#[test]
fn a_group_that_is_deleted_during_its_first_sync_fences_nothing() {
    let root = directory();
    let (disk, completions) = bare(root.path(), 0);
    for n in 0..100 {
        let (file, dir) = (FileId(n), group_dir(key(n as usize)));
        let path = format!("{dir}/1.log");
        disk.submit(DiskOp::Create { file, path: path.clone(), source: FileSource::New });
        disk.submit(DiskOp::Write { file, pos: 0, bufs: vec![Bytes::from(vec![7; 1 << 16])] });
        disk.submit(DiskOp::Sync { files: vec![file], token: OpToken(n), behind: false });
        disk.submit(DiskOp::Close { file });
        disk.submit(DiskOp::Remove { paths: vec![path], recycle: true });
        disk.submit(DiskOp::RemoveDir { path: dir, token: OpToken(1_000 + n) });
        let synced = |c| if let Completion::Synced { result, .. } = c { Some(result) } else { None };
        let done = std::iter::from_fn(|| completions.recv_timeout(PATIENCE).ok());
        done.filter_map(synced).next().unwrap().unwrap();
    }
}

#[test]
fn used_files_are_kept_beyond_what_the_pool_makes_and_lengthened_to_its_size() {
    let root = directory();
    let size = crate::FILE_BYTES;
    let (disk, completions) = bare(root.path(), size);
    let used = |disk: &RealDisk, completions: &mpsc::Receiver<Completion>, n, len, pool| {
        let (file, path) = (FileId(n), format!("{n}.log"));
        disk.submit(DiskOp::Create { file, path: path.clone(), source: FileSource::New });
        disk.submit(DiskOp::Write { file, pos: len - 1, bufs: vec![Bytes::from_static(b"x")] });
        disk.submit(DiskOp::Close { file });
        disk.submit(DiskOp::Remove { paths: vec![path], recycle: true });
        drained(disk, completions);
        let begun = Instant::now();
        while disk.pool_files() < pool && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let lens = [size - 5, size, size - 5000, size / 2, size + 1];
    lens.iter().zip(0..).for_each(|(len, n)| used(&disk, &completions, n, *len, (n + 1).min(3)));
    drop(disk);
    let pool = || {
        let pool = std::fs::read_dir(root.path().join("pool")).unwrap().flatten();
        pool.map(|e| e.metadata().unwrap().len()).collect::<Vec<_>>()
    };
    assert_eq!(pool(), [size; 3]);
    let (disk, completions) = bare(root.path(), size);
    assert_eq!(disk.pool_files(), 3, "they outlive the process");
    used(&disk, &completions, 0, size, 4);
    assert_eq!(pool(), [size; 4], "and nothing takes their names");
    // Relaxed logs leave what was made ahead to those that are synced.
    for n in 0..4 {
        let path = format!("relaxed-{n}.log");
        disk.submit(DiskOp::Create { file: FileId(n), path, source: FileSource::Used });
    }
    drained(&disk, &completions);
    assert_eq!(disk.pool_files(), 1);
    let path = "synced.log".to_owned();
    disk.submit(DiskOp::Create { file: FileId(9), path, source: FileSource::Pool });
    drained(&disk, &completions);
    let len = |name: &str| std::fs::metadata(root.path().join(name)).unwrap().len();
    assert_eq!(
        ["relaxed-0.log", "relaxed-1.log", "relaxed-2.log", "synced.log"].map(len),
        [size, size, size, size]
    );
    assert_eq!(len("relaxed-3.log"), 0);
}

#[test]
fn pages_of_an_old_file_are_overwritten_whole_and_nothing_new_with_them() {
    let root = directory();
    std::fs::create_dir(root.path().join("pool")).unwrap();
    std::fs::write(root.path().join("pool/used"), [7; 12288]).unwrap();
    let (disk, completions) = bare(root.path(), crate::FILE_BYTES);
    let file = FileId(1);
    let write = |pos, len: usize| {
        let bufs = vec![Bytes::from(vec![1; 3]), Bytes::from(vec![1; len - 3])];
        disk.submit(DiskOp::Write { file, pos, bufs });
    };
    disk.submit(DiskOp::Create { file, path: "new.log".into(), source: FileSource::Pool });
    write(0, 5000);
    write(5000, 50);
    // Written again, as after a full disk.
    write(4000, 500);
    drained(&disk, &completions);
    let found = std::fs::read(root.path().join("new.log")).unwrap();
    assert!(found[..5050].iter().all(|b| *b == 1));
    assert!(found[5050..8192].iter().all(|b| *b == 0));
    assert!(found[8192..].iter().all(|b| *b == 7));
    // Nobody else's file is padded.
    disk.submit(DiskOp::Create { file: FileId(2), path: "plain.log".into(), source: FileSource::New });
    disk.submit(DiskOp::Write { file: FileId(2), pos: 0, bufs: vec![Bytes::from_static(b"abc")] });
    drained(&disk, &completions);
    assert_eq!(std::fs::read(root.path().join("plain.log")).unwrap(), b"abc");
}

#[test]
fn indexes_are_given_up_for_a_full_disk_where_nothing_else_is_kept_for_it() {
    let root = directory();
    let (disk, completions) = bare(root.path(), 0);
    let group = root.path().join("groups/g");
    std::fs::create_dir_all(&group).unwrap();
    std::fs::write(root.path().join("ballast"), "b").unwrap();
    for name in ["1.idx", "1.log", "2.idx", "2.ckpt"] {
        std::fs::write(group.join(name), "x").unwrap();
    }
    let left = || std::fs::read_dir(&group).unwrap().count();
    disk.submit(DiskOp::SpendReserve);
    drained(&disk, &completions);
    assert_eq!(left(), 4, "the ballast goes first");
    let begun = Instant::now();
    // There is room here, so it may come back meanwhile.
    while left() > 2 && begun.elapsed() < PATIENCE {
        disk.submit(DiskOp::SpendReserve);
        drained(&disk, &completions);
    }
    assert_eq!(left(), 2);
    assert!(group.join("1.log").exists() && group.join("2.ckpt").exists());
}

#[test]
fn what_is_kept_for_a_full_disk_is_given_out_when_asked_and_a_file_is_cut() {
    let root = directory();
    let (disk, completions) = bare(root.path(), DiskOptions::default().pool_bytes);
    let made = |name: &str| root.path().join(name);
    for name in ["ballast", "pool/new-1"] {
        std::fs::create_dir_all(made(name).parent().unwrap()).unwrap();
        std::fs::write(made(name), [0; 100]).unwrap();
    }
    std::fs::write(made("long"), [7; 100]).unwrap();
    disk.submit(DiskOp::Cut { path: "long".to_owned(), len: 30 });
    disk.submit(DiskOp::Cut { path: "long".to_owned(), len: 60 });
    disk.submit(DiskOp::Cut { path: "missing".to_owned(), len: 60 });
    disk.submit(DiskOp::SpendReserve);
    drained(&disk, &completions);
    assert_eq!(std::fs::read(made("long")).unwrap(), [7; 30]);
    assert!(!made("pool/new-1").exists());
    // There is room here, so a new one may stand in its place already.
    assert_ne!(std::fs::metadata(made("ballast")).map_or(0, |m| m.len()), 100);
}
