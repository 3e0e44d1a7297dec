//! Building a batch from records: coordinators, the command line, tests.
use crate::batch::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CONTROL_BIT, COUNT_AT, CRC_AT, DELETE_HORIZON_BIT,
    HEADER_LEN, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LENGTH_AT, LENGTH_PREFIX, LOG_APPEND_TIME_BIT, MAGIC,
    MAGIC_AT, MAX_TIMESTAMP_AT, NO_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, PRODUCER_EPOCH_AT,
    PRODUCER_ID_AT, TRANSACTIONAL_BIT,
};
use crate::codec::{Codec, CodecError, compress};
use crate::crc::crc32c;
use crate::varint;
use bytes::{BufMut, BytesMut};
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Its timestamp, ms; -1 for none.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; names may repeat.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

impl<'a> NewRecord<'a> {
    /// A record without headers.
    pub fn new(timestamp: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> NewRecord<'a> {
        NewRecord { timestamp, key, value, headers: &[] }
    }
}

/// Builds one batch. Offsets count up from the base without gaps unless [`BatchBuilder::push_at`] says so.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Header room, then the encoded records.
    out: BytesMut,
    codec: Codec,
    level: Option<i32>,
    flags: i16,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer: (ProducerId, ProducerEpoch, i32),
    append_time: Option<WallMs>,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    next_delta: i32,
    delete_horizon: Option<WallMs>,
    last_delta: Option<i32>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An empty batch: offset 0, uncompressed, no producer, the records' own timestamps.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            out: BytesMut::zeroed(HEADER_LEN),
            codec: Codec::None,
            level: None,
            flags: 0,
            base_offset: 0,
            leader_epoch: -1,
            producer: (NO_PRODUCER_ID, NO_EPOCH, NO_SEQUENCE),
            append_time: None,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            count: 0,
            next_delta: 0,
            delete_horizon: None,
            last_delta: None,
        }
    }

    /// Offset of the first record.
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.base_offset = offset;
        self
    }

    /// Epoch of the appending leader.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Codec and its level (`None`: the codec's default).
    pub fn codec(mut self, codec: Codec, level: Option<i32>) -> Self {
        self.codec = codec;
        self.level = level;
        self
    }

    /// The idempotent producer that writes it, and the sequence number of the first record.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Marks it as part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.flags |= TRANSACTIONAL_BIT;
        self
    }

    /// Marks it as holding control records.
    pub fn control(mut self) -> Self {
        self.flags |= CONTROL_BIT;
        self
    }

    /// Timestamp type LogAppendTime, with this time.
    pub fn log_append_time(mut self, now: WallMs) -> Self {
        self.append_time = Some(now);
        self
    }

    /// When compaction may drop what deletes here, ms (KIP-534); to be told before the first record.
    pub(crate) fn delete_horizon(mut self, horizon: WallMs) -> Self {
        self.delete_horizon = Some(horizon);
        self.flags |= DELETE_HORIZON_BIT;
        self
    }

    /// The offset that the batch ends at, above its base, whatever its last record's is.
    pub(crate) fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_delta = Some(delta);
        self
    }

    /// Makes room for these records, to the byte if nothing else is pushed: a batch may live long in a cache.
    pub fn reserve_for<'a>(&mut self, records: impl IntoIterator<Item = NewRecord<'a>>) {
        let (mut base, mut room) = (None, 0);
        for (delta, record) in (self.next_delta..).zip(records) {
            let new_base = self.delete_horizon.unwrap_or(record.timestamp);
            let base = *base.get_or_insert(if self.count == 0 { new_base } else { self.base_timestamp });
            let len = body_len(&record, record.timestamp.wrapping_sub(base), delta);
            room += varint::len(len as i64) + len;
        }
        self.out.reserve(room);
    }

    /// Adds a record at the next offset.
    pub fn push(&mut self, record: NewRecord<'_>) -> &mut Self {
        self.push_at(self.next_delta, record)
    }

    /// Adds a record `delta` above the base offset; panics unless that is above the last one's.
    pub fn push_at(&mut self, delta: i32, record: NewRecord<'_>) -> &mut Self {
        assert!(delta >= self.next_delta, "offsets increase");
        if self.count == 0 {
            self.base_timestamp = self.delete_horizon.unwrap_or(record.timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let len = body_len(&record, timestamp_delta, delta);
        self.out.reserve(varint::len(len as i64) + len);
        varint::put(&mut self.out, len as i64);
        put_body(&mut self.out, &record, timestamp_delta, delta);
        self.count += 1;
        self.next_delta = delta + 1;
        self
    }

    /// Whether a record may stand `delta` above the base offset.
    pub(crate) fn takes(&self, delta: i32) -> bool {
        delta >= self.next_delta && delta <= self.last_delta.unwrap_or(i32::MAX - 1)
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no records yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch so far, before compression.
    pub fn size_in_bytes(&self) -> usize {
        self.out.len()
    }

    /// Compresses, fills in the header and returns the batch. Errors only if the codec's library fails.
    pub fn finish(mut self) -> Result<BytesMut, CodecError> {
        if self.codec != Codec::None {
            let packed = compress(self.codec, self.level, &self.out[HEADER_LEN..])?;
            self.out.truncate(HEADER_LEN);
            self.out.extend_from_slice(&packed);
        }
        let mut attributes = self.flags | i16::from(self.codec.id());
        if self.append_time.is_some() {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        let length = (self.out.len() - LENGTH_PREFIX) as i32;
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let h = &mut self.out;
        put(h, 0, self.base_offset.to_be_bytes());
        put(h, LENGTH_AT, length.to_be_bytes());
        put(h, LEADER_EPOCH_AT, self.leader_epoch.to_be_bytes());
        put(h, MAGIC_AT, MAGIC.to_be_bytes());
        put(h, ATTRIBUTES_AT, attributes.to_be_bytes());
        let last_delta = self.last_delta.unwrap_or((self.next_delta - 1).max(0));
        put(h, LAST_OFFSET_DELTA_AT, last_delta.to_be_bytes());
        put(h, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(h, MAX_TIMESTAMP_AT, self.append_time.unwrap_or(self.max_timestamp).to_be_bytes());
        put(h, PRODUCER_ID_AT, producer_id.to_be_bytes());
        put(h, PRODUCER_EPOCH_AT, producer_epoch.to_be_bytes());
        put(h, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
        put(h, COUNT_AT, self.count.to_be_bytes());
        let crc = crc32c(&h[ATTRIBUTES_AT..]);
        put(h, CRC_AT, crc.to_be_bytes());
        Ok(self.out)
    }
}

fn put<const N: usize>(out: &mut BytesMut, at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| varint::len(b.len() as i64) + b.len())
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

fn body_len(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i32) -> usize {
    let headers: usize = record.headers.iter().map(|(n, v)| nullable_len(Some(n)) + nullable_len(*v)).sum();
    1 + varint::len(timestamp_delta)
        + varint::len(i64::from(offset_delta))
        + nullable_len(record.key)
        + nullable_len(record.value)
        + varint::len(record.headers.len() as i64)
        + headers
}

fn put_body(out: &mut BytesMut, record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i32) {
    out.put_u8(0);
    varint::put(out, timestamp_delta);
    varint::put(out, i64::from(offset_delta));
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    varint::put(out, record.headers.len() as i64);
    for (name, value) in record.headers {
        put_nullable(out, Some(name));
        put_nullable(out, *value);
    }
}
