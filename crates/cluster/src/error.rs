//! Errors of this crate: those that stop the state machine, and those that a client sees.
use model::ErrorCode;

/// The metadata log holds what this build cannot apply. The replica must stop; skipping would diverge.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApplyError {
    /// The bytes are no command at all.
    #[error("metadata entry {index} does not decode: {what}")]
    Decode {
        /// Index of the entry.
        index: u64,
        /// What the decoder said.
        what: String,
    },
    /// A newer release wrote this command.
    #[error(
        "metadata entry {index} needs format version {needs}, this build knows {knows}: \
         start a release at least as new as the one that wrote it"
    )]
    Newer {
        /// Index of the entry.
        index: u64,
        /// Version that the entry asks for.
        needs: u32,
        /// Newest version that this build applies.
        knows: u32,
    },
    /// The kind of command is none that this build knows.
    #[error("metadata entry {index} is a command of a kind unknown to this build")]
    UnknownCommand {
        /// Index of the entry.
        index: u64,
    },
    /// An index came twice or out of order.
    #[error("metadata entry {index} does not follow {applied}")]
    OutOfOrder {
        /// Index of the entry.
        index: u64,
        /// Index applied last.
        applied: u64,
    },
    /// A field of a command that no leader of this release would have written.
    #[error("metadata entry {index}: {what}")]
    Malformed {
        /// Index of the entry.
        index: u64,
        /// Which rule it breaks.
        what: &'static str,
    },
    /// The snapshot's bytes are damaged or of a newer format.
    #[error("metadata snapshot: {what}")]
    Snapshot {
        /// What is wrong.
        what: String,
    },
}

/// Why one item of a request fails, as its response carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// Kafka's text; `None` where Kafka sends none.
    pub message: Option<String>,
}

/// The result of one item of a request.
pub type ItemResult<T> = Result<T, ItemError>;

impl ItemError {
    /// An error with a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ItemError {
        ItemError { code, message: Some(message.into()) }
    }

    /// An error without a text.
    pub fn bare(code: ErrorCode) -> ItemError {
        ItemError { code, message: None }
    }

    pub(crate) fn invalid_config(message: impl Into<String>) -> ItemError {
        ItemError::new(ErrorCode::InvalidConfig, message)
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> ItemError {
        ItemError::new(ErrorCode::InvalidRequest, message)
    }
}
