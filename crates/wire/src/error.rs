//! Why bytes are no message, and why a message has no bytes.
use thiserror::Error;

/// A malformed message. Nothing of it was used; the connection that sent it is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} v{version}: {kind} at {field}, byte {offset}")]
pub struct DecodeError {
    /// The message, `ProduceRequest` for example.
    pub message: &'static str,
    /// The version that was being decoded.
    pub version: i16,
    /// The field, as `Struct.field`.
    pub field: &'static str,
    /// Bytes from the start of the frame (without its length) to the fault.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeErrorKind {
    /// A length, a count or a fixed-size value reaches past the end.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes the field needs, at least.
        needed: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// An array has more items than any message may have, or its items would take too much memory.
    #[error("array of {0} items is over the limit")]
    TooManyItems(usize),
    /// More tagged fields than any struct may have.
    #[error("{0} tagged fields are over the limit")]
    TooManyTags(usize),
    /// A variable-length number has more than five bytes or 32 bits.
    #[error("varint too long")]
    BadVarint,
    /// A string is over 32,767 bytes.
    #[error("string of {0} bytes is over the limit")]
    StringTooLong(usize),
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    BadUtf8,
    /// Null where the version allows none.
    #[error("null is not allowed")]
    UnexpectedNull,
    /// A tagged field's content does not end where its size says.
    #[error("tagged field does not have the size it states")]
    TagSize,
    /// A version for which no code exists.
    #[error("version is not known")]
    UnknownVersion,
}

/// A message that the version cannot carry: a fault of the caller, never of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} v{version}: {kind} in {field}")]
pub struct EncodeError {
    /// The message, `MetadataResponse` for example.
    pub message: &'static str,
    /// The version that was being encoded.
    pub version: i16,
    /// The field, as `Struct.field`.
    pub field: &'static str,
    /// What is wrong there.
    pub kind: EncodeErrorKind,
}

/// Why a field cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeErrorKind {
    /// Null where the version allows none.
    #[error("null is not allowed")]
    NullNotAllowed,
    /// The field is set, the version lacks it, and dropping it would change the meaning.
    #[error("the version lacks the field")]
    NotInVersion,
    /// A string over 32,767 bytes, or an array, blob or frame over 2 GiB.
    #[error("too long")]
    TooLong,
    /// A version for which no code exists.
    #[error("version is not known")]
    UnknownVersion,
}
