//! What nobody waits for on the way to an acknowledgement: checkpoints, deletions, the pool.
use super::Sink;
use super::shared::{POOL, Shared, TRASH, guard, io_error, is_ready};
use crate::config::FILE_BYTES;
use crate::disk_op::{Completion, DiskError, DiskErrorKind, OpToken};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Written at once while a file of the pool is made.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
/// Between two pieces while anything else is written.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the writer's speed is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Above so many bytes a second nothing is filled: it would double what the disk has to write, and who waits
/// for a sync would wait for both.
const BUSY: u64 = 16 << 20;
/// How long a file that was recycled beyond `log.pool.bytes` waits for use: what one run of retention gives
/// back lasts until the next.
const KEPT: Duration = Duration::from_mins(10);
/// How often the pool is searched for files that waited too long, and how many are let go then: checkpoints wait
/// meanwhile.
const SEARCH: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 256;

pub(super) enum Job {
    Put { path: String, bytes: Bytes, token: OpToken, durable: bool },
    PutAt { path: String, pos: u64, bytes: Bytes, token: OpToken },
    SyncDir { path: String, token: OpToken },
    SyncFiles { paths: Vec<String>, token: OpToken },
    RemoveDir(String, OpToken),
    Recycle(String),
    Unlink(String),
    FillPool,
}

impl Job {
    /// Carries out a `Put`.
    pub(super) fn put(&self, shared: &Shared, sink: &Sink) {
        let Job::Put { path, bytes, token, durable } = self else { return };
        let once = || shared.check().and_then(|()| put(shared, path, bytes, *durable));
        // A group that is opened again takes temporary files of its former self away, this one perhaps.
        let again = |e: DiskError| if e.kind == DiskErrorKind::NotFound { once() } else { Err(e) };
        let result = once().or_else(again);
        if let Err(error) = &result {
            shared.fail(error);
        }
        shared.maps().remove(path);
        guard(sink)(Completion::Put { token: *token, result });
    }
}

fn put(shared: &Shared, path: &str, bytes: &Bytes, durable: bool) -> Result<(), DiskError> {
    let full = shared.path(path);
    let temporary = full.with_extension("tmp");
    let error = |what: &str, e: &std::io::Error| io_error(what, path, e);
    let mut made = Vec::new();
    if let Some(dir) = full.parent().filter(|d| !d.exists()) {
        std::fs::create_dir_all(dir).map_err(|e| error("create the directory of", &e))?;
        made.extend(
            dir.ancestors().skip(1).take_while(|d| d.starts_with(shared.root())).map(Path::to_path_buf),
        );
    }
    let sync = |file: File| if durable { file.sync_data() } else { Ok(()) };
    let written =
        File::create(&temporary).and_then(|mut file| file.write_all(bytes).and_then(|()| sync(file)));
    if let Err(e) = written {
        // The old content stands; what was begun only takes room.
        let _ = std::fs::remove_file(&temporary);
        return Err(error("write", &e));
    }
    std::fs::rename(&temporary, &full).map_err(|e| error("rename", &e))?;
    if !durable {
        return Ok(());
    }
    made.extend(full.parent().map(Path::to_path_buf));
    made.iter().try_for_each(|dir| shared.sync_dir(dir))
}

/// Bytes that are written beside the groups' files before they are synced: gigabytes at the end would hold up every
/// other sync for seconds.
const ASIDE_SYNC_BYTES: u64 = 8 << 20;
/// Files of which it is known how much of them is not synced; beyond, one of them is synced earlier.
const ASIDE_FILES: usize = 16;

/// Bytes of files beside the groups' own that were written since their last sync.
#[derive(Default)]
struct Unsynced(BTreeMap<String, u64>);

impl Unsynced {
    /// `bytes` more of a file were written; which one is to be synced now.
    fn add(&mut self, path: &str, bytes: u64) -> Option<String> {
        let of_file = self.0.entry(path.to_owned()).or_default();
        *of_file += bytes;
        if *of_file < ASIDE_SYNC_BYTES && self.0.len() <= ASIDE_FILES {
            return None;
        }
        let most = self.0.iter().max_by_key(|(_, bytes)| **bytes).map(|(path, _)| path.clone());
        most.inspect(|path| _ = self.0.remove(path))
    }

