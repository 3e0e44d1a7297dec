//! One entry, one frame: a 48-byte header, then the payload (docs/log-format.md).
use bytes::{Buf, BufMut, Bytes};
use records::UNCOVERED_LEN;

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 48;
/// The only version written and read.
pub const FRAME_VERSION: u8 = 1;
const CRC_AT: usize = 44;

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
    /// A data entry without its batches: all that a witness keeps of one.
    Bare = 5,
}

impl EntryKind {
    fn from_byte(byte: u8) -> Option<EntryKind> {
        match byte {
            1 => Some(EntryKind::Data),
            2 => Some(EntryKind::Command),
            3 => Some(EntryKind::ConfChange),
            4 => Some(EntryKind::NoOp),
            5 => Some(EntryKind::Bare),
            _ => None,
        }
    }
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
    /// Records; 0 unless data, bare or not.
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

/// A header as read, not yet checked against its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The entry.
    pub head: EntryHead,
    /// Bytes of payload.
    pub length: u32,
    /// Checksum of the frame before.
    pub prev_crc: u32,
    /// Checksum of this frame: the chain value after it.
    pub crc: u32,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header, or than the header says.
    #[error("needs {needed} bytes")]
    Short {
        /// Bytes of the whole frame, or of its header.
        needed: usize,
    },
    /// No version, kind or length of ours: stale or torn bytes.
    #[error("no frame of this format")]
    NotAFrame,
    /// A whole, checksummed frame of a version or kind this program does not know.
    #[error("version {version}, kind {kind} is unknown to this program: use the version that wrote it")]
    Unknown {
        /// Its version.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// Header or batch heads do not match the checksum.
    #[error("checksum mismatch")]
    Checksum,
    /// A batch does not match its own checksum, or the payload is not made of batches.
    #[error("a batch is damaged")]
    Batch,
}

fn put_header(out: &mut impl BufMut, head: &EntryHead, length: u32, prev_crc: u32) {
    out.put_u32_le(length);
    out.put_u8(FRAME_VERSION);
    out.put_u8(head.kind as u8);
    out.put_u16_le(head.flags);
    out.put_u64_le(head.index);
    out.put_u32_le(u32::try_from(head.term).expect("terms are bounded by the consensus crate to 32 bits"));
    out.put_u32_le(head.offset_count);
    out.put_i64_le(head.base_offset);
    out.put_i64_le(head.append_time);
    out.put_u32_le(prev_crc);
}

/// The header of a frame, ready for the disk; its last four bytes are the new chain value, returned beside.
/// Panics when a data payload is not made of whole batches (the caller checked them).
pub fn encode_header(head: &EntryHead, payload: &[u8], prev_crc: u32) -> ([u8; FRAME_HEADER], u32) {
    let mut out = [0u8; FRAME_HEADER];
    let length = u32::try_from(payload.len()).expect("payloads are bounded by the request size");
    put_header(&mut &mut out[..], head, length, prev_crc);
    let crc = covered_crc(&out, head.kind, payload).expect("data is whole batches");
    out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    (out, crc)
}

/// Size of the batch at the start of `bytes`; `None` unless it is whole.
fn batch_size(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
    let size = usize::try_from(i32::from_be_bytes(length)).ok()?.checked_add(records::LENGTH_PREFIX)?;
    (size >= records::HEADER_LEN && size <= bytes.len()).then_some(size)
}

/// Checksum over the header and what of the payload the batches' own checksums leave out.
fn covered_crc(header: &[u8], kind: EntryKind, payload: &[u8]) -> Option<u32> {
    let head = &header[..CRC_AT];
    if kind == EntryKind::Data && batch_size(payload)? == payload.len() {
        let mut one = [0u8; CRC_AT + UNCOVERED_LEN];
        one[..CRC_AT].copy_from_slice(head);
        one[CRC_AT..].copy_from_slice(&payload[..UNCOVERED_LEN]);
        return Some(crc_fast::crc32_iso_hdlc(&one));
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
    digest.update(head);
    if kind != EntryKind::Data {
        digest.update(payload);
    } else {
        let mut rest = payload;
        while !rest.is_empty() {
            let size = batch_size(rest)?;
            digest.update(&rest[..UNCOVERED_LEN]);
            rest = &rest[size..];
        }
    }
    u32::try_from(digest.finalize()).ok()
}

/// Decodes a header. Errors: `Short`, `NotAFrame`; a version or kind of the future is `NotAFrame` here and
/// told apart by [`check`].
pub fn parse_header(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
    if bytes.len() < FRAME_HEADER {
        return Err(FrameError::Short { needed: FRAME_HEADER });
    }
    let mut at = bytes;
    let length = at.get_u32_le();
    let version = at.get_u8();
    let kind = EntryKind::from_byte(at.get_u8());
    let (Some(kind), FRAME_VERSION) = (kind, version) else { return Err(FrameError::NotAFrame) };
    let flags = at.get_u16_le();
    let index = at.get_u64_le();
    let term = u64::from(at.get_u32_le());
    let offset_count = at.get_u32_le();
    let base_offset = at.get_i64_le();
    let append_time = at.get_i64_le();
    let (prev_crc, crc) = (at.get_u32_le(), at.get_u32_le());
    let head = EntryHead { index, term, kind, flags, offset_count, base_offset, append_time };
    let counts = matches!(kind, EntryKind::Data | EntryKind::Bare);
    let bare = kind == EntryKind::Bare;
    if base_offset < 0 || (!counts && offset_count != 0) || (bare && (length != 0 || offset_count == 0)) {
        return Err(FrameError::NotAFrame);
    }
    Ok(FrameHeader { head, length, prev_crc, crc })
}

/// Bytes of the frame that begins `bytes`, as its length field claims; `None` when the field is cut off.
pub fn claimed_size(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(length)).ok()?.checked_add(FRAME_HEADER)
}

/// Checks the frame that begins `bytes`: header, checksum and every batch. Returns the header; the payload
/// is `bytes[FRAME_HEADER..][..length]`. The chain is the caller's to compare.
pub fn check(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
    let header = match parse_header(bytes) {
        Ok(header) => header,
        Err(FrameError::NotAFrame) => return Err(unknown_or_none(bytes)),
        Err(error) => return Err(error),
    };
    let needed = FRAME_HEADER.saturating_add(header.length as usize);
    let payload = bytes.get(FRAME_HEADER..needed).ok_or(FrameError::Short { needed })?;
    let crc = covered_crc(bytes, header.head.kind, payload).ok_or(FrameError::Checksum)?;
    if crc != header.crc {
        return Err(FrameError::Checksum);
    }
    if header.head.kind == EntryKind::Data {
        check_batches(&header.head, payload)?;
    }
    Ok(header)
}

/// Versions and kinds to come keep the place of length and checksum, and cover header and whole payload.
fn unknown_or_none(bytes: &[u8]) -> FrameError {
    let (version, kind) = (bytes[4], bytes[5]);
    let frame = claimed_size(bytes).and_then(|size| bytes.get(..size));
    let (Some(frame), true) = (frame, version >= FRAME_VERSION && kind != 0) else {
        return FrameError::NotAFrame;
    };
    let mut stored = [0u8; 4];
    stored.copy_from_slice(&frame[CRC_AT..FRAME_HEADER]);
    match covered_crc(frame, EntryKind::Command, &frame[FRAME_HEADER..]) {
        Some(crc) if crc == u32::from_le_bytes(stored) => FrameError::Unknown { version, kind },
        _ => FrameError::NotAFrame,
    }
}

fn check_batches(head: &EntryHead, payload: &[u8]) -> Result<(), FrameError> {
    let mut next = head.base_offset;
    for batch in records::batches(payload) {
        let (range, header) = batch.map_err(|_| FrameError::Batch)?;
        if records::batch_crc(&payload[range]) != header.crc || header.base_offset != next {
            return Err(FrameError::Batch);
        }
        next = header.next_offset();
    }
    if next == head.next_offset() { Ok(()) } else { Err(FrameError::Batch) }
}

/// A frame cut out of a buffer.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its payload.
    pub payload: Bytes,
    /// Header and payload as on disk.
    pub raw: Bytes,
}

