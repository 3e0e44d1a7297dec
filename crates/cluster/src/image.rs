//! The metadata at one moment: immutable, cheap to copy, shared with every reader.
use crate::broker_config::BrokerConfig;
use crate::collision::Collisions;
use crate::command::ResourceKind;
use crate::config_defs::broker_def;
use crate::cow_map::CowMap;
use crate::entries::Entries;
use crate::recover::Recovery;
use crate::resolve::BrokerLayers;
use crate::topic_config::TopicConfig;
use model::{GroupKey, NodeId, PartitionIndex, ProducerId, TopicId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the listener.
    pub listener: String,
    /// Host as clients are told.
    pub host: String,
    /// Port as clients are told.
    pub port: u16,
    /// Security protocol, `PLAINTEXT` for example.
    pub protocol: String,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its `node.id`.
    pub id: NodeId,
    /// Rises with each start.
    pub incarnation: u64,
    /// One for each listener.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Ids of its data directories.
    pub directories: Vec<[u8; 16]>,
    /// Where other nodes connect; `None` where they cannot.
    pub peer: Option<Endpoint>,
    /// Features that its program supports: name, lowest and highest level.
    pub features: Vec<(String, i16, i16)>,
}

/// What a replica does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaKind {
    /// Votes and serves.
    Voter,
    /// Catches up.
    Learner,
    /// Votes, holds no data.
    Witness,
}

/// A wanted replica. The group's own membership says what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Never reused.
    pub id: u64,
    /// Where it is to be.
    pub node: NodeId,
    /// What it is to do.
    pub kind: ReplicaKind,
}

/// A partition's replicas; the first is preferred as leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Those that are wanted, in order of preference, and after them those that are to go, as Kafka lists them.
    pub replicas: Arc<[Replica]>,
    /// The wanted witness, of which clients are not told.
    pub witness: Option<Replica>,
    /// What became of the first replicas; `None` where they are the present ones.
    pub(crate) moved: Option<Arc<Moved>>,
}

/// A partition whose replicas were others once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The first replicas.
    pub(crate) founders: Vec<Replica>,
    /// Ids of those that are not in the group yet, as far as the metadata knows.
    pub(crate) adding: Vec<u64>,
    /// Ids of those that are wanted no more, of those that clients are told of.
    pub(crate) removing: Vec<u64>,
    /// Replicas that are wanted no more and never counted for clients.
    pub(crate) dropped: Vec<Replica>,
    /// Replicas whose files are lost and that may be members still.
    pub(crate) lost: Vec<Replica>,
    /// Index and term of an entry that the members of the last report had committed.
    pub(crate) agreed: (u64, u64),
    /// Whether no client chose the replicas: they may be raised again.
    pub(crate) raised: bool,
    /// Index of the metadata entry that changed what is wanted last.
    pub(crate) generation: u64,
    /// The last loss that an operator has accepted.
    pub(crate) recovery: Option<Arc<Recovery>>,
}

/// A topic. Partition `i` is `partitions[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, never reused.
    pub id: TopicId,
    /// By number.
    pub partitions: Vec<Partition>,
    /// What was set on the topic itself.
    pub configs: Entries,
    /// Whether clients may not produce to it.
    pub internal: bool,
    /// Its resolved configs where they differ from those of all topics.
    pub(crate) resolved: Option<Arc<TopicConfig>>,
}

impl Topic {
    /// The partition of this number.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        usize::try_from(index).ok().and_then(|i| self.partitions.get(i))
    }

    /// Replicas of the first partition: what Kafka calls the topic's replication factor.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |p| p.copies().count())
    }
}

/// The whole metadata. Cloning shares all of it; readers hold it as `Arc<Image>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The node on which this image is read.
    pub node_id: NodeId,
    /// Index of the last entry that it holds: the metadata version.
    pub version: u64,
    /// The cluster's id; empty before the first node has registered.
    pub cluster_id: Arc<str>,
    /// Registered nodes.
    pub nodes: Arc<BTreeMap<NodeId, Arc<Node>>>,
    /// Finalized features and their levels.
    pub features: Arc<BTreeMap<String, i16>>,
    /// Version of the last change of a feature.
    pub features_version: u64,
    /// Deleted topics and the nodes that have not confirmed.
    pub tombstones: Arc<BTreeMap<TopicId, Vec<NodeId>>>,
    /// The first members of the metadata group: a replica of it that begins with an empty log begins with them.
    pub founders: Arc<[Replica]>,
    /// The wanted members of the metadata group; the group's own membership says what is. Every registered node
    /// is one; those that do not vote follow.
    pub quorum: Arc<BTreeMap<NodeId, Replica>>,
    /// First producer id that nobody owns.
    pub next_producer_id: ProducerId,
    pub(crate) next_replica_id: u64,
    pub(crate) by_name: CowMap<Arc<str>, Arc<Topic>>,
    pub(crate) by_id: CowMap<TopicId, Arc<Topic>>,
    pub(crate) collisions: Collisions,
    pub(crate) partitions: usize,
    pub(crate) resources: Arc<BTreeMap<(ResourceKind, Arc<str>), Entries>>,
    pub(crate) layers: BrokerLayers,
    pub(crate) broker: Arc<BrokerConfig>,
    pub(crate) user_topics: Arc<TopicConfig>,
    pub(crate) internal_topics: Arc<TopicConfig>,
}

