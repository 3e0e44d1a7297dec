//! A replica that is brought up from another one's checkpoint: its files are put aside, looked at, made durable,
//! and only then taken for the group's own.
//!
//! Each life of a replica on this disk has a directory of its own, which its row in the state log names. What is
//! pulled goes into the directory of the next life; one record of the state log ends the old life and begins the
//! new one. A crash before it leaves the old replica, and what was pulled so far; a crash after it the new one.
use crate::checkpoint::{self, BaseFile, Checkpoint, checkpoint_name};
use crate::compact::{CleanedAside, FileWalk};
use crate::directory::{DirEvent, Directory, GroupState, Mark, UNKNOWN_FLOOR};
use crate::disk_op::{DiskError, DiskErrorKind, DiskOp, DiskRead, OpToken};
use crate::error::RecoverError;
use crate::frame_reader::{FrameReader, Next};
use crate::log::{Log, group_dir};
use crate::read::FileRange;
use crate::recovery::{RecoverJob, Recovered, recover};
use crate::segment::{Segment, log_name, number_of};
use bytes::Bytes;
use model::GroupKey;

/// The directory of a group's files in one of its lives on this disk.
pub fn generation_dir(key: GroupKey, generation: u32) -> String {
    if generation == 0 { group_dir(key) } else { format!("{}.{generation}", group_dir(key)) }
}

/// The group and life that a name below `groups` stands for.
pub fn parse_group_dir(name: &str) -> Option<(GroupKey, u32)> {
    if let Some(key) = GroupKey::parse(name) {
        return Some((key, 0));
    }
    let (key, generation) = name.rsplit_once('.')?;
    let generation = generation.parse().ok().filter(|n: &u32| *n > 0 && n.to_string() == generation)?;
    Some((GroupKey::parse(key)?, generation))
}

/// The file of a checkpoint that `file` stands for: 0 is the checkpoint itself, anything else the data file of
/// that number: its first index, or what compaction called it.
pub fn aside_path(dir: &str, checkpoint: u64, file: u64) -> String {
    if file == 0 {
        format!("{dir}/{}", checkpoint_name(checkpoint))
    } else {
        format!("{dir}/{}", log_name(file))
    }
}

/// What [`look`] needs to know.
#[derive(Clone, Debug)]
pub struct AsideJob {
    /// The group.
    pub key: GroupKey,
    /// Where its next life is being put together.
    pub dir: String,
    /// Index of the checkpoint that is to be complete.
    pub index: u64,
    /// The birth checkpoint that the metadata implies.
    pub birth: Checkpoint,
    /// Only check: a directory that is whole is not recovered.
    pub check: bool,
    /// A witness is to live here: of the checkpoint it takes the numbers, and no files.
    pub bare: bool,
    /// Only this file, whose first frame links to that chain value where it is known.
    pub only: Option<(BaseFile, Option<u32>)>,
}

/// Part of a file that is not here, or not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingPart {
    /// As in [`aside_path`].
    pub file: u64,
    /// Bytes at its beginning that are good.
    pub good: u64,
    /// Bytes that it must have; `u64::MAX` for a checkpoint, whose length shows when it ends.
    pub size: u64,
}

/// What was put aside so far.
#[derive(Debug)]
pub enum Aside {
    /// This is missing: the checkpoint alone, until it is here and says what else there is.
    Missing(Vec<MissingPart>),
    /// Checkpoints of other offers are here: they are to be removed, or a start would take one of them.
    Stale(Vec<String>),
    /// The checkpoint names files that this replica is not to have: these bytes are to take its place, then look again.
    Bare {
        /// The checkpoint's file.
        path: String,
        /// What is to be in it.
        bytes: Bytes,
    },
    /// Every byte was read and is good.
    Whole(Box<Recovered>),
    /// The same, of a directory that was only to be checked.
    Good,
}

