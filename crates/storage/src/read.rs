//! Read plans, and what turns bytes of a file back into whole batches.
use crate::disk_op::{DiskError, DiskRead};
use crate::entries::EntryRange;
use crate::error::Damage;
use crate::frame::{self, EntryHead, EntryKind, FRAME_HEADER, FrameError, FrameHeader};
use crate::frame_reader::{FrameReader, Next};
use crate::segment::{Active, Segment, is_cleaned};
use crate::sparse_index::{IndexView, IndexedFile};
use crate::tail_cache::whole_batches;
use bytes::Bytes;
use model::GroupKey;

/// How to get the batches of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// Nothing to read: the offset is the bound.
    Empty,
    /// Whole batches from memory, in order; an element may hold several.
    Memory(Vec<Bytes>),
    /// A range of a file: [`read_range`], on a thread that may block.
    File(FileRange),
}

/// Bytes of a segment that hold the wanted batches. Stays valid while the log goes on; when its file is
/// gone or reused, reading fails cleanly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The group.
    pub key: GroupKey,
    /// The segment.
    pub path: String,
    /// First byte to read: the start of a frame.
    pub pos: u64,
    /// Bytes to read.
    pub len: u32,
    /// Bytes of the file that hold frames.
    pub file_end: u64,
    /// First offset wanted (the batch that holds it is returned whole).
    pub from: i64,
    /// Batches at or above are not returned.
    pub upto: i64,
    /// Batches are returned up to this size; the first one whatever its size.
    pub max_bytes: u32,
    /// Index file that knows a better `pos`, and what it must be of; `None` where `pos` is the best.
    pub index: Option<(String, IndexedFile)>,
    /// Only the first batch whose largest timestamp is at least this.
    pub min_timestamp: Option<i64>,
    /// Whole entries of these indexes, whatever their kind, and not batches: see [`crate::Log::entries_plan`].
    pub entries: Option<EntryRange>,
    /// The bytes as they are, for another replica that checks them itself: see [`crate::Log::file_range`].
    pub raw: bool,
}

/// How to look for a timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampPlan {
    /// No batch below the bound is that late.
    None,
    /// Read this ([`read_range`] returns the first batch that is late enough), then [`find_timestamp`]. Where
    /// nothing is found, plan again from [`Extracted::next_offset`].
    File(FileRange),
}

/// Whole batches out of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Whole batches; an element may hold several.
    pub batches: Vec<Bytes>,
    /// Head and payload of each entry, without gaps, where the range asked for entries.
    pub entries: Vec<(EntryHead, Bytes)>,
    /// Chain value after the last frame that was passed.
    pub chain: Option<u32>,
    /// Where to go on reading.
    pub next_offset: i64,
    /// `Some(bytes)`: the range ended before the first wanted batch did; read so many from `pos` on.
    pub need_more: Option<u32>,
}

/// Why a range gave no batches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// Bad bytes: `CORRUPT_MESSAGE` for this range.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The same above what was committed when this was planned: unless the log gave these entries up since.
    #[error("damaged, or given up: {0}")]
    Unsettled(Damage),
    /// The disk could not be read, or the file is gone (retention went past it: plan again).
    #[error("{0}")]
    Disk(#[from] DiskError),
}

pub(crate) struct Walk<'a> {
    pub(crate) range: &'a FileRange,
    pub(crate) data: &'a Bytes,
    /// Position of `data` in the file, and of the next frame in `data`.
    base: u64,
    pub(crate) at: usize,
    /// Every byte of the frames before this position was checked while it was read.
    checked: usize,
    /// What the next frame must link to.
    link: Link,
    next_offset: i64,
    pub(crate) size: usize,
    batches: Vec<Bytes>,
    pub(crate) entries: Vec<(EntryHead, Bytes)>,
    pub(crate) done: bool,
}

/// Index and chain field of the frame that follows the one before; `None` at the beginning.
type Link = Option<(u64, u32)>;

