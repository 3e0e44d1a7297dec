//! Takes frames off a socket: one buffer of the right size a frame, none while nothing comes.
use bytes::{Buf, BufMut, BytesMut};
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::ReadHalf;
use wire::frame::{LENGTH_BYTES, Split, split};

const SMALLEST_BUFFER: usize = 4 << 10;
const LARGEST_BUFFER: usize = 1 << 20;
/// While many small frames come at once, up to so many bytes are read at once.
const BATCH_BUFFER: usize = 256 << 10;
/// What counts as small: of a larger one nothing beyond its end is read, since that would have to move.
const SMALL_FRAME: usize = 32 << 10;

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// The other end closed between frames or within one.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// The frame states more bytes than allowed.
    TooLarge {
        /// What it states.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The frame states a negative length.
    Negative(i32),
}

/// The reading side of a connection.
pub(crate) struct FrameReader {
    buf: BytesMut,
    /// Bytes of the buffer that went out as frames.
    taken: usize,
    /// Capacity of the next buffer: what the last frames needed, less and less of it while they are smaller.
    hint: usize,
    /// The last frame was small.
    small: bool,
}

impl FrameReader {
    pub(crate) fn new() -> FrameReader {
        FrameReader { buf: BytesMut::new(), taken: 0, hint: SMALLEST_BUFFER, small: true }
    }

    /// Whether bytes of a frame are here already.
    pub(crate) fn mid_frame(&self) -> bool {
        !self.buf.is_empty()
    }

    /// Bytes that are here of a frame that is not whole.
    pub(crate) fn received(&self) -> usize {
        self.buf.len()
    }

    /// A frame that is here already, without reading.
    pub(crate) fn buffered(&mut self, limit: usize) -> Result<Option<BytesMut>, ReadEnd> {
        match split(&self.buf, limit) {
            Split::Frame(length) => {
                self.buf.advance(LENGTH_BYTES);
                let frame = self.buf.split_to(length);
                self.taken += LENGTH_BYTES + length;
                self.small = length <= SMALL_FRAME;
                let wanted = (LENGTH_BYTES + length).next_multiple_of(SMALLEST_BUFFER);
                if wanted > self.hint {
                    self.hint = wanted.min(LARGEST_BUFFER);
                }
                Ok(Some(frame))
            }
            Split::NeedMore(_) => Ok(None),
            Split::TooLarge(length) => Err(ReadEnd::TooLarge { length, limit }),
            Split::Negative(length) => Err(ReadEnd::Negative(length)),
        }
    }

    /// The whole length of the frame that has begun, if its length is here.
    pub(crate) fn expected(&self) -> Option<usize> {
        self.buf.first_chunk::<LENGTH_BYTES>().map(|b| LENGTH_BYTES + i32::from_be_bytes(*b).max(0) as usize)
    }

    /// Reads once; waits until there is something to read.
    pub(crate) async fn fill(&mut self, socket: &mut ReadHalf<'_>) -> Result<(), ReadEnd> {
        if self.buf.is_empty() {
            // An idle connection holds no memory.
            self.buf = BytesMut::new();
            socket.readable().await.map_err(ReadEnd::Io)?;
            (self.buf, self.taken) = (BytesMut::with_capacity(self.hint), 0);
        } else {
            self.make_room();
        }
        let room = self.room();
        let read = socket.read_buf(&mut (&mut self.buf).limit(room)).await.map_err(ReadEnd::Io)?;
        if read == 0 {
            return Err(ReadEnd::Closed);
        }
        if read == room && self.small && self.hint < BATCH_BUFFER {
            self.hint *= 2;
        } else if self.buf.len() < self.hint / 4 {
            self.hint = (self.hint / 2).max(SMALLEST_BUFFER);
        }
        self.fit();
        Ok(())
    }

    /// Bytes to read at once.
    fn room(&self) -> usize {
        let free = self.buf.capacity() - self.buf.len();
        match self.expected() {
            Some(expected) if expected > SMALL_FRAME && expected > self.buf.len() => {
                free.min(expected - self.buf.len())
            }
            _ => free,
        }
    }

    /// Whole frames that leave most of their buffer empty move to one of their size: what is kept of them (a
    /// record set, for readers at the tail) must not keep a buffer alive that is many times larger.
    fn fit(&mut self) {
        let whole = self.expected().is_some_and(|expected| expected <= self.buf.len());
        if whole && self.taken + self.buf.len() < (self.taken + self.buf.capacity()) / 2 {
            (self.buf, self.taken) = (BytesMut::from(&self.buf[..]), 0);
        }
    }

