//! Kafka's record formats of `__transaction_state`: TransactionLogKey 0 and TransactionLogValue 0 and 1.
//!
//! Written as Kafka 4.4 does: value version 1 with its tagged fields where `transaction.version` is at least 1,
//! else version 0. A key or value of another version is an error: what it says would be lost otherwise.
use super::value::{TopicPartition, TxnState, TxnValue, TxnVersion};
use crate::codec::{Reader, RecordError, put_string, put_varint};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest transactional id that a key can name.
pub(crate) const MAX_ID_BYTES: usize = i16::MAX as usize;

/// The key of a transactional id.
pub fn encode_key(transactional_id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + transactional_id.len());
    out.put_i16(0);
    put_string(&mut out, transactional_id);
    out.freeze()
}

/// The transactional id that a key names.
pub fn decode_key(key: &[u8]) -> Result<String, RecordError> {
    let mut r = Reader::new(key);
    match r.i16("key version")? {
        0 => r.string(false, "transactional id"),
        other => Err(RecordError::UnknownVersion(other)),
    }
}

/// The bytes that Kafka 4.4 would write at this level of `transaction.version`. What version 0 cannot say, which
/// Kafka refuses to write then, is written in version 1 all the same.
pub fn encode_value(value: &TxnValue, level: TxnVersion) -> Bytes {
    let flexible = level >= TxnVersion::V1 || value.client_version != TxnVersion::V0;
    let mut out = BytesMut::with_capacity(80 + value.partitions.len() * 16);
    out.put_i16(i16::from(flexible));
    out.put_i64(value.producer_id);
    out.put_i16(value.producer_epoch);
    out.put_i32(value.timeout_ms);
    out.put_i8(value.state as i8);
    put_partitions(&mut out, value, flexible);
    out.put_i64(value.last_update);
    out.put_i64(value.start);
    if flexible {
        put_tags(&mut out, value);
    }
    out.freeze()
}

fn put_partitions(out: &mut BytesMut, value: &TxnValue, flexible: bool) {
    let put_length = |out: &mut BytesMut, length: usize| {
        let length = u32::try_from(length).expect("partitions of a transaction are bounded far below 2^31");
        if flexible { put_varint(out, length + 1) } else { out.put_u32(length) }
    };
    if value.state == TxnState::Empty {
        return if flexible { put_varint(out, 0) } else { out.put_i32(-1) };
    }
    let mut topics: Vec<(&Arc<str>, Vec<i32>)> = Vec::new();
    for at in &value.partitions {
        match topics.last_mut().filter(|(topic, _)| **topic == at.topic) {
            Some((_, partitions)) => partitions.push(at.partition),
            None => topics.push((&at.topic, vec![at.partition])),
        }
    }
    put_length(out, topics.len());
    for (topic, partitions) in topics {
        if flexible {
            put_length(out, topic.len());
            out.put_slice(topic.as_bytes());
        } else {
            put_string(out, topic);
        }
        put_length(out, partitions.len());
        partitions.iter().for_each(|p| out.put_i32(*p));
        if flexible {
            put_varint(out, 0);
        }
    }
}

fn put_tags(out: &mut BytesMut, value: &TxnValue) {
    let long = |n: i64| (n != -1).then(|| n.to_be_bytes().to_vec());
    let short = |n: i16, default: i16| (n != default).then(|| n.to_be_bytes().to_vec());
    let fields = [
        long(value.previous_producer_id),
        long(value.next_producer_id),
        short(value.client_version.level(), 0),
        short(value.next_producer_epoch, -1),
    ];
    put_varint(out, fields.iter().flatten().count() as u32);
    for (tag, field) in fields.iter().enumerate() {
        if let Some(bytes) = field {
            put_varint(out, tag as u32);
            put_varint(out, bytes.len() as u32);
            out.put_slice(bytes);
        }
    }
}

/// Reads versions 0 and 1.
pub fn decode_value(bytes: &[u8]) -> Result<TxnValue, RecordError> {
    let mut r = Reader::new(bytes);
    let flexible = match r.i16("value version")? {
        0 => false,
        1 => true,
        other => return Err(RecordError::UnknownVersion(other)),
    };
    let mut value = TxnValue::created(r.i64("producer id")?);
    value.producer_epoch = r.i16("producer epoch")?;
    value.timeout_ms = r.i32("transaction timeout")?;
    let status = r.i8("transaction status")?;
    value.state = TxnState::ALL
        .into_iter()
        .find(|state| *state as i8 == status)
        .ok_or(RecordError::Malformed("transaction status"))?;
    let partitions = partitions(&mut r, flexible)?;
    if value.state != TxnState::Empty {
        // In Empty there is no transaction for them; Kafka does not look at them there.
        value.partitions = partitions;
    }
    value.last_update = r.i64("last update")?;
    value.start = r.i64("start")?;
    if flexible {
        r.tags(|tag, content| {
            let mut r = Reader::new(content);
            match tag {
                0 => value.previous_producer_id = r.i64("previous producer id")?,
                1 => value.next_producer_id = r.i64("next producer id")?,
                2 => {
                    let level = TxnVersion::from_level(r.i16("client transaction version")?);
                    value.client_version =
                        level.ok_or(RecordError::Malformed("client transaction version"))?;
                }
                3 => value.next_producer_epoch = r.i16("next producer epoch")?,
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(value)
}

fn partitions(r: &mut Reader<'_>, flexible: bool) -> Result<BTreeSet<TopicPartition>, RecordError> {
    let mut found = BTreeSet::new();
    let topics = r.opt_length(flexible, "partitions")?.unwrap_or_default();
    for _ in 0..topics {
        let topic: Arc<str> = r.string(flexible, "topic")?.into();
        for _ in 0..r.length(flexible, "partition ids")? {
            found.insert(TopicPartition { topic: topic.clone(), partition: r.i32("partition id")? });
        }
        if flexible {
            r.tags(|_, _| Ok(()))?;
        }
    }
    Ok(found)
}
