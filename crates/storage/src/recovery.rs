//! Reads a group's files back into memory: what is good, what is above the mark, what is damaged.
//!
//! The case analysis is in docs/log-format.md, "Recovery of a group".
use crate::checkpoint::{self, Checkpoint};
use crate::directory::Mark;
use crate::disk_op::DiskRead;
use crate::epoch::EpochTable;
use crate::error::{Damage, RecoverError};
use crate::frame::EntryHead;
use crate::scan::Scan;
use crate::segment::{Active, Segment, log_name, number_of};
use crate::sparse_index::SparseIndex;
use bytes::Bytes;
use model::GroupKey;
use model::planted::{Bug, planted};
use records::BatchHeader;
use std::collections::{BTreeSet, VecDeque};

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
    pub(crate) found: Found,
}

/// What only [`crate::Log`] needs.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) dir: String,
    pub(crate) first_index: u64,
    pub(crate) first_offset: i64,
    pub(crate) prev_chain: u32,
    pub(crate) chain: u32,
    pub(crate) terms: Vec<(u64, u64)>,
    pub(crate) epochs: EpochTable,
    pub(crate) segments: Vec<Segment>,
    pub(crate) active: Option<Active>,
    pub(crate) points: VecDeque<Segment>,
    pub(crate) checkpoint_files: Vec<u64>,
    pub(crate) scanned_bytes: u64,
    /// (file, position, bytes) of what was kept above the mark.
    pub(crate) rewrite: Vec<(u64, u64, u64)>,
    pub(crate) lost_indexes: Vec<(Segment, SparseIndex)>,
    /// Files that only an older checkpoint names.
    pub(crate) replaced: Vec<Segment>,
    /// Names of files that no checkpoint and no frame leads to.
    pub(crate) orphans: Vec<String>,
}

impl Recovered {
    /// Whether bytes above the mark were kept: [`crate::Log::from_recovered`] writes them again, and the
    /// group starts only after [`crate::Directory::reopened`] reported them persisted (and marked).
    pub fn needs_rewrite(&self) -> bool {
        self.needs_rewrite
    }
}

/// Recovers one group from its mark, its newest checkpoint and its files. Changes nothing.
pub fn recover(job: &RecoverJob, disk: &dyn DiskRead) -> Result<Recovered, RecoverError> {
    let names: BTreeSet<String> = disk.list(&job.dir)?.into_iter().collect();
    let Checkpoints { newest: checkpoint, older, files: checkpoint_files } =
        newest_checkpoint(job, disk, &names)?;
    let mut scan = Scan::begin(job, disk, &names, &checkpoint)?;
    scan.run()?;
    let marked = job.mark.map_or(0, |m| m.durable_index);
    if scan.index < marked && !planted(Bug::TruncateBelowMark) {
        return Err(RecoverError::Damaged(scan.ends_below(marked)));
    }
    let commit = job.mark.map_or(0, |m| m.commit.min(m.durable_index)).max(checkpoint.index).min(scan.index);
    let mut points = std::mem::take(&mut scan.points);
    while points.front().is_some_and(|p| p.end_index < commit) {
        points.pop_front();
    }
    let replaced = replaced_since(older.as_ref(), &checkpoint, &names);
    let orphans = orphans(&names, &scan, &checkpoint_files, &replaced);
    Ok(Recovered {
        key: job.key,
        commit,
        last_index: scan.index,
        last_term: scan.last_term(),
        next_offset: scan.next_offset,
        base_damage: scan.base_damage,
        needs_rewrite: !scan.rewrite.is_empty(),
        entries: scan.entries,
        found: Found {
            dir: job.dir.clone(),
            first_index: checkpoint.first_index,
            first_offset: checkpoint.first_offset,
            prev_chain: checkpoint.prev_chain,
            chain: scan.chain,
            terms: scan.terms,
            epochs: scan.epochs,
            segments: scan.segments,
            active: scan.active,
            points,
            checkpoint_files,
            scanned_bytes: scan.scanned_bytes,
            rewrite: scan.rewrite,
            lost_indexes: scan.lost_indexes,
            replaced,
            orphans,
        },
        checkpoint,
    })
}