impl<'a> Walk<'a> {
    fn new(range: &'a FileRange, data: &'a Bytes, base: u64) -> Walk<'a> {
        Walk {
            range,
            data,
            base,
            at: 0,
            checked: 0,
            link: None,
            next_offset: range.from,
            size: 0,
            batches: Vec::new(),
            entries: Vec::new(),
            done: false,
        }
    }

    /// Index of the next frame; `None` before the first.
    pub(crate) fn next_index(&self) -> Option<u64> {
        self.link.map(|(index, _)| index)
    }

    /// Whether nothing above is wanted. It may be half written, or refused by a full disk: never looked at.
    fn bounded(&self) -> bool {
        match &self.range.entries {
            Some(ask) => self.next_index().is_some_and(|next| next >= ask.high),
            None => self.next_offset >= self.range.upto,
        }
    }

    fn found(&self) -> bool {
        !self.batches.is_empty() || !self.entries.is_empty()
    }

    pub(crate) fn damaged(&self, why: impl std::fmt::Display) -> ExtractError {
        let detail = format!(
            "{why}; the range cannot be served until it is repaired, nothing was changed \
             (`plimsoll log verify` shows its extent)"
        );
        let damage = Damage { file: self.range.path.clone(), pos: self.base + self.at as u64, detail };
        let unsettled = |ask: EntryRange| self.next_index().unwrap_or(ask.low) > ask.settled;
        if self.range.entries.is_some_and(unsettled) {
            return ExtractError::Unsettled(damage);
        }
        ExtractError::Damaged(damage)
    }

    /// Takes whole frames out of the data; `Ok(Some(bytes))` when the next one is cut off after so many.
    fn run(&mut self) -> Result<Option<usize>, ExtractError> {
        while !self.done && self.at < self.data.len() {
            if self.bounded() {
                self.done = true;
                break;
            }
            match self.frame() {
                Ok(Some(needed)) => return Ok(Some(needed)),
                Ok(None) => {}
                // What is good before the damage is served; the next read begins at it, and fails.
                Err(_) if self.found() => self.done = true,
                Err(damage) => return Err(damage),
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<usize>, ExtractError> {
        let bytes = &self.data[self.at..];
        let left = self.range.file_end.saturating_sub(self.base + self.at as u64);
        let header = match frame::parse_header(bytes) {
            Ok(header) => header,
            Err(FrameError::Short { needed }) if needed as u64 <= left => return Ok(Some(needed)),
            Err(_) => return Err(self.damaged("no frame where one must be")),
        };
        let size = FRAME_HEADER + header.length as usize;
        if size as u64 > left {
            return Err(self.damaged("a frame that is longer than its file"));
        }
        if self.link.is_some_and(|(_, crc)| crc != header.prev_crc) {
            return Err(self.damaged("a frame that does not follow the one before"));
        }
        if let Some(ask) = self.range.entries {
            return self.entry(ask, &header, size);
        }
        if size > bytes.len() {
            return Ok(Some(size));
        }
        // A damaged head must not lead past what is wanted, so even what is skipped is checked.
        let payload = self.checked(size)?;
        let wanted = header.head.kind == EntryKind::Data && header.head.next_offset() > self.range.from;
        if wanted && header.head.base_offset >= self.range.upto {
            self.done = true;
            // Nothing below the bound is left behind this frame.
            self.next_offset = self.next_offset.max(self.range.upto);
            return Ok(None);
        }
        if wanted {
            self.take(payload);
        }
        if !self.done {
            self.pass(&header, size);
        }
        Ok(None)
    }

    /// Payload of the whole frame of `size` bytes here, every byte of which is good.
    pub(crate) fn checked(&self, size: usize) -> Result<Bytes, ExtractError> {
        if self.at + size > self.checked {
            frame::check(&self.data[self.at..]).map_err(|e| self.damaged(e))?;
        }
        Ok(self.data.slice(self.at + FRAME_HEADER..self.at + size))
    }

    /// Goes behind the frame here.
    pub(crate) fn pass(&mut self, header: &FrameHeader, size: usize) {
        self.link = Some((header.head.index.wrapping_add(1), header.crc));
        self.at += size;
        self.next_offset = self.next_offset.max(header.head.next_offset());
    }

    fn take(&mut self, payload: Bytes) {
        let range = self.range;
        if let Some(ts) = range.min_timestamp {
            for (at, header) in records::batches(&payload).flatten() {
                if header.next_offset() > range.from
                    && header.base_offset < range.upto
                    && header.max_timestamp >= ts
                {
                    self.batches.push(payload.slice(at));
                    self.next_offset = header.next_offset();
                    self.done = true;
                    return;
                }
            }
            return;
        }
        let max = range.max_bytes as usize;
        let (part, complete) = whole_batches(&payload, range.from, range.upto, max, &mut self.size);
        if let Some(Ok((_, last))) = records::batches(&part).last() {
            self.next_offset = last.next_offset();
            self.batches.push(part);
        }
        self.done = !complete;
    }

    fn finish(self, need_more: Option<u32>) -> Extracted {
        let Walk { batches, entries, next_offset, link, .. } = self;
        Extracted { batches, entries, chain: link.map(|(_, chain)| chain), next_offset, need_more }
    }
}

/// Cuts whole batches out of `data`, read at `range.pos`; checks frames, their chain and every batch's CRC.
/// A batch that the data cuts off is left for the next read, unless it is the first.
pub fn extract(range: &FileRange, data: Bytes) -> Result<Extracted, ExtractError> {
    let mut walk = Walk::new(range, &data, range.pos);
    let cut = walk.run()?;
    let ended = walk.done || walk.found() || walk.base + walk.at as u64 >= range.file_end;
    let needed = cut.map_or(FRAME_HEADER, |n| n).saturating_add(walk.at);
    Ok(walk.finish(if ended { None } else { Some(u32::try_from(needed).unwrap_or(u32::MAX)) }))
}

/// Checks the whole frames of `read` from `checked` on, as far as they are good: the walk says what is wrong.
fn check_more(read: &[u8], checked: &mut usize) {
    while let Ok(header) = frame::parse_header(&read[*checked..]) {
        let size = FRAME_HEADER + header.length as usize;
        let Some(bytes) = read.get(*checked..*checked + size) else { return };
        if frame::check(bytes).is_err() {
            return;
        }
        *checked += size;
    }
}

/// Bytes read at once while skipping to the first wanted batch.
const STEP: u64 = 1 << 20;

/// Reads a range: finds the position by the index file, reads, extracts, reads on until the first wanted
/// batch is whole. Blocks: for reader threads, the simulator and tools.
pub fn read_range(disk: &dyn DiskRead, range: &FileRange) -> Result<Extracted, ExtractError> {
    if range.raw {
        let bytes = disk.read(&range.path, range.pos, range.len as usize)?;
        return Ok(Extracted { batches: vec![bytes], ..Extracted::default() });
    }
    let mut range = range.clone();
    if let Some((path, file)) = range.index.take() {
        let pos = seek_by_index(disk, &range, &path, &file)?;
        range.seek(pos);
    }
    let (mut pos, mut len) = (range.pos, u64::from(range.len));
    let mut link = None;
    let mut next_offset = range.from;
    loop {
        let want = len.min(range.file_end - pos);
        let mut checked = 0;
        let want_bytes = usize::try_from(want).unwrap_or(usize::MAX);
        let data =
            disk.read_in_steps(&range.path, pos, want_bytes, &mut |read| check_more(read, &mut checked))?;
        let mut walk = Walk::new(&range, &data, pos);
        walk.checked = checked;
        walk.link = link;
        walk.next_offset = next_offset;
        let cut = walk.run()?;
        let reached = pos + walk.at as u64;
        // Frames above the bound may be on their way to the file; what is below it was written.
        let bounded = walk.bounded();
        if (data.len() as u64) < want && !bounded && !walk.found() {
            return Err(walk.damaged("the file is shorter than its frames"));
        }
        if bounded || walk.done || walk.found() || reached >= range.file_end {
            return Ok(walk.finish(None));
        }
        (link, next_offset) = (walk.link, walk.next_offset);
        pos = reached;
        len = (cut.unwrap_or(0) as u64).max(STEP);
    }
}

fn seek_by_index(
    disk: &dyn DiskRead,
    range: &FileRange,
    path: &str,
    file: &IndexedFile,
) -> Result<u64, ExtractError> {
    let bytes = match disk.index(path).filter(|b| IndexView::open(b, file).is_some()) {
        Some(bytes) => bytes,
        None => {
            let Some(bytes) = rebuild_index(disk, range, file)? else { return Ok(0) };
            disk.offer_index(path, bytes.clone());
            bytes
        }
    };
    let Some(view) = IndexView::open(&bytes, file) else { return Ok(0) };
    let first = match &range.entries {
        Some(ask) => view.seek_index(ask.low),
        None => view.seek_offset(range.from),
    };
    let last = || view.seek_offset(range.upto - 1);
    let pos = range.min_timestamp.map_or(first, |ts| first.max(view.seek_timestamp(ts).min(last())));
    Ok(if pos < range.file_end { pos } else { 0 })
}

/// Walks a whole sealed file. `None` when it is damaged: reading finds out where.
fn rebuild_index(
    disk: &dyn DiskRead,
    range: &FileRange,
    file: &IndexedFile,
) -> Result<Option<Bytes>, ExtractError> {
    let mut reader = FrameReader::new(disk, range.path.clone(), 0, range.file_end);
    let mut active: Option<Active> = None;
    let mut last = 0;
    while reader.pos() < range.file_end {
        let Next::Frame(frame) = reader.next()? else { return Ok(None) };
        let head = frame.header.head;
        let active = active.get_or_insert_with(|| {
            // The first frame of a file that compaction wrote may begin above the file.
            let (index, offset) = if is_cleaned(file.first_index) {
                (head.index, file.first_offset)
            } else {
                (file.first_index.max(1), head.base_offset)
            };
            Active::new(Segment::new(index, offset, 0, 0))
        });
        let segment = &active.segment;
        let dense = head.index == segment.end_index + 1 && head.base_offset == segment.next_offset;
        let rises = is_cleaned(file.first_index) && head.base_offset >= segment.next_offset;
        if !dense && !rises {
            return Ok(None);
        }
        last = frame.header.crc;
        active.add(REBUILT_INTERVAL, &head, frame.header.crc, frame.raw.len() as u64, frame.max_timestamp());
    }
    let cleaned = is_cleaned(file.first_index) && last == file.end_chain;
    Ok(active.filter(|a| cleaned || a.segment.indexed() == *file).map(|a| a.index.encode(file)))
}

const REBUILT_INTERVAL: u32 = 4096;

/// The first record in `batches` with a timestamp of at least `ts`: (timestamp, offset, leader epoch).
pub fn find_timestamp(batches: &[Bytes], ts: i64) -> Option<(i64, i64, i32)> {
    for bytes in batches {
        for (range, header) in records::batches(bytes).flatten() {
            if header.max_timestamp < ts {
                continue;
            }
            let batch = bytes.slice(range);
            let epoch = header.partition_leader_epoch;
            if header.timestamp_type() == records::TimestampType::LogAppendTime {
                return Some((header.max_timestamp, header.base_offset, epoch));
            }
            let Ok(walk) = records::records(&batch, TIMESTAMP_SEARCH_CAP) else {
                return Some((header.max_timestamp, header.base_offset, epoch));
            };
            if let Some(record) = walk.flatten().find(|r| r.timestamp >= ts) {
                return Some((record.timestamp, record.offset, epoch));
            }
        }
    }
    None
}

/// A batch that decompresses to more is answered by its first offset.
const TIMESTAMP_SEARCH_CAP: usize = 256 << 20;
