//! One directory with one group, driven by hand.
use crate::test_data::{head, sized_batch};
use crate::test_disk::TestDisk;
use crate::*;
use bytes::Bytes;
use model::{GroupKey, Mono, Now, TopicId};
use std::collections::VecDeque;

pub(super) const KEY: GroupKey = GroupKey { topic: TopicId([7; 16]), partition: 3 };

pub(super) fn small() -> LogConfig {
    LogConfig {
        file_bytes: 1000,
        index_interval_bytes: 200,
        checkpoint_bytes: 1 << 30,
        ..LogConfig::default()
    }
}

pub(super) struct Rig {
    pub(super) disk: TestDisk,
    pub(super) dir: Directory,
    pub(super) log: Option<Log>,
    pub(super) cfg: LogConfig,
    pub(super) now: Now,
    pub(super) events: Vec<DirEvent>,
    pub(super) persisted: u64,
    pub(super) state: Option<GroupState>,
    pub(super) relaxed: bool,
    /// Groups without room are given up, as their owner should.
    pub(super) gives_up: bool,
    /// How often that was.
    pub(super) given_up: u32,
    /// What the disk has not begun yet.
    pub(super) queue: VecDeque<DiskOp>,
    /// Entries may have counted as persisted when they were only written.
    pub(super) soft: bool,
    /// Commits as one of several replicas: what is persisted is not committed by that alone.
    pub(super) replicated: bool,
    /// The entries that the log must hold, from index 2 on.
    pub(super) history: Vec<(EntryHead, Bytes)>,
    /// What it held before entries were given up.
    pub(super) branches: Vec<Vec<(EntryHead, Bytes)>>,
    /// Up to where it was told that entries are written.
    pub(super) written: u64,
    /// The process dies when the disk has carried out so many operations.
    pub(super) dies_at: u64,
    /// What was told of the group since the last start.
    pub(super) told: Vec<Told>,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Written(u64),
    /// Index and round.
    Persisted(u64, u64),
    Flushed,
    Lowered,
}

pub(super) fn members() -> Vec<Replica> {
    vec![Replica { id: 1, node_id: 1, kind: ReplicaKind::Voter as i32, witness: false }]
}

