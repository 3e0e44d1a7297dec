//! Rewriting a batch to its topic's `compression.type`.
use crate::batch::{ATTRIBUTES_AT, BatchHeader, CODEC_BITS, CRC_AT, HEADER_LEN, LENGTH_AT, LENGTH_PREFIX};
use crate::codec::{Codec, Decoder, compress, decompress, explain};
use crate::crc::crc32c;
use crate::encoder::Encoder;
use crate::error::BatchError;
use crate::walk::{WalkRules, Walked, walk};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};

/// Records of so many bytes are unpacked as a whole: the codecs are faster that way.
const AT_ONCE: usize = 4 << 20;
const CHUNK: usize = 64 << 10;

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
/// are walked by `rules` first, so what is written is well-formed. `batch` is one whole batch. What comes
/// out larger than `max_bytes` is refused, as Kafka does; memory is bounded by that, not by the plain size.
pub fn recompress(
    batch: &[u8],
    codec: Codec,
    level: Option<i32>,
    rules: &WalkRules,
    max_bytes: usize,
) -> Result<(BytesMut, Walked), BatchError> {
    let walked = walk(batch, rules)?;
    let header = BatchHeader::parse(batch)?;
    let packed = &batch[HEADER_LEN..header.size_in_bytes()];
    let room = max_bytes.saturating_sub(HEADER_LEN);
    let payload = repack(header.codec()?, packed, (codec, level), walked.uncompressed_bytes, room)?;
    if payload.len() > room {
        return Err(BatchError::TooLarge { size: HEADER_LEN + payload.len(), max: max_bytes });
    }
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

/// The payload under `to`: at once when it is small, else piece by piece. A result over `room` is cut off
/// somewhere beyond it.
fn repack(
    from: Codec,
    packed: &[u8],
    to: (Codec, Option<i32>),
    plain_bytes: u64,
    room: usize,
) -> Result<Bytes, BatchError> {
    let (codec, level) = to;
    let unreadable = |error| BatchError::Codec { codec: from, error };
    let unwritable = |error| BatchError::Codec { codec, error };
    let plain_bytes = usize::try_from(plain_bytes).unwrap_or(usize::MAX);
    if plain_bytes <= AT_ONCE {
        let plain = decompress(from, packed, plain_bytes).map_err(unreadable)?;
        return compress(codec, level, &plain).map_err(unwritable);
    }
    if codec == Codec::None && plain_bytes > room {
        return Err(BatchError::TooLarge { size: HEADER_LEN + plain_bytes, max: room + HEADER_LEN });
    }
    let broken = |e: io::Error| unreadable(explain(&e, plain_bytes));
    let mut decoder = Decoder::new(from, packed, plain_bytes).map_err(broken)?;
    let mut encoder = Encoder::new(codec, level, plain_bytes).map_err(unwritable)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = decoder.read(&mut chunk).map_err(broken)?;
        if read == 0 {
            return encoder.finish().map_err(unwritable);
        }
        encoder.write(&chunk[..read]).map_err(unwritable)?;
        if encoder.written() > room {
            return Err(BatchError::TooLarge {
                size: HEADER_LEN + encoder.written(),
                max: room + HEADER_LEN,
            });
        }
    }
}
