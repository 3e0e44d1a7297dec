//! Giving up the end of a log: a new leader's entries contradict it.
//!
//! What goes was never committed, but it may have been synced and marked. A mark under another chain value would
//! make the good entries that follow look like damage, so a lower one must be durable before the first byte is
//! overwritten and the first file removed. Until then the log ends, in memory, where it will end; what follows
//! waits at its owner. The crash points are in docs/log-format.md, "Giving up the end of a log".
use crate::directory::{DirEvent, Directory, Mark};
use crate::disk_op::{DiskOp, FileId};
use crate::fx::{Content, Retained, StorageFx};
use crate::log::{Log, LogEnd};
use crate::rounds::{Entries, Rounds, Waiting};
use crate::segment::{Active, Segment, index_name};
use model::GroupKey;
use model::planted::{Bug, planted};

/// When entries may follow those that were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Removal {
    /// At once.
    Now,
    /// Not before [`Log::lowered`] says so, at [`DirEvent::Lowered`]: a mark that is durable claims what was given
    /// up.
    Waits,
}

/// A mark that was lowered in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lowering {
    /// The round whose record says so; until it ends, what is durable may claim more.
    round: u64,
    /// The log waits for it.
    pub(crate) waits: bool,
}

impl Log {
    /// Gives up all entries above `after`, which must not be below the commit index (asserted): the log ends
    /// there from now on. Nothing of them is read, marked or told any more; entries up to `after` that are on
    /// their way are told as if they had been alone. Not before the [`DirEvent::Persisted`] of a group that
    /// [`Directory::reopened`] holds back (asserted).
    pub fn give_up_after(&mut self, after: u64, dir: &mut Directory) -> Removal {
        assert!(after >= self.commit, "what is committed is never given up");
        assert!(after <= self.last_index, "the log ends before {after}");
        let mut gone = self.waits.take().unwrap_or_default();
        if after < self.last_index {
            self.cut_above(after, &mut gone, dir.fx());
            dir.change(|dir| dir.entries_given_up(self.key, self.end(), self.checkpoint_index));
        }
        self.remove_when_lowered(gone, dir)
    }

    /// The mark may have been lowered ([`DirEvent::Lowered`]): says whether entries may follow now.
    pub fn lowered(&mut self, dir: &mut Directory) -> Removal {
        let gone = self.waits.take().unwrap_or_default();
        self.remove_when_lowered(gone, dir)
    }

    fn remove_when_lowered(&mut self, gone: Vec<u64>, dir: &mut Directory) -> Removal {
        if dir.rounds.awaits_lowering(self.key) {
            self.waits = Some(gone);
            return Removal::Waits;
        }
        // Used again by this log they would hold frames that link to the entries before, if these come back.
        self.remove_files(&gone, false, dir.fx());
        Removal::Now
    }

    /// Takes what is above `after` out of memory; files that hold nothing any more are added to `gone`.
    fn cut_above(&mut self, after: u64, gone: &mut Vec<u64>, fx: &mut StorageFx) {
        let bytes = self.size_bytes();
        if let Some(active) = self.active.take_if(|a| a.segment.first_index > after) {
            gone.push(active.segment.first_index);
            fx.abandon(self.key, active.segment.first_index, active.file);
        }
        while let Some(sealed) = self.segments.pop_if(|s| s.first_index > after) {
            gone.push(sealed.first_index);
            fx.abandon(self.key, sealed.first_index, None);
        }
        self.points.truncate(self.points.partition_point(|p| p.end_index <= after));
        self.cut_file(after, fx);
        let end = self.all_segments().last().map_or(
            // Without files the window begins, and ends, here.
            (self.first_index - 1, self.prev_chain, self.first_offset),
            |s| (s.end_index, s.end_chain, s.next_offset),
        );
        (self.last_index, self.last_chain, self.next_offset) = end;
        assert_eq!(self.last_index, after, "files follow one another without gaps");
        while self.terms.last().is_some_and(|(first, _)| *first > after) {
            self.terms.pop();
        }
        self.epochs.cut(i32::try_from(self.last_term()).unwrap_or(i32::MAX));
        self.tail = None;
        self.loose_end = false;
        self.uncheckpointed_bytes = self.uncheckpointed_bytes.saturating_sub(bytes - self.size_bytes());
        if let Some(pending) = &mut self.pending_checkpoint {
            pending.covered_bytes = pending.covered_bytes.min(self.uncheckpointed_bytes);
        }
    }

    /// The file that holds the entry `after` is written on from behind it, unless it ends there sealed.
    fn cut_file(&mut self, after: u64, fx: &mut StorageFx) {
        let point = || {
            let point = self.points.back().filter(|p| p.end_index == after);
            point.expect("every entry above the commit index has its point, and the last before them").clone()
        };
        if let Some(active) = self.active.as_deref_mut() {
            if active.segment.end_index > after {
                active.cut(point());
            }
        } else if self.segments.last().is_some_and(|s| s.end_index > after) {
            let point = point();
            self.segments.pop();
            // It is of what the file held when it was sealed.
            let paths = vec![self.path(&index_name(point.first_index))];
            fx.ops.push(DiskOp::Remove { paths, recycle: false });
            self.active = Some(Box::new(Active::again(point)));
        }
        let last: Option<&Segment> = self.all_segments().last();
        assert!(last.is_none_or(|s| s.end_index <= after), "nothing is left above");
    }
}

