//! What a start makes of a disk that failed in the life before: see `disk/failure.rs`.
use crate::directory::Directory;
use crate::disk_op::{DiskError, DiskOp, DiskRead};
use model::planted::{Bug, planted};

/// A file of this name says that a write or sync failed in the last life of the directory: what was written and not
/// synced may be gone, though the machine went on.
pub const FAILED: &str = "failed";

/// Whether the disk failed in the last life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HadFailed {
    No,
    /// The note of it stays until the first round says what follows from it.
    Noted,
    Done,
}

impl HadFailed {
    pub(crate) fn look(disk: &dyn DiskRead) -> Result<HadFailed, DiskError> {
        let noted = disk.len(FAILED)?.is_some() && !planted(Bug::FailedSyncForgotten);
        Ok(if noted { HadFailed::Noted } else { HadFailed::No })
    }
}

impl Directory {
    /// Whether a write or sync failed in the last life: what was only written may be lost.
    pub fn had_failed(&self) -> bool {
        self.had_failed != HadFailed::No
    }

    /// A snapshot is durable: it says which groups may have lost something.
    pub(crate) fn failure_is_known(&mut self) {
        if self.had_failed == HadFailed::Noted {
            self.had_failed = HadFailed::Done;
            self.fx.ops.push(DiskOp::Remove { paths: vec![FAILED.to_owned()], recycle: false });
        }
    }
}
