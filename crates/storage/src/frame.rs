//! One entry, one frame: a 48-byte header, then the payload.

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 48;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// One or more Kafka batches of one append.
    Data = 1,
    /// A message for the machines on this log.
    Command = 2,
    /// A membership change.
    ConfChange = 3,
    /// A leader's first entry.
    NoOp = 4,
}

/// A frame's header without length, chain and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// Position in the raft log, dense.
    pub index: u64,
    /// Term of the leader that made it; fits 32 bits on disk.
    pub term: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Free for the owner of the kind.
    pub flags: u16,
    /// Records; 0 unless data.
    pub offset_count: u32,
    /// The next offset before this entry, whatever its kind.
    pub base_offset: i64,
    /// The leader's clock at append, ms.
    pub append_time: i64,
}

impl EntryHead {
    /// The next offset after this entry.
    pub fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.offset_count))
    }
}
