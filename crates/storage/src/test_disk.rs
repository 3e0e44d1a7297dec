//! A disk in memory for tests: operations are carried out when asked, unsynced bytes are told apart.
//!
//! Names count as durable once their file was synced (or put). A removal is durable at once, unless
//! [`TestDisk::removals_are_lost`].
use crate::compact::CleanedAside;
use crate::disk_op::{Completion, DiskError, DiskErrorKind, DiskOp, DiskRead, FileId, FileSource, OpToken};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One unsynced write: (file, position, bytes).
pub type Unsynced = (String, u64, Vec<u8>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inode {
    live: Vec<u8>,
    synced: Vec<u8>,
    /// Its name is durable.
    named: bool,
    pending: Vec<Pending>,
}

/// A write that no sync covers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    seq: u64,
    pos: u64,
    bytes: Vec<u8>,
}

/// A sync that was begun: it covers what was written before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    token: OpToken,
    inodes: Vec<u64>,
    upto: u64,
}

impl Inode {
    /// A file whose bytes and name are durable.
    fn durable(bytes: Vec<u8>) -> Inode {
        Inode { synced: bytes.clone(), live: bytes, named: true, pending: Vec::new() }
    }
}

/// A data directory in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestDisk {
    names: BTreeMap<String, u64>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    seq: u64,
    open: BTreeMap<FileId, u64>,
    pool: Vec<u64>,
    /// Files that there was no room for yet.
    unmade: BTreeMap<FileId, (String, FileSource)>,
    /// What removed files held durably.
    removed: BTreeMap<String, Vec<u8>>,
    error: Option<DiskErrorKind>,
    /// A power failure brings removed files back whose names nobody has taken since.
    pub removals_are_lost: bool,
    /// While set, files may grow by no more than `room` together.
    pub full: bool,
    /// Bytes left while `full`.
    pub room: u64,
    /// Bytes kept back, see [`DiskOp::SpendReserve`].
    pub reserve: u64,
    /// The next sync fails.
    pub fail_sync: bool,
    /// Syncs only begin: each ends with [`TestDisk::end_sync`].
    pub hold_syncs: bool,
    held: VecDeque<Held>,
    /// Operations carried out.
    pub done: u64,
}

fn error(kind: DiskErrorKind, what: &str) -> DiskError {
    DiskError { kind, detail: format!("test disk: {what}") }
}

fn overlay(file: &mut Vec<u8>, pos: u64, bytes: &[u8]) {
    let pos = usize::try_from(pos).unwrap_or(usize::MAX);
    if file.len() < pos + bytes.len() {
        file.resize(pos + bytes.len(), 0);
    }
    file[pos..pos + bytes.len()].copy_from_slice(bytes);
}

impl TestDisk {
    fn inode(&self, path: &str) -> Option<&Inode> {
        self.inodes.get(self.names.get(path)?)
    }

