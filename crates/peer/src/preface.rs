//! The first four bytes of a connection: is it a peer or a Kafka client?

/// What a peer that connects sends first: `PLIM` with the highest bit set.
///
/// A Kafka client begins with the length of its first request, an i32. `socket.request.max.bytes` may be any
/// positive number, so that every positive length could be one of Kafka's; as a length, these bytes are
/// negative. Neither HTTP nor TLS begins with them.
pub const MAGIC: [u8; 4] = [0xd0, b'L', b'I', b'M'];

/// What a connection is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// Too few bytes to tell.
    NeedMore,
    /// A peer: frames follow [`MAGIC`], which the caller takes off.
    Peer,
    /// Anything else, on a listener for both a Kafka client: the bytes are the client's.
    Other,
}

/// Judges the first bytes of a connection; as soon as one of them is not [`MAGIC`]'s, it is none.
pub fn preface(buffered: &[u8]) -> Preface {
    let seen = buffered.len().min(MAGIC.len());
    if buffered[..seen] != MAGIC[..seen] {
        Preface::Other
    } else if seen < MAGIC.len() {
        Preface::NeedMore
    } else {
        Preface::Peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kafka_length_is_the_magic_and_one_byte_can_tell() {
        assert!(i32::from_be_bytes(MAGIC) < 0, "whatever socket.request.max.bytes is");
        assert_eq!(preface(&[]), Preface::NeedMore);
        for cut in 1..MAGIC.len() {
            assert_eq!(preface(&MAGIC[..cut]), Preface::NeedMore);
        }
        assert_eq!(preface(&[&MAGIC[..], b"more"].concat()), Preface::Peer);
        for other in
            [&[0][..], &[0, 0, 0, 40, 0, 18], b"GET / HTTP/1.1", &[0x16, 3, 1], &[0xd0, b'L', b'I', 0]]
        {
            assert_eq!(preface(other), Preface::Other, "{other:02x?}");
        }
    }
}
