//! What nobody waits for on the way to an acknowledgement: checkpoints, deletions, the pool.
use super::Sink;
use super::shared::{Shared, guard, io_error};
use crate::config::FILE_BYTES;
use crate::disk_op::{Completion, DiskError, DiskErrorKind, OpToken};
use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// Bytes written at once while a file of the pool is made.
const FILL: usize = 1 << 20;

pub(super) enum Job {
    Put { path: String, bytes: Bytes, token: OpToken, durable: bool },
    RemoveDir(String),
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

pub(super) struct Background {
    shared: Arc<Shared>,
    pool_bytes: u64,
    sink: Sink,
    made: u64,
}

impl Background {
    pub(super) fn new(shared: Arc<Shared>, pool_bytes: u64, sink: Sink) -> Background {
        Background { shared, pool_bytes, sink, made: 0 }
    }

    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        self.tidy();
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Put { .. } => job.put(&self.shared, &self.sink),
                Job::RemoveDir(path) => {
                    self.shared.maps().remove_below(&format!("{path}/"));
                    self.shared.readers().remove_below(&format!("{path}/"));
                    // What is left is an orphan directory of a deleted group.
                    let _ = std::fs::remove_dir_all(self.shared.path(&path));
                }
                Job::Recycle(path) => self.recycle(&path),
                Job::Unlink(path) => _ = std::fs::remove_file(self.shared.path(&path)),
                Job::FillPool => self.fill(jobs),
            }
        }
    }

    /// What a process that died left behind.
    fn tidy(&self) {
        let _ = std::fs::remove_dir_all(self.shared.path("trash"));
        let pool = std::fs::read_dir(self.shared.path("pool")).into_iter().flatten().flatten();
        for file in pool.map(|e| e.path()).filter(|p| p.extension().is_some()) {
            let _ = std::fs::remove_file(file);
        }
    }

    fn ready(&self) -> u64 {
        let pool = std::fs::read_dir(self.shared.path("pool"));
        pool.map_or(0, |dir| dir.flatten().filter(|e| e.path().extension().is_none()).count() as u64)
    }

    fn room(&self) -> bool {
        let spare = self.shared.space().is_some_and(|(free, total)| free > 2 * self.pool_bytes + total / 20);
        (self.ready() + 1) * FILE_BYTES <= self.pool_bytes && spare
    }

    fn recycle(&self, path: &str) {
        let used: PathBuf = self.shared.path(path);
        if !self.room() || std::fs::rename(&used, used.with_extension("")).is_err() {
            let _ = std::fs::remove_file(&used);
        }
    }

    /// Writes files ahead until the pool is full; other jobs go first.
    fn fill(&mut self, jobs: &mpsc::Receiver<Job>) {
        while self.room() {
            if self.fill_one().is_err() {
                return;
            }
            match jobs.try_recv() {
                Ok(Job::FillPool) | Err(mpsc::TryRecvError::Empty) => {}
                Ok(job @ Job::Put { .. }) => job.put(&self.shared, &self.sink),
                Ok(Job::RemoveDir(path)) => _ = std::fs::remove_dir_all(self.shared.path(&path)),
                Ok(Job::Recycle(path)) => self.recycle(&path),
                Ok(Job::Unlink(path)) => _ = std::fs::remove_file(self.shared.path(&path)),
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }

    fn fill_one(&mut self) -> std::io::Result<()> {
        std::fs::create_dir_all(self.shared.path("pool"))?;
        self.made += 1;
        let name = format!("pool/new-{}-{}", std::process::id(), self.made);
        let making = self.shared.path(&format!("{name}.making"));
        let mut file = File::create(&making)?;
        let zeros = vec![0u8; FILL];
        for _ in 0..FILE_BYTES / FILL as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_data()?;
        std::fs::rename(&making, self.shared.path(&name))
    }
}
