//! What nodes say to one another about transactions, as it travels.
use crate::api::PeerOut;
use crate::peer_wire::BadMessage;
use crate::txn_host::TxnAsk;
use crate::txn_markers::MarkersFor;
use coordinator::txn::TopicPartition;
use model::ErrorCode;
use partition::Marker;
use proto::peer as pb;

pub(crate) fn ask(number: u64, ask: TxnAsk) -> pb::TxnAsk {
    pb::TxnAsk {
        number,
        transactional_id: ask.transactional_id,
        producer_id: ask.producer.0,
        producer_epoch: i32::from(ask.producer.1),
        topic: ask.topic,
        partition: ask.partition,
        verify: ask.verify,
        known: ask.known,
    }
}

pub(crate) fn asked(ask: pb::TxnAsk) -> Result<PeerOut, BadMessage> {
    let producer = (ask.producer_id, epoch(ask.producer_epoch)?);
    let pb::TxnAsk { number, transactional_id, topic, partition, verify, known, .. } = ask;
    let ask = Box::new(TxnAsk { transactional_id, producer, topic, partition, verify, known });
    Ok(PeerOut::TxnAsk { number, ask })
}

pub(crate) fn markers(number: u64, markers: MarkersFor) -> pb::Markers {
    let MarkersFor { marker, partitions } = markers;
    pb::Markers {
        number,
        producer_id: marker.producer_id,
        producer_epoch: i32::from(marker.producer_epoch),
        commit: marker.commit,
        coordinator_epoch: marker.coordinator_epoch,
        version: u32::try_from(marker.txn_version).unwrap_or_default(),
        partitions: partitions.iter().map(|partition| marked_partition(partition, ErrorCode::None)).collect(),
    }
}

pub(crate) fn markers_asked(markers: pb::Markers) -> Result<PeerOut, BadMessage> {
    let txn_version = i16::try_from(markers.version);
    let marker = Marker {
        producer_id: markers.producer_id,
        producer_epoch: epoch(markers.producer_epoch)?,
        commit: markers.commit,
        coordinator_epoch: markers.coordinator_epoch,
        txn_version: txn_version.map_err(|_| BadMessage::Field("a transaction version fits an i16"))?,
    };
    let partitions = markers.partitions.into_iter().map(|p| TopicPartition::new(&p.topic, p.partition));
    let markers_for = Box::new(MarkersFor { marker, partitions: partitions.collect() });
    Ok(PeerOut::Markers { number: markers.number, markers: markers_for })
}

pub(crate) fn marked(number: u64, partitions: &[(TopicPartition, ErrorCode)]) -> pb::Marked {
    let partitions = partitions.iter().map(|(partition, code)| marked_partition(partition, *code));
    pb::Marked { number, partitions: partitions.collect() }
}

pub(crate) fn was_marked(marked: pb::Marked) -> PeerOut {
    let partitions = marked
        .partitions
        .into_iter()
        .map(|p| (TopicPartition::new(&p.topic, p.partition), code(p.error_code)));
    PeerOut::Marked { number: marked.number, partitions: partitions.collect() }
}

fn marked_partition(partition: &TopicPartition, code: ErrorCode) -> pb::MarkedPartition {
    pb::MarkedPartition {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        error_code: i32::from(code.code()),
    }
}

/// Kafka's code; one that is not known is no success.
pub(crate) fn code(code: i32) -> ErrorCode {
    i16::try_from(code).ok().and_then(ErrorCode::from_code).unwrap_or(ErrorCode::UnknownServerError)
}

fn epoch(epoch: i32) -> Result<i16, BadMessage> {
    i16::try_from(epoch).map_err(|_| BadMessage::Field("a producer epoch fits an i16"))
}
