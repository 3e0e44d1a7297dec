//! Large read buffers that are used again: fresh memory costs a page fault for every 4 KiB, which is more
//! than the read itself.
use super::shared::guard;
use bytes::Bytes;
use std::sync::{Arc, Mutex};

/// Smaller buffers are not worth keeping.
const SMALLEST: usize = 64 << 10;
/// Larger ones are rare.
const LARGEST: usize = 8 << 20;
/// Bytes of free buffers kept.
const KEPT_BYTES: usize = 24 << 20;

/// Free buffers, shared by everybody who reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// A buffer of at least `len` bytes; what is in it is of no meaning.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        if !(SMALLEST..=LARGEST).contains(&len) {
            return vec![0; len];
        }
        let mut free = guard(&self.free);
        match free.iter().position(|b| b.len() >= len && b.len() <= 4 * len) {
            Some(at) => free.swap_remove(at),
            None => vec![0; len],
        }
    }

    /// The first `filled` bytes of the buffer; it comes back when the last slice of them is gone.
    pub(super) fn lend(&self, mut buffer: Vec<u8>, filled: usize) -> Bytes {
        if !(SMALLEST..=LARGEST).contains(&buffer.len()) {
            buffer.truncate(filled);
            return Bytes::from(buffer);
        }
        Bytes::from_owner(Lent { buffer, filled, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    filled: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = guard(&self.home.free);
        let kept: usize = free.iter().map(Vec::len).sum();
        if kept + buffer.len() <= KEPT_BYTES {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_slice() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(1 << 20);
        buffer[..10].copy_from_slice(b"0123456789");
        let at = buffer.as_ptr();
        let bytes = buffers.lend(buffer, 10);
        assert_eq!(bytes.len(), 10);
        let slice = bytes.slice(3..5);
        drop(bytes);
        let other = buffers.take(1 << 20);
        assert_ne!(other.as_ptr(), at);
        assert_eq!(&slice[..], b"34");
        drop(slice);
        let again = buffers.take(1 << 20);
        assert_eq!((again.as_ptr(), again.len()), (at, 1 << 20));
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let buffers = Buffers::default();
        let lent: Vec<Bytes> = (0..40).map(|_| buffers.lend(buffers.take(1 << 20), 1 << 20)).collect();
        drop(lent);
        let kept: usize = guard(&buffers.free).iter().map(Vec::capacity).sum();
        assert!((1 << 20..=KEPT_BYTES).contains(&kept));
    }
}
