//! Checkpoints of a log, moves of its start, and which files they let go.
use crate::checkpoint::{AppliedPoint, BaseFile, Checkpoint, EpochStart, Replica, checkpoint_name, encode};
use crate::disk_op::DiskOp;
use crate::fx::{PutKind, StorageFx};
use crate::log::Log;
use crate::segment::{Segment, index_name, is_cleaned, log_name};
use crate::sparse_index::IndexedFile;
use bytes::Bytes;
use model::Now;
use proto::storage::TermRun;

/// A checkpoint on its way to disk, and what becomes true when it is there.
#[derive(Clone, Debug)]
pub(crate) struct PendingCheckpoint {
    index: u64,
    /// Its bytes, until everything it stands for is durable.
    held: Option<Bytes>,
    first_index: u64,
    /// Base files that it does not list: removed when it is durable.
    let_go: usize,
    /// So many of the files that compaction replaced are not in it.
    replaced: usize,
    pub(crate) covered_bytes: u64,
}

/// A start reads this much of a group without being asked to wait.
const WORTH_A_CHECKPOINT: u64 = 16 << 10;

/// Checkpoints kept: the older one serves when the newer is damaged.
const KEPT: usize = 2;

impl Log {
    /// A committed move of the log start. Files wholly below go after the next checkpoint is durable;
    /// `wants_checkpoint` says so.
    pub fn apply_log_start(&mut self, offset: i64, fx: &mut StorageFx) {
        if offset <= self.log_start {
            return;
        }
        self.log_start = offset.min(self.next_offset);
        self.epochs.trim(self.log_start);
        if self.log_start == self.next_offset && self.active.as_deref().is_some_and(|a| a.segment.has_data())
        {
            self.roll(fx);
        }
        self.forget_damage_below();
    }

    /// The committed log start, from the entries after the checkpoint that a start read back.
    pub fn restore_log_start(&mut self, offset: i64) {
        self.log_start = offset.clamp(self.log_start, self.next_offset);
        self.epochs.trim(self.log_start);
        self.forget_damage_below();
    }

    fn forget_damage_below(&mut self) {
        let below = |s: &Segment| s.next_offset <= self.log_start;
        let gone: Vec<String> =
            self.segments.iter().filter(|s| below(s)).map(|s| self.path(&s.name())).collect();
        self.base_damage.retain(|d| !gone.contains(&d.file));
    }

    /// Sealed files at the front, up to `upto`, that lie wholly below the log start.
    fn deletable(&self, upto: u64) -> usize {
        if self.pinned.is_some() {
            return 0;
        }
        let gone = |s: &&Segment| s.next_offset <= self.log_start && s.end_index <= upto;
        self.segments.iter().take_while(gone).count()
    }

    /// First index of the window after a checkpoint at `at`: files to delete leave it, and the oldest leave
    /// it while it is too large.
    fn window_start(&self, at: u64) -> u64 {
        let mut first = self.first_index;
        let mut window: u64 = self.all_segments().filter(|s| s.first_index >= first).map(|s| s.size).sum();
        for s in self.segments.iter().filter(|s| s.first_index >= self.first_index) {
            let deleted = s.next_offset <= self.log_start;
            let most = at.min(self.commit).min(self.pinned.unwrap_or(u64::MAX));
            if s.end_index > most
                || !(deleted || window > self.cfg.window_bytes || self.leaves_for_cleaning(s))
            {
                break;
            }
            window -= s.size;
            first = s.end_index + 1;
        }
        first
    }

    /// Whether a checkpoint is due: enough bytes, files to let go, or the window too large.
    pub fn wants_checkpoint(&self) -> bool {
        self.pending_checkpoint.is_none()
            && (self.uncheckpointed_bytes >= self.cfg.checkpoint_bytes
                || self.deletable(self.commit) > 0
                || self.window_start(self.commit) > self.first_index
                || self.wants_relisting())
    }

    /// Whether a clean stop should take a checkpoint: so much was appended since the last one that the next
    /// start would notice reading it. Ten thousand checkpoints of next to nothing would make the stop slow.
    pub fn checkpoint_is_stale(&self) -> bool {
        self.uncheckpointed_bytes >= self.cfg.checkpoint_bytes.min(WORTH_A_CHECKPOINT)
    }