    /// Room for the rest of the frame that has begun: what is here moves at most once.
    fn make_room(&mut self) {
        let needed = self.expected().unwrap_or(SMALLEST_BUFFER);
        if self.buf.capacity() >= needed && self.buf.capacity() > self.buf.len() {
            return;
        }
        let capacity = if needed > LARGEST_BUFFER { needed } else { needed.max(self.hint) };
        let mut larger = BytesMut::with_capacity(capacity);
        larger.extend_from_slice(&self.buf);
        (self.buf, self.taken) = (larger, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    async fn next(
        reader: &mut FrameReader,
        socket: &mut ReadHalf<'_>,
        limit: usize,
    ) -> Result<BytesMut, ReadEnd> {
        loop {
            if let Some(frame) = reader.buffered(limit)? {
                return Ok(frame);
            }
            reader.fill(socket).await?;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_of_any_size_come_out_as_they_went_in() {
        let (mut client, mut server) = pair().await;
        let sizes = [0usize, 1, 3, 4090, 4092, 4093, 100, 70_000, 5, 3_000_000, 17, 17, 17];
        let sent = tokio::spawn(async move {
            for (i, size) in sizes.iter().enumerate() {
                client.write_all(&(*size as u32).to_be_bytes()).await.unwrap();
                client.write_all(&vec![i as u8; *size]).await.unwrap();
            }
            client
        });
        let (mut socket, _) = server.split();
        let mut reader = FrameReader::new();
        for (i, size) in sizes.iter().enumerate() {
            let frame = next(&mut reader, &mut socket, 4_000_000).await.unwrap();
            assert_eq!(frame.len(), *size);
            assert!(frame.iter().all(|b| *b == i as u8));
        }
        drop(sent.await.unwrap());
        assert!(matches!(next(&mut reader, &mut socket, 10).await, Err(ReadEnd::Closed)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_small_frame_after_a_burst_holds_no_large_buffer() {
        let (mut client, mut server) = pair().await;
        let (mut socket, _) = server.split();
        let mut reader = FrameReader::new();
        reader.hint = BATCH_BUFFER;
        client.write_all(&[0, 0, 0, 2, 7, 7]).await.unwrap();
        let frame = next(&mut reader, &mut socket, 100).await.unwrap();
        assert_eq!(&frame[..], [7, 7]);
        drop(frame);
        assert!(reader.buf.capacity() <= 64, "{}", reader.buf.capacity());
        assert_eq!(reader.hint, BATCH_BUFFER / 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_that_share_a_buffer_with_those_before_stay_where_they_are() {
        let (mut client, mut server) = pair().await;
        let (mut socket, _) = server.split();
        let mut reader = FrameReader::new();
        reader.hint = 64 << 10;
        let frame = |len: usize| [&(len as u32).to_be_bytes()[..], &vec![7; len]].concat();
        // More than half of the buffer is in use when the second part of the last frame comes.
        let burst = [frame(7_000).repeat(4), frame(8_000)].concat();
        let (first, rest) = burst.split_at(burst.len() - 100);
        client.write_all(first).await.unwrap();
        let mut frames = Vec::new();
        while frames.len() < 4 {
            frames.push(next(&mut reader, &mut socket, 50_000).await.unwrap());
        }
        while reader.received() < 7_904 {
            reader.fill(&mut socket).await.unwrap();
        }
        let begun = reader.buf.as_ptr();
        client.write_all(rest).await.unwrap();
        let last = next(&mut reader, &mut socket, 50_000).await.unwrap();
        assert_eq!(last.len(), 8_000);
        assert_eq!(last.as_ptr(), begun.wrapping_add(LENGTH_BYTES), "it was not copied");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_length_over_the_limit_allocates_nothing() {
        let (mut client, mut server) = pair().await;
        client.write_all(&i32::MAX.to_be_bytes()).await.unwrap();
        let (mut socket, _) = server.split();
        let mut reader = FrameReader::new();
        assert!(matches!(next(&mut reader, &mut socket, 1 << 20).await, Err(ReadEnd::TooLarge { .. })));
        assert!(reader.buf.capacity() <= SMALLEST_BUFFER);
    }
}
