//! A panic in the machine of one group fails that group alone: its memory is dropped, the broker and its other
//! groups live. Only where something that all groups share may be half changed the panic goes on.
use crate::groups::Slot;
use crate::node::Node;
use model::{ErrorCode, GroupKey};
use partition::{AppendError, Opened, Partition, PartitionConfig, PartitionFx, Start};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use storage::HardState;

/// What a panic carries.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs `call`, whose memory is given up where it panics.
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(call))
}

/// What a panic says.
pub(crate) fn text_of(panic: &Panic) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// The broker cannot answer for what it keeps: the same, but nobody is told that it was done.
fn in_doubt(said: PartitionFx) -> Option<PartitionFx> {
    let code = ErrorCode::KafkaStorageError;
    match said {
        PartitionFx::AppendDone { token, result } => {
            let result = match result {
                // What the log refused is not in it.
                Err(error) => Err(error),
                Ok(_) => Err(AppendError { code, message: None, issues: Vec::new(), log_start: -1 }),
            };
            Some(PartitionFx::AppendDone { token, result })
        }
        PartitionFx::LogStartDone { token, .. } => {
            Some(PartitionFx::LogStartDone { token, result: Err(code) })
        }
        PartitionFx::Confirmed { token, .. } => Some(PartitionFx::Confirmed { token, result: Err(code) }),
        said @ PartitionFx::CommandFailed { .. } => Some(said),
        _ => None,
    }
}

impl Node {
    /// Looks at a running group; `None` where there is none, or it panicked.
    pub(crate) fn look<R>(&mut self, key: GroupKey, look: impl FnOnce(&Partition) -> R) -> Option<R> {
        let Some(Slot::Open(open)) = self.groups.get(&key) else { return None };
        match guarded(|| look(&open.partition)) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.panicked(key, panic);
                None
            }
        }
    }

    /// The machine of `key` panicked: what it said last is taken back, its waiters are answered, and the group is
    /// failed. The metadata's machine is the node's own.
    pub(crate) fn panicked(&mut self, key: GroupKey, panic: Panic) {
        if key == GroupKey::METADATA || !self.dir.is_whole() {
            resume_unwind(panic);
        }
        let mut said = std::mem::take(&mut self.scratch);
        if let Some(Slot::Open(open)) = self.groups.get_mut(&key) {
            let waiters = guarded(|| {
                let mut last = Vec::new();
                open.partition.fail(ErrorCode::KafkaStorageError, &mut last);
                last
            });
            // Who cannot be answered waits for his own patience.
            said.extend(waiters.unwrap_or_default());
        }
        self.said.extend(said.drain(..).filter_map(in_doubt).map(|said| (key, said)));
        self.scratch = said;
        let why = text_of(&panic);
        let detail = format!(
            "its state machine panicked, which is a fault of this program; it stays closed here: {why}"
        );
        self.said.push_back((key, PartitionFx::Resigned));
        self.said.push_back((key, PartitionFx::Failed(detail)));
    }

    /// Opens a replica that was read back. Errors: it panicked, and is marked failed.
    pub(crate) fn open_guarded(
        &mut self,
        key: GroupKey,
        start: Start,
        hard: HardState,
        id: u64,
        config: Arc<PartitionConfig>,
    ) -> Result<(Partition, Opened), String> {
        let (dir, seed) = (&mut self.dir, self.cfg.seed);
        guarded(|| Partition::open(key, start, hard, id, config, dir, seed)).map_err(|panic| {
            let why =
                format!("reading it back panicked, which is a fault of this program: {}", text_of(&panic));
            if !self.dir.is_whole() {
                resume_unwind(panic);
            }
            self.dir.set_failed(key, Some(why.clone()));
            why
        })
    }

    /// Closes the files of a group that failed, as far as its machine can still say which they are.
    pub(crate) fn close_failed(&mut self, partition: Partition) {
        let dir = &mut self.dir;
        if let Err(panic) = guarded(|| partition.close(dir))
            && !self.dir.is_whole()
        {
            resume_unwind(panic);
        }
    }
}
