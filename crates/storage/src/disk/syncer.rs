//! The syncer: one sync at a time, its files side by side.
use super::shared::{Shared, guard, io_error};
use super::{Sink, spawn};
use crate::disk_op::{Completion, DiskError, OpToken};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// Files synced at once, the syncer's own included.
const PARALLEL: usize = 4;
/// From so many files on, one syncfs is cheaper where the file system is the directory's own.
const MANY: usize = 8;
/// And from so many on where it is not: thousands of syncs, one after the other, take longer than writing out
/// what others left.
const VERY_MANY: usize = 512;
/// So much that is not the job's own a syncfs may write out. What `write.caching` has left in the page cache can be a
/// gigabyte: a commit in a coordinator's log would wait for all of it.
const LITTLE: u64 = 1 << 20;

pub(super) struct SyncJob {
    pub(super) token: OpToken,
    pub(super) files: Vec<(String, Arc<File>)>,
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Bytes that it makes durable.
    pub(super) bytes: u64,
    /// Bytes of other files that wait for a later sync.
    pub(super) others: u64,
}

/// Whether one syncfs is better than syncing this many files. `own`: the file system is the directory's own.
fn all_at_once(own: bool, files: usize, others: u64) -> bool {
    files >= if own && others <= LITTLE { MANY } else { VERY_MANY }
}

type Part = (Vec<(String, Arc<File>)>, mpsc::Sender<Result<(), DiskError>>);

pub(super) struct Syncer {
    shared: Arc<Shared>,
    sink: Sink,
    root: Option<File>,
    workers: Vec<mpsc::Sender<Part>>,
    /// Nobody waits for its syncs.
    behind: bool,
}

fn sync_files(files: &[(String, Arc<File>)]) -> Result<(), DiskError> {
    files.iter().try_for_each(|(path, file)| file.sync_data().map_err(|e| io_error("sync", path, &e)))
}

impl Syncer {
    /// For syncs that somebody waits for, with its workers running; they end with it.
    pub(super) fn start(shared: Arc<Shared>, sink: Sink) -> Result<Syncer, DiskError> {
        Syncer::with_workers(shared, sink, PARALLEL - 1, false)
    }

    /// For syncs that nobody waits for: file by file.
    pub(super) fn behind(shared: Arc<Shared>, sink: Sink) -> Result<Syncer, DiskError> {
        Syncer::with_workers(shared, sink, 0, true)
    }

    fn with_workers(
        shared: Arc<Shared>,
        sink: Sink,
        count: usize,
        behind: bool,
    ) -> Result<Syncer, DiskError> {
        let mut workers = Vec::new();
        for _ in 0..count {
            let (jobs, work) = mpsc::channel::<Part>();
            spawn("sync", move || {
                while let Ok((files, done)) = work.recv() {
                    let _ = done.send(sync_files(&files));
                }
            })?;
            workers.push(jobs);
        }
        let root = File::open(shared.root()).ok();
        Ok(Syncer { shared, sink, root, workers, behind })
    }

    pub(super) fn run(self, jobs: &mpsc::Receiver<SyncJob>) {
        while let Ok(job) = jobs.recv() {
            let begun = Instant::now();
            let (token, bytes) = (job.token, job.bytes);
            if self.behind {
                self.shared.set_flushes(true);
            }
            let result = self.shared.check().and_then(|()| self.sync(job));
            if let Err(error) = &result {
                self.shared.fail(error);
            }
            if self.behind {
                self.shared.set_flushes(false);
                self.shared.end_flushing(bytes);
            }
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            guard(&self.sink)(Completion::Synced { token, result, micros });
        }
    }

    fn sync(&self, job: SyncJob) -> Result<(), DiskError> {
        let at_once = all_at_once(self.shared.own_mount, job.files.len(), job.others);
        if let Some(root) = self.root.as_ref().filter(|_| at_once) {
            return rustix::fs::syncfs(root).map_err(|e| io_error("sync", "the file system", &e.into()));
        }
        let mut files = job.files;
        let (done, results) = mpsc::channel();
        let share = files.len().div_ceil(PARALLEL);
        for worker in &self.workers {
            if files.len() <= share || share == 0 {
                break;
            }
            let part = files.split_off(files.len() - share);
            if let Err(mpsc::SendError((part, _))) = worker.send((part, done.clone())) {
                sync_files(&part)?;
            }
        }
        drop(done);
        let mut result = sync_files(&files);
        // Every part must have ended, whatever the first said.
        for part in results {
            result = result.and(part);
        }
        result?;
        job.dirs.iter().try_for_each(|dir| self.shared.sync_dir(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncfs_is_for_many_files_beside_which_little_waits() {
        assert!(all_at_once(true, MANY, LITTLE) && !all_at_once(true, MANY - 1, 0));
        assert!(!all_at_once(true, MANY, LITTLE + 1), "it would wait for what nobody asked to have synced");
        assert!(!all_at_once(false, MANY, 0) && all_at_once(false, VERY_MANY, LITTLE + 1));
    }
}