    /// A file is synced as a whole.
    fn forget(&mut self, path: &str) {
        self.0.remove(path);
    }
}

/// Syncs a file that was put aside, if it is still there; it goes when that fails, as with [`sync_all`].
fn sync_aside(shared: &Shared, path: &str) -> Result<(), DiskError> {
    let full = shared.path(path);
    match File::open(&full).and_then(|file| file.sync_data()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            let _ = std::fs::remove_file(full);
            Err(io_error("sync", path, &e))
        }
        _ => Ok(()),
    }
}

/// Syncs files that were put aside, and their names.
fn sync_files(shared: &Shared, paths: &[String]) -> Result<(), DiskError> {
    for path in paths {
        sync_aside(shared, path)?;
    }
    let dirs: BTreeSet<PathBuf> =
        paths.iter().filter_map(|path| shared.path(path).parent().map(Path::to_path_buf)).collect();
    dirs.iter().try_for_each(|dir| shared.sync_dir(dir))
}

/// Writes into a file that nobody else writes; whoever put it there reads it back before it is relied on.
fn put_at(shared: &Shared, path: &str, pos: u64, bytes: &Bytes) -> Result<(), DiskError> {
    let full = shared.path(path);
    let error = |what: &str, e: &std::io::Error| io_error(what, path, e);
    if let Some(dir) = full.parent().filter(|d| !d.exists()) {
        std::fs::create_dir_all(dir).map_err(|e| error("create the directory of", &e))?;
    }
    let file = File::options().write(true).create(true).truncate(false).open(&full);
    let written = file.and_then(|file| file.write_all_at(bytes, pos));
    shared.count_written(bytes.len() as u64);
    written.map_err(|e| error("write", &e))
}

/// Every file of a directory, its own name and those in it. When a sync fails the directory goes: what was not
/// written still reads as if it were, and no later sync would say so, but a next start would go on with it.
fn sync_all(shared: &Shared, path: &str) -> Result<(), DiskError> {
    let full = shared.path(path);
    let synced = sync_each(shared, path, &full);
    if synced.is_err() {
        let _ = std::fs::remove_dir_all(full);
    }
    synced
}

fn sync_each(shared: &Shared, path: &str, full: &Path) -> Result<(), DiskError> {
    let error = |what: &str, e: &std::io::Error| io_error(what, path, e);
    for entry in std::fs::read_dir(full).map_err(|e| error("list", &e))? {
        let file = entry.map_err(|e| error("list", &e))?.path();
        File::open(file).and_then(|file| file.sync_data()).map_err(|e| error("sync a file of", &e))?;
    }
    full.ancestors().take_while(|d| d.starts_with(shared.root())).try_for_each(|dir| shared.sync_dir(dir))
}

/// Removes a directory so that a power cut does not bring it back.
fn remove_dir(shared: &Shared, path: &str) -> Result<(), DiskError> {
    let full = shared.path(path);
    match std::fs::remove_dir_all(&full) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("remove", path, &e)),
    }
    full.parent().map_or(Ok(()), |above| shared.sync_dir(above))
}

/// Makes a used file as long as those of the pool.
fn lengthen(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    let mut missing = FILE_BYTES.saturating_sub(file.metadata()?.len());
    while missing > 0 {
        let piece = usize::try_from(missing).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all(&ZEROS[..piece])?;
        missing -= piece as u64;
    }
    Ok(())
}

/// Which of the `ready` files, (changed, path), to let go: the oldest of those beyond the `made` ones, while they
/// are older than `late` or the pool is larger than the `free` space.
fn superfluous(mut ready: Vec<(i64, PathBuf)>, made: u64, late: i64, mut free: u64) -> Vec<PathBuf> {
    ready.sort_unstable();
    let mut left = ready.len() as u64;
    let needless = |(changed, _): &(i64, PathBuf)| {
        let goes = left > made && (*changed <= late || left * FILE_BYTES > free);
        left -= u64::from(goes);
        free += if goes { FILE_BYTES } else { 0 };
        goes
    };
    let gone = ready.into_iter().take_while(needless);
    gone.take(AT_ONCE).map(|(_, path)| path).collect()
}