/// The newest checkpoint of a group that is whole, or its birth: what is known of one that [`recover`] refuses.
pub fn last_checkpoint(job: &RecoverJob, disk: &dyn DiskRead) -> Result<Checkpoint, RecoverError> {
    let names: BTreeSet<String> = disk.list(&job.dir)?.into_iter().collect();
    newest_checkpoint(job, disk, &names).map(|found| found.newest)
}

/// The checkpoints of a group that are whole.
struct Checkpoints {
    newest: Checkpoint,
    /// The one before it.
    older: Option<Checkpoint>,
    files: Vec<u64>,
}

/// Files that compaction has replaced and that the older checkpoint, which serves when the newest is damaged, still
/// names: they stay for as long as it does.
fn replaced_since(older: Option<&Checkpoint>, newest: &Checkpoint, names: &BTreeSet<String>) -> Vec<Segment> {
    let listed: BTreeSet<&str> = newest
        .files
        .iter()
        .chain(&newest.window_files)
        .chain(&newest.active)
        .map(|row| &row.name[..])
        .collect();
    let rows = older.iter().flat_map(|c| c.files.iter().chain(&c.window_files).chain(&c.active));
    let covered = |s: &Segment| {
        let by = |row: &crate::BaseFile| {
            row.clean_generation > 0
                && row.first_offset <= s.first_offset
                && row.last_offset + 1 >= s.next_offset
        };
        newest.files.iter().any(by)
    };
    rows.filter(|row| !listed.contains(&row.name[..]) && names.contains(&row.name))
        .filter_map(Segment::from_row)
        .filter(|s| s.next_offset > newest.log_start && covered(s))
        .collect()
}

/// The newest checkpoint that is whole, the one before it, and the numbers of all that are, oldest first. A damaged one is
/// rebuilt from an older one and the frames since.
fn newest_checkpoint(
    job: &RecoverJob,
    disk: &dyn DiskRead,
    names: &BTreeSet<String>,
) -> Result<Checkpoints, RecoverError> {
    let (mut newest, mut older) = (None, None);
    let mut files = Vec::new();
    let mut damage = None;
    for name in names.iter().rev() {
        let Some(index) = number_of(name, ".ckpt") else { continue };
        let path = format!("{}/{name}", job.dir);
        let len = usize::try_from(disk.len(&path)?.unwrap_or(0)).unwrap_or(usize::MAX);
        let decoded = checkpoint::decode(job.key, &disk.read(&path, 0, len)?);
        match decoded {
            Ok(checkpoint) if checkpoint.index == index => {
                files.insert(0, index);
                if newest.is_none() {
                    newest = Some(checkpoint);
                } else {
                    older.get_or_insert(checkpoint);
                }
            }
            Ok(_) => _ = damage.get_or_insert((path, "its name is not its index")),
            Err(why) => _ = damage.get_or_insert((path, why)),
        }
    }
    match (newest, damage) {
        (Some(newest), _) => Ok(Checkpoints { newest, older, files }),
        (None, Some((file, why))) if !names.contains(&log_name(job.birth.first_index)) => {
            let detail = format!(
                "the only checkpoint is damaged ({why}) and the frames before it are gone: restore the file or \
                 the group from a replica or a backup; nothing was changed"
            );
            Err(RecoverError::Damaged(Damage { file, pos: 0, detail }))
        }
        (None, _) => Ok(Checkpoints { newest: job.birth.clone(), older, files }),
    }
}

fn orphans(
    names: &BTreeSet<String>,
    scan: &Scan<'_>,
    checkpoints: &[u64],
    replaced: &[Segment],
) -> Vec<String> {
    let active = scan.active.as_ref().map(|a| a.segment.first_index);
    let sealed: BTreeSet<u64> = scan.segments.iter().chain(replaced).map(|s| s.number()).collect();
    let orphan = |name: &&String| {
        if let Some(index) = number_of(name, ".log") {
            active != Some(index) && !sealed.contains(&index)
        } else if let Some(index) = number_of(name, ".idx") {
            !sealed.contains(&index)
        } else if let Some(index) = number_of(name, ".ckpt") {
            !checkpoints.contains(&index)
        } else {
            name.ends_with(".tmp")
        }
    };
    names.iter().filter(orphan).cloned().collect()
}
