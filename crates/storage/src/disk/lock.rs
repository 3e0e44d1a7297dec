//! One process at a time, and no process without its directory.
use super::Sink;
use super::shared::{Shared, guard, io_error};
use crate::disk_op::{Completion, DiskError, DiskErrorKind, OpToken};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // What a link points to is somebody else's file, and this one is written over.
    let open = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
    let linked = |e: &std::io::Error| e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    let mut file = match open {
        Ok(file) => file,
        Err(e) if linked(&e) => {
            let detail = format!("{shown} is a symbolic link, which is not followed: remove it");
            return Err(DiskError { kind: DiskErrorKind::Io, detail });
        }
        Err(e) => return Err(io_error("open", &shown, &e)),
    };
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
    // Over what the last holder wrote, of the same length: that needs no room on a full disk.
    match writeln!(file, "process {:<10}", std::process::id()) {
        // The text is only for messages of others.
        Err(e) if e.kind() != std::io::ErrorKind::StorageFull => Err(io_error("write", &shown, &e)),
        _ => Ok(file),
    }
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
        self.shared.lose(&error);
        guard(&self.sink)(Completion::Synced { token: UNASKED, result: Err(error), micros: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (root, precious) = (dir.path().join("data"), dir.path().join("precious"));
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&precious, root.join("lock")).unwrap();
        for there in [false, true] {
            if there {
                std::fs::write(&precious, "mine").unwrap();
            }
            let refused = take(&root).unwrap_err().detail;
            assert!(refused.contains("lock is a symbolic link"), "{refused}");
            assert_eq!(precious.exists(), there);
        }
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    }

    #[test]
    fn who_holds_the_lock_stays_written_there() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path()).unwrap();
        let refused = take(dir.path()).unwrap_err().detail;
        assert!(refused.contains(&format!("is in use by process {}", std::process::id())), "{refused}");
        let written = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(written, format!("process {:<10}\n", std::process::id()));
        drop(held);
    }
}
