//! Decoding: a cursor over one frame that checks every length before it believes it.
use crate::error::{DecodeError, DecodeErrorKind as Kind};
use crate::{Message, Records, Str, Wire};
use bytes::{Buf, Bytes, BytesMut};

/// Most items of an array, as Kafka 4.4 limits it.
pub const MAX_ARRAY_ITEMS: usize = 1_000_000;
/// Most tagged fields of a struct, as Kafka 4.4 limits it.
pub const MAX_TAGGED_FIELDS: usize = 10_000;
/// Most bytes of memory that the items of a request's arrays may take together.
pub const REQUEST_ITEM_BYTES: usize = 32 << 20;
/// The same for what we asked for ourselves.
pub const RESPONSE_ITEM_BYTES: usize = 1 << 30;

const FIRST_RESERVATION: usize = 64 << 10;

/// A cursor over a frame. Strings, blobs and record sets are split off the frame, never copied; what is
/// split off is disjoint, so a record set can be written in place while its neighbours are shared.
pub struct Reader {
    buf: BytesMut,
    /// Next unread byte of `buf`.
    pos: usize,
    /// Bytes of the frame in front of `buf`.
    base: usize,
    message: &'static str,
    version: i16,
    flexible: bool,
    item_bytes: usize,
}

impl Reader {
    /// A cursor at the first byte of the headers of a frame; `message` names it in errors.
    pub fn new(frame: BytesMut, message: &'static str, item_bytes: usize) -> Reader {
        Reader { buf: frame, pos: 0, base: 0, message, version: 0, flexible: false, item_bytes }
    }

    /// A cursor over a body without headers, with the budget of a request.
    pub fn of<M: Message>(body: BytesMut, version: i16) -> Result<Reader, DecodeError> {
        Reader::new(body, M::NAME, REQUEST_ITEM_BYTES).switch::<M>(version)
    }

    /// The same bytes from here on, read as message `M`; fails for a version without code.
    pub fn switch<M: Message>(mut self, version: i16) -> Result<Reader, DecodeError> {
        self.message = M::NAME;
        self.version = version;
        self.flexible = version >= M::FLEXIBLE_FROM;
        if version < M::MIN_VERSION || version > M::MAX_VERSION {
            return Err(self.fail(M::NAME, Kind::UnknownVersion));
        }
        Ok(self)
    }

    /// The version being read.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Bytes from the start of the frame.
    pub fn offset(&self) -> usize {
        self.base + self.pos
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.pos
    }

    #[cold]
    fn fail(&self, field: &'static str, kind: Kind) -> DecodeError {
        DecodeError { message: self.message, version: self.version, field, offset: self.offset(), kind }
    }

    fn need(&self, needed: usize, field: &'static str) -> Result<(), DecodeError> {
        let left = self.remaining();
        if needed > left {
            return Err(self.fail(field, Kind::Truncated { needed, left }));
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        match self.buf[self.pos..].first_chunk::<N>() {
            Some(bytes) => {
                self.pos += N;
                Ok(*bytes)
            }
            None => Err(self.fail(field, Kind::Truncated { needed: N, left: self.remaining() })),
        }
    }

    fn split(&mut self, len: usize, field: &'static str) -> Result<BytesMut, DecodeError> {
        self.need(len, field)?;
        self.buf.advance(self.pos);
        self.base += self.pos + len;
        self.pos = 0;
        Ok(self.buf.split_to(len))
    }

    fn bytes_of(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if len == 0 { Ok(Bytes::new()) } else { Ok(self.split(len, field)?.freeze()) }
    }

    /// One byte, anything but 0 is true.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? != 0)
    }

