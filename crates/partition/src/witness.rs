//! A partition with a witness: what the witness does without, and whom its leader waits for before it tells the
//! witness anything (docs/replication.md, "Witness").
use crate::api::PartitionConfig;
use crate::partition::Partition;
use crate::producer_state::ProducerState;
use crate::summary::Steps;
use crate::watermark::Watermarks;
use model::Now;
use std::sync::Arc;
use storage::{FileSource, LogConfig};

/// A witness runs no machine, syncs whatever it acknowledges, and has files of next to nothing.
fn bare(cfg: &PartitionConfig) -> PartitionConfig {
    let log = LogConfig { files: FileSource::New, ..cfg.log.clone() };
    PartitionConfig { log, machine: false, write_caching: false, ..cfg.clone() }
}

impl Partition {
    /// This replica is a witness. Call it at once after [`Partition::open`].
    pub fn be_witness(&mut self) {
        self.group.be_witness();
        // It has begin marks and no markers: what it knew of producers would never end.
        self.producers = ProducerState::default();
        self.unapplied.iter_mut().for_each(|summary| summary.steps = Steps::default());
        self.marks = Watermarks::new(self.marks.high(), self.marks.log_start(), None);
        self.set_config(Arc::clone(&self.cfg));
    }

    /// Whether this replica is one.
    pub fn is_witness(&self) -> bool {
        self.group.is_witness()
    }

    /// The settings that hold for this replica.
    pub(crate) fn fitted(&self, cfg: Arc<PartitionConfig>) -> Arc<PartitionConfig> {
        if self.is_witness() { Arc::new(bare(&cfg)) } else { cfg }
    }

    /// Messages to witnesses that this leader holds back.
    pub fn held_back(&self) -> usize {
        self.group.held_back()
    }

    /// Witnesses among those that vote.
    pub(crate) fn voting_witnesses(&self) -> usize {
        let members = self.group.membership();
        if !members.has_witness() {
            return 0;
        }
        self.group.voters().iter().filter(|id| members.is_witness(**id)).count()
    }

    /// A witness is sent what every data replica has that counts as in sync, see [`crate::in_sync`]: on a leader,
    /// finds out which these are. Whether something is let go by that.
    pub(crate) fn look_at_witnesses(&mut self, now: Now) -> bool {
        if !self.group.membership().has_witness() {
            return false;
        }
        let (last, lag) = (self.group.last_index(), self.cfg.replica_lag_ms);
        let voters = self.group.voters();
        let mut awaited = Vec::new();
        for member in self.group.members() {
            if member.id == self.replica_id || member.witness || !voters.contains(&member.id) {
                continue;
            }
            let live = !self.is_down(member.id);
            if self.in_sync.waits_for(now.mono, member.id, live, last, lag) {
                awaited.push(member.id);
            }
        }
        let lets_go = self.group.await_replicas(awaited);
        self.in_sync.note_released(self.group.released_index());
        lets_go
    }

    /// A witness keeps no records: all that is applied lies behind its log start, so that files go with the next
    /// checkpoints.
    pub(crate) fn forget_records(&mut self, dir: &mut storage::Directory) {
        if self.is_witness() {
            self.log.apply_log_start(self.applied.next_offset, dir.fx());
        }
    }
}
