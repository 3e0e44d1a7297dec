//! Control records: the commit and abort markers of transactions.
use crate::batch::NO_SEQUENCE;
use crate::builder::{BatchBuilder, NewRecord};
use crate::error::BatchError;
use crate::record::{Record, records};
use bytes::{Bytes, BytesMut};
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
/// A marker is tens of bytes; a compressed one of more is not a marker.
const MARKER_CAP: usize = 4096;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// The producer's transaction ends here and its records are void.
    Abort,
    /// The producer's transaction ends here and its records count.
    Commit,
    /// Kinds of Kafka's that end no transaction.
    Other(i16),
}

impl ControlKind {
    fn id(self) -> i16 {
        match self {
            ControlKind::Abort => 0,
            ControlKind::Commit => 1,
            ControlKind::Other(id) => id,
        }
    }

    /// The kind in a control record's key; `None` if the key is none of a control record.
    pub fn of_key(key: &[u8]) -> Option<ControlKind> {
        let version = i16::from_be_bytes(*key.first_chunk::<2>()?);
        let id = i16::from_be_bytes(*key.get(2..)?.first_chunk::<2>()?);
        match (version, id) {
            (..0, _) => None,
            (_, 0) => Some(ControlKind::Abort),
            (_, 1) => Some(ControlKind::Commit),
            (_, id) => Some(ControlKind::Other(id)),
        }
    }
}

/// The end of one producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// Commit or abort.
    pub kind: ControlKind,
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The epoch that ends it.
    pub producer_epoch: ProducerEpoch,
    /// Epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
    /// When, ms.
    pub timestamp: WallMs,
}

/// A batch that holds `marker` alone.
pub fn end_marker_batch(marker: &EndMarker, base_offset: Offset, leader_epoch: LeaderEpoch) -> BytesMut {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&KEY_VERSION.to_be_bytes());
    key[2..].copy_from_slice(&marker.kind.id().to_be_bytes());
    let mut value = [0; 6];
    value[..2].copy_from_slice(&VALUE_VERSION.to_be_bytes());
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new()
        .base_offset(base_offset)
        .leader_epoch(leader_epoch)
        .producer(marker.producer_id, marker.producer_epoch, NO_SEQUENCE)
        .transactional()
        .control();
    builder.push(NewRecord::new(marker.timestamp, Some(&key), Some(&value)));
    builder.finish().expect("nothing is compressed")
}

/// The marker in a control batch; `None` if the batch holds none (another kind of control record).
/// Errors: damage, as [`records`] and its iterator.
pub fn parse_end_marker(batch: &Bytes) -> Result<Option<EndMarker>, BatchError> {
    let mut all = records(batch, MARKER_CAP)?;
    let header = *all.header();
    let Some(Record { timestamp, key, value, .. }) = all.next().transpose()? else { return Ok(None) };
    if !header.is_control() {
        return Ok(None);
    }
    let damage = |reason| BatchError::Record { index: 0, reason };
    let kind =
        key.as_deref().and_then(ControlKind::of_key).ok_or_else(|| damage("not a control record's key"))?;
    if matches!(kind, ControlKind::Other(_)) {
        return Ok(None);
    }
    let epoch = value.as_deref().and_then(|v| v.get(2..)).and_then(|v| v.first_chunk::<4>());
    let coordinator_epoch = i32::from_be_bytes(*epoch.ok_or_else(|| damage("not a marker's value"))?);
    let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
    Ok(Some(EndMarker { kind, producer_id, producer_epoch, coordinator_epoch, timestamp }))
}
