//! One process at a time.
use super::shared::io_error;
use crate::disk_op::{DiskError, DiskErrorKind};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

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