/// What came of something that was asked for beside a replica's files.
#[derive(Debug)]
pub enum AsideDone {
    /// Of [`Directory::put_aside`] and [`Directory::sync_aside`]. `false`: there was no room, or the directory is
    /// gone.
    Stored(bool),
    /// Of [`Directory::look_aside`].
    Looked(Box<Result<Aside, RecoverError>>),
    /// Of a step of compaction.
    Cleaned(Box<CleanedAside>),
}

/// Looks at what was put aside: each frame's own checks, and that they follow one another in index, offset and chain
/// up to the checkpoint. Changes nothing.
pub fn look(job: &AsideJob, disk: &dyn DiskRead) -> Result<Aside, RecoverError> {
    if let Some((row, link)) = &job.only {
        let Some(segment) = Segment::from_row(row) else { return Ok(Aside::Good) };
        let (file, size) = (segment.number(), segment.size);
        let good = good_bytes(disk, &job.dir, &segment, *link)?;
        let missing = || Aside::Missing(vec![MissingPart { file, good, size }]);
        return Ok(if good < size { missing() } else { Aside::Good });
    }
    if !job.check {
        let other = |name: &String| number_of(name, ".ckpt").is_some_and(|index| index != job.index);
        let stale: Vec<String> = disk.list(&job.dir)?.into_iter().filter(other).collect();
        if !stale.is_empty() {
            return Ok(Aside::Stale(stale.iter().map(|name| format!("{}/{name}", job.dir)).collect()));
        }
    }
    let path = aside_path(&job.dir, job.index, 0);
    let len = usize::try_from(disk.len(&path)?.unwrap_or(0)).unwrap_or(usize::MAX);
    let found = if len == 0 { None } else { checkpoint::decode(job.key, &disk.read(&path, 0, len)?).ok() };
    let Some(checkpoint) = found.filter(|c| c.index == job.index) else {
        return Ok(Aside::Missing(vec![MissingPart { file: 0, good: 0, size: u64::MAX }]));
    };
    if job.bare && !is_bare(&checkpoint) {
        return Ok(Aside::Bare { path, bytes: checkpoint::encode(job.key, &bared(checkpoint)) });
    }
    let mut missing = Vec::new();
    let mut before: Option<Segment> = None;
    let rows = checkpoint.files.iter().chain(&checkpoint.window_files).chain(&checkpoint.active);
    for segment in rows.filter_map(Segment::from_row) {
        let link = before.filter(|b| b.end_index + 1 == segment.first_index).map(|b| b.end_chain);
        let good = good_bytes(disk, &job.dir, &segment, link)?;
        if good < segment.size {
            missing.push(MissingPart { file: segment.number(), good, size: segment.size });
        }
        before = Some(segment);
    }
    if !missing.is_empty() {
        return Ok(Aside::Missing(missing));
    }
    if job.check {
        return Ok(Aside::Good);
    }
    let mark = Some(mark_of(&checkpoint));
    let recovered =
        recover(&RecoverJob { key: job.key, dir: job.dir.clone(), mark, birth: job.birth.clone() }, disk)?;
    Ok(Aside::Whole(Box::new(recovered)))
}

/// Whether a checkpoint stands for nothing but a position and the members.
fn is_bare(c: &Checkpoint) -> bool {
    c.files.is_empty() && c.window_files.is_empty() && c.active.is_none() && c.log_start == c.next_offset
}

/// What a witness takes of a checkpoint: its log begins after it.
fn bared(c: Checkpoint) -> Checkpoint {
    Checkpoint {
        log_start: c.next_offset,
        files: Vec::new(),
        producers: Bytes::new(),
        machine: Bytes::new(),
        first_index: c.index + 1,
        prev_term: c.term,
        prev_chain: c.chain,
        first_offset: c.next_offset,
        terms: Vec::new(),
        window_files: Vec::new(),
        active: None,
        active_index: Bytes::new(),
        ..c
    }
}

