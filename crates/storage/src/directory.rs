//! One data directory: its state log, the rounds of sync and mark, the fence.
//!
//! A *round* is one record of the state log and one sync over it and the dirty files of the groups that the
//! round takes. At most one runs: its length is the batching timer. When it is durable its groups are
//! persisted, and their marks ride in the next round's record. `rounds.rs` holds the machine.
use crate::checkpoint::Replica;
use crate::config::DirectoryConfig;
use crate::disk_op::{Completion, DiskErrorKind, DiskOp, DiskRead, OpToken};
use crate::error::{Damage, OpenError, RecoverError};
use crate::failed::HadFailed;
use crate::founding::{Founding, META};
use crate::fx::{PutKind, StorageFx};
use crate::install::AsideDone;
use crate::log::Log;
use crate::recovery::{RecoverJob, Recovered};
use crate::rounds::Rounds;
use crate::state_log::{self, FILES, StateLog};
use crate::state_record::{GroupRow, Item};
use bytes::Bytes;
use model::planted::{Bug, planted};
use model::{GroupKey, Mono, Now};
use prost::Message;
use proto::storage::DirectoryMeta;
use std::collections::BTreeMap;

/// Up to where a group's log is durable: never that it ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Every entry up to here was synced.
    pub durable_index: u64,
    /// Chain value of that entry.
    pub chain: u32,
    /// First index of the file in which it ends.
    pub segment: u64,
    /// Bytes of that file up to its end.
    pub pos: u64,
    /// Commit index, at most `durable_index`.
    pub commit: u64,
}

/// Raft's promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term.
    pub term: u64,
    /// Replica voted for in it; 0 for none.
    pub vote: u64,
}

/// What the state log knows about a group. A group without one was never touched on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// The group.
    pub key: GroupKey,
    /// Term and vote.
    pub hard: HardState,
    /// The newest mark.
    pub mark: Option<Mark>,
    /// Why the replica was marked failed.
    pub failed: Option<String>,
    /// Counts the lives of the replica on this disk: see [`crate::generation_dir`].
    pub generation: u32,
    /// The replica neither votes nor leads before it holds this entry, where its files were damaged, and whatever
    /// else it may have acknowledged; 0: it may. [`UNKNOWN_FLOOR`]: nobody knows which entry.
    pub floor: u64,
    /// Which replica of the group this is: see [`Directory::born`].
    pub replica: u64,
}

/// A [`GroupState::floor`] after a loss of power, or a failed sync, under `write.caching`.
pub const UNKNOWN_FLOOR: u64 = u64::MAX;

impl GroupState {
    pub(crate) fn of(key: GroupKey, row: &GroupRow) -> GroupState {
        let GroupRow { hard, mark, failed, generation, floor, replica, relaxed: _ } = row.clone();
        GroupState { key, hard, mark, failed, generation, floor, replica }
    }
}

/// What became true.
#[derive(Debug)]
pub enum DirEvent {
    /// Entries up to `index` reached the operating system.
    Written {
        /// Group.
        key: GroupKey,
        /// Index.
        index: u64,
    },
    /// Entries up to `index` count as persisted (synced; or written, for relaxed groups), and hard state
    /// handed over with a number of at most `round` is synced. For a group in [`Directory::reopened`]:
    /// synced and marked.
    Persisted {
        /// Group.
        key: GroupKey,
        /// Index; 0 when the round had no entries of the group.
        index: u64,
        /// Number, see [`Directory::set_hard_state`].
        round: u64,
    },
    /// Entries of a relaxed group were synced: see [`Directory::durable_index`].
    Flushed {
        /// Group.
        key: GroupKey,
    },
    /// The mark of a group that gave entries up does not claim them any more: tell [`Log::lowered`].
    Lowered {
        /// Group.
        key: GroupKey,
    },
    /// A checkpoint ended: tell [`Log::checkpoint_done`].
    CheckpointDone {
        /// Group.
        key: GroupKey,
        /// Its index.
        index: u64,
        /// Whether it is durable.
        ok: bool,
    },
    /// A recovery asked for with [`Directory::recover`] ended.
    Recovered {
        /// Group.
        key: GroupKey,
        /// What was found.
        result: Box<Result<Recovered, RecoverError>>,
    },
    /// What was asked for beside a replica's files ended: see [`Directory::put_aside`].
    Aside {
        /// Group.
        key: GroupKey,
        /// As it was returned.
        token: OpToken,
        /// What came of it.
        done: AsideDone,
    },
    /// A [`Directory::remove`] ended; `ok`: nothing of the group comes back, even after a power cut.
    Removed {
        /// Group.
        key: GroupKey,
        /// Whether it worked. If not, the next start finds what is left.
        ok: bool,
    },
    /// The directory is fenced: nothing more is acknowledged or written.
    Fenced {
        /// What failed.
        detail: String,
    },
    /// Space ran out (true: refuse new appends of clients) or is back.
    DiskFull(bool),
    /// Appends of these groups keep finding no space, and everything else waits behind them: those that may
    /// are to be closed and opened anew, see [`Directory::give_up`].
    NoRoom {
        /// Groups.
        groups: Vec<GroupKey>,
    },
    /// A sync ended, for the metrics.
    SyncStats {
        /// How long it took.
        micros: u64,
        /// Files synced.
        files: u32,
        /// Groups that it made durable.
        groups: u32,
        /// A flush of `write.caching`: no acknowledgement waited for it.
        behind: bool,
    },
    /// After [`Directory::clean_stop`]: everything is synced and marked.
    Stopped,
}

