//! Judging CreateTopics.
use crate::command::Command;
use crate::config_defs::topic_defs;
use crate::entries::Entries;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::load::Candidates;
use crate::placement::{check_live, check_manual, check_room, place};
use crate::resolve::ConfigSource;
use crate::topic_config_rules::check_topic_configs;
use crate::topic_name::{
    CLUSTER_METADATA, CONSUMER_OFFSETS, SHARE_GROUP_STATE, TRANSACTION_STATE, is_internal,
    unify_collision_chars, validate_topic_name,
};
use crate::witness::add_witnesses;
use model::{ErrorCode, NodeId, TopicId};
use proto::cluster::{ConfigEntry, CreateTopic, ReplicaSet};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions that one request may create, as in Kafka.
const MAX_PARTITIONS_PER_REQUEST: i64 = 10_000;

/// A topic as a client asks for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// -1: `num.partitions`, or as assigned.
    pub num_partitions: i32,
    /// -1: `default.replication.factor`, or as assigned.
    pub replication_factor: i16,
    /// Partition numbers and their nodes; empty: the cluster chooses.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Configs to set on it.
    pub configs: Vec<(String, Option<String>)>,
}

/// The verdict on one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicOutcome {
    /// The name as asked for.
    pub name: String,
    /// What to propose and to answer, or why not.
    pub result: ItemResult<CreatedTopic>,
}

/// A topic that may be created.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub num_partitions: i32,
    /// Replicas of its first partition.
    pub replication_factor: i16,
    /// All configs as they will hold.
    pub configs: Vec<CreatedConfig>,
    /// What to propose, unless the request only validates.
    pub command: Command,
}

/// A config of a new topic as CreateTopics answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedConfig {
    /// Its name.
    pub name: &'static str,
    /// Its value; `None` for null.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// What has been granted to earlier topics of the same request.
#[derive(Default)]
struct Granted {
    partitions: usize,
    forms: BTreeMap<String, String>,
}

/// Judges each topic of a request; one that fails does not hold up the others. `live` are the nodes that
/// may take replicas, `new_id` draws topic ids.
pub fn create_topics<'a>(
    image: &Image,
    topics: &[NewTopic],
    live: impl Into<Candidates<'a>>,
    new_id: &mut dyn FnMut() -> TopicId,
) -> Vec<TopicOutcome> {
    let live = live.into();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = topics.iter().map(|t| t.name.as_str()).filter(|n| !seen.insert(*n)).collect();
    let too_many = asked_partitions(image, topics) > MAX_PARTITIONS_PER_REQUEST;
    let mut granted = Granted::default();
    let mut answered = BTreeSet::new();
    let mut outcomes = Vec::new();
    for topic in topics {
        if twice.contains(topic.name.as_str()) && !answered.insert(topic.name.as_str()) {
            continue;
        }
        let result = if twice.contains(topic.name.as_str()) {
            Err(ItemError::invalid_request("Duplicate topic name."))
        } else if too_many {
            Err(ItemError::new(
                ErrorCode::PolicyViolation,
                "Excessively large number of partitions per request.",
            ))
        } else {
            create_topic(image, topic, live, &mut granted, new_id)
        };
        outcomes.push(TopicOutcome { name: topic.name.clone(), result });
    }
    outcomes
}

fn asked_partitions(image: &Image, topics: &[NewTopic]) -> i64 {
    let default = image.broker_config().num_partitions;
    let asked = |t: &NewTopic| match t.num_partitions {
        _ if !t.assignments.is_empty() => t.assignments.len() as i64,
        -1 => i64::from(default),
        n => i64::from(n.max(0)),
    };
    topics.iter().map(asked).sum()
}

fn create_topic(
    image: &Image,
    topic: &NewTopic,
    live: Candidates<'_>,
    granted: &mut Granted,
    new_id: &mut dyn FnMut() -> TopicId,
) -> ItemResult<CreatedTopic> {
    check_name(image, &topic.name, granted)?;
    let nulls: Vec<&str> = topic.configs.iter().filter(|c| c.1.is_none()).map(|c| c.0.as_str()).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(ItemError::invalid_config(message));
    }
    let own =
        Entries::from_pairs(topic.configs.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_deref()?))));
    check_topic_configs(image, &Entries::default(), &own)?;
    let partitions = if topic.assignments.is_empty() {
        chosen_by_cluster(image, topic, live, granted.partitions)?
    } else {
        chosen_by_client(image, topic, live.nodes)?
    };
    check_room(image, live.nodes, granted.partitions, partitions.len())?;
    granted.partitions += partitions.len();
    granted.forms.insert(unify_collision_chars(&topic.name), topic.name.clone());
    let id = fresh_id(image, new_id);
    Ok(CreatedTopic {
        id,
        num_partitions: partitions.len() as i32,
        replication_factor: partitions.first().map_or(0, |p| p.nodes.len() as i16),
        configs: effective(image, &topic.name, &own),
        command: Command::CreateTopic(CreateTopic {
            name: topic.name.clone(),
            topic_id: bytes::Bytes::copy_from_slice(&id.0),
            partitions,
            configs: own.to_proto().into_iter().map(|e| ConfigEntry { version: 0, ..e }).collect(),
        }),
    })
}

fn fresh_id(image: &Image, new_id: &mut dyn FnMut() -> TopicId) -> TopicId {
    loop {
        let id = new_id();
        let used = image.topic_by_id(id).is_some() || image.tombstones.contains_key(&id);
        if !id.is_zero() && id != TopicId::METADATA && !used {
            return id;
        }
    }
}

