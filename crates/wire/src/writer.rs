//! Encoding: small fields into one buffer, record sets as shared pieces between its parts.
use crate::error::{EncodeError, EncodeErrorKind as Kind};
use crate::message::put_varint;
use crate::{Message, Records, Str, Wire};
use bytes::Bytes;

/// Pieces that average less than this are gathered into one buffer: a copy is cheaper than their cost in
/// the vectored write.
pub const GATHER_BELOW: usize = 4 << 10;

const LENGTH_PREFIX: usize = 4;

/// The sink of one message.
pub struct Writer {
    buf: Vec<u8>,
    /// Pieces that go in at a position of `buf`, in order.
    pieces: Vec<(usize, Bytes)>,
    piece_bytes: usize,
    message: &'static str,
    version: i16,
    flexible: bool,
}

impl Writer {
    /// A sink for a frame: room for its length comes first.
    pub fn frame(message: &'static str) -> Writer {
        let mut buf = Vec::with_capacity(256);
        buf.extend_from_slice(&[0; LENGTH_PREFIX]);
        Writer { buf, pieces: Vec::new(), piece_bytes: 0, message, version: 0, flexible: false }
    }

    /// A sink for a body alone, whose message [`Writer::switch`] names.
    pub fn body() -> Writer {
        let buf = Vec::with_capacity(64);
        Writer { buf, pieces: Vec::new(), piece_bytes: 0, message: "", version: 0, flexible: false }
    }

    /// A sink for a body alone.
    pub fn of<M: Message>(version: i16) -> Result<Writer, EncodeError> {
        let mut writer = Writer::body();
        writer.switch::<M>(version)?;
        Ok(writer)
    }

    /// From here on message `M` is written; fails for a version without code.
    pub fn switch<M: Message>(&mut self, version: i16) -> Result<(), EncodeError> {
        self.message = M::NAME;
        self.version = version;
        self.flexible = version >= M::FLEXIBLE_FROM;
        if version < M::MIN_VERSION || version > M::MAX_VERSION {
            return Err(self.fail(M::NAME, Kind::UnknownVersion));
        }
        Ok(())
    }

    /// The version being written.
    pub fn version(&self) -> i16 {
        self.version
    }

    #[cold]
    fn fail(&self, field: &'static str, kind: Kind) -> EncodeError {
        EncodeError { message: self.message, version: self.version, field, kind }
    }

