//! What logs of one directory share: the list of operations, names for files, buffers, the cache budget.
use crate::disk_op::{DiskOp, FileId, OpToken};

/// Effects and allocators of one data directory. `ops` is drained by the caller after every call.
#[derive(Debug)]
pub struct StorageFx {
    /// What the disk is to do, in this order.
    pub ops: Vec<DiskOp>,
    next_file: u64,
    next_token: u64,
}

impl StorageFx {
    /// An empty one with `tail_cache_bytes` of cache; for tests and tools (a [`crate::Directory`] has one).
    pub fn new(_tail_cache_bytes: usize) -> StorageFx {
        StorageFx { ops: Vec::new(), next_file: 1, next_token: 1 }
    }

    pub(crate) fn file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file)
    }

    pub(crate) fn token(&mut self) -> OpToken {
        self.next_token += 1;
        OpToken(self.next_token)
    }
}
