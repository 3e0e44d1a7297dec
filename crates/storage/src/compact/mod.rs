//! Compaction: of each key the last record alone is kept, and offsets stay as they are. docs/compaction.md.
//!
//! It touches the base only: sealed files that have left the window, wholly committed and below the last stable
//! offset. Their remains go into new files beside them; the next checkpoint names these instead, and that is the step
//! that counts. `job.rs` is one pass, `judge.rs` the rules, `run.rs` what carries a pass out; what a log knows is here.
mod job;
mod judge;
mod offset_map;
mod run;
mod walk;

use crate::checkpoint::Checkpoint;
use crate::fx::{PutKind, StorageFx};
use crate::log::Log;
use crate::segment::Segment;
pub use job::{CleanEnd, CleanJob, CleanStats, CleanStep};
use job::{CleanStart, Output, Source};
use judge::Judge;
pub use judge::{AbortedRange, RecordCounts};
use model::{Offset, ProducerId, WallMs};
pub use run::{CleanProgress, CleanRun, CleanedAside};
use std::collections::{BTreeMap, BTreeSet};
pub(crate) use walk::FileWalk;

/// A file that is put together of several is no larger, whatever `segment.bytes` allows.
const MOST_MERGED: u64 = 1 << 30;

/// Which files may be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanBounds {
    /// The clock, ms.
    pub now: WallMs,
    /// The last stable offset: no transaction is open below it.
    pub upto: Offset,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
}

/// What a pass needs to know beside the log.
#[derive(Clone, Debug)]
pub struct CleanInput {
    /// Which files.
    pub bounds: CleanBounds,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// Bytes of memory for the keys: `log.cleaner.dedupe.buffer.size` for each thread.
    pub map_bytes: u64,
    /// The transactions that were aborted, as far as the log goes back.
    pub aborted: Vec<AbortedRange>,
    /// The last offset of each producer's last batch: such a batch stays, empty if need be.
    pub producers: BTreeMap<ProducerId, Offset>,
}

/// How much of a log is new to compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirtiness {
    /// Bytes of files that a pass would look at for the first time.
    pub dirty_bytes: u64,
    /// Bytes of files before them.
    pub clean_bytes: u64,
    /// `max.compaction.lag.ms` has passed for some of it.
    pub overdue: bool,
}

impl Dirtiness {
    /// The new part of all that may be cleaned.
    pub fn ratio(&self) -> f64 {
        let all = self.dirty_bytes + self.clean_bytes;
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }

    /// Whether it is time for a pass, as Kafka judges it.
    pub fn wants(&self, min_ratio: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.ratio() > min_ratio)
    }
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// What it did.
    pub stats: CleanStats,
    /// Propose this horizon: what deletes below it has had its time, and waits for that alone.
    pub horizon: Option<Offset>,
}

/// A file that another took the place of.
#[derive(Debug)]
struct Replaced {
    segment: Segment,
    /// The first checkpoint on disk that does not name it.
    since: Option<u64>,
}

/// What compaction has come to in one log.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// The keys of everything below were looked at.
    clean_offset: Offset,
    /// Where the first file begins that a pass has left out: what is above was not held against it. When everything can
    /// be read again, the keys from there on are looked at anew.
    skipped_from: Option<Offset>,
    /// Committed: what deletes may go below it.
    horizon: Offset,
    next_generation: u32,
    /// The pass that goes on.
    running: Option<u64>,
    replaced: Vec<Replaced>,
    /// Files that end at or below leave the window, whatever it holds.
    leaves_upto: u64,
    /// Files that cannot be cleaned, and why.
    quarantined: BTreeMap<u64, String>,
}

impl Compaction {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Option<Compaction> {
        let found = Compaction {
            clean_offset: checkpoint.clean_offset,
            skipped_from: (checkpoint.clean_skipped > 0).then(|| checkpoint.clean_skipped - 1),
            horizon: checkpoint.clean_horizon,
            next_generation: checkpoint.next_clean,
            ..Compaction::default()
        };
        let fresh = (found.clean_offset, found.horizon, found.next_generation) == (0, 0, 0);
        (!fresh).then_some(found)
    }
}

impl Log {
    fn compaction(&mut self) -> &mut Compaction {
        self.compaction.get_or_insert_default()
    }

    /// The offset up to which compaction has looked at every key.
    pub fn clean_offset(&self) -> Offset {
        self.compaction.as_ref().map_or(0, |c| c.clean_offset).max(self.log_start)
    }

    /// The committed horizon: what deletes (tombstones, markers) stays above it.
    pub fn clean_horizon(&self) -> Offset {
        self.compaction.as_ref().map_or(0, |c| c.horizon)
    }

    /// A committed move of the horizon.
    pub fn apply_clean_horizon(&mut self, offset: Offset) {
        if offset > self.clean_horizon() {
            self.compaction().horizon = offset;
        }
    }

    /// The files that cannot be cleaned, with the reason: passes go on without them until the next start.
    pub fn uncleanable(&self) -> impl Iterator<Item = &str> {
        self.compaction.iter().flat_map(|c| c.quarantined.values()).map(String::as_str)
    }

