//! A batch with fewer records than it had: what compaction leaves of it.
//!
//! Base offset, last offset, producer, epochs and sequence stay as they were, as in Kafka: who reads on from any
//! offset, or judges the producer's next batch, sees no difference.
use crate::batch::{
    ATTRIBUTES_AT, BASE_TIMESTAMP_AT, BatchHeader, CODEC_BITS, COUNT_AT, CRC_AT, DELETE_HORIZON_BIT,
    HEADER_LEN, LENGTH_AT, MIN_BATCH_LENGTH, NO_TIMESTAMP, TimestampType,
};
use crate::builder::{BatchBuilder, NewRecord};
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::record::Record;
use bytes::BytesMut;
use model::WallMs;

/// The batch of `header` with the records `kept` of it alone, in order, under its codec's default level.
/// `delete_horizon`: when what deletes in it may go, ms (KIP-534); one that the batch has already stays.
/// Errors: `UnknownCodec`, `Codec`.
pub fn thinned_batch(
    header: &BatchHeader,
    kept: &[Record],
    delete_horizon: Option<WallMs>,
) -> Result<BytesMut, BatchError> {
    let codec = header.codec()?;
    let mut builder = BatchBuilder::new()
        .base_offset(header.base_offset)
        .leader_epoch(header.partition_leader_epoch)
        .codec(codec, None)
        .producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .last_offset_delta(header.last_offset_delta);
    if header.is_transactional() {
        builder = builder.transactional();
    }
    if header.is_control() {
        builder = builder.control();
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(header.max_timestamp);
    }
    if let Some(horizon) = header.delete_horizon().or(delete_horizon) {
        builder = builder.delete_horizon(horizon);
    }
    for (index, record) in kept.iter().enumerate() {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let new = NewRecord { timestamp: record.timestamp, key, value, headers: &headers };
        let damage = || BatchError::Record { index: index as i32, reason: "an offset outside its batch" };
        let delta = record.offset.wrapping_sub(header.base_offset);
        let delta = i32::try_from(delta).ok().filter(|d| builder.takes(*d)).ok_or_else(damage)?;
        builder.push_at(delta, new);
    }
    builder.finish().map_err(|error| BatchError::Codec { codec, error })
}

/// The batch that begins `batch` without any record: its header says where it ends and whose it was. `batch` holds
/// at least the header.
pub fn emptied_batch(batch: &[u8]) -> BytesMut {
    let mut out = BytesMut::from(&batch[..HEADER_LEN]);
    let attributes = i16::from_be_bytes([out[ATTRIBUTES_AT], out[ATTRIBUTES_AT + 1]]);
    let attributes = attributes & !CODEC_BITS & !DELETE_HORIZON_BIT;
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&MIN_BATCH_LENGTH.to_be_bytes());
    out[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    out[BASE_TIMESTAMP_AT..BASE_TIMESTAMP_AT + 8].copy_from_slice(&NO_TIMESTAMP.to_be_bytes());
    out[COUNT_AT..COUNT_AT + 4].copy_from_slice(&0i32.to_be_bytes());
    let crc = crc32c(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, check_crc, records};
    use bytes::Bytes;

    fn batch(codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::new()
            .base_offset(100)
            .leader_epoch(4)
            .codec(codec, None)
            .producer(9, 3, 17)
            .transactional();
        for n in 0..6i64 {
            let (key, headers) = ([n as u8], [(&b"h"[..], Some(&b"1"[..])), (&b"h"[..], None)]);
            let value = (n % 2 == 0).then_some(&b"value"[..]);
            builder.push(NewRecord { timestamp: 50 - n, key: Some(&key), value, headers: &headers });
        }
        builder.finish().unwrap().freeze()
    }

    #[test]
    fn what_is_left_reads_as_before_under_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = batch(codec);
            let header = BatchHeader::parse(&batch).unwrap();
            let all: Vec<Record> = records(&batch, 1 << 20).unwrap().map(Result::unwrap).collect();
            let kept = [all[1].clone(), all[4].clone()];
            let thin = thinned_batch(&header, &kept, Some(7_000)).unwrap().freeze();
            let now = check_crc(&thin).unwrap();
            assert_eq!((now.base_offset, now.last_offset_delta, now.record_count), (100, 5, 2));
            assert_eq!((now.producer_id, now.producer_epoch, now.base_sequence), (9, 3, 17));
            assert_eq!((now.partition_leader_epoch, now.max_timestamp), (4, 49));
            assert_eq!((now.delete_horizon(), now.last_sequence()), (Some(7_000), header.last_sequence()));
            assert!(now.is_transactional() && !now.is_control() && now.codec().unwrap() == codec);
            let read: Vec<Record> = records(&thin, 1 << 20).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, kept);
            let again = thinned_batch(&now, &read[..1], Some(9_000)).unwrap();
            assert_eq!(check_crc(&again).unwrap().delete_horizon(), Some(7_000), "the first one stays");
        }
    }

    #[test]
    fn an_emptied_batch_says_where_it_ends_and_whose_it_was() {
        let batch = batch(Codec::Zstd);
        let empty = emptied_batch(&batch).freeze();
        let (before, now) = (BatchHeader::parse(&batch).unwrap(), check_crc(&empty).unwrap());
        assert_eq!((empty.len(), now.record_count, now.base_timestamp), (HEADER_LEN, 0, -1));
        assert_eq!((now.next_offset(), now.last_sequence()), (before.next_offset(), before.last_sequence()));
        assert_eq!((now.producer_id, now.max_timestamp), (before.producer_id, before.max_timestamp));
        assert_eq!(records(&empty, 0).unwrap().count(), 0);
        assert_eq!(emptied_batch(&empty), empty);
    }

    #[test]
    fn a_record_outside_its_batch_is_refused() {
        let batch = batch(Codec::None);
        let header = BatchHeader::parse(&batch).unwrap();
        let mut all: Vec<Record> = records(&batch, 1 << 20).unwrap().map(Result::unwrap).collect();
        all[1].offset = 99;
        assert!(thinned_batch(&header, &all[1..], None).is_err());
        all[1].offset = 200;
        assert!(thinned_batch(&header, &all[1..2], None).is_err());
        all.swap(2, 3);
        assert!(thinned_batch(&header, &all[2..], None).is_err());
    }
}
