//! Offset, raft index and timestamp to position in one file: a row every few KiB. A hint: the log is truth.
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Rows kept for one file; above it every other row goes and the interval doubles.
const MAX_ROWS: usize = 8192;
const MAGIC: u32 = u32::from_le_bytes(*b"PLIX");
const VERSION: u32 = 1;
const HEADER: usize = 48;
/// Where the checksum stands in the header.
const CRC_AT: usize = 40;
const ROW: usize = 20;

/// Which bytes of which file an index was made of: a file of the same name may have been written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedFile {
    /// Index of its first frame.
    pub first_index: u64,
    /// Next offset before its first frame.
    pub first_offset: i64,
    /// Bytes of frames.
    pub size: u64,
    /// Chain value after its last frame.
    pub end_chain: u32,
}

/// What precedes the frame at `pos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRow {
    /// Next offset before the frame, less the file's first offset.
    pub(crate) rel_offset: u32,
    /// Index of the frame, less the file's first index.
    pub(crate) rel_index: u32,
    /// Where the frame begins.
    pub(crate) pos: u32,
    /// Largest timestamp of all batches before it; -1 for none.
    pub(crate) max_timestamp: i64,
}

/// The index of the file being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    rows: Vec<IndexRow>,
    thinned: u32,
}

impl SparseIndex {
    /// Notes a frame, when it lies far enough from the last row.
    pub(crate) fn note(&mut self, interval: u32, row: IndexRow) {
        let interval = u64::from(interval.max(1)) << self.thinned.min(20);
        let last = self.rows.last().map_or(0, |r| u64::from(r.pos));
        if u64::from(row.pos) < last + interval {
            return;
        }
        if self.rows.len() >= MAX_ROWS {
            let mut keep = false;
            self.rows.retain(|_| {
                keep = !keep;
                keep
            });
            self.thinned += 1;
        }
        self.rows.push(row);
    }

    /// Position at or before the batch that holds the record at `rel_offset`.
    pub(crate) fn seek_offset(&self, rel_offset: i64) -> u64 {
        let upto = self.rows.partition_point(|r| i64::from(r.rel_offset) <= rel_offset);
        upto.checked_sub(1).map_or(0, |i| u64::from(self.rows[i].pos))
    }

    /// Position at or before the frame of this index, counted from the file's first.
    pub(crate) fn seek_index(&self, rel_index: u64) -> u64 {
        let upto = self.rows.partition_point(|r| u64::from(r.rel_index) <= rel_index);
        upto.checked_sub(1).map_or(0, |i| u64::from(self.rows[i].pos))
    }

    /// Position at or before the first batch with a timestamp of at least `ts`.
    pub(crate) fn seek_timestamp(&self, ts: i64) -> u64 {
        let upto = self.rows.partition_point(|r| r.max_timestamp < ts);
        upto.checked_sub(1).map_or(0, |i| u64::from(self.rows[i].pos))
    }

    /// Forgets rows at or above `pos`.
    pub(crate) fn cut(&mut self, pos: u64) {
        let keep = self.rows.partition_point(|r| u64::from(r.pos) < pos);
        self.rows.truncate(keep);
    }

    /// The bytes of an index file for `file`.
    pub(crate) fn encode(&self, file: &IndexedFile) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + self.rows.len() * ROW);
        out.put_u32_le(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u64_le(file.first_index);
        out.put_i64_le(file.first_offset);
        out.put_u64_le(file.size);
        out.put_u32_le(file.end_chain);
        out.put_u32_le(u32::try_from(self.rows.len()).expect("bounded by MAX_ROWS"));
        out.put_u64_le(0);
        for row in &self.rows {
            out.put_u32_le(row.rel_offset);
            out.put_u32_le(row.rel_index);
            out.put_u32_le(row.pos);
            out.put_i64_le(row.max_timestamp);
        }
        let crc = records::crc32c(&out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    /// Reads `Checkpoint.active_index`; `None` unless it is whole and belongs there.
    pub(crate) fn decode(bytes: &[u8], file: &IndexedFile) -> Option<SparseIndex> {
        if !index_is_whole(bytes) {
            return None;
        }
        let view = IndexView::open(bytes, file)?;
        let rows: Vec<IndexRow> = (0..view.len()).map(|i| view.row(i)).collect();
        rows.is_sorted_by_key(|r| r.pos).then_some(SparseIndex { rows, thinned: 0 })
    }
}

/// An index file that was checked before, searched where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexView<'a> {
    first_index: u64,
    first_offset: i64,
    rows: &'a [u8],
}