    /// Whether this is the pass that goes on: see [`CleanRun::id`].
    pub fn is_cleaning(&self, id: u64) -> bool {
        self.compaction.as_ref().is_some_and(|c| c.running == Some(id))
    }

    /// What is sealed now leaves the window when it is committed, so that it can be cleaned: it is old enough.
    pub fn leave_window_for_cleaning(&mut self) {
        let upto = self.segments.last().map_or(0, |s| s.end_index);
        if upto >= self.first_index {
            self.compaction().leaves_upto = upto;
        }
    }

    /// Whether a file of the window is to leave it for that.
    pub(crate) fn leaves_for_cleaning(&self, s: &Segment) -> bool {
        self.compaction.as_ref().is_some_and(|c| s.end_index <= c.leaves_upto)
    }

    /// Writes what compaction has come to into a checkpoint.
    pub(crate) fn compaction_into(&self, checkpoint: &mut Checkpoint) {
        if let Some(c) = &self.compaction {
            checkpoint.clean_offset = c.clean_offset;
            checkpoint.clean_skipped = c.skipped_from.map_or(0, |offset| offset + 1);
            checkpoint.clean_horizon = c.horizon;
            checkpoint.next_clean = c.next_generation;
        }
    }

    /// The offset from which the next pass looks at keys.
    fn map_from(&self) -> Offset {
        let clean = self.clean_offset();
        let Some(c) = &self.compaction else { return clean };
        let readable = c.quarantined.is_empty() && self.base_damage.is_empty();
        c.skipped_from.filter(|_| readable).map_or(clean, |from| from.min(clean).max(self.log_start))
    }

    /// The files of the base that may be cleaned, up to the first that may not.
    fn cleanable(&self, bounds: &CleanBounds) -> &[Segment] {
        let base =
            self.segments.partition_point(|s| s.end_index < self.first_index && s.end_index <= self.commit);
        let late = |s: &Segment| {
            s.next_offset > bounds.upto
                || bounds.min_lag_ms > 0 && s.max_timestamp > bounds.now.saturating_sub(bounds.min_lag_ms)
        };
        let base = &self.segments[..base];
        let gone = base.partition_point(|s| s.next_offset <= self.log_start);
        let end = base.iter().position(late).unwrap_or(base.len());
        &base[gone.min(end)..end]
    }

    /// Whether a pass leaves this file out.
    fn is_bad(&self, s: &Segment) -> bool {
        let path = self.path(&s.name());
        self.compaction.as_ref().is_some_and(|c| c.quarantined.contains_key(&s.number()))
            || self.base_damage.iter().any(|d| d.file == path)
    }

    /// How much of the log is new to compaction.
    pub fn dirtiness(&self, bounds: &CleanBounds) -> Dirtiness {
        let clean_offset = self.map_from();
        let (mut found, mut before) = (Dirtiness::default(), None);
        for s in self.cleanable(bounds) {
            if s.next_offset <= clean_offset {
                found.clean_bytes += s.size;
            } else if !self.is_bad(s) {
                // Its first record is no older than the last one before it.
                let oldest = before.unwrap_or(i64::MIN);
                found.overdue |=
                    bounds.max_lag_ms < i64::MAX && bounds.now.saturating_sub(bounds.max_lag_ms) > oldest;
                found.dirty_bytes += s.size;
            }
            before = Some(s.max_append_time);
        }
        found
    }

    /// Begins a pass over everything that may be cleaned; at its end [`Log::cleaned`]. `None`: there is nothing new, or
    /// a pass goes on, or files are being sent to another replica.
    pub fn begin_clean(&mut self, input: CleanInput, fx: &mut StorageFx) -> Option<CleanJob> {
        if self.pinned.is_some() || self.compaction.as_ref().is_some_and(|c| c.running.is_some()) {
            return None;
        }
        let (mut sources, mut adjoins, mut barrier) = (Vec::new(), true, Offset::MAX);
        for s in self.cleanable(&input.bounds) {
            if self.is_bad(s) {
                adjoins = false;
                barrier = barrier.min(s.first_offset);
                continue;
            }
            sources.push(Source { segment: s.clone(), adjoins });
            adjoins = true;
        }
        let from = self.map_from();
        let end = sources.last().map(|s| s.segment.next_offset).filter(|end| *end > from)?;
        let mut aborted: BTreeMap<ProducerId, Vec<AbortedRange>> = BTreeMap::new();
        input.aborted.into_iter().for_each(|one| aborted.entry(one.producer_id).or_default().push(one));
        let judge = Judge {
            now: input.bounds.now,
            delete_retention_ms: input.delete_retention_ms,
            end,
            horizon: self.clean_horizon(),
            barrier,
            aborted,
            producers: input.producers,
            open: BTreeSet::new(),
            undecided: Offset::MAX,
            waiting: 0,
            counts: RecordCounts::default(),
        };
        let (id, limit) = (fx.token().0, self.cfg.segment_bytes.min(MOST_MERGED));
        let compaction = self.compaction();
        compaction.running = Some(id);
        compaction.next_generation = compaction.next_generation.max(1);
        let next_generation = compaction.next_generation;
        let (key, dir, map_bytes) = (self.key, self.dir.clone(), input.map_bytes);
        Some(CleanJob::new(CleanStart {
            id,
            key,
            dir,
            sources,
            from,
            limit,
            next_generation,
            map_bytes,
            judge,
        }))
    }

