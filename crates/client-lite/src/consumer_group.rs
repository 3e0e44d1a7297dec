//! Consumer groups of the new protocol (KIP-848): describing one, and being a member of one.
use crate::client::Client;
use crate::error::{ClientError, check};
use model::{ErrorCode, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::consumer_group_describe_response::DescribedGroup;
use wire::consumer_group_heartbeat_request::TopicPartitions;
use wire::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, Str,
};

impl Client {
    /// A consumer group of the new protocol. `None` where there is none of this name, which may be a classic group, and
    /// where the broker does not know of the new protocol.
    pub async fn describe_consumer_group(&self, group: &str) -> Result<Option<DescribedGroup>, ClientError> {
        let request =
            ConsumerGroupDescribeRequest { group_ids: vec![Str::from(group)], ..Default::default() };
        let code_of = |a: &ConsumerGroupDescribeResponse| a.groups.first().map_or(0, |g| g.error_code);
        let answer = match self.ask_coordinator(group, request, code_of).await {
            Err(ClientError::NoCommonVersion { .. }) => return Ok(None),
            answer => answer?,
        };
        let what = || format!("group {group}");
        let row = answer.groups.into_iter().next().ok_or_else(|| ClientError::Missing { what: what() })?;
        let none = [ErrorCode::GroupIdNotFound, ErrorCode::UnsupportedVersion];
        if none.iter().any(|code| code.code() == row.error_code) {
            return Ok(None);
        }
        check(what, row.error_code, row.error_message.as_deref())?;
        Ok(Some(row))
    }
}

/// Partitions by topic.
pub type OwnedPartitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// A member of a consumer group that takes over at once what it is told. It fetches nothing.
#[derive(Debug)]
pub struct ConsumerMember {
    group: String,
    id: String,
    instance: Option<String>,
    topics: Vec<String>,
    epoch: i32,
    owned: OwnedPartitions,
    interval: Duration,
}

impl ConsumerMember {
    /// A member with an id of its own, which no other member may have. It joins with its first heartbeat.
    pub fn new(group: &str, id: &str, instance: Option<&str>, topics: &[&str]) -> ConsumerMember {
        ConsumerMember {
            group: group.to_owned(),
            id: id.to_owned(),
            instance: instance.map(str::to_owned),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            epoch: 0,
            owned: OwnedPartitions::new(),
            interval: Duration::from_secs(1),
        }
    }

    /// Its epoch; 0 when it is to join.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// What it has.
    pub fn owned(&self) -> &OwnedPartitions {
        &self.owned
    }

    /// When its next heartbeat is expected.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// One heartbeat. It names everything each time, so that an answer that was lost is told again. A member that is
    /// fenced or not known any more has nothing, and joins anew with the next one.
    pub async fn beat(&mut self, client: &Client) -> Result<(), ClientError> {
        let owned = self.owned.iter().map(|(topic, partitions)| TopicPartitions {
            topic_id: *topic,
            partitions: partitions.iter().copied().collect(),
        });
        let request = ConsumerGroupHeartbeatRequest {
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(self.topics.iter().map(|topic| Str::from(topic.as_str())).collect()),
            topic_partitions: Some(owned.collect()),
            ..self.request(self.epoch)
        };
        let answer = self.ask(client, request).await?;
        let starts_over =
            [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId, ErrorCode::GroupIdNotFound];
        if self.epoch > 0 && starts_over.iter().any(|code| code.code() == answer.error_code) {
            (self.epoch, self.owned) = (0, OwnedPartitions::new());
            return Ok(());
        }
        let what = || format!("member {} of group {}", self.id, self.group);
        check(what, answer.error_code, answer.error_message.as_deref())?;
        self.epoch = answer.member_epoch;
        self.interval = Duration::from_millis(answer.heartbeat_interval_ms.max(0) as u64);
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics.map(|t| (t.topic_id, t.partitions.into_iter().collect())).collect();
        }
        Ok(())
    }

    /// Leaves the group for good.
    pub async fn leave(self, client: &Client) -> Result<(), ClientError> {
        let answer = self.ask(client, self.request(-1)).await?;
        check(|| format!("member {}", self.id), answer.error_code, answer.error_message.as_deref())
    }

    fn request(&self, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: Str::from(self.group.as_str()),
            member_id: Str::from(self.id.as_str()),
            member_epoch,
            instance_id: self.instance.as_deref().map(Str::from),
            ..Default::default()
        }
    }

    async fn ask(
        &self,
        client: &Client,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, ClientError> {
        client.ask_coordinator(&self.group, request, |answer| answer.error_code).await
    }
}
