//! A blocking socket that speaks in frames: no runtime between the measurement and the kernel.
use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MAX_ANSWER: usize = 256 << 20;

pub(super) struct FrameSocket {
    stream: TcpStream,
}

impl FrameSocket {
    pub(super) fn connect(address: &str) -> Result<FrameSocket> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(FrameSocket { stream })
    }

    pub(super) fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.stream.write_all(frame).context("send a request")
    }

    /// The next answer without its length.
    pub(super) fn receive(&mut self, reuse: &mut BytesMut) -> Result<()> {
        let mut length = [0u8; 4];
        self.stream.read_exact(&mut length).context("wait for an answer")?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_ANSWER {
            bail!("the broker answers with a frame of {length} bytes");
        }
        reuse.clear();
        reuse.resize(length, 0);
        self.stream.read_exact(reuse).context("read an answer")
    }

    pub(super) fn try_clone(&self) -> Result<FrameSocket> {
        Ok(FrameSocket { stream: self.stream.try_clone()? })
    }
}

/// A frame in one run of bytes.
pub(super) fn join(pieces: &[Bytes]) -> Vec<u8> {
    pieces.iter().flat_map(|p| p.iter().copied()).collect()
}
