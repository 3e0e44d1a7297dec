//! The rounds of a directory: what waits, what is written, what is being synced, what is to be marked.
use crate::directory::{DirEvent, Directory, Mark};
use crate::disk_op::{DiskError, DiskErrorKind, DiskOp, FileId, OpToken};
use crate::flush::Flush;
use crate::fx::Retained;
use crate::give_up::Lowering;
use crate::log::LogEnd;
use crate::stall::Stall;
use crate::state_record::{Item, RecordKind};
use model::planted::{Bug, planted};
use model::{GroupKey, Mono, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A mark that found no round to ride in is written alone after this, ms.
const QUIET_MS: i64 = 50;

/// What a group has waiting for a round or a flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) end: LogEnd,
    commit: u64,
    pub(crate) relaxed: bool,
}

/// Entries of a group up to `index`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    pub(crate) key: GroupKey,
    pub(crate) index: u64,
    relaxed: bool,
    /// Batches of clients are among them.
    pub(crate) data: bool,
}

/// Writes up to one barrier.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) token: OpToken,
    pub(crate) entries: Vec<Entries>,
    pub(crate) writes: Vec<Retained>,
    /// Found no space: to be written again.
    pub(crate) failed: bool,
}

#[derive(Debug)]
pub(crate) struct Running {
    token: OpToken,
    since: Mono,
    number: u64,
    /// Number of its record in the state log; 0 where it has none.
    record: u64,
    /// All barriers up to this one must have passed.
    pub(crate) barrier: OpToken,
    pub(crate) groups: BTreeMap<GroupKey, Waiting>,
    changed: BTreeSet<GroupKey>,
    files: Vec<FileId>,
    /// Groups whose mark the record holds, and that are told at last.
    pub(crate) marked: Vec<(GroupKey, u64)>,
    clean: bool,
    /// A write of it failed for lack of space: sync again when that is made good.
    pub(crate) again: bool,
}

/// The machine's state.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Number of the round that is being gathered.
    number: u64,
    pub(crate) waiting: BTreeMap<GroupKey, Waiting>,
    /// Appended since the last barrier.
    pub(crate) unwritten: Vec<Entries>,
    pub(crate) barriers: VecDeque<Barrier>,
    pub(crate) running: Option<Running>,
    /// The sync of relaxed groups that runs beside it.
    pub(crate) flush: Option<Flush>,
    /// Writes find no space.
    pub(crate) stall: Option<Stall>,
    /// Groups whose row goes into the next record: new hard state, new mark, failed.
    changed: BTreeSet<GroupKey>,
    forgotten: BTreeSet<GroupKey>,
    /// Groups of which no record that is durable says that they are there, or that they are relaxed.
    /// With the round that says so.
    fresh: BTreeMap<GroupKey, u64>,
    /// Reopened groups: told when marked.
    pub(crate) withheld: BTreeSet<GroupKey>,
    /// Groups whose mark was lowered, until a round has made that durable.
    pub(crate) lowering: BTreeMap<GroupKey, Lowering>,
    /// Relaxed entries that were written while the running round syncs what is before them: they count when
    /// that does.
    pub(crate) behind: BTreeMap<GroupKey, u64>,
    /// Synced, not marked, withheld: (group, index).
    pub(crate) to_mark: Vec<(GroupKey, u64)>,
    now_due: bool,
    /// Marks wait for a round since.
    pub(crate) marks_since: Option<Mono>,
    /// Relaxed entries wait for a flush since.
    pub(crate) relaxed_since: Option<Mono>,
    /// Highest record of the state log known to be synced by this process.
    synced_record: u64,
    last_durable: u64,
    pub(crate) clock: Mono,
    pub(crate) stopping: bool,
    stopped: bool,
}

impl Rounds {
    pub(crate) fn new(now: Mono) -> Rounds {
        Rounds {
            number: 1,
            waiting: BTreeMap::new(),
            unwritten: Vec::new(),
            barriers: VecDeque::new(),
            running: None,
            flush: None,
            stall: None,
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            fresh: BTreeMap::new(),
            withheld: BTreeSet::new(),
            lowering: BTreeMap::new(),
            behind: BTreeMap::new(),
            to_mark: Vec::new(),
            now_due: false,
            marks_since: None,
            relaxed_since: None,
            synced_record: 0,
            last_durable: 0,
            clock: now,
            stopping: false,
            stopped: false,
        }
    }

    pub(crate) fn want_now(&mut self) {
        self.now_due = true;
    }

