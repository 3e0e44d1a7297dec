//! Reading: positioned reads of data files, maps of index files, recoveries.
use super::Sink;
use super::shared::{Shared, guard, io_error};
use crate::compact::{CleanJob, CleanedAside};
use crate::disk_op::{Completion, DiskError, DiskErrorKind, DiskRead, OpToken};
use crate::install::{AsideJob, look};
use crate::read::{ExtractError, Extracted, FileRange, read_range};
use crate::recovery::{RecoverJob, recover};
use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use std::cell::Cell;
use std::fs::File;
use std::io::IoSliceMut;
use std::sync::{Arc, Mutex, mpsc};

/// Bytes read at once: with what is done to them they stay in the cache of one core.
const STEP: usize = 128 << 10;

/// What is read beside everything else.
pub(super) enum ReadJob {
    Recover(Box<RecoverJob>),
    Look(Box<AsideJob>),
    Clean(Box<CleanJob>),
}

/// Recovers groups until the disk closes.
pub(super) fn recoveries(jobs: &Mutex<mpsc::Receiver<(OpToken, ReadJob)>>, shared: &Shared, sink: &Sink) {
    loop {
        let job = guard(jobs).recv();
        let Ok((token, job)) = job else { return };
        let done = match job {
            ReadJob::Recover(job) => Completion::Recovered { token, result: Box::new(recover(&job, shared)) },
            ReadJob::Clean(mut job) => {
                let step = job.step(shared);
                Completion::Cleaned { token, done: Box::new(CleanedAside { job: *job, step }) }
            }
            ReadJob::Look(job) => Completion::Looked { token, result: Box::new(look(&job, shared)) },
        };
        guard(sink)(done);
    }
}

impl Shared {
    fn open_for_reading(&self, path: &str) -> Result<Arc<File>, DiskError> {
        let mut readers = self.readers();
        if let Some(file) = readers.get(path) {
            return Ok(file);
        }
        let file = Arc::new(File::open(self.path(path)).map_err(|e| io_error("open", path, &e))?);
        if path.ends_with(".log") {
            // A file that is being read stays in the table: it must not be recycled under its reader.
            readers.insert(path, file.clone(), |file| Arc::strong_count(file) == 1);
        }
        Ok(file)
    }

    /// Maps an index file. It is whole or absent: replaced by rename only, never cut short.
    #[allow(unsafe_code)]
    fn map_index(&self, path: &str) -> Option<Bytes> {
        let file = File::open(self.path(path)).ok()?;
        if file.metadata().ok()?.len() == 0 {
            return None;
        }
        // SAFETY: index files are written under a temporary name and renamed; no code of ours truncates or
        // writes one after that, and the lock keeps other processes of ours out of the directory.
        let map = unsafe { memmap2::Mmap::map(&file) }.ok()?;
        Some(Bytes::from_owner(map))
    }
}

impl DiskRead for Shared {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let entries = match std::fs::read_dir(self.path(dir)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("list", dir, &e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| io_error("list", dir, &e))?;
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        match std::fs::metadata(self.path(path)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("look at", path, &e)),
        }
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        self.read_in_steps(path, pos, len, &mut |_| ())
    }

    fn read_in_steps(
        &self,
        path: &str,
        pos: u64,
        len: usize,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<Bytes, DiskError> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let file = self.open_for_reading(path)?;
        let (mut out, mut filled) = (self.buffers.take(len), 0);
        while filled < len {
            let upto = len.min(filled + STEP);
            match rustix::io::pread(&*file, &mut out[filled..upto], pos + filled as u64) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    seen(&out[..filled]);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io_error("read", path, &e.into())),
            }
        }
        Ok(self.buffers.lend(out, filled))
    }

    fn index(&self, path: &str) -> Option<Bytes> {
        if let Some(map) = self.maps().get(path) {
            return Some(map);
        }
        let map = self.map_index(path).filter(|bytes| crate::index_is_whole(bytes))?;
        self.maps().insert(path, map.clone(), |_| true);
        Some(map)
    }

    fn offer_index(&self, path: &str, bytes: Bytes) {
        let full = self.path(path);
        let temporary = full.with_extension("rebuilt.tmp");
        // A hint: where it cannot be kept on disk it serves from memory until then.
        let _ = std::fs::write(&temporary, &bytes).and_then(|()| std::fs::rename(&temporary, &full));
        self.maps().insert(path, bytes, |_| true);
    }
}

/// Reads what is in the page cache and gives up at the first byte that is not.
struct Cached<'a> {
    shared: &'a Shared,
    waits: Cell<bool>,
}

impl Cached<'_> {
    fn would_wait(&self) -> DiskError {
        self.waits.set(true);
        DiskError { kind: DiskErrorKind::Io, detail: "not in memory".to_string() }
    }
}

impl DiskRead for Cached<'_> {
    fn list(&self, _: &str) -> Result<Vec<String>, DiskError> {
        Err(self.would_wait())
    }

    fn len(&self, _: &str) -> Result<Option<u64>, DiskError> {
        Err(self.would_wait())
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        self.read_in_steps(path, pos, len, &mut |_| ())
    }

    fn read_in_steps(
        &self,
        path: &str,
        pos: u64,
        len: usize,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<Bytes, DiskError> {
        let file = self.shared.open_for_reading(path)?;
        let mut out = self.shared.buffers.take(len);
        let mut filled = 0;
        while filled < len {
            let upto = len.min(filled + STEP);
            let mut slices = [IoSliceMut::new(&mut out[filled..upto])];
            let read = rustix::io::preadv2(&*file, &mut slices, pos + filled as u64, ReadWriteFlags::NOWAIT);
            if read != Ok(upto - filled) {
                return Err(self.would_wait());
            }
            filled = upto;
            seen(&out[..filled]);
        }
        Ok(self.shared.buffers.lend(out, filled))
    }

    fn index(&self, path: &str) -> Option<Bytes> {
        let map = self.shared.maps().get(path);
        if map.is_none() {
            self.waits.set(true);
        }
        map
    }
}

/// See [`super::RealDisk::try_read_range`].
pub(super) fn try_read_range(shared: &Shared, range: &FileRange) -> Option<Result<Extracted, ExtractError>> {
    let cached = Cached { shared, waits: Cell::new(false) };
    if let Some((index, _)) = &range.index {
        cached.index(index)?;
    }
    let result = read_range(&cached, range);
    if cached.waits.get() { None } else { Some(result) }
}
