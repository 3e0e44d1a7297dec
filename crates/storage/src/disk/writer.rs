//! The writer: operations in the order in which they were submitted.
use super::background::Job;
use super::reader::ReadJob;
use super::shared::{POOL, Shared, TRASH, guard, io_error};
use super::syncer::SyncJob;
use super::{DiskOptions, Sink};
use crate::disk_op::{Completion, DiskError, DiskErrorKind, DiskOp, FileId, FileSource, OpToken};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Slices of one pwritev.
const SLICES: usize = 512;
/// Bytes that are written again at a time.
const PIECE: usize = 1 << 20;
/// How often free space is looked at.
pub(super) const SPACE_EVERY: Duration = Duration::from_millis(500);
/// Kept back so that a full disk can still take checkpoints and deletions.
const BALLAST: u64 = 8 << 20;
/// Indexes that are given up at a time when nothing else is left, and how often.
const INDEXES: usize = 64;
const INDEXES_EVERY: Duration = Duration::from_secs(5);
/// What the file system reads and writes at once.
const PAGE: u64 = 4096;
static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

#[derive(Debug)]
struct Row {
    path: String,
    /// `None` until first written, and after it had to make room.
    handle: Option<Arc<File>>,
    /// Until the file exists.
    create: Option<FileSource>,
    /// Bytes that no sync covers.
    dirty: u64,
    name_dirty: bool,
    used: u64,
    /// Where it came from the pool: what lies from here on is of no use to anybody.
    stale_from: Option<u64>,
}

impl Row {
    /// What to write behind a write that ends at `end`, so that no page of an old file is read to keep its rest.
    fn padding(&mut self, end: u64) -> &'static [u8] {
        match &mut self.stale_from {
            Some(from) if *from <= end => {
                *from = end;
                &ZEROS[..((PAGE - end % PAGE) % PAGE) as usize]
            }
            // What was written behind it stays.
            _ => &[],
        }
    }
}

