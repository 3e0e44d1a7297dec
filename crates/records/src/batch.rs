//! The header of a record batch, as a view over its bytes.
use crate::codec::Codec;
use crate::error::BatchError;

/// Bytes of a batch's header; the records follow.
pub const HEADER_LEN: usize = 61;
/// Bytes of base offset and length, which the length field does not count.
pub const LENGTH_PREFIX: usize = 12;
/// The smallest legal value of the length field.
pub const MIN_BATCH_LENGTH: i32 = (HEADER_LEN - LENGTH_PREFIX) as i32;
/// Leading bytes that the batch's own checksum does not cover.
pub const UNCOVERED_LEN: usize = 21;
/// The only message format that is accepted.
pub const MAGIC: i8 = 2;
/// The producer id of a batch without a producer.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer epoch, or leader epoch, that stands for none.
pub const NO_EPOCH: i16 = -1;
/// The base sequence of a batch without a producer.
pub const NO_SEQUENCE: i32 = -1;
/// The timestamp that stands for none.
pub const NO_TIMESTAMP: i64 = -1;

pub(crate) const LENGTH_AT: usize = 8;
pub(crate) const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = UNCOVERED_LEN;
pub(crate) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(crate) const BASE_TIMESTAMP_AT: usize = 27;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
pub(crate) const PRODUCER_ID_AT: usize = 43;
pub(crate) const PRODUCER_EPOCH_AT: usize = 51;
pub(crate) const BASE_SEQUENCE_AT: usize = 53;
pub(crate) const COUNT_AT: usize = 57;

pub(crate) const CODEC_BITS: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(crate) const CONTROL_BIT: i16 = 0x20;
pub(crate) const DELETE_HORIZON_BIT: i16 = 0x40;

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, when it appended the batch.
    LogAppendTime,
}

/// The fields of a batch's header, decoded. A copy: patch the bytes, not this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after this field; see [`BatchHeader::size_in_bytes`].
    pub batch_length: i32,
    /// Epoch of the leader that appended it.
    pub partition_leader_epoch: i32,
    /// Message format.
    pub magic: i8,
    /// Checksum of all from `attributes` on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, ms (or the delete horizon, see [`BatchHeader::delete_horizon`]).
    pub base_timestamp: i64,
    /// Largest timestamp in the batch, ms; the append time when the broker set it.
    pub max_timestamp: i64,
    /// The producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which need not hold the records.
    /// Errors: [`BatchError::ShortHeader`], [`BatchError::Magic`], [`BatchError::BadLength`].
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] as i8 != MAGIC {
            return Err(BatchError::Magic { magic: bytes[MAGIC_AT] as i8 });
        }
        if bytes.len() < HEADER_LEN {
            return Err(BatchError::ShortHeader { have: bytes.len() });
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length: i32::from_be_bytes(field(bytes, LENGTH_AT)),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT)),
            magic: bytes[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(bytes, COUNT_AT)),
        };
        if header.batch_length < MIN_BATCH_LENGTH {
            return Err(BatchError::BadLength { length: header.batch_length });
        }
        Ok(header)
    }

    /// Bytes of the whole batch, header and length prefix included.
    pub fn size_in_bytes(&self) -> usize {
        self.batch_length.max(0) as usize + LENGTH_PREFIX
    }

    /// Offset of the last record; saturates.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset of the record that follows the batch; saturates.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The codec. Errors: [`BatchError::UnknownCodec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = (self.attributes & CODEC_BITS) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec { id })
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether it is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it holds control records, which consumers do not see.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When compaction may drop its tombstones, ms, if a cleaner has decided that.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote it.
    pub fn has_producer(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Sequence number of the last record, or -1.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            NO_SEQUENCE
        } else {
            next_sequence(self.base_sequence, self.last_offset_delta)
        }
    }
}

/// `sequence` advanced by `by` records: sequence numbers wrap from `i32::MAX` to 0. Neither is negative.
pub fn next_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!(next_sequence(5, 3), 8);
        assert_eq!(next_sequence(i32::MAX, 0), i32::MAX);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 4), 2);
    }

    #[test]
    fn a_header_needs_all_its_bytes_and_format_two() {
        assert_eq!(BatchHeader::parse(&[0; 10]), Err(BatchError::ShortHeader { have: 10 }));
        assert_eq!(BatchHeader::parse(&[0; 61]), Err(BatchError::Magic { magic: 0 }));
        let mut bytes = [0; 61];
        bytes[16] = 2;
        assert_eq!(BatchHeader::parse(&bytes), Err(BatchError::BadLength { length: 0 }));
        assert_eq!(BatchHeader::parse(&bytes[..60]), Err(BatchError::ShortHeader { have: 60 }));
    }
}