impl Frame {
    /// Largest timestamp of its batches; -1 unless data.
    pub fn max_timestamp(&self) -> i64 {
        if self.header.head.kind != EntryKind::Data {
            return -1;
        }
        records::batches(&self.payload).flatten().map(|(_, h)| h.max_timestamp).max().unwrap_or(-1)
    }
}

/// Checks and cuts the frame at the start of `bytes`.
pub fn cut(bytes: &Bytes) -> Result<Frame, FrameError> {
    let header = check(bytes)?;
    let size = FRAME_HEADER + header.length as usize;
    Ok(Frame { header, payload: bytes.slice(FRAME_HEADER..size), raw: bytes.slice(..size) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{batch, head};
    use proptest::prelude::*;

    #[test]
    fn header_is_laid_out_as_documented() {
        let h = EntryHead { flags: 0x0203, ..head(7, EntryKind::Command, 0, 55) };
        let (bytes, crc) = encode_header(&h, b"abc", 0xa1b2_c3d4);
        assert_eq!(&bytes[..8], &[3, 0, 0, 0, 1, 2, 3, 2]);
        assert_eq!(&bytes[8..16], &7u64.to_le_bytes());
        assert_eq!(&bytes[24..32], &55i64.to_le_bytes());
        assert_eq!(&bytes[40..44], &0xa1b2_c3d4u32.to_le_bytes());
        assert_eq!(&bytes[44..], &crc.to_le_bytes());
        let mut whole = bytes[..44].to_vec();
        whole.extend(b"abc");
        assert_eq!(crc, crc_fast::crc32_iso_hdlc(&whole));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let payload = [batch(10, 3, 1000), batch(13, 2, 1001)].concat();
        let (header, _) = encode_header(&head(9, EntryKind::Data, 5, 10), &payload, 77);
        let frame = [&header[..], &payload].concat();
        assert!(check(&frame).is_ok());
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_bare_frame_takes_offsets_and_has_no_payload() {
        let bare = head(9, EntryKind::Bare, 5, 10);
        let (header, _) = encode_header(&bare, b"", 77);
        assert_eq!(header.len(), FRAME_HEADER);
        assert_eq!(check(&header).map(|h| (h.head, h.length)), Ok((bare, 0)));
        let (with_payload, _) = encode_header(&bare, b"x", 77);
        assert!(check(&[&with_payload[..], b"x"].concat()).is_err());
        let (of_nothing, _) = encode_header(&EntryHead { offset_count: 0, ..bare }, b"", 77);
        assert!(check(&of_nothing).is_err());
    }

    #[test]
    fn a_frame_of_the_future_is_named_not_skipped() {
        let (mut header, _) = encode_header(&head(9, EntryKind::Command, 0, 0), b"new", 5);
        header[5] = 9;
        let crc = crc_fast::crc32_iso_hdlc(&[&header[..44], b"new"].concat());
        header[44..].copy_from_slice(&crc.to_le_bytes());
        let frame = [&header[..], b"new"].concat();
        assert_eq!(check(&frame), Err(FrameError::Unknown { version: 1, kind: 9 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = check(&bytes);
        }

        #[test]
        fn arbitrary_bytes_behind_a_good_start_never_panic(
            kind in 0u8..7, length in 0u32..500, rest in proptest::collection::vec(any::<u8>(), 42..400),
        ) {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend([1, kind]);
            bytes.extend(rest);
            let _ = check(&bytes);
        }
    }
}