    /// Takes a checkpoint at `at`, for [`Log::put_checkpoint`] to write. `false`: one is being written, or
    /// `at` is not where one can be taken (below the commit index, or inside a file that is sealed already);
    /// ask again later.
    pub fn checkpoint(
        &mut self,
        producers: Bytes,
        machine: Bytes,
        members: Vec<Replica>,
        at: AppliedPoint,
    ) -> bool {
        if self.pending_checkpoint.is_some() || at.index <= self.checkpoint_index && !self.wants_checkpoint()
        {
            return false;
        }
        let Some((chain, active)) = self.point_at(at.index) else { return false };
        assert_eq!(Some(at.term), self.term(at.index), "the applied point is in this log");
        let first_index = self.window_start(at.index);
        let let_go = self.deletable(at.index.min(self.commit));
        let row = |s: &Segment| s.to_row();
        let kept = &self.segments[let_go..];
        let (before_term, before_chain, before_offset) = self.before(first_index);
        let mut checkpoint = Checkpoint {
            index: at.index,
            term: at.term,
            chain,
            next_offset: at.next_offset,
            log_start: self.log_start,
            members,
            epochs: self
                .epochs
                .rows()
                .iter()
                .map(|(epoch, start)| EpochStart { epoch: *epoch, start_offset: *start })
                .collect(),
            files: kept.iter().filter(|s| s.end_index < first_index).map(row).collect(),
            producers,
            machine,
            first_index,
            prev_term: before_term,
            prev_chain: before_chain,
            first_offset: before_offset,
            terms: self.terms_between(first_index, at.index),
            window_files: kept
                .iter()
                .filter(|s| s.first_index >= first_index && s.end_index <= at.index)
                .map(row)
                .collect(),
            active_index: active.as_ref().map_or_else(Bytes::new, |a| self.active_index(a)),
            active,
            ..Checkpoint::default()
        };
        self.compaction_into(&mut checkpoint);
        let held = Some(encode(self.key, &checkpoint));
        let covered_bytes = self.uncheckpointed_bytes;
        self.pending_checkpoint = Some(PendingCheckpoint {
            index: at.index,
            held,
            first_index,
            let_go,
            replaced: self.replaced_so_far(),
            covered_bytes,
        });
        true
    }

    /// Whether a checkpoint waits for [`Log::put_checkpoint`].
    pub fn holds_checkpoint(&self) -> bool {
        self.pending_checkpoint.as_ref().is_some_and(|p| p.held.is_some())
    }

    /// Writes the checkpoint that was taken, once entries up to its index are durable: with `write.caching`
    /// that is later than they were applied. The end is [`crate::DirEvent::CheckpointDone`]; hand it to
    /// `checkpoint_done`.
    pub fn put_checkpoint(&mut self, durable_index: u64, fx: &mut StorageFx) {
        let pending = self.pending_checkpoint.as_mut().filter(|p| p.index <= durable_index);
        let Some((index, bytes)) = pending.and_then(|p| Some((p.index, p.held.take()?))) else { return };
        fx.put(self.path(&checkpoint_name(index)), bytes, PutKind::Checkpoint(self.key, index));
    }

    /// Chain value at `index`, and the file being written as it was there.
    fn point_at(&self, index: u64) -> Option<(u32, Option<BaseFile>)> {
        if let Some(sealed) = self.segments.iter().rev().find(|s| s.end_index == index) {
            return Some((sealed.end_chain, None));
        }
        let Some(active) = self.active.as_deref() else {
            return (index == self.last_index).then_some((self.last_chain, None));
        };
        if active.segment.end_index == index {
            return Some((active.segment.end_chain, Some(active.segment.to_row())));
        }
        let point = self.points.iter().find(|p| p.end_index == index)?;
        (point.first_index == active.segment.first_index).then(|| (point.end_chain, Some(point.to_row())))
    }

    fn active_index(&self, active: &BaseFile) -> Bytes {
        let current = self.active.as_deref().filter(|a| !a.partly_indexed);
        let Some(current) = current else { return Bytes::new() };
        let mut index = current.index.clone();
        index.cut(active.size);
        index.encode(&IndexedFile {
            first_index: active.first_index,
            first_offset: active.first_offset,
            size: active.size,
            end_chain: active.end_chain,
        })
    }

