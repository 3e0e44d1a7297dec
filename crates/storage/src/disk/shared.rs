//! What the threads share: paths, the files open for reading, index maps, the first failure.
use super::DiskOptions;
use super::buffers::Buffers;
use super::failure;
use crate::config::FILE_BYTES;
use crate::disk_op::{DiskError, DiskErrorKind};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Files that wait for use.
pub(super) const POOL: &str = "pool";
/// Files that are being unlinked.
pub(super) const TRASH: &str = "trash";
/// Maps kept; one is at most 160 KiB of address space.
const MAPS: usize = 1024;

/// A bounded table by path; the least recently used goes.
#[derive(Debug)]
pub(super) struct Lru<V> {
    rows: BTreeMap<String, (u64, V)>,
    clock: u64,
    limit: usize,
}

impl<V: Clone> Lru<V> {
    fn new(limit: usize) -> Lru<V> {
        Lru { rows: BTreeMap::new(), clock: 0, limit }
    }

    pub(super) fn get(&mut self, path: &str) -> Option<V> {
        self.clock += 1;
        let row = self.rows.get_mut(path)?;
        row.0 = self.clock;
        Some(row.1.clone())
    }

    /// `spare`: whether a row may go when there are too many.
    pub(super) fn insert(&mut self, path: &str, value: V, spare: fn(&V) -> bool) {
        self.clock += 1;
        if self.rows.len() >= self.limit {
            // An eighth at once, so that the search is rare.
            let mut ages: Vec<u64> = self.rows.values().map(|(age, _)| *age).collect();
            ages.sort_unstable();
            let oldest = ages[ages.len() / 8];
            self.rows.retain(|_, (age, value)| *age > oldest || !spare(value));
        }
        self.rows.insert(path.to_string(), (self.clock, value));
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<V> {
        self.rows.remove(path).map(|(_, value)| value)
    }

    pub(super) fn remove_below(&mut self, prefix: &str) {
        self.rows.retain(|path, _| !path.starts_with(prefix));
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    root: PathBuf,
    /// The directory is the root of its file system: syncfs concerns nobody else.
    pub(super) own_mount: bool,
    pub(super) open_files: usize,
    readers: Mutex<Lru<Arc<File>>>,
    maps: Mutex<Lru<Bytes>>,
    failed: Mutex<Option<DiskError>>,
    pub(super) buffers: Buffers,
    written: AtomicU64,
    pool_files: AtomicU64,
    names: AtomicU64,
    flushes: AtomicBool,
    flushing: AtomicU64,
}

/// Files of the pool that are not ready have an extension.
pub(super) fn is_ready(path: &Path) -> bool {
    path.extension().is_none()
}

pub(super) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with what was done to what.
pub(super) fn io_error(what: &str, path: &str, e: &std::io::Error) -> DiskError {
    let kind = match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => DiskErrorKind::Full,
        std::io::ErrorKind::NotFound => DiskErrorKind::NotFound,
        _ => DiskErrorKind::Io,
    };
    DiskError { kind, detail: format!("cannot {what} {path}: {e}") }
}

fn own_mount(root: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
    let (here, above) = (device(root), device(&root.join("..")));
    here.is_some() && above.is_some() && here != above
}

impl Shared {
    pub(super) fn new(root: &Path, options: &DiskOptions) -> Result<Shared, DiskError> {
        let shown = root.display().to_string();
        let root = std::fs::canonicalize(root).map_err(|e| io_error("open", &shown, &e))?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(4096);
        let quarter = usize::try_from(limit / 4).unwrap_or(1024).clamp(16, 4096);
        let open_files = if options.open_files == 0 { quarter } else { options.open_files };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pool = std::fs::read_dir(root.join(POOL)).into_iter().flatten().flatten();
        let pool_files = pool.filter(|e| is_ready(&e.path())).count() as u64;
        Ok(Shared {
            own_mount: own_mount(&root),
            root,
            open_files,
            readers: Mutex::new(Lru::new(open_files)),
            maps: Mutex::new(Lru::new(MAPS)),
            failed: Mutex::new(None),
            buffers: Buffers::default(),
            written: AtomicU64::new(0),
            pool_files: AtomicU64::new(pool_files),
            names: AtomicU64::new(now.as_nanos() as u64),
            flushes: AtomicBool::new(false),
            flushing: AtomicU64::new(0),
        })
    }

