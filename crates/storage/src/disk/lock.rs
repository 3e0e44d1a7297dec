//! One process at a time, and no process without its directory.
use super::Sink;
use super::shared::{Shared, guard, io_error};
use crate::disk_op::{Completion, DiskError, DiskErrorKind, OpToken};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the lock file is looked for.
const EVERY: Duration = Duration::from_secs(1);
/// Of no operation: counting tokens up does not get there.
const UNASKED: OpToken = OpToken(u64::MAX);

/// Locks `root`; the lock ends with the returned file. Errors name the process that holds it.
pub(super) fn take(root: &Path) -> Result<File, DiskError> {
    let path = root.join("lock");
    let shown = path.display().to_string();
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(|e| io_error("open", &shown, &e))?;
    if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK {
            return Err(io_error("lock", &shown, &e.into()));
        }
        let mut holder = String::new();
        // Only for the message: without it the holder is unknown.
        let _ = (&mut file).take(100).read_to_string(&mut holder);
        let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
        let detail = format!(
            "{} is in use by {holder}: stop it, or give this one a data directory of its own",
            root.display()
        );
        return Err(DiskError { kind: DiskErrorKind::Io, detail });
    }
    file.set_len(0).map_err(|e| io_error("truncate", &shown, &e))?;
    writeln!(file, "process {}", std::process::id()).map_err(|e| io_error("write", &shown, &e))?;
    Ok(file)
}

/// Watches that the directory is still where it was locked. Files that are open can be written and synced when
/// their directory is long removed: what is acknowledged then is gone with the process.
pub(super) struct Presence {
    shared: Arc<Shared>,
    sink: Sink,
    /// Device and inode of the lock file.
    locked: (u64, u64),
    looked: Instant,
    lost: bool,
}

impl Presence {
    pub(super) fn new(shared: Arc<Shared>, sink: Sink, lock: &File) -> Result<Presence, DiskError> {
        let found = lock.metadata().map_err(|e| io_error("look at", "lock", &e))?;
        let locked = (found.dev(), found.ino());
        Ok(Presence { shared, sink, locked, looked: Instant::now(), lost: false })
    }

    /// Fails the directory when its lock file is gone or another one: nothing is written or synced any more,
    /// and the owner is told by a failed sync, unasked.
    pub(super) fn look_now_and_then(&mut self) {
        if self.lost || self.looked.elapsed() < EVERY {
            return;
        }
        self.looked = Instant::now();
        let how = match std::fs::metadata(self.shared.path("lock")) {
            Ok(found) if (found.dev(), found.ino()) == self.locked => return,
            Ok(_) => "was replaced",
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                "was removed or moved"
            }
            // A disk that cannot say fails at its next write.
            Err(_) => return,
        };
        self.lost = true;
        let detail =
            format!("the data directory {} {how} under the running broker", self.shared.root().display());
        let error = DiskError { kind: DiskErrorKind::Io, detail };
        self.shared.fail(&error);
        guard(&self.sink)(Completion::Synced { token: UNASKED, result: Err(error), micros: 0 });
    }
}
