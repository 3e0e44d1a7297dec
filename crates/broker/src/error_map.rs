//! Internal errors as Kafka's codes; the only place where one becomes the other.
use crate::fetch_session::SessionError;
use model::ErrorCode;
use partition::AppendError;
use storage::ExtractError;

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// The bytes are bad or the disk failed.
    Extract(ExtractError),
    /// The reader threads are gone: the broker stops.
    Stopped,
}

/// The code of a refused session request.
pub(crate) fn fetch_session(error: SessionError) -> ErrorCode {
    match error {
        SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIdMismatch => ErrorCode::FetchSessionTopicIdError,
    }
}

/// The code of a file that could not be read.
pub(crate) fn read(error: &ReadFailure) -> ErrorCode {
    match error {
        ReadFailure::Extract(ExtractError::Damaged(_) | ExtractError::Unsettled(_)) => {
            ErrorCode::CorruptMessage
        }
        ReadFailure::Extract(ExtractError::Disk(_)) => ErrorCode::KafkaStorageError,
        ReadFailure::Stopped => ErrorCode::NotLeaderOrFollower,
    }
}

/// The code of a refused append.
pub(crate) fn append(error: &AppendError) -> ErrorCode {
    error.code
}

/// The log start that the answer to a refused append tells: as in Kafka only where the log itself judged the
/// batch and kept its form, else -1.
pub(crate) fn append_log_start(error: &AppendError) -> i64 {
    match error.code {
        ErrorCode::CorruptMessage
        | ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::KafkaStorageError => -1,
        _ => error.log_start,
    }
}

/// The text of a refused append.
pub(crate) fn append_message(error: &AppendError) -> Option<String> {
    error.message.clone()
}

/// The records at fault in a refused append.
pub(crate) fn record_errors(error: &AppendError) -> Vec<(i32, Option<String>)> {
    error.issues.iter().map(|issue| (issue.index, Some(issue.message.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_errors_make_the_client_start_a_new_session() {
        for error in [SessionError::NotFound, SessionError::WrongEpoch, SessionError::TopicIdMismatch] {
            let name = fetch_session(error).name();
            assert!(name.contains("FETCH_SESSION"), "{name}");
        }
    }
}
