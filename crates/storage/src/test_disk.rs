//! A disk in memory for tests: operations are carried out when asked, unsynced bytes are told apart.
//!
//! Names count as durable once their file was synced (or put); a removal is durable at once.
use crate::disk_op::{Completion, DiskError, DiskErrorKind, DiskOp, DiskRead, FileId, FileSource};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// One unsynced write: (file, position, bytes).
pub type Unsynced = (String, u64, Vec<u8>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inode {
    live: Vec<u8>,
    durable: Option<Vec<u8>>,
    pending: Vec<(u64, Vec<u8>)>,
}

/// A data directory in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestDisk {
    files: BTreeMap<String, Inode>,
    open: BTreeMap<FileId, String>,
    pool: Vec<Vec<u8>>,
    error: Option<DiskErrorKind>,
    /// While set, files may grow by no more than `room` together.
    pub full: bool,
    /// Bytes left while `full`.
    pub room: u64,
    /// Bytes kept back, see [`DiskOp::SpendReserve`].
    pub reserve: u64,
    /// The next sync fails.
    pub fail_sync: bool,
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
    /// Carries out one operation.
    pub fn apply(&mut self, op: DiskOp) -> Option<Completion> {
        self.done += 1;
        match op {
            DiskOp::Create { file, path, source } => {
                let pooled = source != FileSource::New;
                let live = if pooled { self.pool.pop().unwrap_or_default() } else { Vec::new() };
                self.files.insert(path.clone(), Inode { live, ..Inode::default() });
                self.open.insert(file, path);
            }
            DiskOp::Open { file, path } => {
                if !self.files.contains_key(&path) {
                    self.error = Some(DiskErrorKind::NotFound);
                }
                self.open.insert(file, path);
            }
            DiskOp::Write { file, pos, bufs } => self.write(file, pos, &bufs),
            DiskOp::Rewrite { file, pos, len } => self.rewrite(file, pos, len),
            DiskOp::Barrier { token } => {
                let result = self.error.take().map_or(Ok(()), |kind| Err(error(kind, "write")));
                return Some(Completion::Written { token, result });
            }
            DiskOp::Sync { files, token, .. } => {
                let failed = std::mem::take(&mut self.fail_sync);
                let result = if failed { Err(error(DiskErrorKind::Io, "sync")) } else { Ok(()) };
                if !failed {
                    let paths: Vec<String> = files.iter().filter_map(|f| self.open.get(f).cloned()).collect();
                    paths.iter().for_each(|path| self.sync(path));
                }
                return Some(Completion::Synced { token, result, micros: 1 });
            }
            DiskOp::Close { file } => {
                if let Some(path) = self.open.remove(&file) {
                    self.sync(&path);
                }
            }
            DiskOp::Put { path, bytes, token, durable } => {
                let result = if self.full { Err(error(DiskErrorKind::Full, "put")) } else { Ok(()) };
                if result.is_ok() && durable {
                    self.set(&path, bytes.to_vec());
                } else if result.is_ok() {
                    let pending = vec![(0, bytes.to_vec())];
                    self.files.insert(path, Inode { live: bytes.to_vec(), durable: None, pending });
                }
                return Some(Completion::Put { token, result });
            }
            DiskOp::Remove { paths, recycle } => {
                for inode in paths.iter().filter_map(|p| self.files.remove(p)).filter(|_| recycle) {
                    self.pool.push(inode.live);
                }
            }
            DiskOp::Cut { path, len } => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                if let Some(inode) = self.files.get_mut(&path).filter(|inode| inode.live.len() > len) {
                    self.room += (inode.live.len() - len) as u64;
                    inode.live.truncate(len);
                }
            }
            DiskOp::SpendReserve => self.room += std::mem::take(&mut self.reserve),
            DiskOp::RemoveDir { path } => self.files.retain(|name, _| !name.starts_with(&format!("{path}/"))),
            DiskOp::Recover { job, token } => {
                let result = Box::new(crate::recovery::recover(&job, self));
                return Some(Completion::Recovered { token, result });
            }
        }
        None
    }

    fn rewrite(&mut self, file: FileId, pos: u64, len: u64) {
        let inode = self.open.get(&file).and_then(|path| self.files.get(path));
        let range = usize::try_from(pos).ok().zip(usize::try_from(pos + len).ok());
        match inode.zip(range).and_then(|(inode, (from, to))| inode.live.get(from..to)) {
            Some(bytes) => self.write(file, pos, &[Bytes::copy_from_slice(bytes)]),
            None => _ = self.error.get_or_insert(DiskErrorKind::Io),
        }
    }

    fn write(&mut self, file: FileId, pos: u64, bufs: &[Bytes]) {
        let Some(inode) = self.open.get(&file).and_then(|path| self.files.get_mut(path)) else {
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
        inode.pending.push((pos, bytes));
    }

    fn sync(&mut self, path: &str) {
        if let Some(inode) = self.files.get_mut(path) {
            inode.pending.clear();
            inode.durable = Some(inode.live.clone());
        }
    }

    /// The process dies: what was written stays.
    pub fn kill(&mut self) {
        self.open.clear();
        self.error = None;
    }

    /// Power fails: of each unsynced write stays what `keep` returns (in place, cut or zeroed at will).
    pub fn power_off(&mut self, mut keep: impl FnMut(&Unsynced) -> Option<Vec<u8>>) {
        self.kill();
        for (path, inode) in &mut self.files {
            let mut kept = inode.durable.take();
            for (pos, bytes) in std::mem::take(&mut inode.pending) {
                let unsynced = (path.clone(), pos, bytes);
                if let Some(bytes) = keep(&unsynced) {
                    overlay(kept.get_or_insert_default(), pos, &bytes);
                }
            }
            inode.durable.clone_from(&kept);
            inode.live = kept.unwrap_or_default();
        }
        self.files.retain(|_, inode| inode.durable.is_some());
        self.pool.clear();
    }

    /// The content of a file, durable or not.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(|i| i.live.as_slice())
    }

    /// Replaces a file, durably; for damage.
    pub fn set(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(
            path.to_string(),
            Inode { durable: Some(bytes.clone()), live: bytes, pending: Vec::new() },
        );
    }

    /// Takes a file away.
    pub fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        self.files.remove(path).map(|i| i.live)
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
        self.files.keys().cloned().collect()
    }

    /// Adds a file to the pool.
    pub fn add_pooled(&mut self, bytes: Vec<u8>) {
        self.pool.push(bytes);
    }

    /// Carries out everything in `ops`, in order.
    pub fn apply_all(&mut self, ops: &mut VecDeque<DiskOp>) -> Vec<Completion> {
        ops.drain(..).filter_map(|op| self.apply(op)).collect()
    }
}

impl DiskRead for TestDisk {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let inside = self.files.keys().filter_map(|n| n.strip_prefix(&prefix));
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