pub(super) fn open(disk: &TestDisk, now: Now) -> Result<(Directory, Vec<GroupState>), OpenError> {
    Directory::open(
        disk,
        DirectoryConfig { state_log_bytes: 4096, relaxed_sync_ms: 1000, ..DirectoryConfig::default() },
        now,
    )
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(TestDisk::default(), small())
    }

    pub(super) fn with(disk: TestDisk, cfg: LogConfig) -> Rig {
        let now = Now { mono: Mono(0), wall: 1_000_000 };
        let (dir, _) = open(&disk, now).unwrap();
        let log = Log::born(KEY, group_dir(KEY), birth(KEY, members()), cfg.clone());
        let mut rig = Rig {
            disk,
            dir,
            log: Some(log),
            cfg,
            now,
            events: Vec::new(),
            persisted: 1,
            state: None,
            relaxed: false,
            gives_up: false,
            given_up: 0,
            queue: VecDeque::new(),
            soft: false,
            replicated: false,
            history: Vec::new(),
            branches: Vec::new(),
            written: 1,
            dies_at: u64::MAX,
            told: Vec::new(),
        };
        rig.settle();
        rig
    }

    pub(super) fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    /// Last index; 1 without a log.
    fn last_index(&self) -> u64 {
        self.log.as_ref().map_or(1, Log::last_index)
    }

    /// Appends `count` records without carrying anything out.
    pub(super) fn append(&mut self, count: u32) {
        self.append_sized(count, 60, self.now.wall);
    }

    pub(super) fn append_sized(&mut self, count: u32, body: usize, timestamp: i64) {
        let log = self.log();
        let h = head(log.last_index() + 1, EntryKind::Data, count, log.next_offset());
        let payload = Bytes::from(sized_batch(log.next_offset(), count, timestamp, body));
        let h = EntryHead { term: log.last_term(), ..h };
        self.append_entry(EntryHead { append_time: self.now.wall, ..h }, payload, timestamp);
    }

    pub(super) fn append_command(&mut self, term: u64, bytes: &'static [u8]) {
        let log = self.log();
        let h = head(log.last_index() + 1, EntryKind::Command, 0, log.next_offset());
        self.append_entry(EntryHead { term, ..h }, Bytes::from_static(bytes), -1);
    }

    /// Appends `count` entries of `term` that no other term has, `body` bytes each; the first is a no-op.
    pub(super) fn lead(&mut self, term: u64, count: u64, body: usize) {
        let log = self.log();
        let h = head(log.last_index() + 1, EntryKind::NoOp, 0, log.next_offset());
        self.append_entry(EntryHead { term, append_time: 0, ..h }, Bytes::new(), -1);
        for _ in 1..count {
            let log = self.log();
            let (index, offset) = (log.last_index() + 1, log.next_offset());
            let h = EntryHead { term, ..head(index, EntryKind::Data, 2, offset) };
            let time = 1_000 * term as i64 + index as i64;
            self.append_entry(h, Bytes::from(sized_batch(offset, 2, time, body)), time);
        }
    }

    pub(super) fn append_entry(&mut self, head: EntryHead, payload: Bytes, timestamp: i64) {
        let log = self.log.as_mut().unwrap();
        log.append(self.now, &head, payload.clone(), timestamp, self.dir.fx());
        // As groups of topics that may be relaxed do from their first entry on.
        self.dir.relax(log.key());
        self.dir.dirty(log, self.relaxed, head.kind == EntryKind::Data);
        self.history.push((head, payload));
    }

    /// Gives up what is above `after`.
    pub(super) fn give_up_after(&mut self, after: u64) -> Removal {
        let removal = self.log.as_mut().unwrap().give_up_after(after, &mut self.dir);
        self.branches.push(self.history.clone());
        self.history.truncate(after as usize - 1);
        (self.persisted, self.written) = (self.persisted.min(after), self.written.min(after));
        removal
    }

    pub(super) fn commit(&mut self, index: u64) {
        self.log().set_commit(index);
        self.dir.set_commit(KEY, index);
    }

    /// The next offset after entry `index`.
    pub(super) fn offset_after(&self, index: u64) -> i64 {
        (index as usize).checked_sub(2).map_or(0, |at| self.history[at].0.next_offset())
    }

    /// Carries out what waits, and feeds back what it completes; once.
    pub(super) fn step(&mut self) -> bool {
        self.pump();
        let busy = !self.queue.is_empty();
        self.carry_out(usize::MAX);
        busy
    }

    pub(super) fn pump(&mut self) {
        self.dir.pump(self.now);
        self.queue.extend(self.dir.ops());
    }

    /// As many operations as that.
    pub(super) fn carry_out(&mut self, count: usize) {
        for op in self.queue.drain(..count.min(self.queue.len())).collect::<Vec<_>>() {
            if self.disk.done >= self.dies_at {
                break;
            }
            if let Some(completion) = self.disk.apply(op) {
                self.dir.on_completion(self.now, completion, &mut self.events);
            }
        }
        self.note();
    }

    /// Ends one of the syncs that the disk holds back.
    pub(super) fn end_sync(&mut self, nth: usize) -> bool {
        let Some(completion) = self.disk.end_sync(nth % self.disk.held_syncs().max(1)) else { return false };
        self.dir.on_completion(self.now, completion, &mut self.events);
        self.note();
        true
    }

    fn note(&mut self) {
        for event in self.events.drain(..).collect::<Vec<_>>() {
            match &event {
                DirEvent::Written { key, index } if *key == KEY => {
                    let last = self.last_index();
                    assert!(*index > self.written && *index <= last, "{index} of {last}: written once");
                    self.written = *index;
                    self.told.push(Told::Written(*index));
                }
                DirEvent::Flushed { key } if *key == KEY => self.told.push(Told::Flushed),
                DirEvent::Persisted { key, index, round } if *key == KEY => {
                    self.told.push(Told::Persisted(*index, *round));
                    let last = self.last_index();
                    assert!(*index <= last, "{index} of {last}");
                    // A tail that was found is told when it is marked, whatever was told since.
                    let found = self.log.as_ref().is_none_or(Log::rewriting);
                    let again = *index > 0 && *index <= self.persisted;
                    // What counted when it was written may be synced with what must be.
                    let soft = self.relaxed || self.soft;
                    assert!(!again || soft || found, "{index}: persisted once");
                    self.persisted = self.persisted.max(*index);
                    if !self.replicated && self.log.is_some() {
                        self.commit(*index);
                    }
                }
                DirEvent::Lowered { key } if *key == KEY => {
                    self.told.push(Told::Lowered);
                    let _ = self.log.as_mut().unwrap().lowered(&mut self.dir);
                }
                DirEvent::CheckpointDone { index, ok, .. } => {
                    if let Some(log) = &mut self.log {
                        log.checkpoint_done(*index, *ok, self.dir.fx());
                    }
                }
                _ => {}
            }
            match event {
                DirEvent::Recovered { result, .. } => self.recovered(*result),
                DirEvent::NoRoom { groups } if self.gives_up && groups.contains(&KEY) => self.give_up(),
                event => self.events.push(event),
            }
        }
        self.put_checkpoint();
        self.events.retain(|e| {
            !matches!(
                e,
                DirEvent::SyncStats { .. }
                    | DirEvent::Written { .. }
                    | DirEvent::Flushed { .. }
                    | DirEvent::Persisted { .. }
                    | DirEvent::CheckpointDone { .. }
                    | DirEvent::Lowered { .. }
            )
        });
    }

    /// Closes the group and recovers it from what is on disk.
    pub(super) fn give_up(&mut self) {
        let Some(log) = self.log.take() else { return };
        self.given_up += 1;
        self.written = 1;
        self.state = Some(self.dir.give_up(KEY));
        log.close(self.dir.fx());
        let job = self.job();
        self.dir.recover(job);
    }

    fn recovered(&mut self, result: Result<Recovered, RecoverError>) {
        let log = Log::from_recovered(result.unwrap(), self.cfg.clone(), self.dir.fx());
        log.cut_tail(self.dir.fx());
        if !self.dir.reopened(&log) {
            self.persisted = log.last_index();
        }
        self.log = Some(log);
    }

    /// Until nothing moves, the quiet mark included.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            while self.step() || self.end_sync(0) {}
            self.now.mono = self.now.mono.after_ms(60);
        }
    }

    pub(super) fn checkpoint(&mut self) -> bool {
        let log = self.log.as_ref().unwrap();
        let index = if self.replicated { log.commit() } else { log.last_index() };
        let term = log.term(index).unwrap();
        let next_offset =
            if index == log.last_index() { log.next_offset() } else { self.offset_after(index) };
        let at = AppliedPoint { index, term, next_offset, log_start: log.log_start() };
        let log = self.log.as_mut().unwrap();
        let taken = log.checkpoint(Bytes::from_static(b"producers"), Bytes::new(), members(), at);
        self.put_checkpoint();
        taken
    }

    fn put_checkpoint(&mut self) {
        let durable = self.durable();
        if let Some(log) = self.log.as_mut().filter(|log| log.holds_checkpoint()) {
            log.put_checkpoint(durable, self.dir.fx());
        }
    }

    /// Up to where a power failure loses nothing.
    pub(super) fn durable(&self) -> u64 {
        if self.soft { self.dir.durable_index(KEY).max(1) } else { self.persisted }
    }

    pub(super) fn stop(&mut self) {
        self.dir.clean_stop();
        self.settle();
        assert!(self.events.iter().any(|e| matches!(e, DirEvent::Stopped)));
    }

    /// Opens the directory again after a kill or a power failure.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        self.try_recover().map(|recovered| {
            if let Some(recovered) = recovered {
                let log = Log::from_recovered(recovered, self.cfg.clone(), self.dir.fx());
                let index = log.last_index();
                if !self.dir.reopened(&log) {
                    self.persisted = index;
                }
                self.log = Some(log);
                self.settle();
                assert_eq!(self.persisted, index, "a reopened group is persisted as far as it goes");
            } else {
                self.log = Some(Log::born(KEY, group_dir(KEY), birth(KEY, members()), self.cfg.clone()));
                self.persisted = 1;
            }
        })
    }

    pub(super) fn job(&self) -> RecoverJob {
        let mark = self.state.as_ref().and_then(|s| s.mark);
        RecoverJob { key: KEY, dir: group_dir(KEY), mark, birth: birth(KEY, members()) }
    }

    /// `None`: never touched.
    pub(super) fn try_recover(&mut self) -> Result<Option<Recovered>, String> {
        self.disk.kill();
        self.queue.clear();
        let (dir, states) = open(&self.disk, self.now).map_err(|e| e.to_string())?;
        self.dir = dir;
        self.log = None;
        self.events.clear();
        (self.persisted, self.written) = (1, 1);
        self.told.clear();
        self.state = states.into_iter().find(|s| s.key == KEY);
        if self.state.is_none() {
            return Ok(None);
        }
        recovery::recover(&self.job(), &self.disk).map(Some).map_err(|e| e.to_string())
    }

    /// All batches from `from` on, through plans.
    pub(super) fn read_all(&self, from: i64) -> Result<Vec<u8>, String> {
        let log = self.log.as_ref().unwrap();
        let (mut at, mut out) = (from, Vec::new());
        while at < log.next_offset() {
            let batches = match log.read_plan(at, log.next_offset(), 300).map_err(|e| e.to_string())? {
                ReadPlan::Empty => break,
                ReadPlan::Memory(batches) => batches,
                ReadPlan::File(range) => read_range(&self.disk, &range).map_err(|e| e.to_string())?.batches,
            };
            let bytes = batches.concat();
            let (_, last) = records::batches(&bytes).last().ok_or("no batch")?.map_err(|e| e.to_string())?;
            at = last.next_offset();
            out.extend(bytes);
        }
        Ok(out)
    }

    /// The entries [low, high) as far as they are written, through plans.
    pub(super) fn read_entries(&self, mut low: u64, high: u64) -> Result<Vec<(EntryHead, Bytes)>, String> {
        let log = self.log.as_ref().unwrap();
        let mut out = Vec::new();
        while low < high {
            match log.entries_plan(low, high, 300, &self.dir) {
                EntriesPlan::Compacted => return Err("compacted".to_string()),
                EntriesPlan::NotYet => break,
                EntriesPlan::File(range) => {
                    let found = read_range(&self.disk, &range).map_err(|e| e.to_string())?;
                    assert!(log.holds(&found.entries));
                    assert_eq!(found.entries.first().map(|(head, _)| head.index), Some(low));
                    low += found.entries.len() as u64;
                    out.extend(found.entries);
                }
            }
        }
        Ok(out)
    }

    /// After a start: the log is the beginning of one that it was before, with at least all up to `sure`.
    pub(super) fn find_history(&mut self, sure: u64) {
        let log = self.log.as_ref().unwrap();
        let (first, last) = (log.first_index(), log.last_index());
        let found = self.read_entries(first, last + 1).unwrap();
        assert_eq!(found.len() as u64, last + 1 - first);
        let current = std::mem::take(&mut self.history);
        let sure = &current[..sure as usize - 1];
        self.branches.push(current.clone());
        let is = |branch: &&Vec<_>| branch.get(first as usize - 2..last as usize - 1) == Some(&found[..]);
        let mut found = self.branches.iter().rfind(is).expect("one history, and no mixture").clone();
        found.truncate(last as usize - 1);
        assert!(found.starts_with(sure), "up to {} was sure, {last} is the last", sure.len() + 1);
        self.history = found;
    }

    /// Drops what the cache holds, so that reads go to files.
    pub(super) fn cool(&mut self) {
        self.log().tail = None;
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", group_dir(KEY))
    }
}
