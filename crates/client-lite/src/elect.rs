//! Preferred replicas that are to lead; what it would cost to go on with the replicas that are left, and doing so
//! (ElectLeaders, KIP-460).
use crate::admin::ADMIN_TIMEOUT_MS;
use crate::client::Client;
use crate::error::{ClientError, check};
use crate::offsets::Place;
use model::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use wire::elect_leaders_request::TopicPartitions;
use wire::{ElectLeadersRequest, Str};

/// Kafka's number of an election of the preferred replica.
const PREFERRED: i8 = 0;
/// Kafka's number of an unclean election.
const UNCLEAN: i8 = 1;
/// A number of Plimsoll's own: only tell what that would give up.
const PLAN: i8 = 100;

impl Client {
    /// Has the preferred replicas of these partitions lead. Answers those that they do not lead now, and why.
    pub async fn elect_preferred(
        &self,
        places: &BTreeSet<Place>,
    ) -> Result<BTreeMap<Place, ClientError>, ClientError> {
        let mut asked: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        places.iter().for_each(|(topic, partition)| asked.entry(topic).or_default().push(*partition));
        let row = |(topic, partitions)| TopicPartitions { topic: Str::from(topic), partitions };
        let request = ElectLeadersRequest {
            election_type: PREFERRED,
            topic_partitions: Some(asked.into_iter().map(row).collect()),
            timeout_ms: ADMIN_TIMEOUT_MS,
        };
        let answer = self.ask_controller(request, |a: &wire::ElectLeadersResponse| a.error_code).await?;
        check(|| "elect leaders".to_owned(), answer.error_code, None)?;
        let mut left = BTreeMap::new();
        for topic in &answer.replica_election_results {
            for row in &topic.partition_result {
                let what = || format!("elect the leader of {}-{}", topic.topic, row.partition_id);
                match check(what, row.error_code, row.error_message.as_deref()) {
                    Err(error) if error.code() != Some(ErrorCode::ElectionNotNeeded) => {
                        left.insert((topic.topic.to_string(), row.partition_id), error);
                    }
                    _ => {}
                }
            }
        }
        Ok(left)
    }

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
