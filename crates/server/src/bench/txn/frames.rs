//! Requests of a producer that has an id: built once, the producer and the sequences are patched in for each send.
use crate::bench::frames::{BatchShape, fill_batch, header};
use crate::bench::socket::join;
use anyhow::{Context, Result};
use bytes::BytesMut;
use records::{BatchBuilder, HEADER_LEN, next_sequence, set_producer};
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{ApiKey, ProduceRequest, Request, RequestMessage, Str, encode_request};

/// Who a producer is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// What all requests of a producer have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending<'a> {
    pub(super) topic: &'a str,
    /// `None` for a producer that is only idempotent.
    pub(super) transactional_id: Option<&'a str>,
    /// Of Produce.
    pub(super) version: i16,
    pub(super) shape: BatchShape,
}

/// A batch within a frame.
#[derive(Debug)]
struct Slot {
    partition: i32,
    at: usize,
    len: usize,
    records: i32,
}

/// A Produce request that is sent again and again.
#[derive(Debug)]
pub(super) struct Prepared {
    frame: Vec<u8>,
    slots: Vec<Slot>,
    pub(super) records: u64,
    pub(super) uncompressed: u64,
}

impl Prepared {
    /// One batch to each of `partitions`. The batch of a partition is the same in every frame, so that it can be sent
    /// again alone.
    pub(super) fn new(sending: Sending<'_>, partitions: &[i32]) -> Result<Prepared> {
        let (mut data, mut batches) = (Vec::new(), Vec::new());
        let mut prepared = Prepared { frame: Vec::new(), slots: Vec::new(), records: 0, uncompressed: 0 };
        for partition in partitions {
            let builder = BatchBuilder::new().producer(0, 0, 0);
            let builder = if sending.transactional_id.is_some() { builder.transactional() } else { builder };
            let (batch, records, size) = fill_batch(builder, sending.shape, 0, *partition as u64 + 7)?;
            data.push(PartitionProduceData { index: *partition, records: Some(batch.clone()) });
            batches.push((*partition, batch, i32::try_from(records)?));
            prepared.records += records as u64;
            prepared.uncompressed += size as u64;
        }
        let topic =
            TopicProduceData { name: Str::from(sending.topic), partition_data: data, ..Default::default() };
        let request = ProduceRequest {
            transactional_id: sending.transactional_id.map(Str::from),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
        };
        prepared.frame = frame(request, sending.version)?;
        let mut from = 0;
        for (partition, batch, records) in batches {
            let at = from + position(&prepared.frame[from..], &batch).context("a batch in its request")?;
            from = at + batch.len();
            prepared.slots.push(Slot { partition, at, len: batch.len(), records });
        }
        Ok(prepared)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.slots.iter().map(|slot| slot.partition)
    }

    /// Writes the producer and each partition's sequence into the batches. Returns the frame, and each partition with
    /// the sequence that follows.
    pub(super) fn patch(
        &mut self,
        who: Identity,
        sequence_of: impl Fn(i32) -> i32,
    ) -> (&[u8], Vec<(i32, i32)>) {
        let mut next = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let sequence = sequence_of(slot.partition);
            let batch = &mut self.frame[slot.at..slot.at + slot.len];
            set_producer(batch, who.id, who.epoch, sequence);
            next.push((slot.partition, next_sequence(sequence, slot.records)));
        }
        (&self.frame, next)
    }
}

/// Where `batch` begins: its header is sought, which nothing else in a request looks like.
fn position(frame: &[u8], batch: &BytesMut) -> Option<usize> {
    frame.windows(HEADER_LEN).position(|window| window == &batch[..HEADER_LEN])
}

/// Any request in one run of bytes. Answers come in order, so that they need no number.
pub(super) fn frame<R: RequestMessage>(request: R, version: i16) -> Result<Vec<u8>> {
    let request: Request = request.into();
    let key: ApiKey = R::KEY;
    Ok(join(&encode_request(&header(key, version, 1), &request)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use records::{Codec, check_crc};

    const SHAPE: BatchShape = BatchShape { record_size: 100, batch_bytes: 1000, codec: Codec::None };

    fn batches(frame: &[u8]) -> Vec<(i32, Bytes)> {
        let body = BytesMut::from(&frame[4..]);
        let Request::Produce(request) = wire::decode_request(body).unwrap().1 else { panic!("a Produce") };
        let rows = request.topic_data.into_iter().flat_map(|topic| topic.partition_data);
        rows.map(|row| (row.index, row.records.unwrap().freeze())).collect()
    }

    #[test]
    fn a_frame_carries_the_producer_and_the_sequences_that_were_patched_in_with_right_checksums() {
        let sending = Sending { topic: "t", transactional_id: Some("a"), version: 12, shape: SHAPE };
        let mut prepared = Prepared::new(sending, &[3, 1]).unwrap();
        for (who, first) in [(Identity { id: 9, epoch: 4 }, 0), (Identity { id: 10, epoch: 5 }, 70)] {
            let (frame, next) = prepared.patch(who, |partition| first + partition);
            let seen = batches(frame);
            assert_eq!(seen.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [3, 1]);
            for ((partition, batch), (_, next)) in seen.iter().zip(&next) {
                let header = check_crc(batch).unwrap();
                assert!(header.is_transactional());
                assert_eq!((header.producer_id, header.producer_epoch), (who.id, who.epoch));
                assert_eq!(header.base_sequence, first + partition);
                assert_eq!(*next, header.base_sequence + header.record_count);
            }
        }
    }

    /// A batch without its timestamps, and the checksum over them: two are made at different times.
    fn timeless(batch: &[u8]) -> Vec<u8> {
        let mut batch = batch.to_vec();
        batch[17..21].fill(0);
        batch[27..43].fill(0);
        batch
    }

    #[test]
    fn a_partition_has_the_same_batch_alone_and_among_others() {
        let sending = Sending { topic: "t", transactional_id: None, version: 9, shape: SHAPE };
        let who = Identity { id: 1, epoch: 0 };
        let mut both = Prepared::new(sending, &[0, 5]).unwrap();
        let mut alone = Prepared::new(sending, &[5]).unwrap();
        let (both, alone) = (batches(both.patch(who, |_| 8).0), batches(alone.patch(who, |_| 8).0));
        assert_eq!(both[1].0, alone[0].0);
        assert_eq!(timeless(&both[1].1), timeless(&alone[0].1));
        assert!(!check_crc(&alone[0].1).unwrap().is_transactional());
    }
}
