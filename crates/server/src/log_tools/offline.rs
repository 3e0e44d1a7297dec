//! A data directory that is only read.
use anyhow::{Context, bail};
use bytes::Bytes;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use storage::{DiskError, DiskErrorKind, DiskRead};

/// A directory of files; nothing below it is ever written.
pub(super) struct Offline {
    root: PathBuf,
}

/// A data directory, held against a broker's start for as long as this lives.
pub(super) struct DataDir {
    pub(super) disk: Offline,
    _lock: Option<File>,
}

impl DataDir {
    /// Opens a data directory; refuses one that a broker uses, whose files change under the reader.
    pub(super) fn open(root: &Path) -> anyhow::Result<DataDir> {
        if !is_data_dir(root) {
            bail!("{}: no data directory (it has neither meta nor groups){}", root.display(), hint(root));
        }
        let lock = match File::open(root.join("lock")) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(root.join("lock").display().to_string()),
            Ok(file) => Some(file),
        };
        match lock.as_ref().map(File::try_lock_shared) {
            None | Some(Ok(())) => {}
            Some(Err(TryLockError::WouldBlock)) => {
                bail!("{}: a broker uses this directory; stop it first", root.display())
            }
            Some(Err(TryLockError::Error(error))) => return Err(error.into()),
        }
        Ok(DataDir { disk: Offline::new(root), _lock: lock })
    }
}

/// Whether a broker's data is here.
pub(super) fn is_data_dir(root: &Path) -> bool {
    root.join("meta").exists() || root.join("groups").exists()
}

/// What was probably meant by a path inside a data directory.
fn hint(path: &Path) -> String {
    let above = path.ancestors().skip(1).find(|above| is_data_dir(above));
    above.map_or_else(String::new, |above| {
        format!("\n  {} has; --only NAME picks partitions of it", above.display())
    })
}

impl Offline {
    pub(super) fn new(root: &Path) -> Offline {
        Offline { root: root.to_path_buf() }
    }

    fn fail(&self, what: &str, path: &str, error: &std::io::Error) -> DiskError {
        let kind =
            if error.kind() == ErrorKind::NotFound { DiskErrorKind::NotFound } else { DiskErrorKind::Io };
        DiskError { kind, detail: format!("{what} {}: {error}", self.root.join(path).display()) }
    }
}

impl DiskRead for Offline {
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let entries = match std::fs::read_dir(self.root.join(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fail("list", dir, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.fail("list", dir, &error))?;
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn len(&self, path: &str) -> Result<Option<u64>, DiskError> {
        match std::fs::metadata(self.root.join(path)) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fail("look at", path, &error)),
        }
    }

    fn read(&self, path: &str, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let fail = |error: std::io::Error| self.fail("read", path, &error);
        let file = File::open(self.root.join(path)).map_err(fail)?;
        let left = file.metadata().map_err(fail)?.len().saturating_sub(pos);
        let mut bytes = vec![0; len.min(usize::try_from(left).unwrap_or(usize::MAX))];
        file.read_exact_at(&mut bytes, pos).map_err(fail)?;
        Ok(bytes.into())
    }
}
