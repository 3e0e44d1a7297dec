//! What can go wrong between a client and a cluster, told so that a person can act on it.
use model::ErrorCode;
use records::{BatchError, CodecError};
use std::io;
use std::time::Duration;
use wire::{DecodeError, EncodeError};

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// An established connection failed.
    #[error("connection to {address} failed: {source}")]
    Io {
        /// `host:port`.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The broker closed the connection.
    #[error("{address} closed the connection")]
    Closed {
        /// `host:port`.
        address: String,
    },
    /// No answer in time.
    #[error("{what} was not answered by {address} within {} ms", after.as_millis())]
    Timeout {
        /// The API.
        what: &'static str,
        /// `host:port`.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The broker and this client have no version of an API in common.
    #[error(
        "{address} does not serve {api} in a version that this client speaks ({ours}; it serves {theirs})"
    )]
    NoCommonVersion {
        /// `host:port`.
        address: String,
        /// The API.
        api: &'static str,
        /// Our versions.
        ours: String,
        /// The broker's versions.
        theirs: String,
    },
    /// The answer is not what its API and version say.
    #[error("{address} sent an answer that cannot be decoded: {error}")]
    Decode {
        /// `host:port`.
        address: String,
        /// What was wrong with it.
        error: DecodeError,
    },
    /// The answer breaks the protocol in another way.
    #[error("{address} broke the protocol: {what}")]
    Protocol {
        /// `host:port`.
        address: String,
        /// How.
        what: String,
    },
    /// The request does not fit the version that the broker speaks.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A record batch is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A record batch could not be compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The broker answered with an error code.
    #[error("{what}: {} ({})", .code.name(), explain(*.code, .message.as_deref()))]
    Broker {
        /// What was asked, and of what.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's own words, if it sent any.
        message: Option<String>,
    },
    /// The cluster does not have it.
    #[error("{what} does not exist")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// The cluster does not list a broker that one of its brokers named.
    #[error("broker {id} is not in the cluster now")]
    Gone {
        /// The broker.
        id: i32,
    },
    /// No bootstrap address could be used.
    #[error("no broker could be reached at {addresses}: {}", each(.tried))]
    Bootstrap {
        /// The addresses tried.
        addresses: String,
        /// What became of each, in the order in which they were tried; then of brokers that were known.
        tried: Vec<ClientError>,
    },
}

impl ClientError {
    /// A broker's refusal; an unknown number counts as `UNKNOWN_SERVER_ERROR`.
    pub fn broker(what: impl Into<String>, code: i16, message: Option<String>) -> ClientError {
        let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        ClientError::Broker { what: what.into(), code, message }
    }

    /// The broker's code, if it was the broker that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later, perhaps on another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Broker { code, .. } => code.is_retriable(),
            ClientError::Connect { .. }
            | ClientError::Io { .. }
            | ClientError::Closed { .. }
            | ClientError::Timeout { .. }
            | ClientError::Gone { .. }
            | ClientError::Bootstrap { .. } => true,
            _ => false,
        }
    }
}

/// `Ok` for code 0, the refusal otherwise.
pub fn check(what: impl FnOnce() -> String, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    if code == 0 { Ok(()) } else { Err(ClientError::broker(what(), code, message.map(str::to_owned))) }
}

/// Failures with semicolons between them.
fn each(errors: &[ClientError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn explain(code: ErrorCode, message: Option<&str>) -> String {
    match (message, code) {
        (Some(message), _) if !message.is_empty() => message.to_owned(),
        (_, ErrorCode::UnknownTopicOrPartition) => "no such topic or partition".to_owned(),
        (_, ErrorCode::TopicAlreadyExists) => "a topic of this name exists".to_owned(),
        (_, ErrorCode::GroupIdNotFound) => "no such group".to_owned(),
        (_, ErrorCode::NonEmptyGroup) => "the group has members; stop them first".to_owned(),
        (_, ErrorCode::OffsetOutOfRange) => "the offset is outside the partition's log".to_owned(),
        (_, ErrorCode::MessageTooLarge) => "larger than the topic's max.message.bytes".to_owned(),
        (_, ErrorCode::NotEnoughReplicas) => "fewer replicas in sync than min.insync.replicas".to_owned(),
        (_, ErrorCode::CorruptMessage) => "the data is damaged".to_owned(),
        (_, ErrorCode::KafkaStorageError) => "the broker cannot read or write this data".to_owned(),
        (_, ErrorCode::InvalidTopicException) => "not a legal topic name, or an internal topic".to_owned(),
        (_, code) if code.is_retriable() => "temporary; trying again may help".to_owned(),
        (_, code) => format!("error code {}", code.code()),
    }
}
