//! What an answer means for the history.
use client_lite::{Client, ClientError, check};
use wire::InitProducerIdRequest;

/// Whether a single try surely wrote nothing. Plimsoll says NOT_LEADER_OR_FOLLOWER and NOT_ENOUGH_REPLICAS only
/// where nothing was appended (docs/replication.md), and the rig holds it to that.
pub(crate) fn is_definite(error: &ClientError) -> bool {
    const DEFINITE: [i16; 4] = [
        3,  // UNKNOWN_TOPIC_OR_PARTITION
        5,  // LEADER_NOT_AVAILABLE
        6,  // NOT_LEADER_OR_FOLLOWER
        19, // NOT_ENOUGH_REPLICAS
    ];
    let refused = error.code().is_some_and(|code| DEFINITE.contains(&code.code()));
    refused || matches!(error, ClientError::Connect { .. } | ClientError::Bootstrap { .. })
}

/// A producer id and its epoch.
pub(crate) async fn init_producer(client: &Client) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let answer = client.any().await?.request(request).await?;
    check(|| "InitProducerId".to_owned(), answer.error_code, None)?;
    Ok((answer.producer_id, answer.producer_epoch))
}
