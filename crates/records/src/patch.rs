//! Fields of a batch that are written in place: those of the broker, and a client's own that sends a batch anew.
use crate::batch::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, CRC_AT, HEADER_LEN, LEADER_EPOCH_AT, LOG_APPEND_TIME_BIT,
    MAX_TIMESTAMP_AT, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, field,
};
use crate::crc::crc32c;
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};

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

/// Sets the producer, its epoch and the sequence of the first record, and recomputes the checksum: for clients that
/// send the same records again and again. `batch` is exactly one whole batch.
pub fn set_producer(batch: &mut [u8], id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
    assert!(batch.len() >= HEADER_LEN, "a whole batch");
    batch[PRODUCER_ID_AT..PRODUCER_ID_AT + 8].copy_from_slice(&id.to_be_bytes());
    batch[PRODUCER_EPOCH_AT..PRODUCER_EPOCH_AT + 2].copy_from_slice(&epoch.to_be_bytes());
    batch[BASE_SEQUENCE_AT..BASE_SEQUENCE_AT + 4].copy_from_slice(&base_sequence.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}