    /// Bytes that the writer wrote so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn count_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file name that no process has used here: files outlive processes, whose numbers come again in a container.
    pub(super) fn new_name(&self) -> String {
        self.names.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Whether a flush runs now. Only where to write depends on it.
    pub(super) fn flushes(&self) -> bool {
        self.flushes.load(Ordering::Relaxed)
    }

    pub(super) fn set_flushes(&self, flushes: bool) {
        self.flushes.store(flushes, Ordering::Relaxed);
    }

    /// Bytes on their way to the disk by flushes that have not ended.
    pub(super) fn flushing(&self) -> u64 {
        self.flushing.load(Ordering::Relaxed)
    }

    pub(super) fn add_flushing(&self, bytes: u64) {
        self.flushing.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn end_flushing(&self, bytes: u64) {
        self.flushing.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Files of the pool that are ready for use.
    pub(super) fn pool_files(&self) -> u64 {
        self.pool_files.load(Ordering::Relaxed)
    }

    /// How many files the pool has beyond the `made` bytes that it makes ahead.
    pub(super) fn beyond(&self, made: u64) -> u64 {
        self.pool_files().saturating_sub(made / FILE_BYTES)
    }

    /// Gives a file its place in the pool: `made` may be used from here on.
    pub(super) fn add_to_pool(&self, made: &Path) -> std::io::Result<()> {
        std::fs::rename(made, made.with_extension(""))?;
        self.pool_files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a ready file out of the pool by moving or removing it.
    pub(super) fn take_from_pool(&self, take: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
        take()?;
        let less = |files: u64| Some(files.saturating_sub(1));
        let _ = self.pool_files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(())
    }

    /// The ready files of the pool.
    pub(super) fn ready(&self) -> impl Iterator<Item = PathBuf> {
        let pool = std::fs::read_dir(self.path(POOL)).into_iter().flatten().flatten();
        pool.map(|e| e.path()).filter(|path| is_ready(path))
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn maps(&self) -> MutexGuard<'_, Lru<Bytes>> {
        guard(&self.maps)
    }

    pub(super) fn readers(&self) -> MutexGuard<'_, Lru<Arc<File>>> {
        guard(&self.readers)
    }

    /// Keeps the first failure that is not about space; everything later fails with it. What was written and not
    /// synced may be gone from then on: the next start must know.
    pub(super) fn fail(&self, error: &DiskError) {
        if error.kind == DiskErrorKind::Full {
            return;
        }
        let first = {
            let mut failed = guard(&self.failed);
            failed.is_none() && failed.replace(error.clone()).is_none()
        };
        // Not under the lock: where this hangs the others still see that it failed. The process waits for this thread.
        if first {
            failure::note(&self.root, &error.detail);
        }
    }

    /// The same where the directory is another one now: what was written is there, but not for the next start.
    pub(super) fn lose(&self, error: &DiskError) {
        guard(&self.failed).get_or_insert_with(|| error.clone());
    }

    pub(super) fn check(&self) -> Result<(), DiskError> {
        guard(&self.failed).clone().map_or(Ok(()), Err)
    }

    pub(super) fn space(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.root).ok()?;
        Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
    }

    /// Makes the names in `dir` durable. A group that was deleted while its files were synced has none: the
    /// background removes its directory without waiting for the syncer.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let of_a_group = dir.parent() != Some(&*self.root) && dir != self.root;
        match File::open(dir).and_then(|d| d.sync_all()) {
            Err(e) if of_a_group && e.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(|e| io_error("sync directory", &dir.display().to_string(), &e)),
        }
    }
}
