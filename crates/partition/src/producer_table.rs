//! Producers in a checkpoint, and as DescribeProducers shows them.
use crate::aborted::AbortedList;
use crate::api::ProducerInfo;
use crate::producer_state::{Committed, NO_WINDOW, ProducerState, Remembered, Transactional, WINDOW};
use crate::transactions::{BeginMark, LastMarker, Open, epoch_of};
use bytes::Bytes;
use model::{ProducerEpoch, ProducerId};
use prost::Message as _;
use proto::partition::{self as pb, Producer, ProducerBatch, ProducerTable};
use std::collections::BTreeMap;
use std::sync::Arc;

impl ProducerState {
    /// The committed layer, for a checkpoint.
    pub(crate) fn encode(&self) -> Bytes {
        if self.committed().is_empty() && self.aborted().is_empty() {
            return Bytes::new();
        }
        let producers = self.committed().iter().map(|(id, row)| producer(*id, row)).collect();
        ProducerTable { producers, aborted: self.aborted().encode() }.encode_to_vec().into()
    }

    /// From a checkpoint. Errors: what is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<ProducerState, String> {
        let table = ProducerTable::decode(bytes).map_err(|e| format!("producer table: {e}"))?;
        let mut rows = BTreeMap::new();
        for producer in table.producers {
            rows.insert(producer.id, committed(producer)?);
        }
        Ok(ProducerState::restored(rows, AbortedList::decode(table.aborted)?))
    }

    /// Every committed producer, by id.
    pub(crate) fn rows(&self) -> impl Iterator<Item = ProducerInfo> {
        self.committed().iter().map(|(id, row)| {
            let (batch, txn) = (row.batches.back(), row.txn.as_deref());
            let marker = txn.and_then(|txn| txn.marker);
            let open = row.open();
            let timestamp = batch.map(|b| b.timestamp).into_iter().chain(marker.map(|m| m.timestamp)).max();
            ProducerInfo {
                producer_id: *id,
                epoch: open.map_or(row.epoch, |open| open.mark.epoch.max(row.epoch)),
                last_sequence: batch.map_or(-1, Remembered::last_sequence),
                last_timestamp: timestamp.unwrap_or(-1),
                coordinator_epoch: marker.map_or(-1, |marker| marker.coordinator_epoch),
                current_txn_start_offset: open.map_or(-1, |open| open.first),
            }
        })
    }
}

fn producer(id: ProducerId, row: &Committed) -> Producer {
    let batch = |b: &Remembered| ProducerBatch {
        base_offset: b.base_offset,
        base_sequence: b.base_sequence,
        last_delta: b.last_delta,
        timestamp: b.timestamp,
    };
    Producer {
        id,
        epoch: i32::from(row.epoch),
        last_append_time: row.last_append_time,
        batches: row.batches.iter().map(batch).collect(),
        open: row.open().map(|open| pb::OpenTransaction {
            begin: Some(open.mark.encode()),
            first_offset: open.first,
            begun_at: open.begun_at,
        }),
        marker: row.txn.as_ref().and_then(|txn| txn.marker).map(|marker| pb::LastMarker {
            producer_epoch: i32::from(marker.epoch),
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.commit,
            offset: marker.offset,
            timestamp: marker.timestamp,
            is_last: marker.is_last,
        }),
    }
}

fn committed(row: Producer) -> Result<Committed, String> {
    let wrong = |what: &str| format!("producer table: {what} of producer {}", row.id);
    let epoch = ProducerEpoch::try_from(row.epoch).ok().filter(|epoch| *epoch >= NO_WINDOW);
    let batches = row.batches.iter().map(|b| Remembered {
        base_offset: b.base_offset,
        base_sequence: b.base_sequence,
        last_delta: b.last_delta,
        timestamp: b.timestamp,
    });
    let open = row.open.clone().map(|open| {
        let mark = BeginMark::decode(open.begin.ok_or_else(|| wrong("the begin mark"))?)?;
        if mark.producer_id != row.id {
            return Err(wrong("the begin mark"));
        }
        Ok(Arc::new(Open { mark, first: open.first_offset, begun_at: open.begun_at }))
    });
    let marker = row.marker.as_ref().map(|marker| {
        Ok::<_, String>(LastMarker {
            epoch: epoch_of(row.id, marker.producer_epoch)?,
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.commit,
            offset: marker.offset,
            timestamp: marker.timestamp,
            is_last: marker.is_last,
        })
    });
    let txn = Transactional { open: open.transpose()?, marker: marker.transpose()? };
    Ok(Committed {
        epoch: epoch.ok_or_else(|| wrong("the epoch"))?,
        last_append_time: row.last_append_time,
        batches: batches.take(WINDOW).collect(),
        txn: (txn != Transactional::default()).then(|| Box::new(txn)),
    })
}
