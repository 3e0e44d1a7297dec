//! Kafka's primitive field types, read with every length checked against what remains.
use bytes::{BufMut, Bytes, BytesMut};

/// Why bytes are no record of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside this field.
    #[error("the record ends inside {0}")]
    Short(&'static str),
    /// This field's length or content is impossible.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The version of this value is newer than known.
    #[error("version {0} of this value is not known")]
    UnknownVersion(i16),
}

pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.left.split_at_checked(n).ok_or(RecordError::Short(what))?;
        self.left = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RecordError> {
        self.take(N, what)?.try_into().map_err(|_| RecordError::Short(what))
    }

    pub(crate) fn i8(&mut self, what: &'static str) -> Result<i8, RecordError> {
        Ok(i8::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, RecordError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], RecordError> {
        self.array(what)
    }

    /// An unsigned varint of at most five bytes.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u32, RecordError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.array::<1>(what)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Malformed(what));
            }
        }
        Err(RecordError::Malformed(what))
    }

    fn text(bytes: &[u8], what: &'static str) -> Result<String, RecordError> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| RecordError::Malformed(what))
    }

    /// A text with a 16-bit length, or a compact one; `None` where the length says null.
    pub(crate) fn opt_string(
        &mut self,
        compact: bool,
        what: &'static str,
    ) -> Result<Option<String>, RecordError> {
        let len = if compact { i64::from(self.varint(what)?) - 1 } else { i64::from(self.i16(what)?) };
        match usize::try_from(len) {
            Ok(n) => Ok(Some(Self::text(self.take(n, what)?, what)?)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(RecordError::Malformed(what)),
        }
    }

    pub(crate) fn string(&mut self, compact: bool, what: &'static str) -> Result<String, RecordError> {
        self.opt_string(compact, what)?.ok_or(RecordError::Malformed(what))
    }

    pub(crate) fn bytes(&mut self, compact: bool, what: &'static str) -> Result<Bytes, RecordError> {
        let len = self.length(compact, what)?;
        Ok(Bytes::copy_from_slice(self.take(len, what)?))
    }

    /// A byte field with a 32-bit length; `None` where the length says null.
    pub(crate) fn opt_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, RecordError> {
        match self.i32(what)? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| RecordError::Malformed(what))?;
                self.take(len, what).map(Some)
            }
        }
    }

    /// The length of an array or a byte field; `None` for null. It may still exceed what remains: grow, never
    /// reserve by it.
    pub(crate) fn opt_length(
        &mut self,
        compact: bool,
        what: &'static str,
    ) -> Result<Option<usize>, RecordError> {
        let len = if compact { i64::from(self.varint(what)?) - 1 } else { i64::from(self.i32(what)?) };
        match usize::try_from(len) {
            Ok(len) => Ok(Some(len)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(RecordError::Malformed(what)),
        }
    }

    /// The length of an array or a byte field that cannot be null; what is said there counts here too.
    pub(crate) fn length(&mut self, compact: bool, what: &'static str) -> Result<usize, RecordError> {
        self.opt_length(compact, what)?.ok_or(RecordError::Malformed(what))
    }

    /// Tagged fields: `each` gets tag and content.
    pub(crate) fn tags(
        &mut self,
        mut each: impl FnMut(u32, &'a [u8]) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let count = self.varint("tagged fields")?;
        for _ in 0..count {
            let tag = self.varint("tag")?;
            let len = self.varint("tag length")? as usize;
            each(tag, self.take(len, "tagged field")?)?;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    put_opt_string(out, Some(text));
}

/// A text that is too long for its 16-bit length is cut at a character.
pub(crate) fn put_opt_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        None => out.put_i16(-1),
        Some(text) => {
            let cut = cut(text, i16::MAX as usize);
            out.put_i16(cut.len() as i16);
            out.put_slice(cut.as_bytes());
        }
    }
}

pub(crate) fn put_compact_string(out: &mut BytesMut, text: &str) {
    put_compact_opt_string(out, Some(text));
}

/// Cut as [`put_opt_string`] does: Kafka's compact texts have the same limit.
pub(crate) fn put_compact_opt_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        None => put_varint(out, 0),
        Some(text) => {
            let cut = cut(text, i16::MAX as usize);
            put_varint(out, cut.len() as u32 + 1);
            out.put_slice(cut.as_bytes());
        }
    }
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let len = i32::try_from(bytes.len()).expect("a field of a request frame is below 2 GiB");
    out.put_i32(len);
    out.put_slice(bytes);
}

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The longest start of `text` of at most `max` bytes that ends between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut at = max;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}
