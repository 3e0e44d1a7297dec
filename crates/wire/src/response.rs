//! From a typed response to a frame, and for clients the way back.
use crate::error::{DecodeError, EncodeError};
use crate::reader::RESPONSE_ITEM_BYTES;
use crate::{ApiKey, Reader, ResponseBody, Writer};
use bytes::{Bytes, BytesMut};

/// Encodes an answer as a frame, its length in front, in pieces for one vectored write.
pub fn encode_response(
    api_version: i16,
    correlation_id: i32,
    body: &ResponseBody,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::frame("ResponseHeader");
    writer.i32(correlation_id);
    if body.api_key().response_header_version(api_version) >= 1 {
        writer.i8(0);
    }
    body.write(&mut writer, api_version)?;
    writer.into_frame()
}

/// The correlation id in front of an answer, if the frame (without its length) has one.
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|id| i32::from_be_bytes(*id))
}

/// Decodes an answer's frame (without its length) to what was asked.
pub fn decode_response(
    api_key: ApiKey,
    api_version: i16,
    frame: BytesMut,
) -> Result<(i32, ResponseBody), DecodeError> {
    let mut reader = Reader::new(frame, "ResponseHeader", RESPONSE_ITEM_BYTES);
    let correlation_id = reader.i32("correlation_id")?;
    reader.header_tags(api_key.response_header_version(api_version) >= 1)?;
    Ok((correlation_id, ResponseBody::read(api_key, api_version, reader)?))
}