    /// A signed byte.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.take(field).map(i8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.take(field).map(i16::from_be_bytes)
    }

    /// Two bytes without a sign, big-endian.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.take(field).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.take(field).map(i32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.take(field).map(i64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, field: &'static str) -> Result<[u8; 16], DecodeError> {
        self.take(field)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take::<1>(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fail(field, Kind::BadVarint))
    }

    /// A compact length: one more than the length, 0 for null.
    fn compact_len(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok(self.varint(field)?.checked_sub(1).map(|len| len as usize))
    }

    fn long_len(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        if self.flexible { self.compact_len(field) } else { Ok(usize::try_from(self.i32(field)?).ok()) }
    }

    /// Text that may be null when `null_ok`.
    pub fn opt_str(&mut self, null_ok: bool, field: &'static str) -> Result<Option<Str>, DecodeError> {
        let len =
            if self.flexible { self.compact_len(field)? } else { usize::try_from(self.i16(field)?).ok() };
        let Some(len) = len else { return self.null(null_ok, field) };
        if len > i16::MAX as usize {
            return Err(self.fail(field, Kind::StringTooLong(len)));
        }
        let bytes = self.bytes_of(len, field)?;
        Str::from_utf8(bytes).map(Some).map_err(|_| self.fail(field, Kind::BadUtf8))
    }

    fn null<T>(&self, null_ok: bool, field: &'static str) -> Result<Option<T>, DecodeError> {
        if null_ok { Ok(None) } else { Err(self.fail(field, Kind::UnexpectedNull)) }
    }

    /// Text.
    pub fn str(&mut self, field: &'static str) -> Result<Str, DecodeError> {
        Ok(self.opt_str(false, field)?.unwrap_or_default())
    }

    /// A blob that may be null when `null_ok`.
    pub fn opt_bytes(&mut self, null_ok: bool, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        match self.long_len(field)? {
            Some(len) => self.bytes_of(len, field).map(Some),
            None => self.null(null_ok, field),
        }
    }

    /// A blob.
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        Ok(self.opt_bytes(false, field)?.unwrap_or_default())
    }

    /// A record set that is the caller's alone to change.
    pub fn records_mut(&mut self, field: &'static str) -> Result<Option<BytesMut>, DecodeError> {
        match self.long_len(field)? {
            Some(len) => self.split(len, field).map(Some),
            None => Ok(None),
        }
    }

    /// A record set to be read.
    pub fn records(&mut self, field: &'static str) -> Result<Option<Records>, DecodeError> {
        Ok(self.opt_bytes(true, field)?.map(Records::from))
    }

    /// Items; the count is held against the bytes that remain and a memory budget before any is read.
    pub fn opt_array<T: Wire>(
        &mut self,
        null_ok: bool,
        field: &'static str,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.long_len(field)? else { return self.null(null_ok, field) };
        if count > MAX_ARRAY_ITEMS {
            return Err(self.fail(field, Kind::TooManyItems(count)));
        }
        self.need(count * T::MIN_SIZE, field)?;
        let Some(left) = self.item_bytes.checked_sub(count * size_of::<T>()) else {
            return Err(self.fail(field, Kind::TooManyItems(count)));
        };
        self.item_bytes = left;
        let mut items = Vec::with_capacity(count.min(FIRST_RESERVATION / size_of::<T>().max(1)));
        for _ in 0..count {
            items.push(T::read(self, field)?);
        }
        Ok(Some(items))
    }

    /// Items, never null.
    pub fn array<T: Wire>(&mut self, field: &'static str) -> Result<Vec<T>, DecodeError> {
        Ok(self.opt_array(false, field)?.unwrap_or_default())
    }

    /// A struct behind a byte that says whether it is there.
    pub fn opt_struct<T: Wire>(
        &mut self,
        null_ok: bool,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8(field)? < 0 { self.null(null_ok, field) } else { T::read(self, field).map(Some) }
    }

    /// The tagged fields at a struct's end: `known` reads those it knows and says so, others are skipped.
    pub fn tags(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint(field)? as usize;
        if count > MAX_TAGGED_FIELDS {
            return Err(self.fail(field, Kind::TooManyTags(count)));
        }
        for _ in 0..count {
            let tag = self.varint(field)?;
            let size = self.varint(field)? as usize;
            self.need(size, field)?;
            let end = self.offset() + size;
            if known(self, tag)? {
                if self.offset() != end {
                    return Err(self.fail(field, Kind::TagSize));
                }
            } else {
                self.pos += size;
            }
        }
        Ok(())
    }

    /// The end of a struct without tagged fields of its own.
    pub fn skip_tags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        self.tags(field, |_, _| Ok(false))
    }

    /// Tagged fields of a header, which is flexible when `flexible`.
    pub(crate) fn header_tags(&mut self, flexible: bool) -> Result<(), DecodeError> {
        self.flexible = flexible;
        let skipped = self.skip_tags("header");
        self.flexible = false;
        skipped
    }
}
