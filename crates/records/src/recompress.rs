//! Rewriting a batch to its topic's `compression.type`.
use crate::batch::{ATTRIBUTES_AT, BatchHeader, CODEC_BITS, CRC_AT, HEADER_LEN, LENGTH_AT, LENGTH_PREFIX};
use crate::codec::{Codec, compress, decompress};
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::walk::{WalkRules, Walked, walk};
use bytes::BytesMut;

/// `compression.type` of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionTarget {
    /// As the producer sent it.
    #[default]
    Producer,
    /// Always this codec; the level is `None` for the codec's default.
    Codec(Codec, Option<i32>),
}

impl CompressionTarget {
    /// Whether a batch with this header has to be rewritten. A batch of the right codec is never
    /// recompressed, whatever its level, nor is an uncompressed control batch.
    pub fn differs_from(self, header: &BatchHeader) -> bool {
        let CompressionTarget::Codec(wanted, _) = self else { return false };
        match header.codec() {
            Ok(Codec::None) if header.is_control() => false,
            Ok(present) => present != wanted,
            Err(_) => true,
        }
    }
}

/// The batch with its records under another codec; offsets, timestamps and producer stay. The records
/// are walked by `rules` first, so what is written is well-formed. `batch` is one whole batch. The result
/// may be larger than `max.message.bytes`: the caller checks that again, as Kafka does.
pub fn recompress(
    batch: &[u8],
    codec: Codec,
    level: Option<i32>,
    rules: &WalkRules,
) -> Result<(BytesMut, Walked), BatchError> {
    let walked = walk(batch, rules)?;
    let header = BatchHeader::parse(batch)?;
    let present = header.codec()?;
    let packed = &batch[HEADER_LEN..header.size_in_bytes()];
    let plain = decompress(present, packed, rules.cap)
        .map_err(|error| BatchError::Codec { codec: present, error })?;
    let payload = compress(codec, level, &plain).map_err(|error| BatchError::Codec { codec, error })?;
    let mut out = BytesMut::with_capacity(HEADER_LEN + payload.len());
    out.extend_from_slice(&batch[..HEADER_LEN]);
    out.extend_from_slice(&payload);
    let length = (out.len() - LENGTH_PREFIX) as i32;
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    let attributes = (header.attributes & !CODEC_BITS) | i16::from(codec.id());
    out[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Ok((out, walked))
}
