//! What it would cost to go on with the replicas that are left, and doing so (ElectLeaders, KIP-460).
use crate::admin::ADMIN_TIMEOUT_MS;
use crate::client::Client;
use crate::error::{ClientError, check};
use crate::offsets::Place;
use wire::elect_leaders_request::TopicPartitions;
use wire::{ElectLeadersRequest, Str};

/// Kafka's number of an unclean election.
const UNCLEAN: i8 = 1;
/// A number of Plimsoll's own: only tell what that would give up.
const PLAN: i8 = 100;

impl Client {
    /// What an unclean election of the partition would give up; with `accept` it is given up. Answers the plan in
    /// words. Errors: nothing is to be given up, with the reason in words.
    pub async fn accept_loss(&self, place: &Place, accept: bool) -> Result<String, ClientError> {
        let request = ElectLeadersRequest {
            election_type: if accept { UNCLEAN } else { PLAN },
            topic_partitions: Some(vec![TopicPartitions {
                topic: Str::from(place.0.as_str()),
                partitions: vec![place.1],
            }]),
            timeout_ms: ADMIN_TIMEOUT_MS,
        };
        let answer = self.ask_controller(request, |a: &wire::ElectLeadersResponse| a.error_code).await?;
        let what = || format!("recover {}-{}", place.0, place.1);
        check(what, answer.error_code, None)?;
        let rows = answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let Some(row) = rows.into_iter().find(|row| row.partition_id == place.1) else {
            return Ok(String::new());
        };
        check(what, row.error_code, row.error_message.as_deref())?;
        Ok(row.error_message.as_deref().unwrap_or_default().to_owned())
    }
}