    pub(crate) fn dirty(
        &mut self,
        key: GroupKey,
        end: LogEnd,
        commit: u64,
        relaxed: bool,
        data: bool,
    ) -> u64 {
        let relaxed_before = self.waiting.get(&key).is_none_or(|w| w.relaxed);
        self.waiting.insert(key, Waiting { end, commit, relaxed: relaxed && relaxed_before });
        let entries = Entries { key, index: end.index, relaxed, data };
        match self.unwritten.last_mut().filter(|last| last.key == key) {
            Some(last) => *last = Entries { data: data || last.data, ..entries },
            None => self.unwritten.push(entries),
        }
        if relaxed {
            self.relaxed_since.get_or_insert(self.clock);
        }
        self.number
    }

    pub(crate) fn withhold(&mut self, key: GroupKey) {
        self.withheld.insert(key);
        self.now_due = true;
    }

    pub(crate) fn changed(&mut self, key: GroupKey, must_sync: bool) -> u64 {
        self.changed.insert(key);
        self.forgotten.remove(&key);
        self.now_due |= must_sync;
        self.number
    }

    /// The next record says of a group what it must say before written is enough.
    pub(crate) fn refresh(&mut self, key: GroupKey) {
        self.fresh.insert(key, self.number);
    }

    pub(crate) fn is_fresh(&self, key: GroupKey) -> bool {
        self.fresh.contains_key(&key)
    }

    pub(crate) fn set_commit(&mut self, key: GroupKey, index: u64) {
        let running = self.running.as_mut().and_then(|r| r.groups.get_mut(&key));
        let flushed = self.flush.as_mut().and_then(|f| f.groups.get_mut(&key)).map(|(waiting, _)| waiting);
        for waiting in self.waiting.get_mut(&key).into_iter().chain(running).chain(flushed) {
            waiting.commit = waiting.commit.max(index);
        }
    }

    /// Takes everything back that a group has on its way: none of it is written again, and nobody is told
    /// what becomes of it.
    pub(crate) fn drop_entries(&mut self, key: GroupKey) {
        self.waiting.remove(&key);
        self.withheld.remove(&key);
        if let Some(lowering) = self.lowering.get_mut(&key) {
            // What is on the medium may claim more all the same.
            lowering.waits = false;
        }
        self.behind.remove(&key);
        self.unwritten.retain(|e| e.key != key);
        self.to_mark.retain(|(k, _)| *k != key);
        for barrier in &mut self.barriers {
            barrier.entries.retain(|e| e.key != key);
            barrier.writes.retain(|w| w.key != Some(key));
        }
        if let Some(flush) = &mut self.flush {
            flush.groups.remove(&key);
        }
        if let Some(running) = &mut self.running {
            running.groups.remove(&key);
            running.marked.retain(|(k, _)| *k != key);
        }
    }

    pub(crate) fn forget(&mut self, key: GroupKey) {
        self.drop_entries(key);
        self.lowering.remove(&key);
        self.fresh.remove(&key);
        self.changed.remove(&key);
        if let Some(running) = &mut self.running {
            running.changed.remove(&key);
        }
        self.forgotten.insert(key);
        self.marks_since.get_or_insert(self.clock);
    }

    pub(crate) fn idle(&self) -> bool {
        self.running.is_none()
            && self.flush.is_none()
            && self.waiting.is_empty()
            && self.barriers.is_empty()
            && self.unwritten.is_empty()
            && self.changed.is_empty()
            && self.forgotten.is_empty()
            && self.to_mark.is_empty()
    }

    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    fn due(&self, now: Mono) -> bool {
        self.now_due
            || (self.stopping && !self.stopped)
            || self.waiting.values().any(|w| !w.relaxed)
            || !self.to_mark.is_empty()
            || self.marks_since.is_some_and(|s| s.after_ms(QUIET_MS) <= now)
    }

    /// When the round began that runs and that entries wait for.
    pub(crate) fn syncing_since(&self) -> Option<Mono> {
        self.running.as_ref().filter(|running| !running.groups.is_empty()).map(|running| running.since)
    }

