//! Requests that change or describe topics, groups and configurations.
use crate::client::{Client, Retry};
use crate::error::{ClientError, check};
use crate::offsets::Place;
use model::ErrorCode;
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::create_partitions_request::CreatePartitionsTopic;
use wire::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::delete_topics_request::DeleteTopicState;
use wire::describe_configs_request::DescribeConfigsResource;
use wire::describe_groups_response::DescribedGroup;
use wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::list_groups_response::ListedGroup;
use wire::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use wire::{
    ApiKey, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest, IncrementalAlterConfigsRequest,
    ListGroupsRequest, OffsetDeleteRequest, RequestMessage, Str,
};

/// A topic to be created.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` for the broker's default.
    pub partitions: Option<i32>,
    /// Number of replicas; `None` for the broker's default.
    pub replication_factor: Option<i16>,
    /// Replicas by partition; replaces the two numbers.
    pub assignment: Vec<Vec<i32>>,
    /// Configuration.
    pub configs: Vec<(String, String)>,
}

/// What configuration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic,
    /// A broker, by id; the empty name is the default of all.
    Broker,
}

impl ResourceKind {
    fn code(self) -> i8 {
        match self {
            ResourceKind::Topic => 2,
            ResourceKind::Broker => 4,
        }
    }
}

/// A change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// Key and new value.
    Set(String, String),
    /// Key that goes back to its default.
    Delete(String),
    /// Key of a list and the value to add.
    Append(String, String),
    /// Key of a list and the value to take away.
    Subtract(String, String),
}

/// One key as the broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value; `None` when it is secret or unset.
    pub value: Option<String>,
    /// Where it comes from, in Kafka's words.
    pub source: &'static str,
    /// Whether it cannot be changed at run time.
    pub read_only: bool,
    /// Whether it is secret.
    pub sensitive: bool,
    /// What it means, if the broker says so.
    pub documentation: Option<String>,
}

pub(crate) const ADMIN_TIMEOUT_MS: i32 = 30_000;

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "CLIENT_METRICS_CONFIG",
        8 => "GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

