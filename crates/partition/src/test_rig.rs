//! One partition over a disk in memory that forgets what was not synced.
use crate::{Opened, Origin, Partition, PartitionConfig, PartitionFx, Start};
use bytes::{Bytes, BytesMut};
use model::{GroupKey, Mono, Now, TopicId};
use records::{BatchBuilder, NewRecord};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use storage::{
    Completion, DirEvent, Directory, DirectoryConfig, DiskError, DiskOp, DiskRead, FileId, ReadPlan,
    RecoverJob, Replica, birth, group_dir, read_range,
};

pub(crate) const KEY: GroupKey = GroupKey { topic: TopicId([9; 16]), partition: 4 };

#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    live: BTreeMap<String, Vec<u8>>,
    durable: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<FileId, String>,
}

impl MemoryDisk {
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.live.keys()
    }

    fn run(&mut self, op: DiskOp) -> Option<Completion> {
        match op {
            DiskOp::Create { file, path, .. } => {
                self.live.insert(path.clone(), Vec::new());
                self.files.insert(file, path);
            }
            DiskOp::Open { file, path } => {
                self.files.insert(file, path);
            }
            DiskOp::Write { file, pos, bufs } => {
                let bytes = self.live.get_mut(&self.files[&file]).expect("the file is open");
                let mut at = pos as usize;
                for buf in bufs {
                    bytes.resize(bytes.len().max(at + buf.len()), 0);
                    bytes[at..at + buf.len()].copy_from_slice(&buf);
                    at += buf.len();
                }
            }
            // Every write is in `live` already, which a sync makes durable.
            DiskOp::Rewrite { .. } => {}
            DiskOp::Barrier { token } => return Some(Completion::Written { token, result: Ok(()) }),
            DiskOp::Sync { files, token, .. } => {
                files.iter().for_each(|f| self.sync(*f));
                return Some(Completion::Synced { token, result: Ok(()), micros: 1 });
            }
            DiskOp::Close { file } => {
                self.sync(file);
                self.files.remove(&file);
            }
            DiskOp::Put { path, bytes, token, .. } => {
                self.live.insert(path.clone(), bytes.to_vec());
                self.durable.insert(path, bytes.to_vec());
                return Some(Completion::Put { token, result: Ok(()) });
            }
            DiskOp::Remove { paths, .. } => paths.iter().for_each(|p| {
                self.live.remove(p);
                self.durable.remove(p);
            }),
            DiskOp::Cut { path, len } => {
                if let Some(bytes) = self.live.get_mut(&path) {
                    bytes.truncate(len as usize);
                }
            }
            DiskOp::SpendReserve => {}
            DiskOp::RemoveDir { path, token } => {
                self.live.retain(|p, _| !p.starts_with(&path));
                self.durable.retain(|p, _| !p.starts_with(&path));
                return Some(Completion::Removed { token, result: Ok(()) });
            }
            DiskOp::Recover { job, token } => {
                let result = Box::new(storage::recovery::recover(&job, self));
                return Some(Completion::Recovered { token, result });
            }
            op => return self.aside(op),
        }
        None
    }

    /// What is done beside the files of groups.
    fn aside(&mut self, op: DiskOp) -> Option<Completion> {
        match op {
            DiskOp::PutAt { path, pos, bytes, token } => {
                let file = self.live.entry(path).or_default();
                let end = pos as usize + bytes.len();
                file.resize(file.len().max(end), 0);
                file[pos as usize..end].copy_from_slice(&bytes);
                Some(Completion::Put { token, result: Ok(()) })
            }
            DiskOp::SyncFiles { paths, token } => {
                for path in paths {
                    let bytes = self.live.get(&path).cloned().unwrap_or_default();
                    self.durable.insert(path, bytes);
                }
                Some(Completion::Put { token, result: Ok(()) })
            }
            DiskOp::Clean { mut job, token } => {
                let step = job.step(self);
                let done = storage::compact::CleanedAside { job: *job, step };
                Some(Completion::Cleaned { token, done: Box::new(done) })
            }
            op => unreachable!("nodes put files aside, partitions do not: {op:?}"),
        }
    }

    fn sync(&mut self, file: FileId) {
        let path = &self.files[&file];
        if let Some(bytes) = self.live.get(path) {
            self.durable.insert(path.clone(), bytes.clone());
        }
    }
}

