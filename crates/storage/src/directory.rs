//! One data directory: its state log, the rounds of sync and mark, the fence.
use crate::config::DirectoryConfig;
use crate::disk_op::{Completion, DiskRead};
use crate::error::{OpenError, RecoverError};
use crate::fx::StorageFx;
use crate::log::Log;
use crate::recovery::{RecoverJob, Recovered};
use model::{GroupKey, Mono, Now};

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
    /// handed over with a number of at most `round` is synced.
    Persisted {
        /// Group.
        key: GroupKey,
        /// Index.
        index: u64,
        /// Number, see [`Directory::set_hard_state`].
        round: u64,
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
    /// The directory is fenced: nothing more is acknowledged or written.
    Fenced {
        /// What failed.
        detail: String,
    },
    /// Space ran out (true: refuse new appends of clients) or is back.
    DiskFull(bool),
    /// A sync ended, for the metrics.
    SyncStats {
        /// How long it took.
        micros: u64,
        /// Files synced.
        files: u32,
        /// Groups that it made durable.
        groups: u32,
    },
    /// After [`Directory::clean_stop`]: everything is synced and marked.
    Stopped,
}

/// One data directory.
#[derive(Debug)]
pub struct Directory {
    fx: StorageFx,
}

#[allow(unused_variables)]
impl Directory {
    /// Reads `meta` and the state log and begins a fresh state log file (through `fx().ops`). Refuses damage.
    pub fn open(
        disk: &dyn DiskRead,
        cfg: DirectoryConfig,
        now: Now,
    ) -> Result<(Directory, Vec<GroupState>), OpenError> {
        panic!("signature only")
    }

    /// Effects and allocators; drain `fx().ops` after every call.
    pub fn fx(&mut self) -> &mut StorageFx {
        &mut self.fx
    }

    /// Starts the recovery of a group; ends with [`DirEvent::Recovered`].
    pub fn recover(&mut self, job: RecoverJob) {
        panic!("signature only")
    }

    /// Entries of `log` up to its last index were appended. `relaxed`: they count as persisted once written.
    /// Returns the number of the round that will carry them.
    pub fn dirty(&mut self, log: &Log, relaxed: bool) -> u64 {
        panic!("signature only")
    }

    /// After [`Log::from_recovered`]: `true` when the tail is being written again, and the group may start
    /// only at its [`DirEvent::Persisted`], which here means synced and marked.
    pub fn reopened(&mut self, log: &Log) -> bool {
        panic!("signature only")
    }

    /// Records term and vote. With `must_sync` a round is due at once; otherwise it rides along. Returns the
    /// round's number: durable at the first [`DirEvent::Persisted`] of the group whose `round` reaches it.
    pub fn set_hard_state(&mut self, key: GroupKey, hard: HardState, must_sync: bool) -> u64 {
        panic!("signature only")
    }

    /// Tells the commit index for the next mark.
    pub fn set_commit(&mut self, key: GroupKey, index: u64) {
        panic!("signature only")
    }

    /// Marks a replica failed (not opened again without a command) or, with `None`, well again.
    pub fn set_failed(&mut self, key: GroupKey, why: Option<String>) {
        panic!("signature only")
    }

    /// Forgets a deleted group.
    pub fn forget(&mut self, key: GroupKey) {
        panic!("signature only")
    }

    /// Ends a turn: a barrier for new writes; a sync round when one is due and none runs.
    pub fn pump(&mut self, now: Now) {
        panic!("signature only")
    }

    /// Feeds a completion; pushes what became true. Call `pump` afterwards.
    pub fn on_completion(&mut self, now: Now, c: Completion, out: &mut Vec<DirEvent>) {
        panic!("signature only")
    }

    /// When `pump` wants to be called next.
    pub fn next_deadline(&self) -> Option<Mono> {
        panic!("signature only")
    }

    /// Why the directory is fenced.
    pub fn fenced(&self) -> Option<&str> {
        panic!("signature only")
    }

    /// Whether appends of clients are to be refused for lack of space.
    pub fn full(&self) -> bool {
        panic!("signature only")
    }

    /// Whether the previous stop was clean.
    pub fn was_clean(&self) -> bool {
        panic!("signature only")
    }

    /// 16 bytes that name this directory.
    pub fn directory_id(&self) -> [u8; 16] {
        panic!("signature only")
    }

    /// Syncs and marks everything handed over; [`DirEvent::Stopped`] when done.
    pub fn clean_stop(&mut self) {
        panic!("signature only")
    }
}
