//! A disk that loses, tears and reorders what was not synced, fails, fills up and rots.
//!
//! Assumed of the medium (docs/log-format.md): a 512-byte sector is written whole or not at all, names
//! become durable in the order in which they were changed, and a completed sync is kept.
mod aside;

use crate::rng::Rng;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use storage::{Completion, DiskError, DiskErrorKind, DiskOp, DiskRead, FileId, FileSource, OpToken};

const SECTOR: usize = 512;
const PAGE: usize = 4096;

#[derive(Clone, Debug)]
struct PendingWrite {
    seq: u64,
    pos: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<PendingWrite>,
    /// Ranges whose pages a failed sync made clean: only memory holds them yet.
    forgotten: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(String, u64),
    Unlink(String),
}

#[derive(Debug)]
struct RunningSync {
    token: OpToken,
    behind: bool,
    inodes: Vec<u64>,
    up_to: u64,
    names: usize,
}

/// What went wrong on this disk so far, for the report and for "did the rare path run".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Crashes with unsynced data.
    pub crashes: u64,
    /// Unsynced writes lost whole.
    pub lost: u64,
    /// Unsynced writes kept in part.
    pub torn: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Writes refused for lack of space.
    pub full: u64,
    /// Files cut short to make room.
    pub cuts: u64,
    /// Bits flipped in synced data.
    pub flips: u64,
    /// Ranges that memory lost after a failed sync, while the machine went on.
    pub evicted: u64,
}

impl DiskFaults {
    /// Adds another disk's.
    pub fn add(&mut self, o: &DiskFaults) {
        self.crashes += o.crashes;
        self.lost += o.lost;
        self.torn += o.torn;
        self.failed_syncs += o.failed_syncs;
        self.full += o.full;
        self.cuts += o.cuts;
        self.flips += o.flips;
        self.evicted += o.evicted;
    }
}