impl DiskRead for MemoryDisk {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let prefix = format!("{dir}/");
        let inside = self.live.keys().filter_map(|p| p.strip_prefix(&prefix));
        let mut names: Vec<String> =
            inside.map(|p| p.split('/').next().unwrap_or_default().to_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        Ok(self.live.get(path).map(|b| b.len() as u64))
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let bytes = self.live.get(path).map(Vec::as_slice).unwrap_or_default();
        let from = (pos as usize).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[from..(from + len).min(bytes.len())]))
    }
}

pub(crate) struct Rig {
    pub(crate) disk: MemoryDisk,
    pub(crate) dir: Directory,
    pub(crate) part: Partition,
    pub(crate) opened: Opened,
    pub(crate) now: Now,
    pub(crate) fx: Vec<PartitionFx>,
    cfg: Arc<PartitionConfig>,
    /// Its replica id, and the group's first members.
    replica: (u64, Vec<Replica>),
    /// Completed syncs are kept back while this is set.
    pub(crate) hold_syncs: bool,
    held: VecDeque<Completion>,
    /// What ended beside its files.
    asides: VecDeque<(storage::OpToken, storage::AsideDone)>,
    /// How often entries for followers were read from files.
    pub(crate) reads_for_followers: usize,
}

fn directory_config() -> DirectoryConfig {
    let (cluster_id, new_directory_id) = ("c".into(), [1; 16]);
    DirectoryConfig { cluster_id, new_directory_id, state_log_bytes: 8 << 10, ..DirectoryConfig::default() }
}

/// Replicas `1..=of`, each on the node with its number.
fn first_members(of: u64) -> Vec<Replica> {
    (1..=of).map(|id| Replica { id, node_id: id as i32, kind: 0, witness: false }).collect()
}

fn fit(part: &mut Partition, id: u64, members: &[Replica]) {
    if members.iter().any(|m| m.id == id && m.witness) {
        part.be_witness();
    }
}

impl Rig {
    pub(crate) fn new(cfg: PartitionConfig) -> Rig {
        Rig::replica(1, 1, cfg)
    }

    /// Replica `id` of `of`.
    pub(crate) fn replica(id: u64, of: u64, cfg: PartitionConfig) -> Rig {
        Rig::member(id, first_members(of), cfg)
    }

    /// Two replicas with data and a witness, which is the third.
    pub(crate) fn with_witness(id: u64, cfg: PartitionConfig) -> Rig {
        let mut members = first_members(3);
        members[2].witness = true;
        Rig::member(id, members, cfg)
    }

    fn member(id: u64, members: Vec<Replica>, cfg: PartitionConfig) -> Rig {
        let (disk, cfg) = (MemoryDisk::default(), Arc::new(cfg));
        let now = Now { mono: Mono(1), wall: 1_000_000 };
        let (mut dir, states) = Directory::open(&disk, directory_config(), now).unwrap();
        assert!(states.is_empty());
        let start = Start::Born(birth(KEY, members.clone()));
        let (mut part, opened) =
            Partition::open(KEY, start, Default::default(), id, Arc::clone(&cfg), &mut dir, 7);
        fit(&mut part, id, &members);
        let (fx, held, replica) = (Vec::new(), VecDeque::new(), (id, members));
        let (hold_syncs, reads_for_followers, asides) = (false, 0, VecDeque::new());
        let mut rig = Rig {
            disk,
            dir,
            part,
            opened,
            now,
            fx,
            cfg,
            replica,
            hold_syncs,
            held,
            asides,
            reads_for_followers,
        };
        rig.settle();
        rig
    }