impl Client {
    /// Sends a request to the controller, or where the cluster names none, to any broker. `code_of` finds
    /// the first error code, by which a moved controller is tried again.
    pub(crate) async fn ask_controller<R: RequestMessage + Clone>(
        &self,
        request: R,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            let error = match self.try_controller(request.clone()).await {
                Ok(answer) if code_of(&answer) == ErrorCode::NotController.code() => {
                    ClientError::broker(R::KEY.name(), code_of(&answer), None)
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            retry.after(error).await?;
        }
    }

    async fn try_controller<R: RequestMessage>(&self, request: R) -> Result<R::Response, ClientError> {
        let cluster = self.refresh(&[]).await?;
        let conn = match cluster.broker(cluster.controller) {
            Some(controller) => self.node(controller.id).await?,
            None => self.any().await?,
        };
        conn.request(request).await
    }

    /// Creates a topic, or with `validate_only` says whether it could be.
    pub async fn create_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<(), ClientError> {
        let given = topic.assignment.is_empty();
        let assignments = (0..).zip(&topic.assignment).map(|(partition_index, brokers)| {
            CreatableReplicaAssignment { partition_index, broker_ids: brokers.clone() }
        });
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: Str::from(name),
            value: Some(Str::from(value)),
        });
        let row = CreatableTopic {
            name: Str::from(&topic.name),
            num_partitions: topic.partitions.filter(|_| given).unwrap_or(-1),
            replication_factor: topic.replication_factor.filter(|_| given).unwrap_or(-1),
            assignments: assignments.collect(),
            configs: configs.collect(),
        };
        let request = CreateTopicsRequest { topics: vec![row], timeout_ms: ADMIN_TIMEOUT_MS, validate_only };
        let code_of = |a: &wire::CreateTopicsResponse| a.topics.first().map_or(0, |t| t.error_code);
        let answer = self.ask_controller(request, code_of).await?;
        for row in &answer.topics {
            let what = || format!("create topic {}", row.name);
            check(what, row.error_code, row.error_message.as_deref())?;
        }
        self.forget_topic(&topic.name);
        Ok(())
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(Str::from(name)), ..Default::default() }],
            topic_names: vec![Str::from(name)],
            timeout_ms: ADMIN_TIMEOUT_MS,
        };
        let code_of = |a: &wire::DeleteTopicsResponse| a.responses.first().map_or(0, |t| t.error_code);
        let answer = self.ask_controller(request, code_of).await?;
        self.forget_topic(name);
        for row in &answer.responses {
            check(|| format!("delete topic {name}"), row.error_code, row.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Raises a topic's number of partitions to `count`.
    pub async fn create_partitions(
        &self,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let topic = CreatePartitionsTopic { name: Str::from(name), count, assignments: None };
        let request =
            CreatePartitionsRequest { topics: vec![topic], timeout_ms: ADMIN_TIMEOUT_MS, validate_only };
        let code_of = |a: &wire::CreatePartitionsResponse| a.results.first().map_or(0, |t| t.error_code);
        let answer = self.ask_controller(request, code_of).await?;
        self.forget_topic(name);
        for row in &answer.results {
            check(|| format!("add partitions to {name}"), row.error_code, row.error_message.as_deref())?;
        }
        Ok(())
    }

    /// The configuration of one resource; all keys, or those named.
    pub async fn describe_configs(
        &self,
        kind: ResourceKind,
        name: &str,
        keys: Option<&[&str]>,
        documentation: bool,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let resource = DescribeConfigsResource {
            resource_type: kind.code(),
            resource_name: Str::from(name),
            configuration_keys: keys.map(|keys| keys.iter().map(|k| Str::from(*k)).collect()),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: false,
            include_documentation: documentation,
        };
        let answer = match kind {
            ResourceKind::Topic => self.ask_any(request).await?,
            ResourceKind::Broker => self.broker_conn(name).await?.request(request).await?,
        };
        let mut entries = Vec::new();
        for result in &answer.results {
            let what = || format!("configuration of {name}");
            check(what, result.error_code, result.error_message.as_deref())?;
            entries.extend(result.configs.iter().map(|row| ConfigEntry {
                name: row.name.to_string(),
                value: row.value.as_ref().map(ToString::to_string),
                source: source_name(row.config_source),
                read_only: row.read_only,
                sensitive: row.is_sensitive,
                documentation: row.documentation.as_ref().map(ToString::to_string),
            }));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// A named broker answers for itself.
    async fn broker_conn(&self, name: &str) -> Result<Arc<crate::Conn>, ClientError> {
        match name.parse::<i32>() {
            Ok(id) => self.node(id).await,
            Err(_) => self.any().await,
        }
    }

    /// Changes some keys of one resource and leaves the others as they are.
    pub async fn alter_configs(
        &self,
        kind: ResourceKind,
        name: &str,
        changes: &[ConfigOp],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let change = |op: &ConfigOp| {
            let (operation, key, value) = match op {
                ConfigOp::Set(key, value) => (0, key, Some(value)),
                ConfigOp::Delete(key) => (1, key, None),
                ConfigOp::Append(key, value) => (2, key, Some(value)),
                ConfigOp::Subtract(key, value) => (3, key, Some(value)),
            };
            AlterableConfig { name: Str::from(key), config_operation: operation, value: value.map(Str::from) }
        };
        let resource = AlterConfigsResource {
            resource_type: kind.code(),
            resource_name: Str::from(name),
            configs: changes.iter().map(change).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
        let code_of =
            |a: &wire::IncrementalAlterConfigsResponse| a.responses.first().map_or(0, |t| t.error_code);
        let answer = self.ask_controller(request, code_of).await?;
        for row in &answer.responses {
            let what = || format!("change the configuration of {name}");
            check(what, row.error_code, row.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Moves the start of each partition's log up to an offset (-1: to its end). Answers the new starts.
    pub async fn delete_records(
        &self,
        until: &BTreeMap<Place, i64>,
    ) -> Result<BTreeMap<Place, i64>, ClientError> {
        let mut starts = BTreeMap::new();
        for ((topic, partition), offset) in until {
            let mut retry = Retry::new(&self.options);
            let start = loop {
                match self.delete_records_once(topic, *partition, *offset).await {
                    Ok(start) => break start,
                    Err(error) => {
                        self.forget_topic(topic);
                        retry.after(error).await?;
                    }
                }
            };
            starts.insert((topic.clone(), *partition), start);
        }
        Ok(starts)
    }

    async fn delete_records_once(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, ClientError> {
        let (conn, _) = self.leader(topic, partition).await?;
        let row = DeleteRecordsPartition { partition_index: partition, offset };
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic { name: Str::from(topic), partitions: vec![row] }],
            timeout_ms: ADMIN_TIMEOUT_MS,
        };
        let answer = conn.request(request).await?;
        let what = || format!("trim {topic}-{partition} to offset {offset}");
        let row = answer.topics.first().and_then(|t| t.partitions.first());
        let row = row.ok_or_else(|| ClientError::Missing { what: what() })?;
        check(what, row.error_code, None)?;
        Ok(row.low_watermark)
    }

    /// The groups of all brokers.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        let mut groups = Vec::new();
        for broker in &self.refresh(&[]).await?.brokers {
            let conn = self.node(broker.id).await?;
            let version = conn.version(ApiKey::ListGroups)?;
            let mut retry = Retry::new(&self.options);
            loop {
                let answer = conn.request_at(ListGroupsRequest::default(), version).await?;
                match check(|| format!("groups of broker {}", broker.id), answer.error_code, None) {
                    Ok(()) => {
                        groups.extend(answer.groups);
                        break;
                    }
                    Err(error) => retry.after(error).await?,
                }
            }
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        groups.dedup_by(|a, b| a.group_id == b.group_id);
        Ok(groups)
    }

    /// One group's state and members. A group that does not exist is `GROUP_ID_NOT_FOUND`, or on older
    /// brokers state "Dead".
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, ClientError> {
        let request = DescribeGroupsRequest { groups: vec![Str::from(group)], ..Default::default() };
        let code_of = |a: &wire::DescribeGroupsResponse| a.groups.first().map_or(0, |g| g.error_code);
        let answer = self.ask_coordinator(group, request, code_of).await?;
        let what = || format!("group {group}");
        let row = answer.groups.into_iter().next().ok_or_else(|| ClientError::Missing { what: what() })?;
        check(what, row.error_code, row.error_message.as_deref())?;
        if row.group_state == "Dead" {
            return Err(ClientError::broker(what(), ErrorCode::GroupIdNotFound.code(), None));
        }
        Ok(row)
    }

    /// Deletes an empty group and its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![Str::from(group)] };
        let code_of = |a: &wire::DeleteGroupsResponse| a.results.first().map_or(0, |g| g.error_code);
        let answer = self.ask_coordinator(group, request, code_of).await?;
        for row in &answer.results {
            check(|| format!("delete group {group}"), row.error_code, row.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Deletes a group's offsets of some partitions.
    pub async fn delete_offsets(&self, group: &str, places: &[Place]) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for (topic, partition) in places {
            let row = OffsetDeleteRequestPartition { partition_index: *partition };
            topics.entry(topic).or_default().push(row);
        }
        let topics = topics.into_iter();
        let topics =
            topics.map(|(name, partitions)| OffsetDeleteRequestTopic { name: Str::from(name), partitions });
        let request = OffsetDeleteRequest { group_id: Str::from(group), topics: topics.collect() };
        let answer = self.ask_coordinator(group, request, |a| a.error_code).await?;
        check(|| format!("delete offsets of group {group}"), answer.error_code, None)?;
        for topic in &answer.topics {
            for row in &topic.partitions {
                let what = || format!("delete offset of {group} for {}-{}", topic.name, row.partition_index);
                check(what, row.error_code, None)?;
            }
        }
        Ok(())
    }
}