/// The simulated disk of one data directory.
#[derive(Debug, Default)]
pub struct SimDisk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    journal: Vec<NameOp>,
    open: BTreeMap<FileId, u64>,
    queue: VecDeque<DiskOp>,
    syncs: VecDeque<RunningSync>,
    next_inode: u64,
    seq: u64,
    pool: Vec<u64>,
    write_error: Option<DiskErrorKind>,
    /// Counters of the faults that happened.
    pub faults: DiskFaults,
    /// The next sync fails.
    pub fail_next_sync: bool,
    evicts: bool,
    /// So many bytes may files still grow by; `None`: any number.
    pub room: Option<usize>,
    /// Kept back for a full disk; given out once while it is full.
    pub reserve: usize,
    /// What the disk says unasked.
    said: VecDeque<Completion>,
    low: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// An empty disk of a machine that is short of memory: what a failed sync made clean may go from it before the next
    /// process reads it.
    pub fn evicting() -> SimDisk {
        SimDisk { evicts: true, ..SimDisk::default() }
    }

    /// What is on the medium for certain.
    pub fn after_power_cut(&self) -> SimDisk {
        let inode = |inode: &Inode| Inode { live: inode.durable.clone(), ..Inode::default() };
        let inodes = self.inodes.iter().map(|(id, i)| (*id, inode(i))).collect();
        SimDisk { inodes, names: self.durable_names.clone(), ..SimDisk::default() }
    }

    /// Queues an operation.
    pub fn submit(&mut self, op: DiskOp) {
        self.queue.push_back(op);
    }

    /// Whether anything waits to be carried out.
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || !self.syncs.is_empty() || !self.said.is_empty()
    }

    /// From now on files may grow by `room` bytes together; `None` ends it.
    pub fn limit(&mut self, room: Option<usize>, reserve: usize) {
        (self.room, self.reserve) = (room, reserve);
        if room.is_none() {
            self.tell_space(false);
        }
    }

    fn tell_space(&mut self, low: bool) {
        if low != self.low {
            self.low = low;
            self.said.push_back(Completion::Space { low });
        }
    }

    fn spend_reserve(&mut self) {
        let reserve = std::mem::take(&mut self.reserve);
        self.give_room(reserve);
    }

    fn give_room(&mut self, bytes: usize) {
        if let Some(room) = &mut self.room {
            *room += bytes;
        }
    }

    /// Takes up to `bytes` of the room; how many there were.
    fn take_room(&mut self, bytes: usize) -> usize {
        let taken = self.room.map_or(bytes, |room| room.min(bytes));
        if let Some(room) = &mut self.room {
            *room -= taken;
        }
        if taken < bytes {
            self.faults.full += 1;
            self.tell_space(true);
        }
        taken
    }

    /// Carries out one thing, chosen by chance among those that may come next.
    pub fn step(&mut self, rng: &mut Rng) -> Option<Completion> {
        if let Some(said) = self.said.pop_front() {
            return Some(said);
        }
        let finish = !self.syncs.is_empty() && (self.queue.is_empty() || rng.chance(1, 3));
        if finish { self.finish_sync(rng) } else { self.execute() }
    }

    fn execute(&mut self) -> Option<Completion> {
        match self.queue.pop_front()? {
            DiskOp::Create { file, path, source } => {
                let inode = self.take_inode(source != FileSource::New);
                self.open.insert(file, inode);
                self.link(path, inode);
                None
            }
            DiskOp::Open { file, path } => {
                match self.names.get(&path) {
                    Some(inode) => {
                        self.open.insert(file, *inode);
                    }
                    None => self.write_error = Some(DiskErrorKind::NotFound),
                }
                None
            }
            DiskOp::Write { file, pos, bufs } => {
                self.write(file, pos as usize, &bufs);
                None
            }
            DiskOp::Rewrite { file, pos, len } => {
                self.rewrite(file, pos as usize, len as usize);
                None
            }
            DiskOp::Barrier { token } => {
                let result = match self.write_error.take() {
                    Some(kind) => Err(error(kind, "write")),
                    None => Ok(()),
                };
                Some(Completion::Written { token, result })
            }
            DiskOp::Sync { files, token, behind } => {
                let inodes = files.iter().filter_map(|f| self.open.get(f).copied()).collect();
                let sync = RunningSync { token, behind, inodes, up_to: self.seq, names: self.journal.len() };
                self.syncs.push_back(sync);
                None
            }
            DiskOp::Close { file } => {
                if let Some(inode) = self.open.remove(&file) {
                    self.make_durable(&[inode], u64::MAX);
                }
                None
            }
            DiskOp::Put { path, bytes, token, durable } => Some(self.put(path, &bytes, token, durable)),
            DiskOp::Remove { paths, recycle } => {
                for path in paths {
                    self.remove(&path, recycle);
                }
                None
            }
            DiskOp::Cut { path, len } => {
                self.cut(&path, len as usize);
                None
            }
            DiskOp::SpendReserve => {
                self.spend_reserve();
                None
            }
            DiskOp::RemoveDir { path, token } => {
                self.remove_dir(&format!("{path}/"));
                Some(Completion::Removed { token, result: Ok(()) })
            }
            DiskOp::Recover { job, token } => {
                let result = Box::new(storage::recovery::recover(&job, self));
                Some(Completion::Recovered { token, result })
            }
            op => self.aside(op),
        }
    }

    fn remove_dir(&mut self, prefix: &str) {
        let inside: Vec<String> = self.names.keys().filter(|n| n.starts_with(prefix)).cloned().collect();
        inside.iter().for_each(|name| self.remove(name, false));
        // It is durable when it has ended.
        self.durable_names.retain(|name, _| !name.starts_with(prefix));
        for op in &mut self.journal {
            if let NameOp::Link(path, _) = op
                && path.starts_with(prefix)
            {
                *op = NameOp::Unlink(std::mem::take(path));
            }
        }
    }

    fn take_inode(&mut self, pooled: bool) -> u64 {
        if pooled && let Some(inode) = self.pool.pop() {
            return inode;
        }
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.next_inode
    }

    fn link(&mut self, path: String, inode: u64) {
        self.names.insert(path.clone(), inode);
        self.journal.push(NameOp::Link(path, inode));
    }

    fn remove(&mut self, path: &str, recycle: bool) {
        if let Some(inode) = self.names.remove(path) {
            self.journal.push(NameOp::Unlink(path.to_string()));
            if recycle && self.room.is_none() && self.pool.len() < 8 {
                self.pool.push(inode);
            } else if let Some(bytes) = self.inodes.get(&inode).map(|i| i.live.len()) {
                self.give_room(bytes);
            }
        }
    }

    /// A cut is durable at a sync at the earliest: a power cut may bring the bytes back.
    fn cut(&mut self, path: &str, len: usize) {
        let Some(inode) = self.names.get(path).and_then(|i| self.inodes.get_mut(i)) else { return };
        let gone = inode.live.len().saturating_sub(len);
        inode.live.truncate(len);
        self.faults.cuts += u64::from(gone > 0);
        self.give_room(gone);
    }

    fn rewrite(&mut self, file: FileId, pos: usize, len: usize) {
        let inode = self.open.get(&file).and_then(|i| self.inodes.get(i));
        match inode.and_then(|inode| inode.live.get(pos..pos + len)).map(Bytes::copy_from_slice) {
            Some(bytes) => self.write(file, pos, &[bytes]),
            None => self.write_error = Some(DiskErrorKind::Io),
        }
    }

    fn write(&mut self, file: FileId, pos: usize, bufs: &[Bytes]) {
        let Some(inode) = self.open.get(&file).and_then(|i| self.inodes.get(i)) else {
            self.write_error = Some(DiskErrorKind::Io);
            return;
        };
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        let grows = (pos + bytes.len()).saturating_sub(inode.live.len());
        let missing = grows - self.take_room(grows);
        if missing > 0 {
            self.write_error = Some(DiskErrorKind::Full);
            // The file grows as far as it can; nothing is written behind a hole that could not be made.
            bytes.truncate(bytes.len().saturating_sub(missing));
            if bytes.is_empty() {
                return;
            }
        }
        let Some(inode) = self.open.get(&file).and_then(|i| self.inodes.get_mut(i)) else { return };
        self.seq += 1;
        overlay(&mut inode.live, pos, &bytes);
        inode.pending.push(PendingWrite { seq: self.seq, pos, bytes });
    }

    fn put(&mut self, path: String, bytes: &Bytes, token: OpToken, durable: bool) -> Completion {
        let taken = self.take_room(bytes.len());
        if taken < bytes.len() {
            self.give_room(taken);
            return Completion::Put { token, result: Err(error(DiskErrorKind::Full, &path)) };
        }
        self.next_inode += 1;
        let mut inode = Inode { live: bytes.to_vec(), ..Inode::default() };
        if durable {
            inode.durable = bytes.to_vec();
        } else {
            self.seq += 1;
            inode.pending.push(PendingWrite { seq: self.seq, pos: 0, bytes: bytes.to_vec() });
        }
        self.inodes.insert(self.next_inode, inode);
        self.link(path, self.next_inode);
        if durable {
            self.flush_names(self.journal.len());
        }
        Completion::Put { token, result: Ok(()) }
    }

    fn finish_sync(&mut self, rng: &mut Rng) -> Option<Completion> {
        // Each kind in its order.
        let behind = rng.chance(1, 2);
        let at = self.syncs.iter().position(|sync| sync.behind == behind).unwrap_or(0);
        let sync = self.syncs.remove(at)?;
        if self.fail_next_sync {
            self.fail_next_sync = false;
            self.faults.failed_syncs += 1;
            self.forget_dirty(&sync.inodes, sync.up_to);
            let result = Err(error(DiskErrorKind::Io, "sync"));
            return Some(Completion::Synced { token: sync.token, result, micros: 100 });
        }
        self.make_durable(&sync.inodes, sync.up_to);
        self.flush_names(sync.names);
        Some(Completion::Synced { token: sync.token, result: Ok(()), micros: 100 })
    }

    fn make_durable(&mut self, inodes: &[u64], up_to: u64) {
        for id in inodes {
            let Some(inode) = self.inodes.get_mut(id) else { continue };
            let pending = std::mem::take(&mut inode.pending);
            for write in pending {
                if write.seq <= up_to {
                    overlay(&mut inode.durable, write.pos, &write.bytes);
                } else {
                    inode.pending.push(write);
                }
            }
        }
    }

    /// After a failed sync the kernel takes the pages for clean: readers still see them, no later sync
    /// writes them, and a power cut loses them.
    fn forget_dirty(&mut self, inodes: &[u64], up_to: u64) {
        for id in inodes {
            let Some(inode) = self.inodes.get_mut(id) else { continue };
            let (clean, dirty) = std::mem::take(&mut inode.pending).into_iter().partition(|w| w.seq <= up_to);
            inode.pending = dirty;
            let ranges = clean.iter().map(|w: &PendingWrite| (w.pos, w.pos + w.bytes.len()));
            inode.forgotten.extend(ranges.map(|(from, to)| (from / PAGE * PAGE, to.next_multiple_of(PAGE))));
        }
        // The disk leaves a note for the next process.
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.link(storage::FAILED.to_owned(), self.next_inode);
    }

    /// The kernel needs the memory of clean pages for something else.
    fn evict(&mut self, rng: &mut Rng) {
        for inode in self.inodes.values_mut() {
            for (from, to) in std::mem::take(&mut inode.forgotten) {
                if !self.evicts || rng.chance(1, 2) {
                    continue;
                }
                self.faults.evicted += 1;
                let mut on_disk = inode.durable.clone();
                on_disk.resize(on_disk.len().max(inode.live.len()), 0);
                let to = to.min(inode.live.len());
                if from < to {
                    inode.live[from..to].copy_from_slice(&on_disk[from..to]);
                }
                // A dirty page does not go.
                for write in &inode.pending {
                    overlay(&mut inode.live, write.pos, &write.bytes);
                }
            }
        }
    }

    fn flush_names(&mut self, count: usize) {
        let count = count.min(self.journal.len());
        for op in self.journal.drain(..count) {
            match op {
                NameOp::Link(path, inode) => self.durable_names.insert(path, inode),
                NameOp::Unlink(path) => self.durable_names.remove(&path),
            };
        }
        for sync in &mut self.syncs {
            sync.names = sync.names.saturating_sub(count);
        }
    }

    /// The machine dies. With `power` everything unsynced is lost, torn or kept by chance; without, only
    /// the process dies and what was written stays written.
    pub fn crash(&mut self, rng: &mut Rng, power: bool) {
        self.queue.clear();
        self.syncs.clear();
        self.open.clear();
        self.pool.clear();
        self.write_error = None;
        self.fail_next_sync = false;
        self.said.clear();
        self.low = false;
        if !power {
            return self.evict(rng);
        }
        self.faults.crashes += 1;
        let kept = rng.below(self.journal.len() as u64 + 1) as usize;
        self.flush_names(kept);
        self.journal.clear();
        self.names = self.durable_names.clone();
        for inode in self.inodes.values_mut() {
            for write in std::mem::take(&mut inode.pending) {
                match rng.below(10) {
                    0..=2 => self.faults.lost += 1,
                    3..=6 => overlay(&mut inode.durable, write.pos, &write.bytes),
                    _ => {
                        self.faults.torn += 1;
                        tear(&mut inode.durable, &write, rng);
                    }
                }
            }
            inode.forgotten.clear();
            inode.live = inode.durable.clone();
        }
    }

    /// Flips one bit of synced data in a file whose name `wanted` accepts, below `limit(path)` bytes.
    /// Returns the path and position.
    pub fn flip_bit(&mut self, rng: &mut Rng, wanted: impl Fn(&str) -> Option<u64>) -> Option<(String, u64)> {
        let candidates: Vec<(String, u64)> =
            self.names.keys().filter_map(|n| wanted(n).filter(|l| *l > 0).map(|l| (n.clone(), l))).collect();
        let (path, limit) = rng.pick(&candidates)?.clone();
        let inode = self.inodes.get_mut(self.names.get(&path)?)?;
        let limit = limit.min(inode.durable.len() as u64);
        let at = rng.below(limit) as usize;
        let bit = 1u8 << rng.below(8);
        *inode.durable.get_mut(at)? ^= bit;
        if let Some(byte) = inode.live.get_mut(at) {
            *byte ^= bit;
        }
        self.faults.flips += 1;
        Some((path, at as u64))
    }
}

