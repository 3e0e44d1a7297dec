//! Requests encoded ahead of the measurement.
use super::socket::join;
use anyhow::{Context, Result};
use bytes::BytesMut;
use records::{BatchBuilder, Codec, NewRecord};
use wire::fetch_request::{FetchPartition, FetchTopic};
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{ApiKey, FetchRequest, ProduceRequest, Request, RequestHeader, Str, encode_request};

/// Produce version that every broker since 2.4 takes and that names topics.
pub(super) const PRODUCE_VERSION: i16 = 9;
/// Fetch version that names topics and has no tagged fields to walk.
pub(super) const FETCH_VERSION: i16 = 11;

/// Bytes of text, and of noise, in a row of a payload.
const RUN: usize = 64;

/// How a batch is filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchShape {
    pub(super) record_size: usize,
    pub(super) batch_bytes: usize,
    pub(super) codec: Codec,
}

/// Reads a codec's name as `compression.type` has it.
pub(super) fn codec(name: &str) -> Result<Codec> {
    Ok(match name {
        "none" => Codec::None,
        "gzip" => Codec::Gzip,
        "snappy" => Codec::Snappy,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        other => anyhow::bail!("codec '{other}' is none of none, gzip, snappy, lz4, zstd"),
    })
}

/// Half text, half noise: compresses about two to one, as OpenMessaging's payloads do. In runs: lz4 finds nothing
/// where text and noise take turns byte by byte.
fn fill(value: &mut [u8], seed: &mut u64) {
    for (i, byte) in value.iter_mut().enumerate() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = if (i / RUN).is_multiple_of(2) { b'a' + (i % 16) as u8 } else { (*seed >> 56) as u8 };
    }
}

/// A batch of the shape; `stamp` goes into the first 8 bytes of each value. Returns it with its record
/// count and its uncompressed size.
pub(super) fn batch(shape: BatchShape, stamp: u64, seed: u64) -> Result<(BytesMut, usize, usize)> {
    fill_batch(BatchBuilder::new(), shape, stamp, seed)
}

/// The same in a batch with properties of its own.
pub(super) fn fill_batch(
    builder: BatchBuilder,
    shape: BatchShape,
    stamp: u64,
    seed: u64,
) -> Result<(BytesMut, usize, usize)> {
    let mut builder = builder.codec(shape.codec, None);
    let mut state = seed | 1;
    let mut value = vec![0u8; shape.record_size.max(8)];
    let mut records = 0;
    while records == 0 || builder.size_in_bytes() + value.len() + 16 <= shape.batch_bytes {
        fill(&mut value, &mut state);
        value[..8].copy_from_slice(&stamp.to_be_bytes());
        builder.push(NewRecord::new(now_ms(), None, Some(&value)));
        records += 1;
    }
    let uncompressed = builder.size_in_bytes();
    Ok((builder.finish().context("build a batch")?, records, uncompressed))
}

pub(super) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|d| d.as_millis() as i64)
        .unwrap_or_default()
}

/// The header of a request of this generator.
pub(super) fn header(api_key: ApiKey, api_version: i16, correlation_id: i32) -> RequestHeader {
    RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id: Some(Str::from_static("plimsoll-bench")),
    }
}

/// A Produce frame with `batches` as (partition, batch).
pub(super) fn produce(topic: &str, acks: i16, batches: Vec<(i32, BytesMut)>, id: i32) -> Result<Vec<u8>> {
    let partition_data = batches
        .into_iter()
        .map(|(index, records)| PartitionProduceData { index, records: Some(records) })
        .collect();
    let topic = TopicProduceData {
        name: Str::from_utf8(topic.to_owned().into())?,
        partition_data,
        ..Default::default()
    };
    let request = ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let pieces = encode_request(&header(ApiKey::Produce, PRODUCE_VERSION, id), &Request::Produce(request))?;
    Ok(join(&pieces))
}

/// A Fetch frame for `positions` as (partition, offset).
pub(super) fn fetch(topic: &str, positions: &[(i32, i64)], max_wait_ms: i32, id: i32) -> Result<Vec<u8>> {
    let partitions = positions
        .iter()
        .map(|(partition, offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        })
        .collect();
    let topic =
        FetchTopic { topic: Str::from_utf8(topic.to_owned().into())?, partitions, ..Default::default() };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let pieces = encode_request(&header(ApiKey::Fetch, FETCH_VERSION, id), &Request::Fetch(request))?;
    Ok(join(&pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_compress_two_to_one_in_every_codec() {
        for name in ["gzip", "snappy", "lz4", "zstd"] {
            let shape = BatchShape { record_size: 1000, batch_bytes: 128 << 10, codec: codec(name).unwrap() };
            let (bytes, _, uncompressed) = batch(shape, 7, 1).unwrap();
            let ratio = uncompressed as f64 / bytes.len() as f64;
            assert!((1.6..2.4).contains(&ratio), "{name}: {ratio:.2}");
        }
    }
}