    /// A file of this name, in place of any other.
    fn link(&mut self, path: &str, inode: Inode) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.names.insert(path.to_string(), self.next_inode);
        self.next_inode
    }

    fn remove(&mut self, path: &str, recycle: bool) {
        let Some(id) = self.names.remove(path) else { return };
        if let Some(inode) = self.inodes.get(&id).filter(|inode| inode.named) {
            self.removed.insert(path.to_string(), inode.synced.clone());
        }
        if recycle {
            self.pool.push(id);
        }
    }

    fn create(&mut self, file: FileId, path: String, source: FileSource) {
        let pooled = if source == FileSource::New { None } else { self.pool.pop() };
        let inode = match pooled {
            Some(id) => {
                let inode = self.inodes.entry(id).or_default();
                inode.synced.clone_from(&inode.live);
                (inode.named, inode.pending) = (false, Vec::new());
                self.names.insert(path, id);
                id
            }
            None => self.link(&path, Inode::default()),
        };
        self.open.insert(file, inode);
    }

    /// Carries out one operation.
    pub fn apply(&mut self, op: DiskOp) -> Option<Completion> {
        self.done += 1;
        match op {
            DiskOp::Create { file, path, source } if self.full && self.room == 0 => {
                self.unmade.insert(file, (path, source));
            }
            DiskOp::Create { file, path, source } => self.create(file, path, source),
            DiskOp::Open { file, path } => match self.names.get(&path) {
                Some(inode) => _ = self.open.insert(file, *inode),
                None => self.error = Some(DiskErrorKind::NotFound),
            },
            DiskOp::Write { file, pos, bufs } => self.write(file, pos, &bufs),
            DiskOp::Rewrite { file, pos, len } => self.rewrite(file, pos, len),
            DiskOp::Barrier { token } => {
                let result = self.error.take().map_or(Ok(()), |kind| Err(error(kind, "write")));
                return Some(Completion::Written { token, result });
            }
            DiskOp::Sync { files, token, .. } => {
                let inodes = files.iter().filter_map(|f| self.open.get(f).copied()).collect();
                self.held.push_back(Held { token, inodes, upto: self.seq });
                return if self.hold_syncs { None } else { self.end_sync(self.held.len() - 1) };
            }
            DiskOp::Close { file } => {
                self.unmade.remove(&file);
                if let Some(inode) = self.open.remove(&file) {
                    self.sync(inode, self.seq);
                }
            }
            DiskOp::Put { path, bytes, token, durable } => {
                let result = if self.full { Err(error(DiskErrorKind::Full, "put")) } else { Ok(()) };
                if result.is_ok() && durable {
                    self.set(&path, bytes.to_vec());
                } else if result.is_ok() {
                    self.seq += 1;
                    let pending = vec![Pending { seq: self.seq, pos: 0, bytes: bytes.to_vec() }];
                    self.link(&path, Inode { live: bytes.to_vec(), pending, ..Inode::default() });
                }
                return Some(Completion::Put { token, result });
            }
            op @ (DiskOp::PutAt { .. }
            | DiskOp::SyncDir { .. }
            | DiskOp::SyncFiles { .. }
            | DiskOp::Clean { .. }
            | DiskOp::Look { .. }) => {
                return self.aside(op);
            }
            DiskOp::Remove { paths, recycle } => {
                paths.iter().for_each(|path| self.remove(path, recycle));
            }
            DiskOp::Cut { path, len } => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let inode = self.names.get(&path).and_then(|id| self.inodes.get_mut(id));
                if let Some(inode) = inode.filter(|inode| inode.live.len() > len) {
                    self.room += (inode.live.len() - len) as u64;
                    inode.live.truncate(len);
                }
            }
            DiskOp::SpendReserve => self.room += std::mem::take(&mut self.reserve),
            DiskOp::RemoveDir { path, token } => {
                self.names.retain(|name, _| !name.starts_with(&format!("{path}/")));
                return Some(Completion::Removed { token, result: Ok(()) });
            }
            DiskOp::Recover { job, token } => {
                let result = Box::new(crate::recovery::recover(&job, self));
                return Some(Completion::Recovered { token, result });
            }
        }
        None
    }

    /// What is done beside the files of groups.
    fn aside(&mut self, op: DiskOp) -> Option<Completion> {
        match op {
            DiskOp::PutAt { path, pos, bytes, token } => {
                let result = if self.full { Err(error(DiskErrorKind::Full, "put")) } else { Ok(()) };
                if result.is_ok() {
                    self.put_at(&path, pos, &bytes);
                }
                Some(Completion::Put { token, result })
            }
            DiskOp::SyncDir { path, token } => {
                let inside = |name: &str| name.starts_with(&format!("{path}/"));
                let inodes: Vec<u64> =
                    self.names.iter().filter(|(name, _)| inside(name)).map(|(_, inode)| *inode).collect();
                inodes.into_iter().for_each(|inode| self.sync(inode, self.seq));
                Some(Completion::Put { token, result: Ok(()) })
            }
            DiskOp::SyncFiles { paths, token } => {
                let inodes: Vec<u64> =
                    paths.iter().filter_map(|path| self.names.get(path).copied()).collect();
                inodes.into_iter().for_each(|inode| self.sync(inode, self.seq));
                Some(Completion::Put { token, result: Ok(()) })
            }
            DiskOp::Clean { mut job, token } => {
                let step = job.step(self);
                Some(Completion::Cleaned { token, done: Box::new(CleanedAside { job: *job, step }) })
            }
            DiskOp::Look { job, token } => {
                let result = Box::new(crate::install::look(&job, self));
                Some(Completion::Looked { token, result })
            }
            _ => None,
        }
    }

    fn put_at(&mut self, path: &str, pos: u64, bytes: &Bytes) {
        let id = match self.names.get(path) {
            Some(id) => *id,
            None => self.link(path, Inode::default()),
        };
        self.seq += 1;
        if let Some(inode) = self.inodes.get_mut(&id) {
            overlay(&mut inode.live, pos, bytes);
            inode.pending.push(Pending { seq: self.seq, pos, bytes: bytes.to_vec() });
        }
    }

    fn rewrite(&mut self, file: FileId, pos: u64, len: u64) {
        let inode = self.open.get(&file).and_then(|id| self.inodes.get(id));
        let range = usize::try_from(pos).ok().zip(usize::try_from(pos + len).ok());
        match inode.zip(range).and_then(|(inode, (from, to))| inode.live.get(from..to)) {
            Some(bytes) => self.write(file, pos, &[Bytes::copy_from_slice(bytes)]),
            None => _ = self.error.get_or_insert(DiskErrorKind::Io),
        }
    }

    fn write(&mut self, file: FileId, pos: u64, bufs: &[Bytes]) {
        if let Some((path, source)) = self.unmade.remove(&file) {
            self.apply(DiskOp::Create { file, path, source });
            if self.unmade.contains_key(&file) {
                self.error.get_or_insert(DiskErrorKind::Full);
                return;
            }
        }
        let Some(inode) = self.open.get(&file).and_then(|id| self.inodes.get_mut(id)) else {
            self.error.get_or_insert(DiskErrorKind::Io);
            return;
        };
        let mut bytes = bufs.concat();
        let grows = (pos + bytes.len() as u64).saturating_sub(inode.live.len() as u64);
        if self.full && grows > self.room {
            self.error.get_or_insert(DiskErrorKind::Full);
            // A file grows as far as it can.
            bytes.truncate(bytes.len().saturating_sub(usize::try_from(grows - self.room).unwrap_or(0)));
            if bytes.is_empty() {
                return;
            }
            self.room = 0;
        } else if self.full {
            self.room -= grows;
        }
        overlay(&mut inode.live, pos, &bytes);
        self.seq += 1;
        inode.pending.push(Pending { seq: self.seq, pos, bytes });
    }

    fn sync(&mut self, inode: u64, upto: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            let (covered, later) =
                std::mem::take(&mut inode.pending).into_iter().partition(|p| p.seq <= upto);
            let covered: Vec<Pending> = covered;
            covered.iter().for_each(|write| overlay(&mut inode.synced, write.pos, &write.bytes));
            (inode.pending, inode.named) = (later, true);
        }
    }

    /// Ends a sync that was held back, the `nth` of those that run.
    pub fn end_sync(&mut self, nth: usize) -> Option<Completion> {
        let Held { token, inodes, upto } = self.held.remove(nth)?;
        let failed = std::mem::take(&mut self.fail_sync);
        let result = if failed { Err(error(DiskErrorKind::Io, "sync")) } else { Ok(()) };
        if !failed {
            inodes.into_iter().for_each(|inode| self.sync(inode, upto));
        }
        Some(Completion::Synced { token, result, micros: 1 })
    }

    /// How many syncs are held back.
    pub fn held_syncs(&self) -> usize {
        self.held.len()
    }

    /// The process dies: what was written stays.
    pub fn kill(&mut self) {
        self.open.clear();
        self.unmade.clear();
        self.held.clear();
        self.error = None;
    }

    /// Power fails: of each unsynced write stays what `keep` returns (in place, cut or zeroed at will).
    pub fn power_off(&mut self, mut keep: impl FnMut(&Unsynced) -> Option<Vec<u8>>) {
        self.kill();
        for (path, id) in &self.names {
            let Some(inode) = self.inodes.get_mut(id) else { continue };
            for Pending { pos, bytes, .. } in std::mem::take(&mut inode.pending) {
                let unsynced = (path.clone(), pos, bytes);
                if let Some(bytes) = keep(&unsynced) {
                    overlay(&mut inode.synced, pos, &bytes);
                    inode.named = true;
                }
            }
            inode.live.clone_from(&inode.synced);
        }
        self.names.retain(|_, id| self.inodes.get(id).is_some_and(|inode| inode.named));
        self.pool.clear();
        for (path, durable) in std::mem::take(&mut self.removed) {
            if self.removals_are_lost && !self.names.contains_key(&path) {
                self.set(&path, durable);
            }
        }
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| named.contains(id));
    }

    /// The content of a file, durable or not.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.inode(path).map(|i| i.live.as_slice())
    }

    /// Replaces a file, durably; for damage.
    pub fn set(&mut self, path: &str, bytes: Vec<u8>) {
        self.link(path, Inode::durable(bytes));
    }

    /// Takes a file away.
    pub fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        let inode = self.names.remove(path)?;
        self.inodes.remove(&inode).map(|i| i.live)
    }

    /// Flips a bit.
    pub fn flip(&mut self, path: &str, at: usize) {
        let mut bytes = self.get(path).map(<[u8]>::to_vec).unwrap_or_default();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x10;
        }
        self.set(path, bytes);
    }

    /// Every file's name.
    pub fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// Adds a file to the pool.
    pub fn add_pooled(&mut self, bytes: Vec<u8>) {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode { live: bytes, ..Inode::default() });
        self.pool.push(self.next_inode);
    }

    /// Carries out everything in `ops`, in order.
    pub fn apply_all(&mut self, ops: &mut VecDeque<DiskOp>) -> Vec<Completion> {
        ops.drain(..).filter_map(|op| self.apply(op)).collect()
    }
}

impl DiskRead for TestDisk {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let inside = self.names.keys().filter_map(|n| n.strip_prefix(&prefix));
        let mut names: Vec<String> =
            inside.map(|rest| rest.split('/').next().unwrap_or(rest).to_string()).collect();
        names.dedup();
        Ok(names)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        Ok(self.get(path).map(|bytes| bytes.len() as u64))
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let bytes = self.get(path).ok_or_else(|| error(DiskErrorKind::NotFound, path))?;
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[from..from.saturating_add(len).min(bytes.len())]))
    }
}