impl Directory {
    /// The log of `key` ends at `end` from now on, where it went on before. `checkpointed`: the index of its
    /// newest checkpoint.
    fn entries_given_up(&mut self, key: GroupKey, end: LogEnd, checkpointed: u64) {
        assert!(!self.rounds.withheld.contains(&key), "a group starts when its tail is marked");
        let written = self.unwritten_from(key).map_or(u64::MAX, |first| first - 1);
        let row = self.groups.get_mut(&key);
        let mark = row.and_then(|row| row.mark.as_mut());
        let synced = mark.as_ref().map_or(0, |mark| mark.durable_index).max(checkpointed);
        if let Some(mark) = mark.filter(|m| m.durable_index > end.index && !planted(Bug::MarkNotLowered)) {
            let LogEnd { index, chain, segment, pos } = end;
            *mark = Mark { durable_index: index, chain, segment, pos, commit: mark.commit.min(index) };
            let round = self.rounds.changed(key, true);
            self.rounds.lowering.insert(key, Lowering { round, waits: true });
        }
        for file in self.rounds.take_back(key, end, synced, written) {
            self.fx.note_dirty(key, file);
        }
        self.fx.unwritten.retain(|write| write.key != Some(key) || write.index <= end.index);
    }

    /// The oldest entry of the group of which it is not known that it reached the operating system.
    pub(crate) fn unwritten_from(&self, key: GroupKey) -> Option<u64> {
        let on_the_way = self.rounds.barriers.iter().flat_map(|b| &b.writes).chain(&self.fx.unwritten);
        let entry = |write: &&Retained| write.key == Some(key) && matches!(write.content, Content::New(_));
        on_the_way.filter(entry).map(|write| write.index).min()
    }
}

impl Rounds {
    /// Whether the lower mark of a group is not durable yet; if so, its log is told when it is.
    fn awaits_lowering(&mut self, key: GroupKey) -> bool {
        let lowering = self.lowering.get_mut(&key);
        lowering.map(|lowering| lowering.waits = true).is_some()
    }

    /// `round` is durable, and with it the lower marks that its record holds.
    pub(crate) fn lowered(&mut self, round: u64, out: &mut Vec<DirEvent>) {
        self.lowering.retain(|key, lowering| {
            let durable = lowering.round <= round;
            if durable && lowering.waits {
                out.push(DirEvent::Lowered { key: *key });
            }
            !durable
        });
    }

    /// Takes back what a group has on its way above `end`: none of it is written again, marked or told. What is
    /// at or below is told as before, once: up to `synced` it was told as persisted, up to `written` as written.
    /// Returns files that no sync covers for certain.
    fn take_back(&mut self, key: GroupKey, end: LogEnd, synced: u64, written: u64) -> Vec<FileId> {
        let mut files = Vec::new();
        // A group is in the running round or in the flush, and what waits is above that.
        let mut reached = synced;
        if let Some(running) = &mut self.running
            && running.groups.get_mut(&key).is_some_and(|w| !w.cut(end, &mut reached))
        {
            running.groups.remove(&key);
            self.behind.remove(&key);
        }
        if let Some(flush) = &mut self.flush
            && flush.groups.get_mut(&key).is_some_and(|(w, _)| !w.cut(end, &mut reached))
        {
            // Where it finds no space it is made good by those that are in it.
            files = flush.groups.remove(&key).map(|(_, files)| files).unwrap_or_default();
        }
        if self.waiting.get_mut(&key).is_some_and(|w| !w.cut(end, &mut reached)) {
            self.waiting.remove(&key);
        }
        let marked = self.running.iter_mut().flat_map(|running| &mut running.marked);
        for (_, index) in marked.chain(&mut self.to_mark).filter(|(k, _)| *k == key) {
            *index = (*index).min(end.index);
        }
        if let Some(behind) = self.behind.get_mut(&key) {
            *behind = (*behind).min(end.index);
        }
        let mut reached = written;
        for barrier in &mut self.barriers {
            barrier.entries.retain_mut(|e| e.key != key || e.cut(end.index, &mut reached));
            barrier.writes.retain(|write| write.key != Some(key) || write.index <= end.index);
        }
        self.unwritten.retain_mut(|e| e.key != key || e.cut(end.index, &mut reached));
        files
    }
}

impl Waiting {
    /// Ends at `end` at the latest. `reached`: up to where the group is ahead of this one. Whether anything is
    /// left in it.
    fn cut(&mut self, end: LogEnd, reached: &mut u64) -> bool {
        let left = self.end.index <= end.index || *reached < end.index;
        *reached = (*reached).max(self.end.index);
        if self.end.index > end.index {
            self.end = end;
        }
        left
    }
}

impl Entries {
    /// As [`Waiting::cut`].
    fn cut(&mut self, end: u64, reached: &mut u64) -> bool {
        let left = self.index <= end || *reached < end;
        *reached = (*reached).max(self.index);
        self.index = self.index.min(end);
        left
    }
}
