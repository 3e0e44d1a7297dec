//! Compressors that take their input piece by piece.
use crate::codec::{Codec, CodecError, XERIAL_HEADER_LEN, XERIAL_MAGIC};
use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::{self, Write};

const XERIAL_BLOCK_LEN: usize = 32 * 1024;

/// A compressor into memory.
pub(crate) struct Encoder(Inner);

enum Inner {
    Plain(Vec<u8>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Snappy(SnappyEncoder),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

fn failed(error: impl std::fmt::Display) -> CodecError {
    CodecError::Damaged(error.to_string())
}

impl Encoder {
    /// A compressor for `plain_bytes` of input. Levels count as in [`crate::compress`].
    pub(crate) fn new(codec: Codec, level: Option<i32>, plain_bytes: usize) -> Result<Encoder, CodecError> {
        let out = Vec::with_capacity((plain_bytes / 2).min(1 << 20));
        Ok(Encoder(match codec {
            Codec::None => Inner::Plain(out),
            Codec::Gzip => {
                let level = match level {
                    Some(level) if (0..=9).contains(&level) => flate2::Compression::new(level as u32),
                    _ => flate2::Compression::default(),
                };
                Inner::Gzip(Box::new(flate2::write::GzEncoder::new(out, level)))
            }
            Codec::Snappy => Inner::Snappy(SnappyEncoder::new(out)),
            // Independent blocks of 64 KiB without checksums: Kafka's Java reader refuses linked blocks.
            Codec::Lz4 => {
                let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                Inner::Lz4(Box::new(FrameEncoder::with_frame_info(info, out)))
            }
            Codec::Zstd => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let mut encoder = zstd::stream::write::Encoder::new(out, level).map_err(failed)?;
                encoder.set_pledged_src_size(Some(plain_bytes as u64)).map_err(failed)?;
                Inner::Zstd(Box::new(encoder))
            }
        }))
    }

    /// Takes the next piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), CodecError> {
        let done: io::Result<()> = match &mut self.0 {
            Inner::Plain(out) => out.write_all(piece),
            Inner::Gzip(encoder) => encoder.write_all(piece),
            Inner::Snappy(encoder) => encoder.write(piece),
            Inner::Lz4(encoder) => encoder.write_all(piece),
            Inner::Zstd(encoder) => encoder.write_all(piece),
        };
        done.map_err(failed)
    }

    /// Bytes that have come out so far.
    pub(crate) fn written(&self) -> usize {
        match &self.0 {
            Inner::Plain(out) => out.len(),
            Inner::Gzip(encoder) => encoder.get_ref().len(),
            Inner::Snappy(encoder) => encoder.out.len(),
            Inner::Lz4(encoder) => encoder.get_ref().len(),
            Inner::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// Everything that came out.
    pub(crate) fn finish(self) -> Result<Bytes, CodecError> {
        let out = match self.0 {
            Inner::Plain(out) => out,
            Inner::Gzip(encoder) => encoder.finish().map_err(failed)?,
            Inner::Snappy(encoder) => encoder.finish().map_err(failed)?,
            Inner::Lz4(encoder) => encoder.finish().map_err(failed)?,
            Inner::Zstd(encoder) => encoder.finish().map_err(failed)?,
        };
        Ok(Bytes::from(out))
    }
}

/// The stream of Java's snappy library: a header, then blocks with their lengths.
struct SnappyEncoder {
    out: Vec<u8>,
    /// Input of the block that is not full yet.
    block: Vec<u8>,
}

impl SnappyEncoder {
    fn new(mut out: Vec<u8>) -> SnappyEncoder {
        out.reserve(XERIAL_HEADER_LEN);
        out.extend_from_slice(&XERIAL_MAGIC);
        out.extend_from_slice(&1u32.to_be_bytes());
        out.extend_from_slice(&1u32.to_be_bytes());
        SnappyEncoder { out, block: Vec::new() }
    }

    fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while self.block.len() + piece.len() >= XERIAL_BLOCK_LEN {
            let (now, later) = piece.split_at(XERIAL_BLOCK_LEN - self.block.len());
            if self.block.is_empty() {
                self.pack(now)?;
            } else {
                self.block.extend_from_slice(now);
                let block = std::mem::take(&mut self.block);
                self.pack(&block)?;
            }
            piece = later;
        }
        self.block.extend_from_slice(piece);
        Ok(())
    }

    fn pack(&mut self, block: &[u8]) -> io::Result<()> {
        let packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
        self.out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        self.out.extend_from_slice(&packed);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        if !self.block.is_empty() {
            let block = std::mem::take(&mut self.block);
            self.pack(&block)?;
        }
        Ok(self.out)
    }
}