/// Bytes at the beginning of a file that hold the frames which its row tells of; a file that ends elsewhere than
/// the row says has none.
fn good_bytes(disk: &dyn DiskRead, dir: &str, s: &Segment, link: Option<u32>) -> Result<u64, DiskError> {
    let path = aside_path(dir, 0, s.number());
    let Some(len) = disk.len(&path)? else { return Ok(0) };
    if s.clean.is_some() {
        return good_cleaned(disk, path, s, len);
    }
    let mut reader = FrameReader::new(disk, path, 0, len.min(s.size));
    let (mut index, mut offset, mut chain) = (s.first_index, s.first_offset, link);
    let mut term = 0;
    loop {
        let at = reader.pos();
        let Next::Frame(frame) = reader.next()? else { return Ok(at) };
        let head = frame.header.head;
        let follows = head.index == index
            && head.base_offset == offset
            && head.term >= term
            && chain.is_none_or(|chain| frame.header.prev_crc == chain);
        if !follows {
            return Ok(at);
        }
        (index, offset, term) = (head.index + 1, head.next_offset(), head.term);
        chain = Some(frame.header.crc);
        if reader.pos() == s.size {
            let ends = (index - 1, offset, term, chain)
                == (s.end_index, s.next_offset, s.end_term, Some(s.end_chain));
            return Ok(if ends { s.size } else { 0 });
        }
    }
}

/// The same of a file that compaction wrote: frames that follow one another, by a chain of their own, up to the one
/// that its row names. What is as long as it must be and is not that file is no beginning of it either.
fn good_cleaned(disk: &dyn DiskRead, path: String, s: &Segment, len: u64) -> Result<u64, DiskError> {
    let mut reader = FrameReader::new(disk, path, 0, len.min(s.size));
    let mut walk = FileWalk::of(s);
    while reader.pos() < s.size {
        let at = reader.pos();
        match reader.next()? {
            Next::Frame(frame) if walk.follows(&frame.header) => walk.pass(&frame.header),
            Next::Frame(_) | Next::Bad(_) => return Ok(if len >= s.size { 0 } else { at }),
        }
    }
    Ok(if walk.ends(s) { s.size } else { 0 })
}

/// Everything up to a checkpoint is durable.
fn mark_of(checkpoint: &Checkpoint) -> Mark {
    let last = checkpoint.active.as_ref().or(checkpoint.window_files.last()).or(checkpoint.files.last());
    let last = last.and_then(Segment::from_row);
    let (segment, pos) = last.map_or((0, 0), |s| (s.number(), s.size));
    let (durable_index, chain) = (checkpoint.index, checkpoint.chain);
    Mark { durable_index, chain, segment, pos, commit: durable_index }
}

impl Directory {
    /// Which life the replica of `key` is in on this disk, and its [`GroupState::floor`].
    pub fn life(&self, key: GroupKey) -> (u32, u64) {
        self.groups.get(&key).map_or((0, 0), |row| (row.generation, row.floor))
    }

    /// Writes bytes beside the files of a group. Ends with [`DirEvent::Aside`].
    pub fn put_aside(&mut self, key: GroupKey, path: String, pos: u64, bytes: Bytes) -> OpToken {
        let token = self.aside(key);
        self.fx.ops.push(DiskOp::PutAt { path, pos, bytes, token });
        token
    }

    /// Makes what was put aside durable. Ends with [`DirEvent::Aside`].
    pub fn sync_aside(&mut self, key: GroupKey, dir: String) -> OpToken {
        let token = self.aside(key);
        self.fx.ops.push(DiskOp::SyncDir { path: dir, token });
        token
    }

    /// Looks at what was put aside. Ends with [`DirEvent::Aside`].
    pub fn look_aside(&mut self, job: AsideJob) -> OpToken {
        let token = self.aside(job.key);
        self.fx.ops.push(DiskOp::Look { job: Box::new(job), token });
        token
    }

    pub(crate) fn aside(&mut self, key: GroupKey) -> OpToken {
        let token = self.fx.token();
        self.asides.insert(token, key);
        token
    }

    pub(crate) fn aside_done(&mut self, token: OpToken, done: AsideDone, out: &mut Vec<DirEvent>) {
        if let Some(key) = self.asides.remove(&token) {
            out.push(DirEvent::Aside { key, token, done });
        }
    }