/// A file of the pool that is being written.
struct Making {
    file: File,
    path: PathBuf,
    filled: u64,
}

/// How fast the writer writes.
struct Load {
    written: u64,
    at: Instant,
    /// Bytes per second.
    rate: u64,
}

pub(super) struct Background {
    shared: Arc<Shared>,
    pool_bytes: u64,
    sink: Sink,
    making: Option<Making>,
    /// The pool may not be full.
    wanted: bool,
    load: Load,
    searched: Instant,
    unsynced: Unsynced,
}

impl Background {
    pub(super) fn new(shared: Arc<Shared>, pool_bytes: u64, sink: Sink) -> Background {
        let load = Load { written: 0, at: Instant::now(), rate: 0 };
        let searched = Instant::now();
        // What a process that died had not finished.
        let pool = std::fs::read_dir(shared.path(POOL)).into_iter().flatten().flatten();
        for file in pool.map(|e| e.path()).filter(|path| !is_ready(path)) {
            let _ = std::fs::remove_file(file);
        }
        let unsynced = Unsynced::default();
        Background { shared, pool_bytes, sink, making: None, wanted: false, load, searched, unsynced }
    }

    /// Jobs first; the pool when there is none.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let _ = std::fs::remove_dir_all(self.shared.path(TRASH));
        loop {
            self.let_go();
            let job = match self.next_step() {
                Some(wait) => jobs.recv_timeout(wait),
                None => jobs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(job) => self.carry_out(job),
                Err(mpsc::RecvTimeoutError::Timeout) => self.step(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, job: Job) {
        match job {
            Job::Put { .. } => job.put(&self.shared, &self.sink),
            Job::PutAt { path, pos, bytes, token } => {
                let put = self.shared.check().and_then(|()| put_at(&self.shared, &path, pos, &bytes));
                let result = put.and_then(|()| match self.unsynced.add(&path, bytes.len() as u64) {
                    Some(due) => sync_aside(&self.shared, &due),
                    None => Ok(()),
                });
                self.put_done(token, result);
            }
            Job::SyncDir { path, token } => {
                let result = self.shared.check().and_then(|()| sync_all(&self.shared, &path));
                self.put_done(token, result);
            }
            Job::SyncFiles { paths, token } => {
                paths.iter().for_each(|path| self.unsynced.forget(path));
                let result = self.shared.check().and_then(|()| sync_files(&self.shared, &paths));
                self.put_done(token, result);
            }
            Job::RemoveDir(path, token) => {
                self.shared.maps().remove_below(&format!("{path}/"));
                self.shared.readers().remove_below(&format!("{path}/"));
                // What is left is an orphan directory of a deleted group.
                let result = remove_dir(&self.shared, &path);
                guard(&self.sink)(Completion::Removed { token, result });
            }
            Job::Recycle(path) => self.recycle(&path),
            Job::Unlink(path) => _ = std::fs::remove_file(self.shared.path(&path)),
            Job::FillPool => self.wanted = true,
        }
    }

    fn put_done(&self, token: OpToken, result: Result<(), DiskError>) {
        if let Err(error) = &result
            && error.kind == DiskErrorKind::Io
        {
            self.shared.fail(error);
        }
        guard(&self.sink)(Completion::Put { token, result });
    }

    /// Whether the pool may have one file more than it has, where it is to have `most` bytes.
    fn room(&self, most: impl FnOnce(u64) -> u64) -> bool {
        let with_it = (self.shared.pool_files() + 1) * FILE_BYTES;
        let left = |total: u64| (total / 20).min(8 * self.pool_bytes);
        let spare = |&(free, total): &(u64, u64)| free > 2 * self.pool_bytes + left(total);
        self.shared.space().filter(spare).is_some_and(|(free, _)| with_it <= most(free))
    }

    /// Used files cost nothing to keep, so there may be as many as there is free space besides.
    fn recycle(&self, path: &str) {
        let used: PathBuf = self.shared.path(path);
        let kept = self.room(|free| free.max(self.pool_bytes)) && lengthen(&used).is_ok();
        if !kept || self.shared.add_to_pool(&used).is_err() {
            let _ = std::fs::remove_file(&used);
        }
    }

    /// Lets go of files that nobody took in time, and of those whose space is needed.
    fn let_go(&mut self) {
        if self.shared.beyond(self.pool_bytes) == 0 || self.searched.elapsed() < SEARCH {
            return;
        }
        self.searched = Instant::now();
        let changed = |path: PathBuf| Some((std::fs::metadata(&path).ok()?.ctime(), path));
        let ready = self.shared.ready().filter_map(changed).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let late = i64::try_from(now.saturating_sub(KEPT).as_secs()).unwrap_or(0);
        let free = self.shared.space().map_or(0, |(free, _)| free);
        for path in superfluous(ready, self.pool_bytes / FILE_BYTES, late, free) {
            let _ = self.shared.take_from_pool(|| std::fs::remove_file(&path));
        }
    }

    /// When the next piece of the pool is to be written.
    fn next_step(&mut self) -> Option<Duration> {
        if !self.wanted {
            return (self.shared.beyond(self.pool_bytes) > 0)
                .then(|| SEARCH.saturating_sub(self.searched.elapsed()));
        }
        let elapsed = self.load.at.elapsed();
        if elapsed >= LOOK {
            let written = self.shared.written();
            let per_ms =
                (written - self.load.written) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1);
            self.load = Load { written, at: Instant::now(), rate: per_ms * 1000 };
        }
        Some(if self.load.rate == 0 { Duration::ZERO } else { PAUSE })
    }

    /// Writes a piece of the next file, unless the disk is needed for what somebody waits for.
    fn step(&mut self) {
        if !self.wanted || self.load.rate > BUSY {
            return;
        }
        if self.fill().is_err() {
            self.wanted = false;
            if let Some(making) = self.making.take() {
                // Without room there is no pool, which only costs time.
                let _ = std::fs::remove_file(making.path);
            }
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let Some(making) = &mut self.making else {
            self.wanted = self.room(|_| self.pool_bytes);
            if self.wanted {
                self.making = Some(self.begin()?);
            }
            return Ok(());
        };
        making.file.write_all(&ZEROS)?;
        // Synced piece by piece: whoever commits the file system's journal meanwhile waits for one piece at most.
        making.file.sync_data()?;
        making.filled += ZEROS.len() as u64;
        if making.filled < FILE_BYTES {
            return Ok(());
        }
        self.making.take().map_or(Ok(()), |done| self.shared.add_to_pool(&done.path))
    }

    fn begin(&mut self) -> std::io::Result<Making> {
        std::fs::create_dir_all(self.shared.path(POOL))?;
        let path = self.shared.path(&format!("{POOL}/{}.making", self.shared.new_name()));
        Ok(Making { file: File::create(&path)?, path, filled: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beyond_what_is_made_go_when_they_are_old_or_their_space_is_needed() {
        let pool = |changed: &[i64]| -> Vec<(i64, PathBuf)> {
            changed.iter().map(|at| (*at, PathBuf::from(at.to_string()))).collect()
        };
        let gone = |changed: &[i64], made, late, free_files: u64| -> Vec<String> {
            let gone = superfluous(pool(changed), made, late, free_files * FILE_BYTES);
            gone.iter().map(|path| path.display().to_string()).collect()
        };
        assert!(gone(&[40, 10, 30, 20], 1, 9, 4).is_empty(), "all are young, and as many would fit again");
        assert_eq!(gone(&[40, 10, 30, 20], 1, 20, 4), ["10", "20"], "the old ones");
        assert_eq!(gone(&[40, 10, 30, 20], 3, 50, 4), ["10"], "what is made ahead stays");
        // Each file that goes makes room for another.
        assert_eq!(gone(&[40, 10, 30, 20], 1, 0, 2), ["10"]);
        assert_eq!(gone(&[40, 10, 30, 20], 1, 0, 0), ["10", "20"]);
        let many: Vec<i64> = (0..1000).collect();
        assert_eq!(gone(&many, 8, 5000, 0).len(), AT_ONCE, "checkpoints wait meanwhile");
    }
}
