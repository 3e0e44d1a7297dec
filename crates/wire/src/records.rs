//! Record sets as they leave: a list of shared pieces.
use bytes::{Bytes, BytesMut};

/// A record set in pieces, each a whole number of batches; encoded without copying large ones.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<Bytes>);

impl Records {
    /// No batches. A consumer expects this rather than null.
    pub const fn new() -> Records {
        Records(Vec::new())
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.0.push(piece);
        }
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// One run of bytes; copies when there are several pieces.
    pub fn to_bytes(&self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len());
                many.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }
}

impl From<Bytes> for Records {
    fn from(piece: Bytes) -> Records {
        Records::from_iter([piece])
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Records {
        Records(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
    }
}

// The cuts between pieces are not part of the value.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}
