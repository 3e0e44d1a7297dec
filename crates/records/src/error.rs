//! What can be wrong with a batch, and which Kafka code says so.
use crate::codec::{Codec, CodecError};
use model::ErrorCode;

/// One record's fault, as a Produce answer lists it (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordIssue {
    /// The record's position in its batch, from 0.
    pub index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a batch, or a set of batches, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The record set holds no whole batch.
    #[error("the record set holds no record batch")]
    Empty,
    /// A request of format 2 carries one batch for each partition.
    #[error("the record set holds more than one record batch")]
    MoreThanOne,
    /// Fewer bytes than a header.
    #[error("{have} bytes are too few for a batch header of {HEADER} bytes", HEADER = crate::HEADER_LEN)]
    ShortHeader {
        /// Bytes present.
        have: usize,
    },
    /// The batch says it is longer than the bytes that are there.
    #[error("the batch declares {declared} bytes and {have} are present")]
    Truncated {
        /// Bytes that the batch declares, its length prefix included.
        declared: usize,
        /// Bytes present.
        have: usize,
    },
    /// The length field is below a header's or negative.
    #[error("batch length {length} is below the minimum")]
    BadLength {
        /// The length field.
        length: i32,
    },
    /// Not format 2.
    #[error("batch has message format {magic}, only format 2 is accepted")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// The stored checksum is not that of the bytes.
    #[error("batch is corrupt: stored crc {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Above `max.message.bytes`.
    #[error("the batch is {size} bytes, above max.message.bytes = {max}")]
    TooLarge {
        /// The batch's size, bytes.
        size: usize,
        /// The limit, bytes.
        max: usize,
    },
    /// No such codec.
    #[error("compression type {id} is unknown")]
    UnknownCodec {
        /// The codec bits of the attributes.
        id: u8,
    },
    /// zstd in a Produce request older than version 7.
    #[error("zstd needs Produce version 7 or newer, this is version {version}")]
    ZstdTooOld {
        /// The request's version.
        version: i16,
    },
    /// The number of records does not fit the offset range.
    #[error("batch declares {count} records and last offset delta {last_offset_delta}")]
    Count {
        /// The declared number of records.
        count: i32,
        /// The declared delta of the last record.
        last_offset_delta: i32,
    },
    /// A client sent a control batch.
    #[error("clients are not allowed to write control records")]
    Control,
    /// A producer's batch without a sequence number.
    #[error("invalid sequence number {sequence} in a batch of producer {producer_id}")]
    Sequence {
        /// The base sequence.
        sequence: i32,
        /// The producer.
        producer_id: i64,
    },
    /// A client's batch whose offsets do not begin at 0.
    #[error("base offset of a produced batch should be 0, it is {base_offset}")]
    BaseOffset {
        /// The base offset.
        base_offset: i64,
    },
    /// A client set the timestamp type to log append time.
    #[error("the producer must not set timestamp type LogAppendTime")]
    TimestampType,
    /// A header timestamp beyond the topic's bounds.
    #[error("timestamp {timestamp} is out of range, it should be within [{earliest}, {latest}]")]
    Timestamp {
        /// The offending timestamp, ms.
        timestamp: i64,
        /// The earliest accepted, ms.
        earliest: i64,
        /// The latest accepted, ms.
        latest: i64,
        /// Whether it is the first record's: the header tells no other record's position.
        first: bool,
    },
    /// The payload does not decompress.
    #[error("{codec} payload: {error}")]
    Codec {
        /// Which codec.
        codec: Codec,
        /// What went wrong.
        error: CodecError,
    },
    /// A record is damaged.
    #[error("record {index} of the batch: {reason}")]
    Record {
        /// Which record, from 0.
        index: i32,
        /// What is wrong.
        reason: &'static str,
    },
    /// The number of records in the payload is not the declared one.
    #[error("batch declares {declared} records, its payload does not hold exactly that many")]
    RecordCount {
        /// The declared number.
        declared: i32,
    },
    /// Records are well-formed and refused by the topic's rules.
    #[error("one or more records have been rejected: {}", first_issues(.issues))]
    Rejected {
        /// `InvalidRecord` or `InvalidTimestamp`.
        code: ErrorCode,
        /// Which records, and why; at most [`crate::MAX_ISSUES`].
        issues: Vec<RecordIssue>,
    },
}

fn first_issues(issues: &[RecordIssue]) -> String {
    let shown: Vec<String> = issues.iter().take(3).map(|i| format!("#{} {}", i.index, i.message)).collect();
    shown.join("; ")
}

impl BatchError {
    /// The code that a Produce answer carries for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::ShortHeader { .. }
            | BatchError::Truncated { .. }
            | BatchError::BadLength { .. }
            | BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            BatchError::Magic { magic } if !(0..=2).contains(magic) => ErrorCode::CorruptMessage,
            BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BatchError::UnknownCodec { .. } | BatchError::ZstdTooOld { .. } => {
                ErrorCode::UnsupportedCompressionType
            }
            BatchError::Timestamp { .. } | BatchError::TimestampType => ErrorCode::InvalidTimestamp,
            BatchError::Rejected { code, .. } => *code,
            BatchError::Empty
            | BatchError::MoreThanOne
            | BatchError::Magic { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::Sequence { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::Codec { .. }
            | BatchError::Record { .. }
            | BatchError::RecordCount { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// The records to name in the answer (KIP-467); empty when the batch as a whole is at fault.
    pub fn issues(&self) -> Vec<RecordIssue> {
        match self {
            BatchError::Rejected { issues, .. } => issues.clone(),
            BatchError::Record { index, reason } => {
                vec![RecordIssue { index: *index, message: (*reason).to_owned() }]
            }
            BatchError::Timestamp { first: true, .. } => {
                vec![RecordIssue { index: 0, message: self.to_string() }]
            }
            _ => Vec::new(),
        }
    }
}
