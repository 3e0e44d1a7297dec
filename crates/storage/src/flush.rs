//! The flush: a sync of relaxed groups (`write.caching`), for which nobody waits.
//!
//! It runs beside the rounds, so that a commit of offsets or metadata does not wait until gigabytes of batches
//! that were acknowledged long ago reach the medium. A group is in a flush or in a round, never in both.
use crate::directory::{DirEvent, Directory};
use crate::disk_op::{DiskOp, FileId, OpToken};
use crate::rounds::{Rounds, Waiting};
use model::{GroupKey, Mono, Now};
use std::collections::BTreeMap;

/// Groups that wait for a flush at most: their files are kept open.
const MOST_GROUPS: usize = 1000;

/// One that runs.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) token: OpToken,
    /// All barriers up to this one must have passed.
    barrier: OpToken,
    /// Some of it found no space, and is written again after the sync was asked for.
    pub(crate) again: bool,
    pub(crate) groups: BTreeMap<GroupKey, (Waiting, Vec<FileId>)>,
}

/// When the next one begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlushLimits {
    pub(crate) after_ms: i64,
    pub(crate) after_bytes: u64,
}

impl Rounds {
    /// When entries that wait for a flush have waited long enough.
    pub(crate) fn flush_at(&self, limits: FlushLimits) -> Option<Mono> {
        let since = self.relaxed_since.filter(|_| self.flush.is_none() && !self.stopping)?;
        let many = self.waiting.len() >= MOST_GROUPS;
        Some(if many { since } else { since.after_ms(limits.after_ms) })
    }

    /// Whether a group that must not wait is in the running flush: its round begins after it.
    pub(crate) fn flush_in_the_way(&self) -> bool {
        let Some(flush) = &self.flush else { return false };
        self.stopping || flush.groups.keys().any(|key| self.waiting.get(key).is_some_and(|w| !w.relaxed))
    }
}

impl Directory {
    fn flush_limits(&self) -> FlushLimits {
        FlushLimits { after_ms: self.cfg.relaxed_sync_ms, after_bytes: self.cfg.relaxed_sync_bytes }
    }

    /// When the next flush is due.
    pub(crate) fn flush_at(&self) -> Option<Mono> {
        let (limits, rounds) = (self.flush_limits(), &self.rounds);
        let at = rounds.flush_at(limits).filter(|_| rounds.stall.is_none())?;
        // What a round holds waits for its end, and this is asked again then.
        let held = |key| rounds.running.as_ref().is_some_and(|r| r.holds(key));
        rounds.waiting.iter().find(|(key, w)| w.relaxed && !held(**key))?;
        // Files are let go by checkpoints, which wait for this.
        let soon = self.fx.unflushed >= limits.after_bytes || self.full();
        Some(if soon { rounds.clock } else { at })
    }

    /// Begins a flush when one is due.
    pub(crate) fn flush(&mut self, now: Mono) {
        if self.flush_at().is_none_or(|at| at > now) {
            return;
        }
        self.rounds.relaxed_since = None;
        self.fx.unflushed = 0;
        let running = self.rounds.running.as_ref();
        let all = std::mem::take(&mut self.rounds.waiting);
        let (later, relaxed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(key, w)| !w.relaxed || running.is_some_and(|r| r.holds(*key)));
        if later.values().any(|w| w.relaxed) {
            self.rounds.relaxed_since = Some(now);
        }
        self.rounds.waiting = later;
        let mut groups = BTreeMap::new();
        for (key, waiting) in relaxed {
            groups.insert(key, (waiting, self.fx.dirty.remove(&key).unwrap_or_default()));
        }
        if groups.is_empty() {
            return;
        }
        let barrier = self.barrier();
        let files: Vec<FileId> = groups.values().flat_map(|(_, files)| files).copied().collect();
        self.fx.flushing.clone_from(&files);
        let token = self.fx.token();
        self.fx.ops.push(DiskOp::Sync { files, token, behind: true });
        self.rounds.flush = Some(Flush { token, barrier, again: false, groups });
    }

    /// The flush's sync ended well.
    pub(crate) fn flushed(&mut self, now: Now, micros: u64, out: &mut Vec<DirEvent>) {
        let Some(flush) = self.rounds.flush.take() else { return };
        self.fx.flushing.clear();
        if flush.again || self.rounds.barriers.iter().any(|b| b.token <= flush.barrier) {
            // Some of it found no space and was not there to be synced.
            self.wait_again(now.mono, flush);
        } else {
            let files = flush.groups.values().map(|(_, files)| files.len() as u32).sum();
            out.push(DirEvent::SyncStats { micros, files, groups: flush.groups.len() as u32, behind: true });
            for (key, (waiting, _)) in flush.groups {
                self.mark(key, &waiting);
                out.push(DirEvent::Flushed { key });
                self.rounds.marks_since.get_or_insert(now.mono);
            }
        }
        self.fx.close_retired();
    }

    fn wait_again(&mut self, now: Mono, flush: Flush) {
        for (key, (waiting, files)) in flush.groups {
            files.into_iter().for_each(|file| self.fx.note_dirty(key, file));
            self.rounds.waiting.entry(key).or_insert(waiting);
            self.rounds.relaxed_since.get_or_insert(now);
        }
    }
}
