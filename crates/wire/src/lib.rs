//! Kafka's wire: frames, request and response codecs, the table of served APIs.
//!
//! Owns: bytes to typed messages and back. Must not know: topics, logs, sockets, what a request means.
//! Start at [`frame::split`], then [`decode_request`], then [`encode_response`]. The messages are generated
//! from `protocol/kafka` by `cargo xtask codegen`; each has a module of its name for its inner structs.
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod api;
mod error;
pub mod frame;
#[allow(missing_docs, clippy::all)]
mod generated;
mod message;
mod reader;
mod records;
mod request;
mod response;
mod str;
mod writer;

pub use api::{Api, api_versions_response, served};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use generated::*;
pub use message::{Message, RequestMessage, Wire};
pub use reader::{MAX_ARRAY_ITEMS, MAX_TAGGED_FIELDS, REQUEST_ITEM_BYTES, RESPONSE_ITEM_BYTES, Reader};
pub use records::Records;
pub use request::{RequestError, RequestHeader, decode_request, decode_request_header, encode_request};
pub use response::{correlation_id, decode_response, encode_response};
pub use str::Str;
pub use writer::{GATHER_BELOW, Writer};