pub(super) struct Out {
    pub(super) sink: Sink,
    pub(super) sync_jobs: mpsc::Sender<SyncJob>,
    pub(super) flush_jobs: mpsc::Sender<SyncJob>,
    pub(super) background_jobs: mpsc::Sender<Job>,
    pub(super) recoveries: mpsc::Sender<(OpToken, ReadJob)>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    out: Out,
    files: BTreeMap<FileId, Row>,
    /// Bytes of all files that no sync covers.
    dirty: u64,
    open: usize,
    clock: u64,
    /// Directories whose names are durable as far as this process changed them.
    durable_dirs: BTreeSet<PathBuf>,
    error: Option<DiskError>,
    pool_bytes: u64,
    reserve: u64,
    low: bool,
    looked: Option<Instant>,
    /// When indexes were last given up for a full disk.
    spent: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: DiskOptions, out: Out) -> Writer {
        let total = shared.space().map_or(u64::MAX, |(_, total)| total);
        Writer {
            shared,
            out,
            files: BTreeMap::new(),
            dirty: 0,
            open: 0,
            clock: 0,
            durable_dirs: BTreeSet::new(),
            error: None,
            pool_bytes: options.pool_bytes,
            reserve: options.reserve_bytes.min(total / 20),
            low: false,
            looked: None,
            spent: None,
        }
    }

    /// Looks at the free space when the last look is long ago.
    pub(super) fn look_now_and_then(&mut self) {
        if self.looked.is_none_or(|at| at.elapsed() >= SPACE_EVERY) {
            self.look_at_space();
        }
    }

    fn done(&self, completion: Completion) {
        guard(&self.out.sink)(completion);
    }

    /// Carries out one operation.
    pub(super) fn carry_out(&mut self, op: DiskOp) {
        match op {
            DiskOp::Create { file, path, source } => self.add(file, path, Some(source)),
            DiskOp::Open { file, path } => self.add(file, path, None),
            DiskOp::Write { file, pos, bufs } => {
                let result = self.write(file, pos, &bufs);
                self.note(result);
            }
            DiskOp::Rewrite { file, pos, len } => {
                let result = self.rewrite(file, pos, len);
                self.note(result);
            }
            DiskOp::Barrier { token } => {
                let result = self.shared.check().and(self.error.take().map_or(Ok(()), Err));
                self.done(Completion::Written { token, result });
            }
            DiskOp::Sync { files, token, behind } => self.sync(files, token, behind),
            DiskOp::Close { file } => {
                let result = self.close(file);
                self.note(result);
            }
            DiskOp::Put { path, bytes, token, durable } => {
                let job = Job::Put { path, bytes, token, durable };
                match &job {
                    Job::Put { path, .. } if !path.contains('/') => job.put(&self.shared, &self.out.sink),
                    _ => self.background(job),
                }
            }
            DiskOp::PutAt { path, pos, bytes, token } => {
                self.background(Job::PutAt { path, pos, bytes, token })
            }
            DiskOp::SyncDir { path, token } => self.background(Job::SyncDir { path, token }),
            DiskOp::SyncFiles { paths, token } => self.background(Job::SyncFiles { paths, token }),
            DiskOp::Clean { job, token } => _ = self.out.recoveries.send((token, ReadJob::Clean(job))),
            DiskOp::Look { job, token } => _ = self.out.recoveries.send((token, ReadJob::Look(job))),
            DiskOp::Remove { paths, recycle } => paths.iter().for_each(|path| self.remove(path, recycle)),
            DiskOp::Cut { path, len } => {
                let result = self.cut(&path, len);
                self.note(result);
            }
            DiskOp::SpendReserve => self.spend_reserve(),
            DiskOp::RemoveDir { path, token } => self.background(Job::RemoveDir(path, token)),
            DiskOp::Recover { job, token } => _ = self.out.recoveries.send((token, ReadJob::Recover(job))),
        }
    }

    fn background(&self, job: Job) {
        // The background thread outlives this one.
        let _ = self.out.background_jobs.send(job);
    }

    fn note(&mut self, result: Result<(), DiskError>) {
        if let Err(error) = result {
            if error.kind == DiskErrorKind::Full {
                self.tell_space(true);
            }
            self.shared.fail(&error);
            self.error.get_or_insert(error);
        }
    }

    fn add(&mut self, file: FileId, path: String, create: Option<FileSource>) {
        let row = Row { path, handle: None, create, dirty: 0, name_dirty: true, used: 0, stale_from: None };
        self.files.insert(file, row);
        if create.is_some() {
            // A reader of an older file of this name keeps that file.
            let handle = self.handle(file).map(|_| ());
            self.note(handle.or_else(|e| if e.kind == DiskErrorKind::Full { Ok(()) } else { Err(e) }));
        }
    }

    /// Whether a write finds its file open.
    pub(super) fn is_open(&self, file: FileId) -> bool {
        self.files.get(&file).is_some_and(|row| row.handle.is_some())
    }

    /// The open file; created or opened now when it is not.
    fn handle(&mut self, file: FileId) -> Result<Arc<File>, DiskError> {
        self.clock += 1;
        let clock = self.clock;
        let unknown = || DiskError { kind: DiskErrorKind::Io, detail: format!("{file:?} is not open") };
        let row = self.files.get_mut(&file).ok_or_else(unknown)?;
        row.used = clock;
        if let Some(handle) = &row.handle {
            return Ok(handle.clone());
        }
        let (path, create) = (row.path.clone(), row.create);
        self.make_room()?;
        let (handle, pooled) = match create {
            Some(source) => self.create(&path, source)?,
            None => {
                let open = OpenOptions::new().write(true).open(self.shared.path(&path));
                (open.map_err(|e| io_error("open", &path, &e))?, false)
            }
        };
        let handle = Arc::new(handle);
        self.open += 1;
        if let Some(row) = self.files.get_mut(&file) {
            row.handle = Some(handle.clone());
            row.create = None;
            row.stale_from = row.stale_from.or(pooled.then_some(0));
        }
        Ok(handle)
    }

    /// The new file, and whether it is one of the pool's.
    fn create(&mut self, path: &str, source: FileSource) -> Result<(File, bool), DiskError> {
        let full = self.shared.path(path);
        if let Some(dir) = full.parent()
            && !dir.exists()
        {
            std::fs::create_dir_all(dir).map_err(|e| io_error("create", path, &e))?;
            // Each of these may have got a name.
            dir.ancestors().for_each(|above| _ = self.durable_dirs.remove(above));
        }
        full.parent().map(|dir| self.durable_dirs.remove(dir));
        self.shared.readers().remove(path);
        if let Some(file) = self.take_pooled(source, &full) {
            return Ok((file, true));
        }
        // Never cut an older file of this name short: its readers map or read it still.
        match std::fs::remove_file(&full) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error("replace", path, &e)),
            _ => {}
        }
        let created = OpenOptions::new().write(true).create_new(true).open(&full);
        created.map(|file| (file, false)).map_err(|e| io_error("create", path, &e))
    }

    fn take_pooled(&self, source: FileSource, to: &std::path::Path) -> Option<File> {
        match source {
            FileSource::Used if self.shared.beyond(self.pool_bytes) > 0 => {}
            FileSource::Pool if self.pool_bytes > 0 => self.background(Job::FillPool),
            _ => return None,
        }
        let ready = self.shared.ready().next()?;
        let file = OpenOptions::new().write(true).open(&ready).ok()?;
        self.shared.take_from_pool(|| std::fs::rename(&ready, to)).ok().map(|()| file)
    }

    /// Closes the least recently used files when there are too many; a dirty one is synced first.
    fn make_room(&mut self) -> Result<(), DiskError> {
        if self.open < self.shared.open_files {
            return Ok(());
        }
        let mut open: Vec<(u64, FileId)> =
            self.files.iter().filter(|(_, r)| r.handle.is_some()).map(|(f, r)| (r.used, *f)).collect();
        open.sort_unstable();
        for (_, file) in open.iter().take(open.len() / 8 + 1) {
            let Some(row) = self.files.get_mut(file) else { continue };
            if let Some(handle) = row.handle.take() {
                self.open -= 1;
                if row.dirty > 0 {
                    sync_data(&handle, &row.path)?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, file: FileId, pos: u64, bufs: &[Bytes]) -> Result<(), DiskError> {
        self.shared.check()?;
        let handle = self.handle(file)?;
        let len = bufs.iter().map(|b| b.len() as u64).sum::<u64>();
        let Some(row) = self.files.get_mut(&file) else { return Ok(()) };
        let result = write_all(&handle, pos, bufs, row.padding(pos + len));
        row.dirty += len;
        self.dirty += len;
        self.shared.count_written(len);
        result.map_err(|e| io_error("write", &row.path, &e))
    }

    /// In pieces, so that a long tail takes little memory.
    fn rewrite(&mut self, file: FileId, mut pos: u64, len: u64) -> Result<(), DiskError> {
        let unknown = || DiskError { kind: DiskErrorKind::Io, detail: format!("{file:?} is not open") };
        let path = self.files.get(&file).ok_or_else(unknown)?.path.clone();
        let from = File::open(self.shared.path(&path)).map_err(|e| io_error("open", &path, &e))?;
        let end = pos + len;
        while pos < end {
            let mut piece = vec![0; usize::try_from(end - pos).unwrap_or(PIECE).min(PIECE)];
            from.read_exact_at(&mut piece, pos).map_err(|e| io_error("read", &path, &e))?;
            let piece = Bytes::from(piece);
            self.write(file, pos, std::slice::from_ref(&piece))?;
            pos += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self, files: Vec<FileId>, token: OpToken, behind: bool) {
        let mut job = SyncJob { token, files: Vec::new(), dirs: BTreeSet::new(), bytes: 0, others: 0 };
        for file in files {
            let Some(row) = self.files.get_mut(&file) else { continue };
            if let Some(handle) = &row.handle {
                job.files.push((row.path.clone(), handle.clone()));
            }
            job.bytes += std::mem::take(&mut row.dirty);
            if std::mem::take(&mut row.name_dirty) {
                let full = self.shared.path(&row.path);
                let above = full.ancestors().skip(1).take_while(|d| d.starts_with(self.shared.root()));
                for dir in above.map(std::path::Path::to_path_buf) {
                    // A sync that is behind may end after one that begins later, which must not rely on it.
                    let first = if behind {
                        !self.durable_dirs.contains(&dir)
                    } else {
                        self.durable_dirs.insert(dir.clone())
                    };
                    if first {
                        job.dirs.insert(dir);
                    }
                }
            }
        }
        self.dirty = self.dirty.saturating_sub(job.bytes);
        job.others = self.dirty + self.shared.flushing();
        if behind {
            self.shared.add_flushing(job.bytes);
        }
        let jobs = if behind { &self.out.flush_jobs } else { &self.out.sync_jobs };
        let _ = jobs.send(job);
    }

    fn close(&mut self, file: FileId) -> Result<(), DiskError> {
        let Some(row) = self.files.remove(&file) else { return Ok(()) };
        let Some(handle) = row.handle else { return Ok(()) };
        self.open -= 1;
        self.dirty = self.dirty.saturating_sub(row.dirty);
        if row.dirty > 0 {
            sync_data(&handle, &row.path)?;
        }
        Ok(())
    }

    /// Takes the name away at once; the bytes go to the pool when nobody reads them, or are freed in the
    /// background. A failure leaves an orphan for the next start.
    fn remove(&mut self, path: &str, recycle: bool) {
        let full = self.shared.path(path);
        self.shared.maps().remove(path);
        // Readers open files under this lock, so nobody can begin to read the file that is recycled.
        let mut readers = self.shared.readers();
        let read = readers.remove(path).is_some_and(|file| Arc::strong_count(&file) > 1);
        let len = std::fs::metadata(&full).map_or(0, |m| m.len());
        let size = crate::FILE_BYTES;
        // The active file of a topic that is deleted may have only begun.
        let fits =
            recycle && !read && (crate::WORTH_POOLING..=size).contains(&len) && self.pool_bytes >= size;
        let name = self.shared.new_name();
        let to = if fits { format!("{POOL}/{name}.used") } else { format!("{TRASH}/{name}") };
        let _ = std::fs::create_dir_all(self.shared.path(if fits { POOL } else { TRASH }));
        if std::fs::rename(&full, self.shared.path(&to)).is_ok() {
            drop(readers);
            self.background(if fits { Job::Recycle(to) } else { Job::Unlink(to) });
        } else {
            // A full disk may have no room for another name; what fails here is an orphan.
            let _ = std::fs::remove_file(&full);
        }
    }

    /// Readers never read there, and what the index of a sealed file maps is another file.
    fn cut(&self, path: &str, len: u64) -> Result<(), DiskError> {
        let file = match OpenOptions::new().write(true).open(self.shared.path(path)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            file => file,
        };
        let cut = |file: File| if file.metadata()?.len() > len { file.set_len(len) } else { Ok(()) };
        file.and_then(cut).map_err(|e| io_error("cut", path, &e))
    }

    fn ballast(&self) -> PathBuf {
        self.shared.path("ballast")
    }

    /// The ballast, and files of the pool that wait for use. Where there is neither, some indexes: each is
    /// made again by the first reader that needs it.
    fn spend_reserve(&mut self) {
        let mut spent = std::fs::remove_file(self.ballast()).is_ok();
        for file in self.shared.ready() {
            spent |= self.shared.take_from_pool(|| std::fs::remove_file(file)).is_ok();
        }
        if spent || self.spent.is_some_and(|at| at.elapsed() < INDEXES_EVERY) {
            return;
        }
        self.spent = Some(Instant::now());
        let groups = std::fs::read_dir(self.shared.path("groups")).into_iter().flatten().flatten();
        let files = groups.flat_map(|group| std::fs::read_dir(group.path()).into_iter().flatten().flatten());
        let indexes = files.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "idx"));
        indexes.take(INDEXES).for_each(|index| _ = std::fs::remove_file(index));
    }

    /// Tells when it is news.
    fn tell_space(&mut self, low: bool) {
        if low != self.low {
            self.low = low;
            self.done(Completion::Space { low });
        }
    }

    /// Tells when free space falls below the reserve, and when it is above again.
    pub(super) fn look_at_space(&mut self) {
        self.looked = Some(Instant::now());
        let Some((free, total)) = self.shared.space() else { return };
        let ballast = BALLAST.min(total / 100);
        let there = std::fs::metadata(self.ballast()).is_ok_and(|m| m.len() >= ballast);
        if free > self.reserve + 2 * ballast && !there {
            // Best effort: without it a full disk needs help from outside.
            if let Ok(file) = File::create(self.ballast()) {
                let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, ballast);
            }
        }
        self.tell_space(if self.low { free < self.reserve + self.reserve / 4 } else { free < self.reserve });
    }
}

/// Lack of space at a sync is no lack of space that heals: what the pages hold is unknown.
fn sync_data(file: &File, path: &str) -> Result<(), DiskError> {
    let failed = |e| DiskError { kind: DiskErrorKind::Io, ..io_error("sync", path, &e) };
    file.sync_data().map_err(failed)
}

fn write_all(file: &File, mut pos: u64, bufs: &[Bytes], padding: &[u8]) -> std::io::Result<()> {
    let mut chunks = bufs.chunks(SLICES);
    while let Some(some) = chunks.next() {
        let padding = (chunks.len() == 0 && !padding.is_empty()).then(|| IoSlice::new(padding));
        let mut slices: Vec<IoSlice<'_>> = some.iter().map(|b| IoSlice::new(b)).chain(padding).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match rustix::io::pwritev(file, rest, pos) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    pos += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}
