//! The checks of the hot path: a client's batch is judged by its header and checksum alone.
//!
//! Records are not looked at, so that work scales with compressed bytes; [`crate::walk`] looks at them
//! where a topic's rules need it.
use crate::batch::{BatchHeader, HEADER_LEN, NO_TIMESTAMP, TimestampType};
use crate::codec::Codec;
use crate::crc::batch_crc;
use crate::error::BatchError;
use crate::read_batches::batches;
use bytes::BytesMut;
use model::{ErrorCode, WallMs};

/// A record of nothing: length, attributes, two deltas, no key, no value, no headers, a byte each.
const SMALLEST_RECORD: usize = 7;
/// The first Produce version that may carry zstd.
pub const ZSTD_SINCE: i16 = 7;
/// Produce versions below this one carry message formats 0 and 1.
pub const ONLY_LEGACY_BELOW: i16 = 3;

/// How far a timestamp may lie from the broker's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampBounds {
    /// `message.timestamp.before.max.ms`: into the past, ms.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: into the future, ms.
    pub after_max_ms: i64,
}

impl TimestampBounds {
    /// No bounds at all.
    pub const UNBOUNDED: TimestampBounds =
        TimestampBounds { before_max_ms: i64::MAX, after_max_ms: i64::MAX };

    /// The earliest timestamp accepted at `now`, ms; saturates.
    pub fn earliest(self, now: WallMs) -> i64 {
        now.saturating_sub(self.before_max_ms)
    }

    /// The latest timestamp accepted at `now`, ms; saturates.
    pub fn latest(self, now: WallMs) -> i64 {
        now.saturating_add(self.after_max_ms)
    }

    /// Whether `timestamp` may be stored at `now`; "no timestamp" always may.
    pub fn allows(self, timestamp: i64, now: WallMs) -> bool {
        timestamp == NO_TIMESTAMP || (self.earliest(now)..=self.latest(now)).contains(&timestamp)
    }
}

/// What a topic asks of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// `max.message.bytes`: the largest batch, bytes, header included.
    pub max_bytes: usize,
    /// `message.timestamp.type` of the topic.
    pub timestamp_type: TimestampType,
    /// The topic's bounds; they count for CreateTime only.
    pub bounds: TimestampBounds,
    /// The broker's wall clock.
    pub now: WallMs,
}

/// The one batch of a Produce partition of request version `version`, as Kafka takes it: format 2 only,
/// nothing whole behind it; a partial batch behind it is cut off.
/// Errors: `Empty`, `MoreThanOne`, `Magic`, `ZstdTooOld`, and damage to the length field.
pub fn only_batch_of(version: i16, mut records: BytesMut) -> Result<BytesMut, BatchError> {
    let mut found = batches(&records);
    let (range, header) = match found.next() {
        None => return Err(BatchError::Empty),
        Some(Err(BatchError::Truncated { .. } | BatchError::ShortHeader { .. })) => {
            return Err(BatchError::Empty);
        }
        Some(Err(error)) => return Err(error),
        Some(Ok(batch)) => batch,
    };
    match found.next() {
        None | Some(Err(BatchError::Truncated { .. } | BatchError::ShortHeader { .. })) => {}
        Some(Err(error)) if error.code() == ErrorCode::CorruptMessage => return Err(error),
        Some(_) => return Err(BatchError::MoreThanOne),
    }
    if version < ZSTD_SINCE && header.codec() == Ok(Codec::Zstd) {
        return Err(BatchError::ZstdTooOld { version });
    }
    records.truncate(range.end);
    Ok(records)
}

/// Compares the stored checksum with that of the bytes. `batch` is exactly one whole batch.
/// Errors: [`BatchError::Crc`], and those of [`BatchHeader::parse`].
pub fn check_crc(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let computed = batch_crc(batch);
    if header.crc != computed {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

/// Everything that is asked of a client's batch on the hot path, cheapest first, in Kafka's order.
/// `batch` is exactly one batch: [`BatchError::Truncated`] if its length says otherwise.
pub fn check_client_batch(batch: &[u8], limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let declared = header.size_in_bytes();
    if declared != batch.len() {
        return Err(BatchError::Truncated { declared, have: batch.len() });
    }
    if header.base_offset != 0 {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset });
    }
    if declared > limits.max_bytes {
        return Err(BatchError::TooLarge { size: declared, max: limits.max_bytes });
    }
    check_crc(batch)?;
    let codec = header.codec()?;
    let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if count <= 0 || last_offset_delta < 0 || last_offset_delta != count - 1 {
        return Err(BatchError::Count { count, last_offset_delta });
    }
    if codec == Codec::None && count as usize > (declared - HEADER_LEN) / SMALLEST_RECORD {
        return Err(BatchError::RecordCount { declared: count });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.has_producer() && header.base_sequence < 0 {
        return Err(BatchError::Sequence { sequence: header.base_sequence, producer_id: header.producer_id });
    }
    check_timestamps(&header, limits)?;
    Ok(header)
}

fn check_timestamps(header: &BatchHeader, limits: &BatchLimits) -> Result<(), BatchError> {
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::TimestampType);
    }
    if limits.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let only = header.record_count == 1;
    for (timestamp, first) in [(header.base_timestamp, true), (header.max_timestamp, only)] {
        if !limits.bounds.allows(timestamp, limits.now) {
            return Err(BatchError::Timestamp {
                timestamp,
                earliest: limits.bounds.earliest(limits.now),
                latest: limits.bounds.latest(limits.now),
                first,
            });
        }
    }
    Ok(())
}
