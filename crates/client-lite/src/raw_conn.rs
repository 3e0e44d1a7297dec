//! A socket that sends whatever bytes it is given: for tests that misbehave on purpose.
use crate::conn::read_frame;
use bytes::BytesMut;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A connection without any protocol of its own.
#[derive(Debug)]
pub struct RawConn {
    stream: TcpStream,
    buffer: BytesMut,
    max_response_bytes: usize,
}

impl RawConn {
    /// Connects to `address` (`host:port`).
    pub async fn connect(address: &str) -> io::Result<RawConn> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(RawConn { stream, buffer: BytesMut::new(), max_response_bytes: 128 << 20 })
    }

    /// Sends `bytes` as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends `body` with its length in front.
    pub async fn send_frame(&mut self, body: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
        frame.extend_from_slice(body);
        self.send(&frame).await
    }

    /// The next frame without its length; `None` when the broker has closed the connection.
    pub async fn receive(&mut self) -> io::Result<Option<BytesMut>> {
        match read_frame(&mut self.stream, &mut self.buffer, self.max_response_bytes).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other,
        }
    }

    /// Closes the sending side; what the broker still sends can be received.
    pub async fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
