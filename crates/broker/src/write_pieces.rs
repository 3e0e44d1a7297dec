//! Writes pieces to a socket, many in one call.
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;

/// Pieces of one vectored write.
pub(crate) const MAX_PIECES: usize = 64;
/// What is ready is gathered into one write up to this many bytes.
pub(crate) const GATHER_BYTES: usize = 256 << 10;

/// Writes everything; `since` says from when on there was no progress.
pub(crate) async fn write_pieces(
    socket: &mut WriteHalf<'_>,
    pieces: &mut VecDeque<Bytes>,
    since: &Cell<Option<Instant>>,
) -> io::Result<()> {
    since.set(Some(Instant::now()));
    while !pieces.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces.iter()) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let mut written = socket.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = pieces.front_mut() {
            if front.len() > written {
                front.advance(written);
                break;
            }
            written -= front.len();
            pieces.pop_front();
        }
        if !pieces.is_empty() {
            since.set(Some(Instant::now()));
        }
    }
    since.set(None);
    Ok(())
}