    /// When the next round is due; a stall's next try.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        if let Some(stall) = &self.stall {
            return stall.deadline();
        }
        if self.running.is_some() || self.flush_in_the_way() {
            return None;
        }
        let marks = self.marks_since.map(|s| s.after_ms(QUIET_MS));
        let now = self.due(self.clock).then_some(self.clock);
        [marks, now].into_iter().flatten().min()
    }

    /// Whether a relaxed entry counts as persisted now that it was written: not while an entry before it must
    /// be synced first.
    fn counts_when_written(&mut self, key: GroupKey, index: u64) -> bool {
        // What waits for a round is persisted with it, this entry included.
        if self.withheld.contains(&key) || self.waiting.get(&key).is_some_and(|w| !w.relaxed) {
            return false;
        }
        let held = self.running.as_ref().is_some_and(|r| r.holds(key));
        if held {
            self.behind.insert(key, index);
        }
        !held
    }

    /// Takes what the next round makes durable: what waits for a flush only when there is none any more.
    fn gather(&mut self) -> BTreeMap<GroupKey, Waiting> {
        let all = std::mem::take(&mut self.waiting);
        if self.stopping {
            self.relaxed_since = None;
            return all;
        }
        let (later, now) = all.into_iter().partition(|(_, w)| w.relaxed);
        self.waiting = later;
        now
    }
}

impl Directory {
    /// Ends a turn: a barrier for new writes; a sync round when one is due and none runs.
    pub fn pump(&mut self, now: Now) {
        self.rounds.clock = now.mono;
        if self.fenced.is_some() {
            return;
        }
        self.found(now.mono);
        if self.rounds.stall.is_some() {
            return self.try_again(now.mono);
        }
        self.flush(now.mono);
        let free = self.rounds.running.is_none() && !self.rounds.flush_in_the_way();
        if free && self.rounds.due(now.mono) {
            self.begin_round();
        } else if !self.rounds.unwritten.is_empty() {
            self.barrier();
        }
    }

    pub(crate) fn barrier(&mut self) -> OpToken {
        let (token, writes) = self.fx.barrier();
        let entries = std::mem::take(&mut self.rounds.unwritten);
        self.rounds.barriers.push_back(Barrier { token, entries, writes, failed: false });
        token
    }

    fn begin_round(&mut self) {
        let groups = self.rounds.gather();
        let mut files = Vec::new();
        for key in groups.keys() {
            files.extend(self.fx.dirty.remove(key).unwrap_or_default());
        }
        let clean = self.rounds.stopping && groups.is_empty() && self.rounds.waiting.is_empty();
        let (record, changed) = self.write_record(clean, &mut files);
        let barrier = self.barrier();
        let token = self.fx.token();
        self.fx.syncing.clone_from(&files);
        self.fx.ops.push(DiskOp::Sync { files: files.clone(), token, behind: false });
        let rounds = &mut self.rounds;
        let marked = std::mem::take(&mut rounds.to_mark);
        let number = rounds.number;
        rounds.number += 1;
        (rounds.now_due, rounds.marks_since) = (false, None);
        let running = Running {
            token,
            since: rounds.clock,
            number,
            record,
            barrier,
            groups,
            changed,
            files,
            marked,
            clean,
            again: false,
        };
        rounds.running = Some(running);
    }

    /// One record with all rows that changed; a snapshot where the file is to be begun.
    fn write_record(&mut self, clean: bool, files: &mut Vec<FileId>) -> (u64, BTreeSet<GroupKey>) {
        let changed = std::mem::take(&mut self.rounds.changed);
        let forgotten = std::mem::take(&mut self.rounds.forgotten);
        let snapshot = self.state.wants_snapshot();
        if changed.is_empty() && forgotten.is_empty() && !snapshot && !clean {
            return (0, changed);
        }
        let claim = self.rounds.synced_record;
        if snapshot {
            let mut items = vec![Item::Identity(self.directory_id, self.cfg.boot_id)];
            items.extend(self.groups.iter().map(|(key, row)| Item::Group(*key, row.clone())));
            files.push(self.state.write(RecordKind::Snapshot, claim, items, &mut self.fx));
        }
        if !snapshot || clean {
            let row = |key: &GroupKey| Some(Item::Group(*key, self.groups.get(key)?.clone()));
            let mut items: Vec<Item> = changed.iter().filter_map(row).collect();
            items.extend(forgotten.into_iter().map(Item::Forget));
            let kind = if clean { RecordKind::CleanStop } else { RecordKind::Update };
            let file = self.state.write(kind, claim, items, &mut self.fx);
            if !files.contains(&file) {
                files.push(file);
            }
        }
        (self.state.number(), changed)
    }

    pub(crate) fn on_written(
        &mut self,
        now: Now,
        token: OpToken,
        result: Result<(), DiskError>,
        out: &mut Vec<DirEvent>,
    ) {
        match result {
            Ok(()) => {
                self.rounds.stall.take_if(|stall| stall.tries(token));
                let upto = self.rounds.barriers.iter().position(|b| b.token == token);
                let passed = upto.filter(|_| !self.rounds.stalled_before(token)).map_or(0, |i| i + 1);
                for barrier in self.rounds.barriers.drain(..passed).collect::<Vec<_>>() {
                    self.passed(barrier, out);
                }
                self.sync_again();
            }
            Err(e) if e.kind == DiskErrorKind::Full => self.no_room(now.mono, token, out),
            Err(e) => return self.fence(e.detail, out),
        }
        self.tell_full(out);
    }

