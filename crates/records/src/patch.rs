//! The three fields that a broker writes into a client's batch, in place.
use crate::batch::{
    ATTRIBUTES_AT, CRC_AT, HEADER_LEN, LEADER_EPOCH_AT, LOG_APPEND_TIME_BIT, MAX_TIMESTAMP_AT, field,
};
use crate::crc::crc32c;
use model::{LeaderEpoch, Offset, WallMs};

/// Writes the offset of the first record. Not covered by the checksum.
/// `batch` is one whole batch that passed [`crate::check_client_batch`]; panics if shorter than a header.
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    assert!(batch.len() >= HEADER_LEN, "a whole batch");
    batch[..8].copy_from_slice(&offset.to_be_bytes());
}

/// Writes the epoch of the appending leader. Not covered by the checksum. Bounds as [`set_base_offset`].
pub fn set_partition_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    assert!(batch.len() >= HEADER_LEN, "a whole batch");
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&epoch.to_be_bytes());
}

/// Sets the largest timestamp and recomputes the checksum. `batch` is exactly one whole batch.
pub fn set_max_timestamp(batch: &mut [u8], timestamp: WallMs) {
    assert!(batch.len() >= HEADER_LEN, "a whole batch");
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&timestamp.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Sets timestamp type LogAppendTime and `now` as the largest timestamp, and recomputes the checksum.
/// `batch` is exactly one whole batch, because the checksum runs to its end.
pub fn set_log_append_time(batch: &mut [u8], now: WallMs) {
    assert!(batch.len() >= HEADER_LEN, "a whole batch");
    let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES_AT)) | LOG_APPEND_TIME_BIT;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}