impl<'a> IndexView<'a> {
    /// `None` when it is not the index of `file`.
    pub(crate) fn open(bytes: &'a [u8], file: &IndexedFile) -> Option<IndexView<'a>> {
        let mut at = bytes.get(8..HEADER)?;
        let found = IndexedFile {
            first_index: at.get_u64_le(),
            first_offset: at.get_i64_le(),
            size: at.get_u64_le(),
            end_chain: at.get_u32_le(),
        };
        let IndexedFile { first_index, first_offset, .. } = found;
        (found == *file).then_some(IndexView { first_index, first_offset, rows: &bytes[HEADER..] })
    }

    fn len(&self) -> usize {
        self.rows.len() / ROW
    }

    fn row(&self, i: usize) -> IndexRow {
        let mut at = &self.rows[i * ROW..(i + 1) * ROW];
        let (rel_offset, rel_index, pos) = (at.get_u32_le(), at.get_u32_le(), at.get_u32_le());
        IndexRow { rel_offset, rel_index, pos, max_timestamp: at.get_i64_le() }
    }

    fn last(&self, before: impl Fn(&IndexRow) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let mid = low + (high - low) / 2;
            if before(&self.row(mid)) { low = mid + 1 } else { high = mid }
        }
        low.checked_sub(1).map_or(0, |i| u64::from(self.row(i).pos))
    }

    /// As [`SparseIndex::seek_offset`], by absolute offset.
    pub(crate) fn seek_offset(&self, offset: i64) -> u64 {
        self.last(|r| self.first_offset.saturating_add(i64::from(r.rel_offset)) <= offset)
    }

    /// As [`SparseIndex::seek_index`], by absolute index.
    pub(crate) fn seek_index(&self, index: u64) -> u64 {
        self.last(|r| self.first_index.saturating_add(u64::from(r.rel_index)) <= index)
    }

    /// As [`SparseIndex::seek_timestamp`].
    pub(crate) fn seek_timestamp(&self, ts: i64) -> u64 {
        self.last(|r| r.max_timestamp < ts)
    }
}

/// Whether `bytes` are a whole index file by format, length and checksum.
pub fn index_is_whole(bytes: &[u8]) -> bool {
    let Some(mut at) = bytes.get(..HEADER) else { return false };
    let fits = at.get_u32_le() == MAGIC && at.get_u32_le() == VERSION;
    at.advance(28);
    let count = at.get_u32_le() as usize;
    let crc = at.get_u32_le();
    let rows = &bytes[HEADER..];
    if !fits || Some(rows.len()) != count.checked_mul(ROW) {
        return false;
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..CRC_AT]);
    digest.update(&[0; 4]);
    digest.update(&bytes[CRC_AT + 4..HEADER]);
    digest.update(rows);
    digest.finalize() == u64::from(crc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(n: u32) -> IndexRow {
        IndexRow { rel_offset: n * 10, rel_index: n, pos: n * 100, max_timestamp: i64::from(n) * 5 }
    }

    #[test]
    fn seeks_never_pass_what_is_sought() {
        let mut index = SparseIndex::default();
        for n in 1..=50_000u32 {
            index.note(150, row(n));
        }
        assert!(index.rows.len() <= MAX_ROWS);
        for n in (1..50_000u32).step_by(777) {
            let pos = index.seek_offset(i64::from(n) * 10 + 3);
            assert!(pos <= u64::from(n) * 100 && pos + 150 * 32 > u64::from(n) * 100, "offset of row {n}");
            assert!(index.seek_timestamp(i64::from(n) * 5) <= u64::from(n) * 100);
            assert_eq!(index.seek_index(u64::from(n)), pos, "index of row {n}");
        }
    }

    #[test]
    fn a_file_round_trips_and_every_flip_is_seen() {
        let mut index = SparseIndex::default();
        (1..5).for_each(|n| index.note(1, row(n)));
        let file = IndexedFile { first_index: 2, first_offset: 30, size: 900, end_chain: 7 };
        let bytes = index.encode(&file);
        assert_eq!(SparseIndex::decode(&bytes, &file), Some(index));
        for other in [
            IndexedFile { first_index: 3, ..file },
            IndexedFile { first_offset: 31, ..file },
            IndexedFile { size: 901, ..file },
            IndexedFile { end_chain: 8, ..file },
        ] {
            assert_eq!(SparseIndex::decode(&bytes, &other), None);
        }
        for i in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[i] ^= 4;
            assert_eq!(SparseIndex::decode(&bad, &file), None, "byte {i}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let file = IndexedFile { first_index: 2, first_offset: 0, size: 0, end_chain: 0 };
            let _ = SparseIndex::decode(&bytes, &file);
        }
    }
}
