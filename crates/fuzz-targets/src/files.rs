//! Data files: frames, checkpoints, indexes.
use bytes::Bytes;
use model::GroupKey;
use storage::frame::{FRAME_HEADER, check, claimed_size, cut, parse_header};
use storage::{FileRange, extract};

const KEY: GroupKey = GroupKey::METADATA;

/// Frames one after the other, as recovery and reads see them; checked as they are and with their batches'
/// checksums made right.
pub fn frames(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut rest = bytes.clone();
    while let Ok(frame) = cut(&rest) {
        assert_eq!(frame.raw.len(), FRAME_HEADER + frame.payload.len());
        assert!(check(&frame.raw).is_ok_and(|header| header == frame.header));
        rest = rest.slice(frame.raw.len()..);
    }
    let _ = (parse_header(&rest), claimed_size(&rest));
    for (from, upto) in [(0, i64::MAX), (3, 7)] {
        let range = FileRange {
            key: KEY,
            path: "00000000000000000002.log".into(),
            pos: 0,
            len: data.len() as u32,
            file_end: data.len() as u64,
            from,
            upto,
            max_bytes: 1 << 20,
            index: None,
            min_timestamp: None,
            entries: None,
            raw: false,
        };
        if let Ok(found) = extract(&range, bytes.clone()) {
            assert!(found.batches.iter().map(Bytes::len).sum::<usize>() <= data.len());
        }
    }
}

/// A file beside the log, checkpoint or index: their magics keep them apart.
pub fn side_files(data: &[u8]) {
    checkpoint(data);
    index(data);
}

/// The file of a checkpoint, as it is and with its checksum made right.
fn checkpoint(data: &[u8]) {
    let _ = storage::checkpoint::decode(KEY, data);
    let mut fixed = data.to_vec();
    if fix_checksum(&mut fixed, 36) {
        let _ = storage::checkpoint::decode(KEY, &fixed);
    }
}

/// An index file, as it is and with its checksum made right.
fn index(data: &[u8]) {
    let _ = storage::index_is_whole(data);
    let mut fixed = data.to_vec();
    if fix_checksum(&mut fixed, 40) {
        let _ = storage::index_is_whole(&fixed);
    }
}

/// Writes the CRC-32C of `bytes`, taken with zeros in its place, at `at`.
pub(crate) fn fix_checksum(bytes: &mut [u8], at: usize) -> bool {
    let Some(place) = bytes.get_mut(at..at + 4) else { return false };
    place.fill(0);
    let crc = records::crc32c(bytes);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    true
}