impl Image {
    /// The image before the first entry, on a node with these static configs.
    pub fn empty(node_id: NodeId, fixed: Arc<BTreeMap<String, String>>) -> Image {
        let mut image = Image {
            node_id,
            version: 0,
            cluster_id: "".into(),
            nodes: Arc::default(),
            features: Arc::default(),
            features_version: 0,
            tombstones: Arc::default(),
            founders: Arc::from([]),
            quorum: Arc::default(),
            next_producer_id: 0,
            next_replica_id: 1,
            by_name: CowMap::default(),
            by_id: CowMap::default(),
            collisions: Collisions::default(),
            partitions: 0,
            resources: Arc::default(),
            layers: BrokerLayers { fixed, ..BrokerLayers::default() },
            broker: Arc::new(BrokerConfig::default()),
            user_topics: Arc::new(TopicConfig::default()),
            internal_topics: Arc::new(TopicConfig::default()),
        };
        image.resolve_broker();
        image
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// The partition of a group; `None` for the metadata's own group.
    pub fn partition(&self, key: GroupKey) -> Option<&Partition> {
        self.topic_by_id(key.topic)?.partition(key.partition)
    }

    /// All topics in order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.iter().map(|(_, t)| t)
    }

    /// Topics with names at or above `name`, in order.
    pub fn topics_from<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Topic>> {
        self.by_name.range_from(name).map(|(_, t)| t)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.by_name.len()
    }

    /// How many partitions there are.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// An existing topic whose name differs only in '.' and '_'.
    pub fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.collisions.find(name)
    }

    /// The resolved configs of a topic of this image.
    pub fn topic_config<'a>(&'a self, topic: &'a Topic) -> &'a Arc<TopicConfig> {
        match &topic.resolved {
            Some(resolved) => resolved,
            None if topic.internal => &self.internal_topics,
            None => &self.user_topics,
        }
    }

    /// The resolved configs of this node.
    pub fn broker_config(&self) -> &Arc<BrokerConfig> {
        &self.broker
    }

    /// The text of any broker config as it holds on this node; `None` where it is null or unknown.
    pub fn broker_value(&self, name: &str) -> Option<String> {
        self.layers.broker_value(broker_def(name)?).map(|v| v.to_text())
    }

    /// What was set on a resource other than a topic.
    pub fn resource(&self, kind: ResourceKind, name: &str) -> Option<&Entries> {
        self.resources.get(&(kind, Arc::from(name)))
    }

    /// What was set on each resource of a kind, in order of names.
    pub(crate) fn resources_of(&self, kind: ResourceKind) -> impl Iterator<Item = (&str, &Entries)> {
        let all = self.resources.range((kind, Arc::from(""))..);
        all.take_while(move |((of, _), _)| *of == kind).map(|((_, name), entries)| (&**name, entries))
    }

    /// `min.insync.replicas` of a partition: what is configured, but at most its replicas (KIP-966).
    pub fn min_insync_replicas(&self, topic: &Topic) -> i32 {
        let wanted = self.topic_config(topic).min_insync_replicas;
        wanted.min(topic.replication_factor() as i32).max(1)
    }

    /// Puts a topic, new or changed, into both maps.
    pub(crate) fn put_topic(&mut self, mut topic: Topic) -> Arc<Topic> {
        topic.resolved = (!topic.configs.is_empty())
            .then(|| Arc::new(TopicConfig::resolve(&topic.configs, &self.layers, topic.internal)));
        self.partitions += topic.partitions.len();
        let topic = Arc::new(topic);
        match self.by_name.insert(topic.name.clone(), topic.clone()) {
            Some(old) => self.partitions -= old.partitions.len(),
            None => self.collisions.add(&topic.name),
        }
        self.by_id.insert(topic.id, topic.clone());
        topic
    }

    pub(crate) fn take_topic(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&*topic.name);
        self.collisions.remove(&topic.name);
        self.partitions -= topic.partitions.len();
        Some(topic)
    }

    /// Takes over the broker layers from `resources` and resolves all that depends on them.
    pub(crate) fn resolve_broker(&mut self) {
        let id = self.node_id.to_string();
        self.layers.node = self.resource(ResourceKind::Broker, &id).cloned().unwrap_or_default();
        self.layers.cluster = self.resource(ResourceKind::Broker, "").cloned().unwrap_or_default();
        self.broker = Arc::new(BrokerConfig::resolve(&self.layers));
        let none = Entries::default();
        self.user_topics = Arc::new(TopicConfig::resolve(&none, &self.layers, false));
        self.internal_topics = Arc::new(TopicConfig::resolve(&none, &self.layers, true));
        let own: Vec<Arc<Topic>> = self.topics().filter(|t| t.resolved.is_some()).cloned().collect();
        for topic in own {
            self.put_topic(Topic::clone(&topic));
        }
    }

    /// Whether configs of `name` under `kind` reach this node's broker layers.
    pub(crate) fn is_own_broker(&self, kind: ResourceKind, name: &str) -> bool {
        kind == ResourceKind::Broker && (name.is_empty() || name == self.node_id.to_string())
    }
}
