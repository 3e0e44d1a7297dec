//! One directory with one group, driven by hand.
use crate::test_data::{head, sized_batch};
use crate::test_disk::TestDisk;
use crate::*;
use bytes::Bytes;
use model::{GroupKey, Mono, Now, TopicId};

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
}

pub(super) fn members() -> Vec<Replica> {
    vec![Replica { id: 1, node_id: 1, kind: ReplicaKind::Voter as i32 }]
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
        };
        rig.settle();
        rig
    }

    pub(super) fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    /// Appends `count` records without carrying anything out.
    pub(super) fn append(&mut self, count: u32) {
        self.append_sized(count, 60, self.now.wall);
    }

    pub(super) fn append_sized(&mut self, count: u32, body: usize, timestamp: i64) {
        let log = self.log.as_mut().unwrap();
        let h = head(log.last_index() + 1, EntryKind::Data, count, log.next_offset());
        let h = EntryHead { append_time: self.now.wall, term: log.last_term(), ..h };
        let payload = Bytes::from(sized_batch(log.next_offset(), count, timestamp, body));
        log.append(self.now, &h, payload, timestamp, self.dir.fx());
        self.dir.dirty(log, self.relaxed, true);
    }

    pub(super) fn append_command(&mut self, term: u64, bytes: &'static [u8]) {
        let log = self.log.as_mut().unwrap();
        let h = head(log.last_index() + 1, EntryKind::Command, 0, log.next_offset());
        log.append(self.now, &EntryHead { term, ..h }, Bytes::from_static(bytes), -1, self.dir.fx());
        self.dir.dirty(log, self.relaxed, false);
    }

    /// Carries out what waits, and feeds back what it completes; once.
    pub(super) fn step(&mut self) -> bool {
        self.dir.pump(self.now);
        let ops: Vec<_> = self.dir.ops().collect();
        let busy = !ops.is_empty();
        for op in ops {
            if let Some(completion) = self.disk.apply(op) {
                self.dir.on_completion(self.now, completion, &mut self.events);
            }
        }
        self.note();
        busy
    }

    fn note(&mut self) {
        for event in self.events.drain(..).collect::<Vec<_>>() {
            match &event {
                DirEvent::Persisted { key, index, .. } if *key == KEY => {
                    self.persisted = self.persisted.max(*index);
                    if let Some(log) = &mut self.log {
                        log.set_commit(*index);
                    }
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
        self.events.retain(|e| {
            !matches!(
                e,
                DirEvent::SyncStats { .. } | DirEvent::Persisted { .. } | DirEvent::CheckpointDone { .. }
            )
        });
    }

    /// Closes the group and recovers it from what is on disk.
    pub(super) fn give_up(&mut self) {
        let Some(log) = self.log.take() else { return };
        self.given_up += 1;
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
            while self.step() {}
            self.now.mono = self.now.mono.after_ms(60);
        }
    }

    pub(super) fn checkpoint(&mut self) -> bool {
        let log = self.log.as_mut().unwrap();
        let (index, log_start, next_offset) = (log.last_index(), log.log_start(), log.next_offset());
        let at = AppliedPoint { index, term: log.last_term(), next_offset, log_start };
        let taken = log.checkpoint(Bytes::from_static(b"producers"), Bytes::new(), members(), at);
        log.put_checkpoint(index, self.dir.fx());
        taken
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
        let (dir, states) = open(&self.disk, self.now).map_err(|e| e.to_string())?;
        self.dir = dir;
        self.log = None;
        self.events.clear();
        self.persisted = 1;
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

    /// Drops what the cache holds, so that reads go to files.
    pub(super) fn cool(&mut self) {
        self.log().tail = None;
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", group_dir(KEY))
    }
}