/// One data directory.
#[derive(Debug)]
pub struct Directory {
    pub(crate) fx: StorageFx,
    pub(crate) cfg: DirectoryConfig,
    pub(crate) state: StateLog,
    pub(crate) groups: BTreeMap<GroupKey, GroupRow>,
    /// Replicas that begin here and have promised nothing yet.
    pub(crate) born: BTreeMap<GroupKey, u64>,
    pub(crate) removals: BTreeMap<OpToken, GroupKey>,
    pub(crate) rounds: Rounds,
    pub(crate) directory_id: [u8; 16],
    /// What the file `meta` says, or will.
    meta: DirectoryMeta,
    recovers: BTreeMap<OpToken, GroupKey>,
    pub(crate) asides: BTreeMap<OpToken, GroupKey>,
    pub(crate) fenced: Option<String>,
    /// Until the directory's own files are there, nothing else is written.
    pub(crate) founding: Option<Founding>,
    space_low: bool,
    /// What [`DirEvent::DiskFull`] said last.
    pub(crate) told_full: bool,
    was_clean: bool,
    was_other_boot: bool,
    /// The disk had failed; what this start found is not durable yet.
    pub(crate) had_failed: HadFailed,
    adopted: Vec<GroupKey>,
    /// What all groups share is being changed.
    changing: bool,
}

fn encode_meta(meta: &DirectoryMeta) -> Bytes {
    let body = meta.encode_to_vec();
    let mut out = Vec::with_capacity(12 + body.len());
    out.extend(b"PLMETA01");
    out.extend(records::crc32c(&body).to_le_bytes());
    out.extend(body);
    Bytes::from(out)
}

/// Reads `meta`; `None` when there is none.
/// Errors: [`OpenError::Damaged`], [`OpenError::Foreign`] for a newer version, [`OpenError::Disk`].
pub fn read_meta(disk: &dyn DiskRead) -> Result<Option<DirectoryMeta>, OpenError> {
    let Some(len) = disk.len(META)? else { return Ok(None) };
    let bytes = disk.read(META, 0, usize::try_from(len.min(1 << 20)).unwrap_or(0))?;
    let damaged = || {
        let detail = "checksum mismatch: restore the file from a backup; nothing was changed".to_string();
        OpenError::Damaged(Damage { file: META.to_string(), pos: 0, detail })
    };
    if bytes.starts_with(b"PLMETA") && !bytes.starts_with(b"PLMETA01") {
        let text =
            "the data directory has a format this program does not know: use the version that wrote it";
        return Err(OpenError::Foreign(text.to_string()));
    }
    let body = bytes.get(12..).filter(|_| bytes.starts_with(b"PLMETA01")).ok_or_else(damaged)?;
    if bytes[8..12] != records::crc32c(body).to_le_bytes() {
        return Err(damaged());
    }
    DirectoryMeta::decode(body).map(Some).map_err(|_| damaged())
}

impl Directory {
    /// Reads `meta` and the state log; the first round begins a fresh state log file. A new directory gets
    /// both first of all (through [`Directory::ops`]). Refuses damage, and a directory of another cluster or node.
    pub fn open(
        disk: &dyn DiskRead,
        cfg: DirectoryConfig,
        now: Now,
    ) -> Result<(Directory, Vec<GroupState>), OpenError> {
        match read_meta(disk)? {
            None => Directory::create(disk, cfg, now).map(|d| (d, Vec::new())),
            Some(meta) => Directory::reopen(disk, cfg, now, &meta),
        }
    }

