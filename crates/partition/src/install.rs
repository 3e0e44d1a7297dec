//! A replica that is brought up from another one's checkpoint, as its partition sees it: who needs what, and what
//! follows when it is there.
use crate::api::PartitionFx;
use crate::partition::{Partition, Phase};
use model::{NodeId, Now};
use storage::{Directory, FileRange};

impl Partition {
    /// Index and term of the newest checkpoint on disk; `None` before the first.
    pub fn newest_checkpoint(&self) -> Option<(u64, u64)> {
        let index = self.log.newest_checkpoint()?;
        Some((index, self.log.term(index)?))
    }

    /// Whether a checkpoint at `index` of `term` of another replica holds more than this replica has. Where the entry
    /// is here already everything after it may have been acknowledged, and the rest comes by way of raft.
    pub fn is_behind(&self, index: u64, term: u64) -> bool {
        self.phase == Phase::Running && !self.group.is_leader() && self.group.is_behind(index, term)
    }

    /// Whether it may be replaced as a whole though it is not behind: it runs, and does not lead.
    pub fn may_be_replaced(&self) -> bool {
        self.phase == Phase::Running && !self.group.is_leader()
    }

    /// Gives up the lead, if it has it, and does not campaign again: it is damaged, and nobody else can be brought to
    /// where it is.
    pub fn stand_down(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        self.stands_down = true;
        self.group.stand_down();
        self.pump(now, dir, fx);
    }

    /// A replica that cannot be opened is in a later term: a leader of an earlier one gives way to one of a later.
    pub fn hear_term(&mut self, now: Now, term: u64, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        self.group.hear_term(term);
        self.pump(now, dir, fx);
    }

    /// The replica on `node` holds everything up to `last_index`: on a leader, it is sent what follows.
    pub fn on_installed(
        &mut self,
        now: Now,
        node: NodeId,
        last_index: u64,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        let replica = self.member_on(node).map(|m| m.id);
        if let Some(replica) = replica.filter(|_| self.phase == Phase::Running) {
            self.group.on_installed(replica, last_index);
        }
        self.pump(now, dir, fx);
    }

    /// Part of a file of a checkpoint, for another replica: see [`storage::Log::file_range`].
    pub fn file_range(&self, checkpoint: u64, file: u64, pos: u64, len: u32) -> Option<FileRange> {
        self.log.file_range(checkpoint, file, pos, len)
    }

    /// Keeps what a checkpoint stands for while it is being sent; `None` ends it.
    pub fn pin(&mut self, checkpoint: Option<u64>) {
        self.log.pin(checkpoint);
    }
}
