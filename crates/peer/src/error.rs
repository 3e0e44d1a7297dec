//! Why bytes are no frame, and why a frame cannot be sent.

/// A frame that cannot be read. Nothing of it was used; the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer frame at byte {at} of the connection, {field}: {fault}")]
pub struct FrameError {
    /// Where the frame begins, in bytes since the first frame of the connection.
    pub at: u64,
    /// The field, as `length`, `head` or `LeaderRow.topic_id`.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: FrameFault,
}

/// What is wrong with a field of a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// It states more bytes than are allowed here.
    #[error("{length} bytes are over the limit of {limit}")]
    TooLong {
        /// What it states.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The frame has no room for what it must hold.
    #[error("{length} bytes, {needed} needed")]
    TooShort {
        /// What it states.
        length: usize,
        /// What its parts need.
        needed: usize,
    },
    /// Stored and computed CRC-32C differ.
    #[error("checksum {stored:08x}, the bytes have {computed:08x}")]
    Checksum {
        /// As sent.
        stored: u32,
        /// As received.
        computed: u32,
    },
    /// Not the protobuf message that it should be; the text names message and field.
    #[error("{0}")]
    Malformed(prost::DecodeError),
    /// No message, or one that this program does not know.
    #[error("no message of a kind that is known here")]
    NoMessage,
    /// A message of the handshake after it, or another one before its end.
    #[error("not expected {}", if *.established { "after the handshake" } else { "before the end of the handshake" })]
    OutOfPlace {
        /// Whether the handshake is over.
        established: bool,
    },
    /// The lengths that the message names are not the bytes behind the head.
    #[error("the message names {stated} bytes of payload, the frame has {present}")]
    Payloads {
        /// Sum of the named lengths.
        stated: u64,
        /// Bytes behind the head.
        present: usize,
    },
    /// More items than any message may have.
    #[error("{count} items are over the limit of {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Bytes of a fixed size have another one.
    #[error("{size} bytes where there must be {expected}")]
    Size {
        /// What they have.
        size: usize,
        /// What they must have.
        expected: usize,
    },
    /// A number that means nothing here.
    #[error("{0} is out of range")]
    Range(i64),
}

/// Why a frame cannot be sent: a fault of the caller, or a payload larger than the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// The head is over its limit.
    #[error("the head has {length} bytes, the limit is {limit}")]
    Head {
        /// Its bytes.
        length: usize,
        /// [`crate::Limits::head`].
        limit: usize,
    },
    /// The payloads are over their limit together.
    #[error("the payloads have {length} bytes, the limit is {limit}")]
    Payload {
        /// Their bytes.
        length: usize,
        /// [`crate::Limits::payload`].
        limit: usize,
    },
    /// The message names other payloads than there are.
    #[error("the message does not name its payloads' lengths")]
    Lengths,
}