    fn create(disk: &dyn DiskRead, cfg: DirectoryConfig, now: Now) -> Result<Directory, OpenError> {
        let leftovers = disk.list("groups")?;
        if !leftovers.is_empty() {
            let detail = format!(
                "`meta` is missing but there are {} groups: restore `meta` and the state log from a backup",
                leftovers.len()
            );
            return Err(OpenError::Damaged(Damage { file: META.to_string(), pos: 0, detail }));
        }
        let id = cfg.new_directory_id;
        // A node that looks for its cluster may be refused there: the id comes with its place.
        let placed = !cfg.founders.0.is_empty();
        let meta = DirectoryMeta {
            directory_id: Bytes::copy_from_slice(&id),
            cluster_id: if placed { cfg.cluster_id.clone() } else { String::new() },
            node_id: cfg.node_id,
            founders: cfg.founders.0.clone(),
            metadata_replica: cfg.founders.1,
        };
        let (bytes, state) = StateLog::create(vec![Item::Identity(id, cfg.boot_id)], cfg.state_log_bytes);
        let mut dir = Directory::assemble(cfg, state, now);
        dir.directory_id = id;
        dir.meta = meta.clone();
        dir.founding = Some(Founding::new(bytes, encode_meta(&meta)));
        dir.found(now.mono);
        Ok(dir)
    }

    fn reopen(
        disk: &dyn DiskRead,
        cfg: DirectoryConfig,
        now: Now,
        meta: &DirectoryMeta,
    ) -> Result<(Directory, Vec<GroupState>), OpenError> {
        // Either may not have been told yet.
        let told = !meta.cluster_id.is_empty() && !cfg.cluster_id.is_empty();
        if told && meta.cluster_id != cfg.cluster_id || meta.node_id != cfg.node_id {
            let (theirs, ours) = if meta.node_id == cfg.node_id {
                (format!("cluster '{}'", meta.cluster_id), format!("cluster '{}'", cfg.cluster_id))
            } else {
                (format!("node {}", meta.node_id), format!("node {}", cfg.node_id))
            };
            return Err(OpenError::Foreign(format!(
                "the data directory belongs to {theirs}, this is {ours}"
            )));
        }
        let Some(read) = state_log::read(disk, cfg.accept_state_log_damage)? else {
            let detail =
                "the state log is missing or empty, but `meta` says that it was written: restore it \
                          from a backup"
                    .to_string();
            return Err(OpenError::Damaged(Damage { file: FILES[0].to_string(), pos: 0, detail }));
        };
        let id: [u8; 16] = meta.directory_id[..].try_into().unwrap_or_default();
        if read.image.directory_id != id {
            let text = format!("`{}` belongs to another data directory", FILES[read.file]);
            return Err(OpenError::Foreign(text));
        }
        let state = StateLog::resume(read.file, read.number, read.exists, cfg.state_log_bytes);
        let mut dir = Directory::assemble(cfg, state, now);
        dir.directory_id = id;
        dir.meta = meta.clone();
        dir.was_clean = read.image.clean;
        dir.was_other_boot = read.image.boot_id != dir.cfg.boot_id;
        dir.groups = read.image.groups;
        dir.had_failed = HadFailed::look(disk)?;
        let lost = dir.was_other_boot && !dir.was_clean || dir.had_failed();
        if lost && !planted(Bug::LossForgotten) {
            // The snapshot that the first round writes says both, or neither: this start and what it found.
            let hit = dir.groups.values_mut().filter(|row| row.relaxed && row.floor == 0);
            hit.for_each(|row| row.floor = UNKNOWN_FLOOR);
        }
        if dir.cfg.accept_state_log_damage {
            dir.adopt(disk)?;
        }
        dir.rounds.want_now();
        let states = dir.groups.iter().map(|(key, row)| GroupState::of(*key, row)).collect();
        Ok((dir, states))
    }

    /// Groups that have files and no row: where the state log is damaged the row may have been behind the
    /// damage, so they are recovered from their files and not taken for new.
    fn adopt(&mut self, disk: &dyn DiskRead) -> Result<(), OpenError> {
        for key in disk.list("groups")?.iter().filter_map(|name| GroupKey::parse(name)) {
            if !self.groups.contains_key(&key) {
                self.row(key);
                self.rounds.changed(key, true);
                self.adopted.push(key);
            }
        }
        Ok(())
    }

