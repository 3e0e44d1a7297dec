//! Whether the frames of a file follow one another: as they were appended, or as compaction wrote them.
use crate::EntryKind;
use crate::frame::FrameHeader;
use crate::segment::Segment;

/// The chain value before the first frame of a file that compaction wrote: one of another number does not link.
pub(crate) fn clean_seed(number: u64) -> u32 {
    crc_fast::crc32_iso_hdlc(&number.to_le_bytes())
}

/// A walk over the frames of a file. Of one that compaction wrote indexes and offsets only rise, and the chain is its
/// own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileWalk {
    cleaned: bool,
    /// `None`: whatever the first frame says.
    chain: Option<u32>,
    index: u64,
    offset: i64,
    term: u64,
    last_index: u64,
    next_offset: i64,
}

impl FileWalk {
    pub(crate) fn of(s: &Segment) -> FileWalk {
        FileWalk {
            cleaned: s.clean.is_some(),
            chain: s.clean.as_ref().map(|_| clean_seed(s.number())),
            index: s.first_index,
            offset: s.first_offset,
            term: 0,
            last_index: s.end_index,
            next_offset: s.next_offset,
        }
    }

    /// Whether the frame stands where it must.
    pub(crate) fn follows(&self, header: &FrameHeader) -> bool {
        let head = &header.head;
        let place = if self.cleaned {
            head.kind == EntryKind::Data && head.index >= self.index && head.base_offset >= self.offset
        } else {
            head.index == self.index && head.base_offset == self.offset
        };
        place
            && head.term >= self.term
            && head.index <= self.last_index
            && head.next_offset() <= self.next_offset
            && self.chain.is_none_or(|chain| chain == header.prev_crc)
    }

    /// Goes behind it.
    pub(crate) fn pass(&mut self, header: &FrameHeader) {
        let head = &header.head;
        // Of one entry several batches may be left, each in a frame of its own.
        self.index = if self.cleaned { head.index } else { head.index + 1 };
        (self.offset, self.term, self.chain) = (head.next_offset(), head.term, Some(header.crc));
    }

    /// Whether the last frame was that of the file.
    pub(crate) fn ends(&self, s: &Segment) -> bool {
        match &s.clean {
            Some(clean) => self.chain == Some(clean.chain),
            None => self.chain == Some(s.end_chain) && self.index == s.end_index + 1,
        }
    }
}