    /// A pass has ended, `end` as its last step said; where that is [`CleanEnd::Done`] every new file is durable. The
    /// new files take the place of the old ones, which stay on disk for as long as a checkpoint there names them:
    /// [`Log::wants_checkpoint`]. `None`: the pass was void, and left nothing.
    pub fn cleaned(&mut self, mut job: CleanJob, end: &CleanEnd, fx: &mut StorageFx) -> Option<Cleaned> {
        let compaction = self.compaction();
        if compaction.running != Some(job.id) {
            return None;
        }
        compaction.running = None;
        compaction.next_generation = compaction.next_generation.max(job.next_generation());
        if let CleanEnd::Damaged(number, damage) = end {
            compaction.quarantined.insert(*number, damage.to_string());
        }
        let done = *end == CleanEnd::Done && job.outputs.iter().all(|output| self.place_of(output).is_some());
        if !done {
            job.give_up();
        }
        let useless = std::mem::take(&mut job.useless);
        if !useless.is_empty() {
            fx.ops.push(crate::DiskOp::Remove { paths: useless, recycle: false });
        }
        if !done {
            return None;
        }
        let (stats, horizon, end, barrier) = (job.stats(), job.wanted_horizon(), job.end(), job.barrier());
        job.outputs.into_iter().for_each(|output| self.swap(output, fx));
        let compaction = self.compaction();
        compaction.clean_offset = compaction.clean_offset.max(end);
        compaction.skipped_from = match compaction.skipped_from {
            before if barrier < Offset::MAX => Some(before.map_or(barrier, |from| from.min(barrier))),
            // It was looked at from there on, as far as the map had room.
            Some(_) if end < compaction.clean_offset => Some(end),
            _ => None,
        };
        Some(Cleaned { stats, horizon })
    }

    /// Where the files are that a new one replaces. Retention may have removed one of them: then those that are left
    /// stay as they are, with all others of the pass, because what deletes in a later one may have been let go.
    fn place_of(&self, output: &Output) -> Option<usize> {
        let at = self.segments.iter().position(|s| Some(s.number()) == output.sources.first().copied())?;
        let found = self.segments[at..].iter().take(output.sources.len()).map(Segment::number);
        found.eq(output.sources.iter().copied()).then_some(at)
    }

    fn swap(&mut self, output: Output, fx: &mut StorageFx) {
        let Some(at) = self.place_of(&output) else { return };
        let Output { sources, segment, index } = output;
        // Readers at the tail would get from memory what is gone.
        if let Some(tail) = &self.tail {
            tail.forget_below(segment.next_offset);
        }
        let bytes = index.encode(&segment.indexed());
        fx.put(self.path(&segment.index_name()), bytes, PutKind::Index);
        let old: Vec<Segment> = self.segments.splice(at..at + sources.len(), [segment]).collect();
        let old = old.into_iter().map(|segment| Replaced { segment, since: None });
        self.compaction().replaced.extend(old);
    }

    /// Files that are there still and that others took the place of.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = &Segment> {
        self.compaction.iter().flat_map(|c| &c.replaced).map(|r| &r.segment)
    }

    /// How many of them a checkpoint that is taken now does not name.
    pub(crate) fn replaced_so_far(&self) -> usize {
        self.compaction.as_ref().map_or(0, |c| c.replaced.len())
    }

    /// What a start found of them.
    pub(crate) fn restore_replaced(&mut self, found: Vec<Segment>) {
        if let Some(newest) = self.checkpoint_files.last().copied().filter(|_| !found.is_empty()) {
            let replaced = found.into_iter().map(|segment| Replaced { segment, since: Some(newest) });
            self.compaction().replaced.extend(replaced);
        }
    }

    /// Whether a checkpoint would let go of files that were replaced.
    pub(crate) fn wants_relisting(&self) -> bool {
        let newer = self.commit > self.checkpoint_index;
        let waits = |r: &Replaced| r.since.is_none() || newer;
        self.pinned.is_none() && self.compaction.as_ref().is_some_and(|c| c.replaced.iter().any(waits))
    }

    /// A checkpoint is durable that does not name the first `count` of those files. They go when no checkpoint on disk
    /// names them.
    pub(crate) fn relisted(&mut self, index: u64, count: usize, fx: &mut StorageFx) {
        let oldest = self.checkpoint_files.first().copied().unwrap_or(index);
        let pinned = self.pinned.is_some();
        let Some(compaction) = &mut self.compaction else { return };
        compaction.replaced.iter_mut().take(count).for_each(|r| _ = r.since.get_or_insert(index));
        if pinned {
            return;
        }
        let goes = |r: &mut Replaced| r.since.is_some_and(|since| since <= oldest);
        let gone: Vec<u64> = compaction.replaced.extract_if(.., goes).map(|r| r.segment.number()).collect();
        self.remove_files(&gone, false, fx);
    }
}
