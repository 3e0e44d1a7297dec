//! Compaction of one partition: what it may touch, and the horizon that its leader commits. docs/compaction.md.
//!
//! Every replica cleans its own files when it likes. What deletes a key, or ends a transaction, goes only below a
//! horizon that stands in the log, so replicas agree on it across every change of the leader.
use crate::api::PartitionFx;
use crate::partition::{Partition, Phase};
use crate::summary::Proposer;
use crate::transactions::AbortedTransaction;
use model::{Now, WallMs};
use proto::partition::{CleanHorizon, command};
use storage::{AbortedRange, CleanBounds, CleanEnd, CleanInput, CleanJob, CleanStats, Directory, Dirtiness};

/// How a topic is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleaningConfig {
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

impl Partition {
    /// The rules, where this replica has files to clean at all.
    fn cleaning(&self) -> Option<CleaningConfig> {
        self.cfg.cleaning.filter(|_| self.cfg.compact && self.phase == Phase::Running && !self.is_witness())
    }

    fn clean_bounds(&self, rules: &CleaningConfig, now: WallMs) -> CleanBounds {
        let (min_lag_ms, max_lag_ms) = (rules.min_lag_ms, rules.max_lag_ms);
        CleanBounds { now, upto: self.last_stable_offset(), min_lag_ms, max_lag_ms }
    }

    /// How much of the log is new to compaction, and whether it is time for a pass; `None` where it is not compacted.
    pub fn dirtiness(&self, now: WallMs) -> Option<(Dirtiness, bool)> {
        let rules = self.cleaning()?;
        let found = self.log.dirtiness(&self.clean_bounds(&rules, now));
        Some((found, found.wants(rules.min_dirty_ratio)))
    }

    /// The committed horizon: see [`storage::Log::clean_horizon`].
    pub fn clean_horizon(&self) -> i64 {
        self.log.clean_horizon()
    }

    /// Begins a pass with so much memory for keys; at its end [`Partition::cleaned`].
    pub fn begin_clean(&mut self, now: Now, map_bytes: u64, dir: &mut Directory) -> Option<CleanJob> {
        let rules = self.cleaning()?;
        let aborted = self.aborted_transactions(self.log_start(), self.last_stable_offset());
        let aborted = aborted.map(|AbortedTransaction { producer_id, first_offset, last_offset }| {
            AbortedRange { producer_id, first_offset, last_offset }
        });
        let input = CleanInput {
            bounds: self.clean_bounds(&rules, now.wall),
            delete_retention_ms: rules.delete_retention_ms,
            map_bytes,
            aborted: aborted.collect(),
            producers: self.producers.last_offsets().collect(),
        };
        self.log.begin_clean(input, dir.fx())
    }

    /// Whether this is the pass that goes on here: see [`storage::CleanRun::id`].
    pub fn is_cleaning(&self, id: u64) -> bool {
        self.log.is_cleaning(id)
    }

    /// A pass has ended. A leader has the horizon committed that it asks for. `None`: it was void.
    pub fn cleaned(
        &mut self,
        now: Now,
        job: CleanJob,
        end: &CleanEnd,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> Option<CleanStats> {
        let cleaned = self.log.cleaned(job, end, dir.fx())?;
        if let Some(offset) = cleaned.horizon.filter(|_| self.leader_epoch().is_some()) {
            // Refused means busy: the next pass asks again.
            let kind = command::Kind::CleanHorizon(CleanHorizon { offset });
            let _ = self.propose_kind(now, kind, Proposer::Nobody, dir);
            self.pump(now, dir, fx);
        }
        Some(cleaned.stats)
    }
}
