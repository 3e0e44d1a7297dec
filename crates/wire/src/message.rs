//! What generated code implements, and what every field type knows of its own bytes.
use crate::error::{DecodeError, EncodeError};
use crate::{Reader, Str, Writer};
use bytes::{Bytes, BytesMut};
use model::TopicId;

/// A value that can stand in an array: a struct or a plain type.
pub trait Wire: Sized {
    /// Fewest bytes that a value can take on the wire, in any version served; at least 1.
    const MIN_SIZE: usize;
    /// Decodes one value; `field` names it in errors.
    fn read(r: &mut Reader, field: &'static str) -> Result<Self, DecodeError>;
    /// Encodes the value; `field` names it in errors.
    fn write(&self, w: &mut Writer, field: &'static str) -> Result<(), EncodeError>;
}

/// A whole message: the body of a request or response, or a record of Kafka's own.
pub trait Message: Wire + Default {
    /// Kafka's name of it.
    const NAME: &'static str;
    /// The lowest version for which code exists.
    const MIN_VERSION: i16;
    /// The highest version for which code exists.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Decodes a body; bytes left over are ignored, as Kafka does.
    fn decode(bytes: BytesMut, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::of::<Self>(bytes, version)?;
        Self::read(&mut reader, Self::NAME)
    }

    /// Encodes a body alone, as one run of bytes without any header.
    fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::of::<Self>(version)?;
        self.write(&mut writer, Self::NAME)?;
        Ok(writer.into_bytes())
    }

    /// Encodes a record's key or value: the version as an int16, then the body.
    fn encode_versioned(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::of::<Self>(version)?;
        writer.i16(version);
        self.write(&mut writer, Self::NAME)?;
        Ok(writer.into_bytes())
    }

    /// Decodes what [`Message::encode_versioned`] wrote, and says which version it was.
    fn decode_versioned(bytes: BytesMut) -> Result<(i16, Self), DecodeError> {
        let mut head = Reader::of::<Self>(bytes, Self::MIN_VERSION)?;
        let version = head.i16("version")?;
        let mut reader = head.switch::<Self>(version)?;
        Ok((version, Self::read(&mut reader, Self::NAME)?))
    }
}

/// A request's body: knows its API and its answer.
pub trait RequestMessage: Message + Into<crate::Request> {
    /// The API.
    const KEY: crate::ApiKey;
    /// The answer's body.
    type Response: Message;
}

macro_rules! number {
    ($type:ty, $name:ident) => {
        impl Wire for $type {
            const MIN_SIZE: usize = size_of::<$type>();
            fn read(r: &mut Reader, field: &'static str) -> Result<Self, DecodeError> {
                r.$name(field)
            }
            fn write(&self, w: &mut Writer, _: &'static str) -> Result<(), EncodeError> {
                w.$name(*self);
                Ok(())
            }
        }
    };
}
number!(i8, i8);
number!(i16, i16);
number!(i32, i32);
number!(i64, i64);

impl Wire for Str {
    const MIN_SIZE: usize = 1;
    fn read(r: &mut Reader, field: &'static str) -> Result<Self, DecodeError> {
        r.str(field)
    }
    fn write(&self, w: &mut Writer, field: &'static str) -> Result<(), EncodeError> {
        w.str(self, field)
    }
}

impl Wire for [u8; 16] {
    const MIN_SIZE: usize = 16;
    fn read(r: &mut Reader, field: &'static str) -> Result<Self, DecodeError> {
        r.uuid(field)
    }
    fn write(&self, w: &mut Writer, _: &'static str) -> Result<(), EncodeError> {
        w.uuid(*self);
        Ok(())
    }
}

impl Wire for TopicId {
    const MIN_SIZE: usize = 16;
    fn read(r: &mut Reader, field: &'static str) -> Result<Self, DecodeError> {
        r.uuid(field).map(TopicId)
    }
    fn write(&self, w: &mut Writer, _: &'static str) -> Result<(), EncodeError> {
        w.uuid(self.0);
        Ok(())
    }
}

/// Appends an unsigned varint: seven bits a byte, lowest first.
pub(crate) fn put_varint(buf: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}
