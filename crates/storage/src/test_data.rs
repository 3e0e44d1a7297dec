//! Batches and heads for tests.
use crate::frame::{EntryHead, EntryKind};
use bytes::Bytes;

/// A batch of `count` records without bodies worth naming, `timestamp` its largest timestamp.
pub fn batch(base_offset: i64, count: u32, timestamp: i64) -> Vec<u8> {
    sized_batch(base_offset, count, timestamp, 24)
}

/// As [`batch`], with `body` bytes after the header.
pub fn sized_batch(base_offset: i64, count: u32, timestamp: i64, body: usize) -> Vec<u8> {
    let mut out = vec![0u8; records::HEADER_LEN + body];
    let length = (out.len() - records::LENGTH_PREFIX) as i32;
    out[..8].copy_from_slice(&base_offset.to_be_bytes());
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[16] = 2;
    out[23..27].copy_from_slice(&(count as i32 - 1).to_be_bytes());
    out[27..35].copy_from_slice(&timestamp.to_be_bytes());
    out[35..43].copy_from_slice(&timestamp.to_be_bytes());
    out[43..57].fill(0xff);
    out[57..61].copy_from_slice(&(count as i32).to_be_bytes());
    for (i, byte) in out[records::HEADER_LEN..].iter_mut().enumerate() {
        *byte = (base_offset as u8).wrapping_add(i as u8);
    }
    let crc = records::batch_crc(&out);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// A head of term 1 with `append_time` 5000.
pub fn head(index: u64, kind: EntryKind, offset_count: u32, base_offset: i64) -> EntryHead {
    EntryHead { index, term: 1, kind, flags: 0, offset_count, base_offset, append_time: 5000 }
}

/// A data entry of one batch.
pub fn data(index: u64, count: u32, base_offset: i64, timestamp: i64) -> (EntryHead, Bytes) {
    (head(index, EntryKind::Data, count, base_offset), Bytes::from(batch(base_offset, count, timestamp)))
}
