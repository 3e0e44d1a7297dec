//! Record batches, good and bad.
use bytes::BytesMut;
use records::{BatchBuilder, Codec, NewRecord, batch_crc};

/// The timestamp of the first record, ms: so recent that no bound is crossed, and the same on both sides.
pub(super) fn time() -> i64 {
    static TIME: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *TIME.get_or_init(|| crate::leaves::now() - 3_600_000)
}

/// A batch of `count` records, a millisecond apart.
pub(super) fn batch(count: i64, codec: Codec) -> BytesMut {
    built(BatchBuilder::new().codec(codec, None), count)
}

/// The records of [`batch`] in a batch that was begun.
pub(super) fn built(mut builder: BatchBuilder, count: i64) -> BytesMut {
    for n in 0..count {
        let value = format!("value {n}");
        builder.push(NewRecord::new(time() + n, Some(b"key"), Some(value.as_bytes())));
    }
    builder.finish().expect("a few records fit a batch")
}

/// One record with this timestamp.
pub(super) fn at(timestamp: i64) -> BytesMut {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord::new(timestamp, Some(b"key"), Some(b"value")));
    builder.finish().expect("one record fits a batch")
}

/// One record of so many bytes.
pub(super) fn sized(bytes: usize) -> BytesMut {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord::new(time(), None, Some(&vec![b'x'; bytes])));
    builder.finish().expect("one record fits a batch")
}

/// One record without a key.
pub(super) fn keyless() -> BytesMut {
    sized(5)
}

/// A batch with bytes changed and its checksum made right again.
pub(super) fn changed(at: usize, bytes: &[u8]) -> BytesMut {
    let mut batch = batch(2, Codec::None);
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = batch_crc(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A batch with a byte changed and its checksum left as it was.
pub(super) fn damaged(at: usize) -> BytesMut {
    let mut batch = batch(2, Codec::None);
    batch[at] ^= 0x55;
    batch
}