    fn passed(&mut self, barrier: Barrier, out: &mut Vec<DirEvent>) {
        for Entries { key, index, relaxed, .. } in barrier.entries {
            out.push(DirEvent::Written { key, index });
            if (relaxed && self.rounds.counts_when_written(key, index)) || planted(Bug::AckBeforeSync) {
                out.push(DirEvent::Persisted { key, index, round: self.rounds.last_durable });
            }
        }
    }

    /// The running round's writes are good at last: sync them (whatever an earlier sync said, it was without
    /// them).
    fn sync_again(&mut self) {
        let barriers = &self.rounds.barriers;
        let passed = |r: &&mut Running| r.again && !barriers.iter().any(|b| b.token <= r.barrier);
        let Some(running) = self.rounds.running.as_mut().filter(passed) else { return };
        running.again = false;
        running.token = self.fx.token();
        let (files, token) = (running.files.clone(), running.token);
        self.fx.ops.push(DiskOp::Sync { files, token, behind: false });
    }

    pub(crate) fn on_synced(
        &mut self,
        now: Now,
        token: OpToken,
        result: Result<(), DiskError>,
        micros: u64,
        out: &mut Vec<DirEvent>,
    ) {
        if let Err(e) = result {
            return self.fence(e.detail, out);
        }
        if self.rounds.flush.as_ref().is_some_and(|f| f.token == token) {
            return self.flushed(now, micros, out);
        }
        let Some(running) = self.rounds.running.as_mut().filter(|r| r.token == token) else { return };
        let unpassed = self.rounds.barriers.iter().any(|b| b.token <= running.barrier);
        if unpassed || running.again {
            running.again = true;
            return;
        }
        let Some(running) = self.rounds.running.take() else { return };
        self.fx.syncing.clear();
        self.fx.close_retired();
        let (files, groups) = (running.files.len() as u32, running.groups.len() as u32);
        out.push(DirEvent::SyncStats { micros, files, groups, behind: false });
        self.finish_round(now, running, out);
    }

    fn finish_round(&mut self, now: Now, running: Running, out: &mut Vec<DirEvent>) {
        let round = running.number;
        // The first record of a process is a snapshot.
        if running.record > 0 {
            self.failure_is_known();
        }
        let rounds = &mut self.rounds;
        rounds.last_durable = round;
        rounds.synced_record = rounds.synced_record.max(running.record);
        if !running.groups.is_empty() {
            rounds.marks_since.get_or_insert(now.mono);
        }
        self.rounds.fresh.retain(|_, said_by| *said_by > round);
        for (key, w) in &running.groups {
            self.mark(*key, w);
            let rounds = &mut self.rounds;
            if rounds.withheld.contains(key) {
                rounds.to_mark.push((*key, w.end.index));
            } else {
                let index = rounds.behind.remove(key).map_or(w.end.index, |behind| behind.max(w.end.index));
                out.push(DirEvent::Persisted { key: *key, index, round });
            }
        }
        for key in running.changed.iter().filter(|k| !running.groups.contains_key(k)) {
            out.push(DirEvent::Persisted { key: *key, index: 0, round });
        }
        let rounds = &mut self.rounds;
        for (key, index) in running.marked {
            rounds.withheld.remove(&key);
            out.push(DirEvent::Persisted { key, index, round });
        }
        rounds.lowered(round, out);
        if running.clean {
            rounds.stopped = true;
            out.push(DirEvent::Stopped);
        }
    }

    /// Everything of the group up to `synced` is on the medium: its next row says so.
    pub(crate) fn mark(&mut self, key: GroupKey, synced: &Waiting) {
        let (end, commit) = (synced.end, synced.commit);
        self.groups.entry(key).or_default().mark = Some(Mark {
            durable_index: end.index,
            chain: end.chain,
            segment: end.segment,
            pos: end.pos,
            commit: commit.min(end.index),
        });
        self.rounds.changed.insert(key);
    }
}

impl Running {
    /// Whether it syncs entries of the group.
    pub(crate) fn holds(&self, key: GroupKey) -> bool {
        self.groups.contains_key(&key)
    }
}

impl Rounds {
    /// Whether a barrier at or before `token` failed.
    fn stalled_before(&self, token: OpToken) -> bool {
        self.barriers.iter().any(|b| b.failed && b.token <= token)
    }
}
