//! Brokers, topics and partitions, as Metadata describes them.
use crate::error::ClientError;
use model::{ErrorCode, TopicId};
use wire::MetadataResponse;
use wire::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where it listens for this client.
    pub host: String,
    /// And on which port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

impl Broker {
    /// `host:port`; an IPv6 address in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// The leader's broker id, or -1.
    pub leader: i32,
    /// The leader's epoch, or -1.
    pub epoch: i32,
    /// Broker ids of all replicas.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub in_sync: Vec<i32>,
    /// Those that are down.
    pub offline: Vec<i32>,
    /// Kafka's code.
    pub error_code: i16,
}

impl Partition {
    /// Its leader. Errors: retriable, there is none now.
    pub(crate) fn led_by(&self, topic: &str) -> Result<i32, ClientError> {
        if self.leader >= 0 {
            return Ok(self.leader);
        }
        let offline = !self.offline.is_empty() && self.replicas.iter().all(|r| self.offline.contains(r));
        let message = offline.then(|| "it is offline: none of its replicas can be used".to_owned());
        let what = format!("leader of {topic}-{}", self.index);
        Err(ClientError::broker(what, ErrorCode::LeaderNotAvailable.code(), message))
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero from brokers that have none.
    pub id: TopicId,
    /// Whether it is the broker's own.
    pub internal: bool,
    /// Kafka's code.
    pub error_code: i16,
    /// Its partitions by ascending number.
    pub partitions: Vec<Partition>,
}

/// A cluster, or the part of it that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: Option<String>,
    /// The broker that takes admin requests, or -1.
    pub controller: i32,
    /// Live brokers.
    pub brokers: Vec<Broker>,
    /// Topics by name.
    pub topics: Vec<Topic>,
}

impl Cluster {
    /// The broker with this id.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.iter().find(|b| b.id == id)
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|t| t.name == name)
    }

    pub(crate) fn from_answer(answer: &MetadataResponse) -> Cluster {
        let brokers = answer.brokers.iter().map(|b| Broker {
            id: b.node_id,
            host: b.host.to_string(),
            port: b.port,
            rack: b.rack.as_ref().map(ToString::to_string),
        });
        let mut topics: Vec<Topic> = answer.topics.iter().map(topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Cluster {
            id: answer.cluster_id.as_ref().map(ToString::to_string),
            controller: answer.controller_id,
            brokers: brokers.collect(),
            topics,
        }
    }

    /// Takes over what a newer answer says; topics that it does not name stay.
    pub(crate) fn learn(&mut self, newer: &Cluster) {
        self.id.clone_from(&newer.id);
        self.controller = newer.controller;
        self.brokers.clone_from(&newer.brokers);
        self.topics.retain(|t| newer.topic(&t.name).is_none());
        self.topics.extend(newer.topics.iter().cloned());
    }
}

fn topic(row: &MetadataResponseTopic) -> Topic {
    let mut partitions: Vec<Partition> = row.partitions.iter().map(partition).collect();
    partitions.sort_by_key(|p| p.index);
    Topic {
        name: row.name.as_deref().unwrap_or_default().to_owned(),
        id: row.topic_id,
        internal: row.is_internal,
        error_code: row.error_code,
        partitions,
    }
}

fn partition(row: &MetadataResponsePartition) -> Partition {
    Partition {
        index: row.partition_index,
        leader: row.leader_id,
        epoch: row.leader_epoch,
        replicas: row.replica_nodes.clone(),
        in_sync: row.isr_nodes.clone(),
        offline: row.offline_replicas.clone(),
        error_code: row.error_code,
    }
}