    pub(crate) fn put_aside_done(
        &mut self,
        token: OpToken,
        result: Result<(), DiskError>,
        out: &mut Vec<DirEvent>,
    ) {
        let Some(key) = self.asides.remove(&token) else { return };
        match result {
            Err(error) if error.kind == DiskErrorKind::Io => self.fence(error.detail, out),
            result => out.push(DirEvent::Aside { key, token, done: AsideDone::Stored(result.is_ok()) }),
        }
    }

    /// Ends the life of a replica on this disk: `recovered`, which must be durable, is what it holds from now on.
    /// Term and vote stay. Nothing of the old life is written or told any more. `floor`: the last entry that the
    /// old life may have acknowledged and the new one lacks; 0 for none. Answer its waiters and close its log
    /// first; open it at the first [`DirEvent::Persisted`] with at least the round that this returns, and remove
    /// the old directory then.
    pub fn begin_life(&mut self, key: GroupKey, recovered: &Recovered, floor: u64) -> (GroupState, u64) {
        self.give_up(key);
        let row = self.row(key);
        row.generation += 1;
        row.floor = if row.floor == UNKNOWN_FLOOR && floor > 0 { floor } else { row.floor.max(floor) };
        row.failed = None;
        row.mark = Some(mark_of(&recovered.checkpoint));
        let state = GroupState::of(key, row);
        (state, self.rounds.changed(key, true))
    }

    /// The replica holds again all that an earlier life acknowledged: it may vote.
    pub fn lift_floor(&mut self, key: GroupKey) {
        let lifted = self.groups.get_mut(&key).is_some_and(|row| std::mem::take(&mut row.floor) > 0);
        if lifted {
            self.rounds.changed(key, false);
        }
    }
}

impl Log {
    /// Index of the newest checkpoint that is on disk; `None` before the first.
    pub fn newest_checkpoint(&self) -> Option<u64> {
        self.checkpoint_files.last().copied()
    }

    /// Part of a file as it is on disk, for another replica: `file` as in [`aside_path`]. `None` where there is no
    /// such file any more, or nothing of it there.
    pub fn file_range(&self, checkpoint: u64, file: u64, pos: u64, len: u32) -> Option<FileRange> {
        let (end, path) = if file == 0 {
            self.checkpoint_files
                .contains(&checkpoint)
                .then_some((u64::MAX, self.path(&checkpoint_name(checkpoint))))?
        } else {
            let segment = self.all_segments().chain(self.replaced()).find(|s| s.number() == file)?;
            (segment.size, self.path(&log_name(file)))
        };
        if pos >= end {
            return None;
        }
        let len = u64::from(len).min(end - pos) as u32;
        Some(FileRange {
            key: self.key,
            path,
            pos,
            len,
            file_end: end,
            from: 0,
            upto: 0,
            max_bytes: len,
            index: None,
            min_timestamp: None,
            entries: None,
            raw: true,
        })
    }

    /// The first file that begins above `after`, as far as nothing can change it any more: a sealed one whole, the one
    /// that is still written up to the commit index. With it the chain value before it where that is known. `durable`:
    /// the last entry that this disk holds for certain; what is above it may not be there yet.
    pub fn next_settled(&self, after: u64, durable: u64) -> Option<(BaseFile, Option<u32>)> {
        let upto = self.commit.min(durable);
        let settled = |s: &&Segment| s.first_index > after && s.end_index <= upto;
        let segment = self.segments.iter().chain(self.points.front()).find(settled)?;
        let before = self.segments.iter().find(|s| s.end_index + 1 == segment.first_index);
        Some((segment.to_row(), before.map(|s| s.end_chain)))
    }

    /// Keeps every file, and the entries after `checkpoint`, for a replica that is being sent them; `None` ends it.
    pub fn pin(&mut self, checkpoint: Option<u64>) {
        self.pinned = checkpoint;
    }
}