fn check_name(image: &Image, name: &str, granted: &Granted) -> ItemResult<()> {
    if name == CLUSTER_METADATA {
        let message = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
        return Err(ItemError::invalid_request(message));
    }
    if image.topic(name).is_some() {
        return Err(ItemError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    validate_topic_name(name)?;
    let form = unify_collision_chars(name);
    let other = image.colliding(name).map(|n| &**n).or_else(|| granted.forms.get(&form).map(String::as_str));
    match other {
        Some(other) => Err(ItemError::new(
            ErrorCode::InvalidTopicException,
            format!("Topic '{name}' collides with existing topic: {other}"),
        )),
        None => Ok(()),
    }
}

fn chosen_by_cluster(
    image: &Image,
    topic: &NewTopic,
    live: Candidates<'_>,
    granted: usize,
) -> ItemResult<Vec<ReplicaSet>> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(ItemError::new(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        return Err(ItemError::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ));
    }
    let config = image.broker_config();
    let count = if topic.num_partitions == -1 { config.num_partitions } else { topic.num_partitions };
    let factor = match topic.replication_factor {
        -1 => config.default_replication_factor,
        n => i32::from(n),
    };
    place(image, live, image.partition_count() + granted, usize::try_from(count).unwrap_or(0), factor)
}

fn chosen_by_client(image: &Image, topic: &NewTopic, live: &[NodeId]) -> ItemResult<Vec<ReplicaSet>> {
    for (given, what) in
        [(i32::from(topic.replication_factor), "replication factor"), (topic.num_partitions, "numPartitions")]
    {
        if given != -1 {
            let message =
                format!("A manual partition assignment was specified, but {what} was not set to -1.");
            return Err(ItemError::invalid_request(message));
        }
    }
    let invalid = |what: String| ItemError::new(ErrorCode::InvalidReplicaAssignment, what);
    let mut factor = None;
    let mut by_number = BTreeMap::new();
    for (number, nodes) in &topic.assignments {
        if by_number.contains_key(number) {
            let message = format!("Found multiple manual partition assignments for partition {number}");
            return Err(invalid(message));
        }
        check_manual(image, nodes, factor)?;
        factor = Some(nodes.len());
        check_live(nodes, live, *number)?;
        by_number.insert(*number, ReplicaSet { nodes: nodes.clone(), witness: None });
    }
    if !by_number.keys().copied().eq(0..by_number.len() as i32) {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence".into()));
    }
    let mut sets: Vec<ReplicaSet> = by_number.into_values().collect();
    add_witnesses(image, live, image.partition_count(), &mut sets);
    Ok(sets)
}

fn effective(image: &Image, name: &str, own: &Entries) -> Vec<CreatedConfig> {
    let internal = is_internal(name);
    let visible = topic_defs().iter().filter(|d| !d.internal || own.get(d.name).is_some());
    visible
        .map(|def| {
            let described = crate::describe_configs::topic_config(image, internal, own, def, false, false);
            // What the client set is told as it was sent, not as it was understood.
            let value = own.get(def.name).map(str::to_owned).or(described.value);
            CreatedConfig { name: def.name, value, source: described.source }
        })
        .collect()
}

/// Judges a topic that nobody asked to create by name and number: one that a client's Metadata request
/// names, or an internal one that a coordinator needs. Replicas of internal topics are as many as are
/// configured, or as many as there are live nodes.
pub fn auto_create<'a>(
    image: &Image,
    name: &str,
    live: impl Into<Candidates<'a>>,
    new_id: &mut dyn FnMut() -> TopicId,
) -> ItemResult<CreatedTopic> {
    let live = live.into();
    let topic = internal_topic(image, name, live.nodes.len()).unwrap_or_else(|| NewTopic {
        name: name.to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    });
    create_topic(image, &topic, live, &mut Granted::default(), new_id)
}

/// How many replicas an internal topic is to have where there are nodes enough; `None` for a topic of clients.
pub(crate) fn internal_factor(image: &Image, name: &str) -> Option<usize> {
    let prefix = match name {
        CONSUMER_OFFSETS => "offsets.topic",
        TRANSACTION_STATE => "transaction.state.log",
        SHARE_GROUP_STATE => "share.coordinator.state.topic",
        _ => return None,
    };
    let value = image.broker_value(&format!("{prefix}.replication.factor"))?;
    value.parse::<usize>().ok()
}

fn internal_topic(image: &Image, name: &str, live: usize) -> Option<NewTopic> {
    let (prefix, partitions, codec) = match name {
        CONSUMER_OFFSETS => ("offsets.topic", "num.partitions", "producer"),
        TRANSACTION_STATE => ("transaction.state.log", "num.partitions", "uncompressed"),
        SHARE_GROUP_STATE => ("share.coordinator.state.topic", "num.partitions", "producer"),
        _ => return None,
    };
    let value = |key: &str| image.broker_value(&format!("{prefix}.{key}"));
    let number = |key: &str| value(key).and_then(|v| v.parse::<i32>().ok());
    let factor = number("replication.factor").unwrap_or(1).min(live as i32).max(1);
    let mut configs = vec![
        ("cleanup.policy".to_owned(), Some("compact".to_owned())),
        ("compression.type".to_owned(), Some(codec.to_owned())),
    ];
    // Kafka allows its internal topics segments below the public minimum of segment.bytes.
    if let Some(bytes) = number("segment.bytes") {
        let key = if bytes < 1_048_576 { "internal.segment.bytes" } else { "segment.bytes" };
        configs.push((key.to_owned(), Some(bytes.to_string())));
    }
    if let Some(isr) = value("min.isr") {
        configs.push(("min.insync.replicas".to_owned(), Some(isr)));
    }
    Some(NewTopic {
        name: name.to_owned(),
        num_partitions: number(partitions).unwrap_or(50),
        replication_factor: factor as i16,
        assignments: Vec::new(),
        configs,
    })
}
