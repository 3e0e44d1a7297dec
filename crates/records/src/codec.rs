//! The four codecs of Kafka, each in the framing that Kafka's clients use.
use crate::encoder::Encoder;
use bytes::Bytes;
use std::fmt;
use std::io::{self, Read};

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Blocks of snappy in the framing of Java's xerial library; raw blocks are read too.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard frames.
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of their ids.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of an id in a batch's attributes.
    pub fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(id)).copied()
    }

    /// The codec of a name in `compression.type` or on a command line.
    pub fn from_name(name: &str) -> Option<Codec> {
        match name {
            "uncompressed" => Some(Codec::None),
            name => Codec::ALL.into_iter().find(|c| c.name() == name),
        }
    }

    /// Its id in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes could not be decompressed or compressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The output would exceed the caller's limit.
    #[error("decompresses to more than {cap} bytes")]
    OverCap {
        /// The limit, bytes.
        cap: usize,
    },
    /// The codec says the bytes are not its own.
    #[error("damaged: {0}")]
    Damaged(String),
}

/// First bytes of the stream that Java's snappy library writes.
pub(crate) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
pub(crate) const XERIAL_HEADER_LEN: usize = 16;
/// A snappy element of 3 bytes yields at most 64, so a block cannot grow more than this; what claims
/// to is refused before anything is allocated.
const SNAPPY_MAX_GROWTH: usize = 22;
/// The largest zstd window that is accepted, as a power of two: what the highest level writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const READ_CHUNK: usize = 64 * 1024;

/// The message of [`OverCapError`], by which an over-long stream is told from a damaged one.
#[derive(Debug)]
struct OverCapError;

impl fmt::Display for OverCapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("output limit exceeded")
    }
}

impl std::error::Error for OverCapError {}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Turns an error of a [`Decoder`] with limit `cap` into ours.
pub(crate) fn explain(error: &io::Error, cap: usize) -> CodecError {
    if error.get_ref().is_some_and(|inner| inner.is::<OverCapError>()) {
        CodecError::OverCap { cap }
    } else {
        CodecError::Damaged(error.to_string())
    }
}

/// A streaming decompressor that never yields more than its limit, nor allocates by what the input claims.
///
/// Its end is final: an LZ4 payload is one frame, what follows the frame's end mark is not read.
pub(crate) struct Decoder<'a> {
    inner: Inner<'a>,
    left: usize,
    ended: bool,
}

enum Inner<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyDecoder<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(codec: Codec, input: &'a [u8], cap: usize) -> io::Result<Decoder<'a>> {
        let inner = match codec {
            Codec::None => Inner::Plain(input),
            Codec::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Codec::Snappy => Inner::Snappy(SnappyDecoder::new(input)),
            Codec::Lz4 => Inner::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(input))),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Decoder { inner, left: cap, ended: false })
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let n = match &mut self.inner {
            Inner::Plain(input) => input.read(out)?,
            Inner::Gzip(d) => d.read(out)?,
            Inner::Snappy(d) => d.read(out, self.left)?,
            Inner::Lz4(d) => d.read(out)?,
            Inner::Zstd(d) => d.read(out)?,
        };
        self.ended = n == 0;
        self.left = self.left.checked_sub(n).ok_or_else(|| io::Error::other(OverCapError))?;
        Ok(n)
    }
}

struct SnappyDecoder<'a> {
    input: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
}

impl<'a> SnappyDecoder<'a> {
    fn new(input: &'a [u8]) -> SnappyDecoder<'a> {
        let framed = input.starts_with(&XERIAL_MAGIC);
        SnappyDecoder { input, framed, block: Vec::new(), at: 0 }
    }

    /// The next compressed block; a stream may repeat its header between blocks.
    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if !self.framed {
            let all = std::mem::take(&mut self.input);
            return Ok((!all.is_empty()).then_some(all));
        }
        while self.input.starts_with(&XERIAL_MAGIC) {
            self.input =
                self.input.get(XERIAL_HEADER_LEN..).ok_or_else(|| damaged("snappy header is cut short"))?;
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let (len, rest) =
            self.input.split_first_chunk::<4>().ok_or_else(|| damaged("snappy block is cut short"))?;
        let len = u32::from_be_bytes(*len) as usize;
        if len > rest.len() {
            return Err(damaged("snappy block is cut short"));
        }
        let (block, rest) = rest.split_at(len);
        self.input = rest;
        Ok(Some(block))
    }

    fn read(&mut self, out: &mut [u8], left: usize) -> io::Result<usize> {
        while self.at == self.block.len() {
            let Some(block) = self.next_block()? else { return Ok(0) };
            let size = snap::raw::decompress_len(block).map_err(io::Error::other)?;
            if size > left {
                return Err(io::Error::other(OverCapError));
            }
            if size > block.len().saturating_mul(SNAPPY_MAX_GROWTH) {
                return Err(damaged("snappy block claims more than it can hold"));
            }
            self.block.resize(size, 0);
            self.at = 0;
            let n = snap::raw::Decoder::new()
                .decompress(block, &mut self.block)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.block.truncate(n);
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Decompresses all of `input`. Output over `cap` bytes is an error, met after at most `cap` bytes and
/// one chunk of memory, whatever the input claims.
pub fn decompress(codec: Codec, input: &[u8], cap: usize) -> Result<Bytes, CodecError> {
    if codec == Codec::None {
        return if input.len() > cap {
            Err(CodecError::OverCap { cap })
        } else {
            Ok(Bytes::copy_from_slice(input))
        };
    }
    let mut decoder = Decoder::new(codec, input, cap).map_err(|e| explain(&e, cap))?;
    let mut out = Vec::with_capacity(input.len().saturating_mul(3).clamp(256, READ_CHUNK).min(cap));
    let mut chunk = vec![0; READ_CHUNK.min(cap.saturating_add(1))];
    loop {
        match decoder.read(&mut chunk) {
            Ok(0) => return Ok(Bytes::from(out)),
            Ok(n) => out.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(explain(&e, cap)),
        }
    }
}

/// Compresses `input`; `level` counts where the codec has levels (gzip 1 to 9, zstd -131072 to 22),
/// `None` is the codec's own default. Errors only if the codec's library fails.
pub fn compress(codec: Codec, level: Option<i32>, input: &[u8]) -> Result<Bytes, CodecError> {
    match codec {
        Codec::None => Ok(Bytes::copy_from_slice(input)),
        // Faster than a stream where the whole input is there.
        Codec::Zstd => zstd::bulk::compress(input, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))
            .map(Bytes::from)
            .map_err(|e| CodecError::Damaged(e.to_string())),
        codec => {
            let mut encoder = Encoder::new(codec, level, input.len())?;
            encoder.write(input)?;
            encoder.finish()
        }
    }
}