    fn assemble(cfg: DirectoryConfig, state: StateLog, now: Now) -> Directory {
        Directory {
            fx: StorageFx::new(cfg.tail_cache_bytes),
            cfg,
            state,
            groups: BTreeMap::new(),
            born: BTreeMap::new(),
            removals: BTreeMap::new(),
            rounds: Rounds::new(now.mono),
            directory_id: [0; 16],
            meta: DirectoryMeta::default(),
            recovers: BTreeMap::new(),
            asides: BTreeMap::new(),
            fenced: None,
            founding: None,
            space_low: false,
            told_full: false,
            was_clean: false,
            was_other_boot: false,
            had_failed: HadFailed::No,
            adopted: Vec::new(),
            changing: false,
        }
    }

    /// Changes what all groups share.
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut Directory) -> R) -> R {
        self.changing = true;
        let result = change(self);
        self.changing = false;
        result
    }

    /// Whether what all groups share is whole: a panic may have come in the midst of a change of it. Then nothing
    /// may be written any more.
    pub fn is_whole(&self) -> bool {
        !self.changing
    }

    /// Effects and allocators.
    pub fn fx(&mut self) -> &mut StorageFx {
        &mut self.fx
    }

    /// What the disk is to do now, in this order; to be drained after every call.
    pub fn ops(&mut self) -> std::vec::Drain<'_, DiskOp> {
        match &mut self.founding {
            Some(founding) => founding.ops.drain(..),
            None => self.fx.ops.drain(..),
        }
    }

    /// Starts the recovery of a group; ends with [`DirEvent::Recovered`].
    pub fn recover(&mut self, job: RecoverJob) {
        let token = self.fx.token();
        self.recovers.insert(token, job.key);
        self.fx.ops.push(DiskOp::Recover { job: Box::new(job), token });
    }

    /// Entries of `log` up to its last index were appended. `relaxed`: they count as persisted once written (but
    /// for the first ones of a group, which are synced with the record that it is there).
    /// `data`: batches of clients are among them, which a full disk may give up. Returns the number of the
    /// round that will carry them.
    pub fn dirty(&mut self, log: &Log, relaxed: bool, data: bool) -> u64 {
        self.change(|dir| dir.note_appended(log, relaxed, data))
    }

    fn note_appended(&mut self, log: &Log, relaxed: bool, data: bool) -> u64 {
        if !self.groups.contains_key(&log.key()) {
            // The first entries and the record that says "touched" are one round: without it, a start would
            // take the group for new.
            self.row(log.key());
            self.rounds.changed(log.key(), true);
        }
        if relaxed {
            self.relax(log.key());
        }
        // Until that record is there, written is not enough.
        let relaxed = relaxed && !self.rounds.is_fresh(log.key());
        self.rounds.dirty(log.key(), log.end(), log.commit(), relaxed, data)
    }

    /// After [`Log::from_recovered`]: `true` when the tail is being written again, and the group may start
    /// only at its [`DirEvent::Persisted`], which here means synced and marked.
    pub fn reopened(&mut self, log: &Log) -> bool {
        if log.rewriting() {
            self.change(|dir| {
                dir.rounds.dirty(log.key(), log.end(), log.commit(), false, false);
                dir.rounds.withhold(log.key());
            });
        }
        log.rewriting()
    }

    /// Records term and vote. With `must_sync` a round is due at once; otherwise it rides along. Returns the
    /// round's number: durable at the first [`DirEvent::Persisted`] of the group whose `round` reaches it.
    pub fn set_hard_state(&mut self, key: GroupKey, hard: HardState, must_sync: bool) -> u64 {
        self.change(|dir| {
            dir.row(key).hard = hard;
            dir.rounds.changed(key, must_sync)
        })
    }

    /// Tells the commit index for the next mark.
    pub fn set_commit(&mut self, key: GroupKey, index: u64) {
        self.change(|dir| {
            if let Some(mark) = dir.groups.get_mut(&key).and_then(|row| row.mark.as_mut()) {
                mark.commit = mark.commit.max(index.min(mark.durable_index));
            }
            dir.rounds.set_commit(key, index);
        });
    }

    /// Feeds a completion; pushes what became true. Call `pump` afterwards.
    pub fn on_completion(&mut self, now: Now, c: Completion, out: &mut Vec<DirEvent>) {
        if self.fenced.is_some() {
            return;
        }
        match c {
            Completion::Written { token, result } => self.on_written(now, token, result, out),
            Completion::Synced { token, result, micros } => self.on_synced(now, token, result, micros, out),
            Completion::Put { token, result } if self.founds(token) => {
                self.on_founded(now.mono, result, out);
            }
            Completion::Put { token, result } if self.asides.contains_key(&token) => {
                self.put_aside_done(token, result, out);
            }
            Completion::Put { token, result } => {
                let kind = self.fx.puts.remove(&token);
                if result.as_ref().is_err_and(|e| e.kind == DiskErrorKind::Full) {
                    self.spend_reserve();
                }
                let ok = match result {
                    Err(e) if e.kind != DiskErrorKind::Full => return self.fence(e.detail, out),
                    result => result.is_ok(),
                };
                if let Some(PutKind::Checkpoint(key, index)) = kind {
                    out.push(DirEvent::CheckpointDone { key, index, ok });
                }
            }
            Completion::Recovered { token, result } => {
                if let Some(key) = self.recovers.remove(&token) {
                    out.push(DirEvent::Recovered { key, result });
                }
            }
            Completion::Looked { token, result } => self.aside_done(token, AsideDone::Looked(result), out),
            Completion::Cleaned { token, done } => self.aside_done(token, AsideDone::Cleaned(done), out),
            Completion::Removed { token, result } => {
                if let Some(key) = self.removals.remove(&token) {
                    out.push(DirEvent::Removed { key, ok: result.is_ok() });
                }
            }
            Completion::Space { low } => {
                self.space_low = low;
                self.tell_full(out);
            }
        }
    }

    pub(crate) fn tell_full(&mut self, out: &mut Vec<DirEvent>) {
        if self.full() != self.told_full {
            self.told_full = self.full();
            out.push(DirEvent::DiskFull(self.told_full));
        }
    }

    pub(crate) fn fence(&mut self, detail: String, out: &mut Vec<DirEvent>) {
        if self.fenced.is_none() {
            self.fenced = Some(detail.clone());
            self.fx.ops.clear();
            self.founding = None;
            out.push(DirEvent::Fenced { detail });
        }
    }

    /// Why the directory is fenced.
    pub fn fenced(&self) -> Option<&str> {
        self.fenced.as_deref()
    }

    /// Whether nothing waits: all handed over is synced and marked, all files put, no recovery runs.
    pub fn idle(&self) -> bool {
        self.founding.is_none() && self.rounds.idle() && self.fx.puts.is_empty() && self.recovers.is_empty()
    }

    /// When the sync began that runs and that acknowledgements wait for: one that hangs is a disk that hangs. One of
    /// marks alone does not count: behind a flush of gigabytes (`write.caching`) it takes as long as that.
    pub fn syncing_since(&self) -> Option<Mono> {
        self.rounds.syncing_since()
    }

    /// Whether appends of clients are to be refused for lack of space.
    pub fn full(&self) -> bool {
        self.space_low || self.rounds.stall.is_some() || self.founding.as_ref().is_some_and(Founding::stalled)
    }

    /// Whether the previous stop was clean.
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Whether the machine was started anew since the directory was last open: what was only written is lost.
    pub fn was_other_boot(&self) -> bool {
        self.was_other_boot
    }

    /// Groups that a damaged state log does not name and that have files, see
    /// [`DirectoryConfig::accept_state_log_damage`].
    pub fn adopted(&self) -> &[GroupKey] {
        &self.adopted
    }

    /// 16 bytes that name this directory.
    pub fn directory_id(&self) -> [u8; 16] {
        self.directory_id
    }

    /// The first members of the metadata group, and this directory's replica of it; empty while the node does
    /// not know its cluster.
    pub fn founders(&self) -> (&[Replica], u64) {
        (&self.meta.founders, self.meta.metadata_replica)
    }

    /// The cluster that the directory was made for, or has joined; empty where that is not known.
    pub fn cluster_id(&self) -> &str {
        &self.meta.cluster_id
    }

    /// Whether the directory's own files are durable.
    pub fn is_founded(&self) -> bool {
        self.founding.is_none()
    }

    /// The node has found its cluster. That is durable before anything else is written from now on.
    pub fn join(&mut self, now: Mono, cluster_id: &str, founders: Vec<Replica>, replica: u64) {
        if !cluster_id.is_empty() {
            self.meta.cluster_id = cluster_id.to_owned();
        }
        (self.meta.founders, self.meta.metadata_replica) = (founders, replica);
        let meta = encode_meta(&self.meta);
        self.founding.get_or_insert_with(Founding::again).put_meta(meta);
        self.found(now);
    }

    /// When `pump` wants to be called next.
    pub fn next_deadline(&self) -> Option<Mono> {
        match &self.founding {
            _ if self.fenced.is_some() => None,
            Some(founding) => founding.retry_at,
            None => [self.rounds.next_deadline(), self.flush_at()].into_iter().flatten().min(),
        }
    }

    /// Syncs and marks everything handed over; [`DirEvent::Stopped`] when done.
    pub fn clean_stop(&mut self) {
        self.rounds.stop();
    }
}