    /// A rig that serves.
    pub(crate) fn serving(cfg: PartitionConfig) -> Rig {
        let mut rig = Rig::new(cfg);
        rig.touch();
        assert!(rig.part.leader_epoch().is_some());
        rig.fx.clear();
        rig
    }

    /// The process ends; with `power` everything that was not synced is lost too.
    pub(crate) fn restart(&mut self, power: bool) {
        if power {
            self.disk.live = self.disk.durable.clone();
        }
        self.disk.files.clear();
        self.held.clear();
        self.hold_syncs = false;
        self.fx.clear();
        let (mut dir, states) = Directory::open(&self.disk, directory_config(), self.now).unwrap();
        let state = states.iter().find(|s| s.key == KEY);
        let job = RecoverJob {
            key: KEY,
            dir: group_dir(KEY),
            mark: state.and_then(|s| s.mark),
            birth: birth(KEY, self.replica.1.clone()),
        };
        let recovered = storage::recovery::recover(&job, &self.disk).unwrap();
        let start = Start::Recovered(Box::new(recovered));
        let hard = state.map(|s| s.hard).unwrap_or_default();
        let id = self.replica.0;
        let (mut part, opened) = Partition::open(KEY, start, hard, id, Arc::clone(&self.cfg), &mut dir, 7);
        fit(&mut part, id, &self.replica.1);
        self.dir = dir;
        self.part = part;
        self.opened = opened;
        self.settle();
    }

