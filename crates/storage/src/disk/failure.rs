//! What a disk that failed leaves for the next start of the same boot.
//!
//! After a failed sync Linux takes the pages for clean: nobody writes them again, and their memory may be used for
//! something else at any time. So what was acknowledged from the page cache may be gone though the machine went on,
//! and no boot id tells. The note need not be durable: a loss of power is noticed by the boot id.
use super::shared::io_error;
use crate::disk_op::DiskError;
use crate::failed::FAILED;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Files in memory that live as long as the boot: where a file system that failed takes no file any more.
const MEMORY: &str = "/dev/shm";

fn in_memory(memory: &Path, root: &Path) -> Option<PathBuf> {
    let found = std::fs::metadata(root).ok()?;
    Some(memory.join(format!("plimsoll-failed-{}-{}", found.dev(), found.ino())))
}

/// The disk under `root` failed.
pub(super) fn note(root: &Path, why: &str) {
    note_or_remember(root, Path::new(MEMORY), why);
}

fn note_or_remember(root: &Path, memory: &Path, why: &str) {
    if std::fs::write(root.join(FAILED), format!("{why}\n")).is_ok() {
        return;
    }
    // Whoever may write here may at worst have replicas catch up once more; a link of his is not followed.
    if let Some(path) = in_memory(memory, root) {
        let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    }
}

/// Moves what an earlier process could note in memory alone to where it belongs.
pub(super) fn recall(root: &Path) -> Result<(), DiskError> {
    recall_from(root, Path::new(MEMORY))
}

fn recall_from(root: &Path, memory: &Path) -> Result<(), DiskError> {
    let Some(path) = in_memory(memory, root).filter(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    let text = "the disk failed, and the file system took no note of it\n";
    std::fs::write(root.join(FAILED), text).map_err(|e| io_error("write", FAILED, &e))?;
    // One that stays has replicas catch up at each start of this boot.
    let _ = std::fs::remove_file(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_noted_in_the_directory() {
        let (root, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        recall_from(root.path(), memory.path()).unwrap();
        assert!(!root.path().join(FAILED).exists(), "nothing failed");
        note_or_remember(root.path(), memory.path(), "cannot sync");
        assert_eq!(std::fs::read_to_string(root.path().join(FAILED)).unwrap(), "cannot sync\n");
        assert_eq!(memory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_failure_that_the_directory_does_not_take_is_remembered_until_it_does() {
        let (root, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // Where a directory stands no file can be written, whoever asks.
        std::fs::create_dir(root.path().join(FAILED)).unwrap();
        note_or_remember(root.path(), memory.path(), "cannot sync");
        assert_eq!(memory.path().read_dir().unwrap().count(), 1);
        assert!(recall_from(root.path(), memory.path()).is_err(), "it must not start without knowing");
        std::fs::remove_dir(root.path().join(FAILED)).unwrap();
        recall_from(root.path(), memory.path()).unwrap();
        assert!(root.path().join(FAILED).is_file());
        assert_eq!(memory.path().read_dir().unwrap().count(), 0);
    }
}