    /// Term, chain value and next offset before `first_index`, the first of the window.
    fn before(&self, first_index: u64) -> (u64, u32, i64) {
        match self.segments.iter().find(|s| s.end_index + 1 == first_index) {
            Some(s) => (s.end_term, s.end_chain, s.next_offset),
            None => (self.term(first_index - 1).unwrap_or(0), self.prev_chain, self.first_offset),
        }
    }

    fn terms_between(&self, first: u64, last: u64) -> Vec<TermRun> {
        let runs = self.terms.iter().filter(|(index, _)| *index >= first && *index <= last);
        let mut out: Vec<TermRun> =
            runs.map(|(index, term)| TermRun { index: *index, term: *term }).collect();
        if first <= last && out.first().is_none_or(|r| r.index > first) {
            out.insert(0, TermRun { index: first, term: self.term(first).unwrap_or(0) });
        }
        out
    }

    /// The checkpoint at `index` is durable (`ok`) or failed: files that it lets go are removed.
    pub fn checkpoint_done(&mut self, index: u64, ok: bool, fx: &mut StorageFx) {
        let Some(pending) = self.pending_checkpoint.take_if(|p| p.index == index) else { return };
        if !ok {
            return;
        }
        self.checkpoint_index = index;
        self.uncheckpointed_bytes -= pending.covered_bytes;
        let (term, chain, offset) = self.before(pending.first_index);
        self.leave_window(pending.first_index, term);
        self.prev_chain = chain;
        self.first_offset = offset;
        let gone: Vec<u64> = self.segments.drain(..pending.let_go).map(|s| s.number()).collect();
        self.remove_files(&gone, true, fx);
        if self.checkpoint_files.last() != Some(&index) {
            self.checkpoint_files.push(index);
        }
        let old = self.checkpoint_files.len().saturating_sub(KEPT);
        let old: Vec<String> = self
            .checkpoint_files
            .drain(..old)
            .map(|i| format!("{}/{}", self.dir, checkpoint_name(i)))
            .collect();
        if !old.is_empty() {
            fx.ops.push(DiskOp::Remove { paths: old, recycle: false });
        }
        self.relisted(index, pending.replaced, fx);
    }

    fn leave_window(&mut self, first_index: u64, term: u64) {
        if first_index == self.first_index {
            return;
        }
        self.first_index = first_index;
        self.terms.retain(|(index, _)| *index >= first_index);
        self.terms.insert(0, (first_index - 1, term));
    }

    /// Removes data files by their numbers, and what indexes them.
    pub(crate) fn remove_files(&self, gone: &[u64], recycle: bool, fx: &mut StorageFx) {
        if gone.is_empty() {
            return;
        }
        // The pool has files of one size; compaction's may be of any.
        let (cleaned, plain): (Vec<u64>, Vec<u64>) = gone.iter().partition(|number| is_cleaned(**number));
        for (numbers, recycle) in [(plain, recycle), (cleaned, false)] {
            if !numbers.is_empty() {
                let paths = numbers.iter().map(|number| self.path(&log_name(*number))).collect();
                fx.ops.push(DiskOp::Remove { paths, recycle });
            }
        }
        let paths = gone.iter().map(|first| self.path(&index_name(*first))).collect();
        fx.ops.push(DiskOp::Remove { paths, recycle: false });
    }

    /// The log start that retention wants (a committed command should set it): whole files only, below
    /// `upto`. -1 stands for no limit.
    pub fn retention_start(
        &self,
        now: Now,
        retention_ms: i64,
        retention_bytes: i64,
        upto: i64,
    ) -> Option<i64> {
        let live = |s: &&Segment| s.next_offset > self.log_start && s.size > 0;
        let mut left: u64 = self.all_segments().filter(live).map(|s| s.size).sum();
        let mut start = None;
        for s in self.all_segments().filter(live) {
            left -= s.size;
            let sealed = self.active.as_deref().is_none_or(|a| a.segment.first_index != s.first_index);
            let expired = retention_ms >= 0
                && (sealed || s.has_data())
                && now.wall.saturating_sub(s.retention_time()) > retention_ms;
            let too_much = sealed && u64::try_from(retention_bytes).is_ok_and(|limit| left >= limit);
            if s.next_offset > upto || !(expired || too_much) {
                break;
            }
            start = Some(s.next_offset);
        }
        start.filter(|s| *s > self.log_start)
    }
}