    /// Lets the disk work until it has nothing to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.dir.pump(self.now);
            let ops: Vec<_> = self.dir.ops().collect();
            if ops.is_empty() {
                return;
            }
            for op in ops {
                let sync = matches!(op, DiskOp::Sync { .. });
                match self.disk.run(op) {
                    Some(done) if sync && self.hold_syncs => self.held.push_back(done),
                    Some(done) => self.complete(done),
                    None => {}
                }
            }
        }
    }

    /// Syncs that were kept back complete, and so do the ones that follow.
    pub(crate) fn release_syncs(&mut self) {
        self.hold_syncs = false;
        while let Some(done) = self.held.pop_front() {
            self.complete(done);
        }
        self.settle();
    }

    /// The oldest sync that was kept back completes; nothing else happens.
    pub(crate) fn release_one_sync(&mut self) {
        let done = self.held.pop_front().expect("a sync was kept back");
        self.complete(done);
    }

    fn complete(&mut self, done: Completion) {
        let mut events = Vec::new();
        self.dir.on_completion(self.now, done, &mut events);
        for event in events {
            let (dir, fx) = (&mut self.dir, &mut self.fx);
            match event {
                DirEvent::Written { index, .. } => self.part.on_written(self.now, index, dir, fx),
                DirEvent::Persisted { index, round, .. } => {
                    self.part.on_persisted(self.now, index, round, dir, fx)
                }
                DirEvent::Lowered { .. } => self.part.on_lowered(self.now, dir, fx),
                DirEvent::Flushed { .. } => self.part.on_flushed(dir),
                DirEvent::CheckpointDone { index, ok, .. } => self.part.on_checkpoint_done(index, ok, dir),
                DirEvent::Aside { token, done, .. } => self.asides.push_back((token, done)),
                DirEvent::Fenced { detail } => panic!("fenced: {detail}"),
                _ => {}
            }
        }
    }

    /// A tick of its group passes.
    pub(crate) fn tick_group(&mut self) {
        self.now.mono = self.now.mono.after_ms(50);
        self.now.wall += 50;
        self.part.tick_group(self.now, &mut self.dir, &mut self.fx);
    }

    /// Reads what followers are behind by.
    pub(crate) fn read_entries(&mut self) {
        while let Some(at) = self.fx.iter().position(|e| matches!(e, PartitionFx::ReadEntries { .. })) {
            let PartitionFx::ReadEntries { number, range } = self.fx.remove(at) else { return };
            let entries = read_range(&self.disk, &range).unwrap().entries;
            self.reads_for_followers += 1;
            self.part.on_entries(self.now, number, entries, &mut self.dir, &mut self.fx);
            self.settle();
        }
    }

    /// A pass of compaction; `None` where there is nothing to do.
    pub(crate) fn clean(&mut self) -> Option<storage::CleanStats> {
        let job = self.part.begin_clean(self.now, 1 << 20, &mut self.dir)?;
        let mut run = storage::CleanRun::begin(job, &mut self.dir);
        loop {
            self.settle();
            let (token, done) = self.asides.pop_front().expect("a pass goes on");
            match run.on_aside(token, done, &mut self.dir) {
                storage::CleanProgress::Waits => {}
                storage::CleanProgress::Rests(_) => run.go_on(&mut self.dir),
                storage::CleanProgress::Over(job, end) => {
                    let stats = self.part.cleaned(self.now, *job, &end, &mut self.dir, &mut self.fx);
                    self.settle();
                    return stats;
                }
            }
        }
    }

    pub(crate) fn touch(&mut self) {
        self.part.touch(self.now, &mut self.dir, &mut self.fx);
        self.settle();
    }

    /// Appends without letting the disk work.
    pub(crate) fn submit(&mut self, token: u64, records: BytesMut, acks: i16, origin: Origin) {
        self.part.append(self.now, token, records, acks, origin, &mut self.dir, &mut self.fx);
    }

    pub(crate) fn append(
        &mut self,
        token: u64,
        records: BytesMut,
    ) -> Result<crate::Appended, crate::AppendError> {
        self.submit(token, records, -1, Origin::Client);
        self.settle();
        self.answer(token).expect("answered")
    }

    /// Takes the answer to an append.
    pub(crate) fn answer(&mut self, token: u64) -> Option<Result<crate::Appended, crate::AppendError>> {
        let at = self
            .fx
            .iter()
            .position(|e| matches!(e, PartitionFx::AppendDone { token: t, .. } if *t == token))?;
        match self.fx.remove(at) {
            PartitionFx::AppendDone { result, .. } => Some(result),
            _ => None,
        }
    }

    pub(crate) fn tick(&mut self) {
        self.part.tick(self.now, &mut self.dir, &mut self.fx);
        self.settle();
    }

    /// Every record that a reader sees: (offset, value).
    pub(crate) fn read_all(&self) -> Vec<(i64, Vec<u8>)> {
        let mut out = Vec::new();
        let mut at = self.part.log_start();
        while at < self.part.high_watermark() {
            let batches = match self.part.replay_plan(at, 1 << 20).unwrap() {
                ReadPlan::Memory(batches) => batches,
                ReadPlan::File(range) => read_range(&self.disk, &range).unwrap().batches,
                ReadPlan::Empty => panic!("records up to the high watermark"),
            };
            for bytes in batches {
                for batch in records::batches(&bytes) {
                    let (range, header) = batch.unwrap();
                    for record in records::records(&bytes.slice(range), 1 << 20).unwrap() {
                        let record = record.unwrap();
                        if record.offset >= self.part.log_start() {
                            out.push((record.offset, record.value.unwrap_or_default().to_vec()));
                        }
                    }
                    at = header.next_offset();
                }
            }
        }
        out
    }
}

/// A batch of `values` without a producer, at timestamp 1,000,000.
pub(crate) fn plain(values: &[&str]) -> BytesMut {
    built(BatchBuilder::new(), values)
}

/// A batch of an idempotent producer.
pub(crate) fn numbered(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> BytesMut {
    built(BatchBuilder::new().producer(producer, epoch, sequence), values)
}

pub(crate) fn built(mut builder: BatchBuilder, values: &[&str]) -> BytesMut {
    for value in values {
        builder.push(NewRecord::new(1_000_000, Some(b"key"), Some(value.as_bytes())));
    }
    builder.finish().unwrap()
}