    /// One byte.
    pub fn bool(&mut self, value: bool) {
        self.buf.push(u8::from(value));
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes, big-endian.
    pub fn i16(&mut self, value: i16) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes without a sign, big-endian.
    pub fn u16(&mut self, value: u16) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self, value: i32) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    pub fn i64(&mut self, value: i64) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: [u8; 16]) {
        self.buf.extend_from_slice(&value);
    }

    /// Fails when a field that the version lacks is set: for what must not be dropped silently.
    pub fn absent(&self, is_default: bool, field: &'static str) -> Result<(), EncodeError> {
        if is_default { Ok(()) } else { Err(self.fail(field, Kind::NotInVersion)) }
    }

    fn null(&mut self, null_ok: bool, null: &[u8], field: &'static str) -> Result<(), EncodeError> {
        if !null_ok {
            return Err(self.fail(field, Kind::NullNotAllowed));
        }
        self.buf.extend_from_slice(if self.flexible { &[0] } else { null });
        Ok(())
    }

    fn long_len(&mut self, len: usize, field: &'static str) -> Result<(), EncodeError> {
        let len = i32::try_from(len).map_err(|_| self.fail(field, Kind::TooLong))?;
        if self.flexible {
            put_varint(&mut self.buf, len as u32 + 1);
        } else {
            self.buf.extend_from_slice(&len.to_be_bytes());
        }
        Ok(())
    }

    /// Text.
    pub fn str(&mut self, value: &Str, field: &'static str) -> Result<(), EncodeError> {
        let len = i16::try_from(value.as_bytes().len()).map_err(|_| self.fail(field, Kind::TooLong))?;
        if self.flexible {
            put_varint(&mut self.buf, len as u32 + 1);
        } else {
            self.buf.extend_from_slice(&len.to_be_bytes());
        }
        self.buf.extend_from_slice(value.as_bytes());
        Ok(())
    }

    /// Text, or null when `null_ok`.
    pub fn opt_str(
        &mut self,
        value: Option<&Str>,
        null_ok: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(text) => self.str(text, field),
            None => self.null(null_ok, &[0xff; 2], field),
        }
    }

    /// A blob; copied.
    pub fn bytes(&mut self, value: &[u8], field: &'static str) -> Result<(), EncodeError> {
        self.long_len(value.len(), field)?;
        self.buf.extend_from_slice(value);
        Ok(())
    }

    /// A blob, or null when `null_ok`; copied.
    pub fn opt_bytes(
        &mut self,
        value: Option<&[u8]>,
        null_ok: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(bytes) => self.bytes(bytes, field),
            None => self.null(null_ok, &[0xff; 4], field),
        }
    }

    /// A record set by reference.
    pub fn records(&mut self, value: Option<&Records>, field: &'static str) -> Result<(), EncodeError> {
        let Some(records) = value else { return self.null(true, &[0xff; 4], field) };
        self.long_len(records.len(), field)?;
        for piece in records.pieces() {
            self.piece_bytes += piece.len();
            self.pieces.push((self.buf.len(), piece.clone()));
        }
        Ok(())
    }

    /// Items.
    pub fn array<T: Wire>(&mut self, items: &[T], field: &'static str) -> Result<(), EncodeError> {
        self.long_len(items.len(), field)?;
        items.iter().try_for_each(|item| item.write(self, field))
    }

    /// Items, or null when `null_ok`.
    pub fn opt_array<T: Wire>(
        &mut self,
        items: Option<&[T]>,
        null_ok: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match items {
            Some(items) => self.array(items, field),
            None => self.null(null_ok, &[0xff; 4], field),
        }
    }

    /// A struct behind a byte that says whether it is there.
    pub fn opt_struct<T: Wire>(
        &mut self,
        value: Option<&T>,
        null_ok: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                self.i8(1);
                value.write(self, field)
            }
            None if null_ok => {
                self.i8(-1);
                Ok(())
            }
            None => Err(self.fail(field, Kind::NullNotAllowed)),
        }
    }

    /// Begins a struct's tagged fields: the answer goes to [`Writer::tag`].
    pub fn begin_tags(&mut self) -> usize {
        if self.flexible {
            self.buf.push(0);
        }
        self.buf.len()
    }

    /// One tagged field; tags ascend and a struct has fewer than 128 of them.
    pub fn tag(
        &mut self,
        tags: usize,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.buf[tags - 1] += 1;
        put_varint(&mut self.buf, tag);
        let start = self.buf.len();
        write(self)?;
        let end = self.buf.len();
        put_varint(&mut self.buf, (end - start) as u32);
        // The size belongs in front of the content and is known only now.
        let size_bytes = self.buf.len() - end;
        self.buf[start..].rotate_right(size_bytes);
        Ok(())
    }

    /// The end of a struct without tagged fields of its own.
    pub fn end_struct(&mut self) {
        if self.flexible {
            self.buf.push(0);
        }
    }

    /// A header's client id: never compact, in any version.
    pub(crate) fn client_id(&mut self, value: Option<&Str>) -> Result<(), EncodeError> {
        self.flexible = false;
        self.opt_str(value, true, "client_id")
    }

    /// Everything in one run of bytes, copied together where needed.
    pub fn into_bytes(self) -> Bytes {
        if self.pieces.is_empty() {
            return Bytes::from(self.buf);
        }
        let mut all = Vec::with_capacity(self.buf.len() + self.piece_bytes);
        let mut from = 0;
        for (at, piece) in &self.pieces {
            all.extend_from_slice(&self.buf[from..*at]);
            all.extend_from_slice(piece);
            from = *at;
        }
        all.extend_from_slice(&self.buf[from..]);
        Bytes::from(all)
    }

    /// The frame, its length in front, in pieces for one vectored write.
    pub fn into_frame(mut self) -> Result<Vec<Bytes>, EncodeError> {
        let total = self.buf.len() + self.piece_bytes;
        let length = i32::try_from(total - LENGTH_PREFIX).map_err(|_| self.fail("frame", Kind::TooLong))?;
        self.buf[..LENGTH_PREFIX].copy_from_slice(&length.to_be_bytes());
        if self.pieces.is_empty() || total / (2 * self.pieces.len()) < GATHER_BELOW {
            return Ok(vec![self.into_bytes()]);
        }
        let mut frame = Vec::with_capacity(2 * self.pieces.len() + 1);
        let mut small = Bytes::from(self.buf);
        let mut from = 0;
        for (at, piece) in self.pieces {
            if at > from {
                frame.push(small.split_to(at - from));
            }
            frame.push(piece);
            from = at;
        }
        if !small.is_empty() {
            frame.push(small);
        }
        Ok(frame)
    }
}