impl DiskRead for SimDisk {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut found: Vec<String> = self
            .names
            .keys()
            .filter_map(|n| n.strip_prefix(&prefix))
            .map(|rest| rest.split('/').next().unwrap_or(rest).to_string())
            .collect();
        found.dedup();
        Ok(found)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        Ok(self.names.get(path).and_then(|i| self.inodes.get(i)).map(|i| i.live.len() as u64))
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let inode = self
            .names
            .get(path)
            .and_then(|i| self.inodes.get(i))
            .ok_or_else(|| error(DiskErrorKind::NotFound, path))?;
        let from = (pos as usize).min(inode.live.len());
        let to = from.saturating_add(len).min(inode.live.len());
        Ok(Bytes::copy_from_slice(&inode.live[from..to]))
    }
}

fn error(kind: DiskErrorKind, detail: &str) -> DiskError {
    DiskError { kind, detail: format!("simulated {kind:?}: {detail}") }
}

fn overlay(file: &mut Vec<u8>, pos: usize, bytes: &[u8]) {
    if file.len() < pos + bytes.len() {
        file.resize(pos + bytes.len(), 0);
    }
    file[pos..pos + bytes.len()].copy_from_slice(bytes);
}

/// Keeps some sectors of a write: the boundaries are those of the file, not of the write.
fn tear(file: &mut Vec<u8>, write: &PendingWrite, rng: &mut Rng) {
    let mut at = 0;
    while at < write.bytes.len() {
        let sector_end = ((write.pos + at) / SECTOR + 1) * SECTOR - write.pos;
        let end = sector_end.min(write.bytes.len());
        if rng.chance(1, 2) {
            overlay(file, write.pos + at, &write.bytes[at..end]);
        }
        at = end;
    }
}
