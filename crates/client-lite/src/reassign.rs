//! Which brokers hold the replicas of partitions, and how that is changed.
use crate::admin::ADMIN_TIMEOUT_MS;
use crate::client::Client;
use crate::error::{ClientError, check};
use crate::offsets::Place;
use std::collections::BTreeMap;
use wire::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use wire::{
    AlterPartitionReassignmentsRequest, DescribeLogDirsRequest, ListPartitionReassignmentsRequest, Str,
    UnregisterBrokerRequest,
};

/// A partition whose replicas are being changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ongoing {
    /// All that hold, or are to hold, a replica.
    pub replicas: Vec<i32>,
    /// Those that are new.
    pub adding: Vec<i32>,
    /// Those that are to go.
    pub removing: Vec<i32>,
}

/// A replica as the broker that holds it tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDisk {
    /// Its size.
    pub bytes: u64,
    /// Bytes a second that it takes in, averaged over about a minute. Only Plimsoll tells.
    pub rate: Option<u64>,
    /// It is being brought up: bytes that it has still to get. Only Plimsoll tells.
    pub bytes_left: Option<u64>,
    /// What is wrong with it. Only Plimsoll tells.
    pub trouble: Option<String>,
}

impl OnDisk {
    /// Whether it is being brought up, or something is wrong with it.
    pub fn is_troubled(&self) -> bool {
        self.bytes_left.is_some() || self.trouble.is_some()
    }
}

impl Client {
    /// Gives partitions other replicas, the preferred leader first; `None` takes back what goes on. Answers each
    /// partition's refusal, if there was one.
    pub async fn alter_reassignments(
        &self,
        targets: &BTreeMap<Place, Option<Vec<i32>>>,
    ) -> Result<BTreeMap<Place, ClientError>, ClientError> {
        let mut topics: Vec<ReassignableTopic> = Vec::new();
        for ((topic, partition_index), replicas) in targets {
            let row = ReassignablePartition { partition_index: *partition_index, replicas: replicas.clone() };
            match topics.last_mut().filter(|t| t.name.as_str() == topic) {
                Some(last) => last.partitions.push(row),
                None => topics.push(ReassignableTopic { name: Str::from(topic), partitions: vec![row] }),
            }
        }
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: ADMIN_TIMEOUT_MS,
            allow_replication_factor_change: true,
            topics,
        };
        let code_of = |a: &wire::AlterPartitionReassignmentsResponse| a.error_code;
        let answer = self.ask_controller(request, code_of).await?;
        check(|| "move replicas".to_owned(), answer.error_code, answer.error_message.as_deref())?;
        let mut refused = BTreeMap::new();
        for topic in &answer.responses {
            for row in &topic.partitions {
                let what = || format!("move {}-{}", topic.name, row.partition_index);
                if let Err(error) = check(what, row.error_code, row.error_message.as_deref()) {
                    refused.insert((topic.name.to_string(), row.partition_index), error);
                }
            }
        }
        Ok(refused)
    }

    /// Every partition whose replicas are being changed.
    pub async fn list_reassignments(&self) -> Result<BTreeMap<Place, Ongoing>, ClientError> {
        let request = ListPartitionReassignmentsRequest { timeout_ms: ADMIN_TIMEOUT_MS, topics: None };
        let code_of = |a: &wire::ListPartitionReassignmentsResponse| a.error_code;
        let answer = self.ask_controller(request, code_of).await?;
        check(|| "list what is moving".to_owned(), answer.error_code, answer.error_message.as_deref())?;
        let mut found = BTreeMap::new();
        for topic in answer.topics {
            for row in topic.partitions {
                let ongoing = Ongoing {
                    replicas: row.replicas,
                    adding: row.adding_replicas,
                    removing: row.removing_replicas,
                };
                found.insert((topic.name.to_string(), row.partition_index), ongoing);
            }
        }
        Ok(found)
    }

    /// Says that what a broker had is lost. It must be down.
    pub async fn unregister_broker(&self, id: i32) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest { broker_id: id };
        let code_of = |a: &wire::UnregisterBrokerResponse| a.error_code;
        let answer = self.ask_controller(request, code_of).await?;
        check(|| format!("unregister broker {id}"), answer.error_code, answer.error_message.as_deref())
    }

    /// Each replica that a broker holds.
    pub async fn replicas_on(&self, broker: i32) -> Result<BTreeMap<Place, OnDisk>, ClientError> {
        let request = DescribeLogDirsRequest { topics: None };
        let answer = self.node(broker).await?.request(request).await?;
        let mut found = BTreeMap::new();
        for directory in answer.results {
            check(|| format!("directories of broker {broker}"), directory.error_code, None)?;
            for topic in directory.topics {
                for row in topic.partitions {
                    let on_disk = OnDisk {
                        bytes: u64::try_from(row.partition_size).unwrap_or(0),
                        rate: u64::try_from(row.append_rate).ok(),
                        bytes_left: u64::try_from(row.bytes_left).ok(),
                        trouble: row.trouble.map(|why| why.to_string()),
                    };
                    found.insert((topic.name.to_string(), row.partition_index), on_disk);
                }
            }
        }
        Ok(found)
    }
}
