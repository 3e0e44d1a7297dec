//! What is done beside the files of groups: installs and compaction.
use super::{PendingWrite, SimDisk, error, overlay};
use bytes::Bytes;
use storage::{Completion, DiskErrorKind, DiskOp, OpToken};

impl SimDisk {
    /// What is done beside the files of groups.
    pub(super) fn aside(&mut self, op: DiskOp) -> Option<Completion> {
        match op {
            DiskOp::PutAt { path, pos, bytes, token } => Some(self.put_at(path, pos as usize, &bytes, token)),
            DiskOp::SyncDir { path, token } => Some(self.sync_dir(&format!("{path}/"), token)),
            DiskOp::SyncFiles { paths, token } => Some(self.sync_files(&paths, token)),
            DiskOp::Clean { mut job, token } => {
                let step = job.step(self);
                let done = storage::compact::CleanedAside { job: *job, step };
                Some(Completion::Cleaned { token, done: Box::new(done) })
            }
            DiskOp::Look { job, token } => {
                let result = Box::new(storage::install::look(&job, self));
                Some(Completion::Looked { token, result })
            }
            _ => None,
        }
    }

    fn put_at(&mut self, path: String, pos: usize, bytes: &Bytes, token: OpToken) -> Completion {
        let id = match self.names.get(&path) {
            Some(id) => *id,
            None => {
                let id = self.take_inode(false);
                self.link(path.clone(), id);
                id
            }
        };
        let grows = self.inodes.get(&id).map_or(0, |i| (pos + bytes.len()).saturating_sub(i.live.len()));
        let taken = self.take_room(grows);
        if taken < grows {
            self.give_room(taken);
            return Completion::Put { token, result: Err(error(DiskErrorKind::Full, &path)) };
        }
        self.seq += 1;
        if let Some(inode) = self.inodes.get_mut(&id) {
            overlay(&mut inode.live, pos, bytes);
            inode.pending.push(PendingWrite { seq: self.seq, pos, bytes: bytes.to_vec() });
        }
        Completion::Put { token, result: Ok(()) }
    }

    fn sync_dir(&mut self, prefix: &str, token: OpToken) -> Completion {
        let inside = self.names.iter().filter(|(name, _)| name.starts_with(prefix));
        let inodes: Vec<u64> = inside.map(|(_, inode)| *inode).collect();
        if std::mem::take(&mut self.fail_next_sync) {
            self.faults.failed_syncs += 1;
            self.forget_dirty(&inodes, u64::MAX);
            let gone: Vec<String> =
                self.names.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
            gone.iter().for_each(|name| self.remove(name, false));
            return Completion::Put { token, result: Err(error(DiskErrorKind::Io, "sync")) };
        }
        self.make_durable(&inodes, u64::MAX);
        self.flush_names(self.journal.len());
        Completion::Put { token, result: Ok(()) }
    }

    fn sync_files(&mut self, paths: &[String], token: OpToken) -> Completion {
        let inodes: Vec<u64> = paths.iter().filter_map(|path| self.names.get(path).copied()).collect();
        if std::mem::take(&mut self.fail_next_sync) {
            self.faults.failed_syncs += 1;
            self.forget_dirty(&inodes, u64::MAX);
            paths.iter().for_each(|path| self.remove(path, false));
            return Completion::Put { token, result: Err(error(DiskErrorKind::Io, "sync")) };
        }
        self.make_durable(&inodes, u64::MAX);
        self.flush_names(self.journal.len());
        Completion::Put { token, result: Ok(()) }
    }
}
