//! Data files looked at offline, without changing anything: for `plimsoll log dump` and `verify`.
use crate::checkpoint::birth;
use crate::directory::{GroupState, read_meta};
use crate::disk_op::{DiskError, DiskRead};
use crate::error::{Damage, OpenError};
use crate::frame::{Frame, FrameError};
use crate::frame_reader::{FrameReader, Next};
use crate::recovery::{RecoverJob, recover};
use crate::segment::{is_cleaned, number_of};
use crate::state_log;
use model::{GroupKey, TopicId};
use std::collections::BTreeMap;

/// What `meta` says: see [`directory_meta`].
pub use proto::storage::DirectoryMeta;

/// A frame and where it stands.
#[derive(Debug)]
pub struct FrameAt {
    /// Position of its first byte.
    pub pos: u64,
    /// The frame; `raw` is all of it.
    pub frame: Frame,
    /// Whether it follows the frame before in this file (index, offset and chain). Frames that do not are
    /// left over from an earlier use of the file.
    pub follows: bool,
}

/// Frames of one data file from its start: [`frames`].
pub struct Frames<'a> {
    reader: FrameReader<'a>,
    last: Option<(u64, i64, u32)>,
    /// Why the walk ended, once it has; `None` at the end of the file.
    end: Option<FrameError>,
    done: bool,
    /// Compaction wrote the file: indexes and offsets have gaps.
    cleaned: bool,
}

/// Walks one data file. Ends at the first bytes that are no frame (pre-written or left over, where the log
/// goes on in the next file; [`Frames::ended_by`] says what they look like) and at the first frame that does
/// not follow, which it returns.
pub fn frames<'a>(disk: &'a dyn DiskRead, path: &str) -> Result<Frames<'a>, DiskError> {
    let len = disk.len(path)?.unwrap_or(0);
    Ok(Frames {
        reader: FrameReader::new(disk, path.to_string(), 0, len),
        last: None,
        end: None,
        done: false,
        cleaned: path.rsplit('/').next().and_then(|name| number_of(name, ".log")).is_some_and(is_cleaned),
    })
}

impl Frames<'_> {
    /// What stands where the walk ended; `None` at the end of the file.
    pub fn ended_by(&self) -> Option<FrameError> {
        self.end
    }

    /// Where the walk stands.
    pub fn pos(&self) -> u64 {
        self.reader.pos()
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<FrameAt, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let pos = self.reader.pos();
        match self.reader.next() {
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
            Ok(Next::Bad(error)) => {
                self.done = true;
                let at_end = matches!(error, FrameError::Short { .. }) && self.reader.at_end();
                self.end = (!at_end).then_some(error);
                None
            }
            Ok(Next::Frame(frame)) => {
                let head = &frame.header.head;
                let wanted = (head.index, head.base_offset, frame.header.prev_crc);
                let cleaned = self.cleaned;
                let follows = self.last.is_none_or(|last| {
                    let gap = head.index + 1 >= last.0 && head.base_offset >= last.1;
                    last == wanted || cleaned && gap && frame.header.prev_crc == last.2
                });
                self.done = !follows;
                self.last = Some((head.index + 1, head.next_offset(), frame.header.crc));
                Some(Ok(FrameAt { pos, frame, follows }))
            }
        }
    }
}

/// What one file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Relative to the data directory.
    pub path: String,
    /// Whole frames that follow each other.
    pub frames: u64,
    /// (first, last) raft index; `None` without frames.
    pub indexes: Option<(u64, u64)>,
    /// (first, next) offset.
    pub offsets: (i64, i64),
    /// Bytes of these frames.
    pub bytes: u64,
    /// The first bad byte of what must be good.
    pub damage: Option<Damage>,
}

/// What a group's directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// The group.
    pub key: GroupKey,
    /// Last index that a start would find.
    pub last_index: Option<u64>,
    /// Index of the checkpoint that a start would use.
    pub checkpoint: Option<u64>,
    /// Why a start would refuse the group.
    pub refused: Option<String>,
    /// Its files, oldest first.
    pub files: Vec<FileReport>,
}

