//! Reads a group's files back into memory: what is good, what is above the mark, what is damaged.
use crate::checkpoint::Checkpoint;
use crate::directory::Mark;
use crate::disk_op::DiskRead;
use crate::error::{Damage, RecoverError};
use crate::frame::EntryHead;
use bytes::Bytes;
use model::GroupKey;
use records::BatchHeader;

/// What [`recover`] needs to know.
#[derive(Clone, Debug)]
pub struct RecoverJob {
    /// The group.
    pub key: GroupKey,
    /// Its directory.
    pub dir: String,
    /// The newest mark of the state log; `None`: never marked.
    pub mark: Option<Mark>,
    /// The birth checkpoint that the metadata implies.
    pub birth: Checkpoint,
}

/// One batch of a data entry above the checkpoint.
#[derive(Clone, Debug)]
pub struct RecoveredBatch {
    /// Its header.
    pub header: BatchHeader,
    /// The whole batch where it is a control batch.
    pub control: Option<Bytes>,
}

/// What an entry carries, as far as replay needs it.
#[derive(Clone, Debug)]
pub enum EntryBody {
    /// Data: headers only (control batches whole).
    Data(Vec<RecoveredBatch>),
    /// Any other kind: the payload.
    Whole(Bytes),
}

/// One entry above the checkpoint.
#[derive(Clone, Debug)]
pub struct RecoveredEntry {
    /// Its header.
    pub head: EntryHead,
    /// Its payload, summarised.
    pub body: EntryBody,
}

/// A group read back from disk.
#[derive(Debug)]
pub struct Recovered {
    /// The group.
    pub key: GroupKey,
    /// The newest checkpoint (birth where there is none).
    pub checkpoint: Checkpoint,
    /// Entries above the checkpoint up to `last_index`, in order.
    pub entries: Vec<RecoveredEntry>,
    /// max(marked commit, checkpoint index).
    pub commit: u64,
    /// Last index found good.
    pub last_index: u64,
    /// Term of the last entry (for `term = max(state log, last frame)`).
    pub last_term: u64,
    /// The next offset.
    pub next_offset: i64,
    /// Damage in the base: only reads of these ranges fail.
    pub base_damage: Vec<Damage>,
    pub(crate) needs_rewrite: bool,
}

impl Recovered {
    /// Whether bytes above the mark were kept: [`crate::Log::from_recovered`] writes them again, and the
    /// group starts only after [`crate::Directory::reopened`] reported them persisted (and marked).
    pub fn needs_rewrite(&self) -> bool {
        self.needs_rewrite
    }
}

/// Recovers one group from its mark, its newest checkpoint and its files.
pub fn recover(_job: &RecoverJob, _disk: &dyn DiskRead) -> Result<Recovered, RecoverError> {
    panic!("signature only")
}
