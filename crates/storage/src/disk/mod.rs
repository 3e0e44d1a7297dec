//! The one real disk: threads over files of one data directory. The only place that touches a file system,
//! and (in `reader.rs`, for index files) the only one with `unsafe`.
//!
//! | thread | does |
//! |---|---|
//! | the caller's | small writes, while nothing waits for the writer (`lane.rs`) |
//! | writer | every other [`DiskOp`] in order, but for the rest of this table |
//! | syncer and its workers | [`DiskOp::Sync`]: fdatasync side by side, or one syncfs |
//! | flusher | each [`DiskOp::Sync`] that is behind, beside the syncer's |
//! | background | [`DiskOp::Put`] below the root, [`DiskOp::RemoveDir`], filling the pool, unlinking |
//! | readers | [`DiskOp::Recover`] |
//!
//! The first error of a write or sync is kept: everything after it fails, nothing is tried again. Only lack
//! of space heals. A directory that is removed or replaced under the process counts as such an error (`lock.rs`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The one place for files, threads and clocks.
mod background;
mod buffers;
mod failure;
mod lane;
mod lock;
mod reader;
mod shared;
mod syncer;
mod writer;

use crate::disk_op::{Completion, DiskError, DiskErrorKind, DiskOp, DiskRead};
use crate::read::{ExtractError, Extracted, FileRange};
use shared::{Shared, io_error};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

/// Settings of the real disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// `log.pool.bytes`: how much pre-written space is kept for files that are written to often. Made in the
    /// background as soon as one is asked for; 0 turns it off. Used files are kept beyond it, for ten minutes
    /// and as many as there is free space besides. None is kept unless twice as much, and a twentieth of the file
    /// system (at most eight times as much), is free.
    pub pool_bytes: u64,
    /// Below this much free space (or a twentieth of the file system, whichever is less) clients' appends are
    /// to be refused: [`Completion::Space`].
    pub reserve_bytes: u64,
    /// Threads for recoveries.
    pub readers: usize,
    /// Files kept open by writing; as many again by reading. 0: a quarter of the process's limit.
    pub open_files: usize,
    /// The caller's thread must not wait for the medium, because others take it for dead then: while a flush runs (a
    /// [`DiskOp::Sync`] that is behind), every write goes to the writer's. It may wait for the journal.
    pub prompt: bool,
}

impl Default for DiskOptions {
    fn default() -> DiskOptions {
        DiskOptions {
            pool_bytes: 256 << 20,
            reserve_bytes: 256 << 20,
            readers: 2,
            open_files: 0,
            prompt: false,
        }
    }
}

/// A data directory on a file system, locked for this process.
pub struct RealDisk {
    ops: Option<lane::Lane>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The directory was not there before.
    made: bool,
    _lock: std::fs::File,
}

impl std::fmt::Debug for RealDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RealDisk").field("root", &self.shared.root()).finish_non_exhaustive()
    }
}

/// Where completions go; called from several threads, one at a time.
pub(crate) type Sink = Arc<Mutex<Box<dyn Fn(Completion) + Send>>>;

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DiskError> {
    std::thread::Builder::new()
        .name(format!("disk-{name}"))
        .spawn(run)
        .map_err(|e| io_error("start a thread for", name, &e))
}

impl RealDisk {
    /// Creates `root` if need be, locks it and starts the threads. `sink` gets every completion.
    /// Errors: the directory cannot be used, or another process holds it (the text says which).
    pub fn open(
        root: &Path,
        options: DiskOptions,
        sink: Box<dyn Fn(Completion) + Send>,
    ) -> Result<RealDisk, DiskError> {
        if root.is_file() {
            let detail = format!("{} is a file: a data directory is needed", root.display());
            return Err(DiskError { kind: DiskErrorKind::Io, detail });
        }
        let made = !root.exists();
        std::fs::create_dir_all(root).map_err(|e| io_error("create", &root.display().to_string(), &e))?;
        let lock = lock::take(root)?;
        failure::recall(root)?;
        let shared = Arc::new(Shared::new(root, &options)?);
        let sink: Sink = Arc::new(Mutex::new(sink));
        let (sync_jobs, syncer_in) = mpsc::channel();
        let (flush_jobs, flusher_in) = mpsc::channel();
        let (background_jobs, background_in) = mpsc::channel();
        let (recoveries, recoveries_in) = mpsc::channel();
        let recoveries_in = Arc::new(Mutex::new(recoveries_in));
        let mut threads = Vec::new();
        let presence = lock::Presence::new(shared.clone(), sink.clone(), &lock)?;
        let out = writer::Out { sink: sink.clone(), sync_jobs, flush_jobs, background_jobs, recoveries };
        let prompt = options.prompt.then(|| shared.clone());
        let (ops, queue) =
            lane::lane(writer::Writer::new(shared.clone(), options.clone(), out), presence, prompt);
        threads.push(spawn("writer", move || queue.run())?);
        let syncer = syncer::Syncer::start(shared.clone(), sink.clone())?;
        threads.push(spawn("syncer", move || syncer.run(&syncer_in))?);
        let flusher = syncer::Syncer::behind(shared.clone(), sink.clone())?;
        threads.push(spawn("flusher", move || flusher.run(&flusher_in))?);
        let background = background::Background::new(shared.clone(), options.pool_bytes, sink.clone());
        threads.push(spawn("background", move || background.run(&background_in))?);
        for _ in 0..options.readers.max(1) {
            let (jobs, shared, sink) = (recoveries_in.clone(), shared.clone(), sink.clone());
            threads.push(spawn("reader", move || reader::recoveries(&jobs, &shared, &sink))?);
        }
        Ok(RealDisk { ops: Some(ops), shared, threads, made, _lock: lock })
    }

    /// Gives up a directory into which nothing was written: if it was not there before, it is not there after.
    pub fn abandon(self) {
        let (made, shared) = (self.made, self.shared.clone());
        // Its threads may be putting space aside.
        drop(self);
        if made {
            // What is in it all the same keeps it.
            for name in ["lock", "ballast"] {
                let _ = std::fs::remove_file(shared.path(name));
            }
            let _ = std::fs::remove_dir(shared.root());
        }
    }

    /// Takes an operation. A small write is carried out at once, into the page cache; where that turns out
    /// to wait for the medium, and for everything else, another thread does it.
    pub fn submit(&self, op: DiskOp) {
        if let Some(ops) = &self.ops {
            ops.submit(op);
        }
    }

    /// For reading from any thread, beside everything else.
    pub fn reader(&self) -> Arc<dyn DiskRead + Send + Sync> {
        self.shared.clone()
    }

    /// As [`crate::read_range`], but `None` where it would have to wait for the medium.
    pub fn try_read_range(&self, range: &FileRange) -> Option<Result<Extracted, ExtractError>> {
        reader::try_read_range(&self.shared, range)
    }

    /// Files that wait in the pool for use, 32 MiB each.
    pub fn pool_files(&self) -> u64 {
        self.shared.pool_files()
    }

    /// Free and total bytes of the file system; `None` where it does not say.
    pub fn space(&self) -> Option<(u64, u64)> {
        self.shared.space()
    }
}

impl Drop for RealDisk {
    /// Carries out what was submitted, then ends the threads.
    fn drop(&mut self) {
        self.ops = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to wait for.
            let _ = thread.join();
        }
    }
}

/// Read access to a directory that nobody has open (tools): no lock, no threads.
pub fn offline(root: &Path) -> Result<Arc<dyn DiskRead + Send + Sync>, DiskError> {
    Ok(Arc::new(Shared::new(root, &DiskOptions::default())?))
}

#[cfg(test)]
mod tests;