impl GroupReport {
    /// Whether every byte that must be good is.
    pub fn is_clean(&self) -> bool {
        self.refused.is_none() && self.files.iter().all(|f| f.damage.is_none())
    }
}

/// The group that a directory below `groups/` belongs to.
pub fn group_of(dir_name: &str) -> Option<GroupKey> {
    let (topic, partition) = dir_name.split_at_checked(22)?;
    let partition = partition.strip_prefix('-')?.parse().ok()?;
    Some(GroupKey { topic: TopicId::parse(topic).ok()?, partition })
}

/// What `meta` says; `None` for a directory that was never used.
pub fn directory_meta(disk: &dyn DiskRead) -> Result<Option<DirectoryMeta>, OpenError> {
    read_meta(disk)
}

/// What the state log says about every group.
pub fn group_states(disk: &dyn DiskRead) -> Result<Vec<GroupState>, OpenError> {
    let groups = state_log::read(disk, false)?.map(|read| read.image.groups).unwrap_or_default();
    Ok(groups.into_iter().map(|(key, row)| GroupState::of(key, &row)).collect())
}

/// Reads every byte of a group that a start or a fetch would rely on. `state`: its row of the state log.
pub fn verify_group(
    disk: &dyn DiskRead,
    dir: &str,
    key: GroupKey,
    state: Option<&GroupState>,
) -> Result<GroupReport, DiskError> {
    let job = RecoverJob {
        key,
        dir: dir.to_string(),
        mark: state.and_then(|s| s.mark),
        birth: birth(key, Vec::new()),
    };
    let mut report =
        GroupReport { key, last_index: None, checkpoint: None, refused: None, files: Vec::new() };
    let mut sizes = BTreeMap::new();
    match recover(&job, disk) {
        Ok(found) => {
            report.last_index = Some(found.last_index);
            report.checkpoint = Some(found.checkpoint.index);
            let active = found.found.active.iter().map(|a| &a.segment);
            for segment in found.found.segments.iter().chain(active) {
                sizes.insert(segment.name(), segment.size);
            }
        }
        Err(error) => report.refused = Some(error.to_string()),
    }
    for name in disk.list(dir)?.into_iter().filter(|n| number_of(n, ".log").is_some()) {
        let size = sizes.remove(&name);
        report.files.push(verify_file(disk, &format!("{dir}/{name}"), size)?);
    }
    // One that compaction left empty was not sent to who was brought up with it.
    for (name, size) in sizes.into_iter().filter(|(_, size)| *size > 0) {
        let file = format!("{dir}/{name}");
        let damage = Damage { file: file.clone(), pos: 0, detail: format!("missing, {size} bytes") };
        report.files.push(FileReport { damage: Some(damage), ..FileReport::empty(file) });
    }
    Ok(report)
}

impl FileReport {
    fn empty(path: String) -> FileReport {
        FileReport { path, frames: 0, indexes: None, offsets: (0, 0), bytes: 0, damage: None }
    }
}

/// Reads one file; below `size`, where it is known, everything must be good.
fn verify_file(disk: &dyn DiskRead, path: &str, size: Option<u64>) -> Result<FileReport, DiskError> {
    let mut report = FileReport::empty(path.to_string());
    let mut walk = frames(disk, path)?;
    for next in walk.by_ref() {
        let next = next?;
        if !next.follows || size.is_some_and(|size| next.pos >= size) {
            break;
        }
        let head = next.frame.header.head;
        report.frames += 1;
        report.bytes += next.frame.raw.len() as u64;
        let first = report.indexes.map_or(head.index, |(first, _)| first);
        report.indexes = Some((first, head.index));
        let start = if report.frames == 1 { head.base_offset } else { report.offsets.0 };
        report.offsets = (start, head.next_offset());
    }
    if size.is_some_and(|size| report.bytes < size) {
        let why = walk.ended_by().map_or_else(|| "the frames end here".to_string(), |e| e.to_string());
        let detail = format!("{why}, {} bytes should follow", size.unwrap_or(0) - report.bytes);
        report.damage = Some(Damage { file: path.to_string(), pos: report.bytes, detail });
    }
    Ok(report)
}
