//! From a frame to a typed request, and for clients the way back.
use crate::error::{DecodeError, EncodeError};
use crate::reader::REQUEST_ITEM_BYTES;
use crate::{ApiKey, Reader, Request, Str, Writer};
use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// What precedes a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// The version of the body, and of its answer.
    pub api_version: i16,
    /// Echoed in the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// Why a frame is no request that is served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// No API of ours has this key: close the connection.
    #[error("API key {api_key} is not served")]
    UnknownApi {
        /// The key.
        api_key: i16,
        /// The version asked for.
        api_version: i16,
    },
    /// The API is served, the version is not. ApiVersions answers in version 0 with UNSUPPORTED_VERSION;
    /// for any other API close the connection.
    #[error("{api_key:?} v{api_version} is not served")]
    UnservedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        api_version: i16,
        /// To be echoed if there is an answer.
        correlation_id: i32,
    },
    /// The bytes are no request: close the connection.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Decodes a frame (without its length). Strings and record sets share the frame's memory.
pub fn decode_request(frame: BytesMut) -> Result<(RequestHeader, Request), RequestError> {
    let (header, reader) = decode_request_header(frame)?;
    let request = Request::read(header.api_key, header.api_version, reader)?;
    Ok((header, request))
}

/// Decodes the header alone: for what must be known before the body is worth its cost. The reader stands at
/// the body, for [`Request::read`].
pub fn decode_request_header(frame: BytesMut) -> Result<(RequestHeader, Reader), RequestError> {
    let mut reader = Reader::new(frame, "RequestHeader", REQUEST_ITEM_BYTES);
    let key = reader.i16("request_api_key")?;
    let api_version = reader.i16("request_api_version")?;
    let correlation_id = reader.i32("correlation_id")?;
    let Some(api_key) = ApiKey::from_code(key) else {
        return Err(RequestError::UnknownApi { api_key: key, api_version });
    };
    if !api_key.serves(api_version) {
        return Err(RequestError::UnservedVersion { api_key, api_version, correlation_id });
    }
    let client_id = reader.opt_str(true, "client_id")?;
    reader.header_tags(api_key.request_header_version(api_version) >= 2)?;
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id }, reader))
}

/// Encodes a request as a frame in pieces, its length in front.
pub fn encode_request(header: &RequestHeader, request: &Request) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::frame("RequestHeader");
    writer.i16(header.api_key.code());
    writer.i16(header.api_version);
    writer.i32(header.correlation_id);
    writer.client_id(header.client_id.as_ref())?;
    if header.api_key.request_header_version(header.api_version) >= 2 {
        writer.i8(0);
    }
    request.write(&mut writer, header.api_version)?;
    writer.into_frame()
}
