//! Judging CreatePartitions.
use crate::command::Command;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use crate::load::Candidates;
use crate::placement::{check_live, check_manual, check_room, place};
use crate::witness::add_witnesses;
use model::{ErrorCode, NodeId};
use proto::cluster::{CreatePartitions, ReplicaSet};
use std::collections::BTreeMap;

/// Partitions that one request may add, as in Kafka.
const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// More partitions for a topic, as a client asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// Its name.
    pub name: String,
    /// How many partitions it is to have.
    pub count: i32,
    /// Nodes of each new partition; `None`: the cluster chooses.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// Judges each topic of a request: its name with what to propose, or why not.
pub fn create_partitions<'a>(
    image: &Image,
    topics: &[NewPartitions],
    live: impl Into<Candidates<'a>>,
) -> Vec<(String, ItemResult<Command>)> {
    let live = live.into();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in topics {
        *count.entry(&topic.name).or_default() += 1;
    }
    let too_many = asked_partitions(image, topics) > MAX_PARTITIONS_PER_REQUEST;
    let mut granted = 0;
    let mut outcomes = Vec::new();
    for topic in topics {
        let result = match count.remove(topic.name.as_str()) {
            Some(_) if too_many => Err(ItemError::new(
                ErrorCode::PolicyViolation,
                "Unable to perform excessively large batch operation.",
            )),
            Some(1) => grow(image, topic, live, &mut granted),
            Some(_) => Err(ItemError::invalid_request("Duplicate topic name.")),
            None => continue,
        };
        outcomes.push((topic.name.clone(), result));
    }
    outcomes
}

/// Partitions that the request would add to topics that are there.
fn asked_partitions(image: &Image, topics: &[NewPartitions]) -> usize {
    let more = |t: &NewPartitions| {
        let have = image.topic(&t.name)?.partitions.len();
        Some(usize::try_from(t.count).unwrap_or(0).saturating_sub(have))
    };
    topics.iter().filter_map(more).fold(0, usize::saturating_add)
}

fn grow(
    image: &Image,
    request: &NewPartitions,
    live: Candidates<'_>,
    granted: &mut usize,
) -> ItemResult<Command> {
    let Some(topic) = image.topic(&request.name) else {
        return Err(ItemError::bare(ErrorCode::UnknownTopicOrPartition));
    };
    let have = topic.partitions.len();
    let wanted = usize::try_from(request.count).unwrap_or(0);
    let invalid = |message: String| Err(ItemError::new(ErrorCode::InvalidPartitions, message));
    if wanted == have {
        return invalid(format!("Topic already has {have} partition(s)."));
    }
    if wanted < have {
        return invalid(format!(
            "The topic {} currently has {have} partition(s); {} would not be an increase.",
            request.name, request.count
        ));
    }
    let more = wanted - have;
    check_room(image, live.nodes, *granted, more)?;
    let factor = topic.replication_factor();
    let partitions = match &request.assignments {
        Some(sets) if sets.len() != more => {
            return Err(ItemError::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
                    sets.len()
                ),
            ));
        }
        Some(sets) => {
            for (i, nodes) in sets.iter().enumerate() {
                check_manual(image, nodes, Some(factor))?;
                check_live(nodes, live.nodes, (have + i) as i32)?;
            }
            let set = |nodes: &Vec<NodeId>| ReplicaSet { nodes: nodes.clone(), witness: None };
            let mut sets: Vec<_> = sets.iter().map(set).collect();
            add_witnesses(image, live.nodes, have, &mut sets);
            sets
        }
        None => {
            let start = topic.partitions[0].replicas.first().map_or(0, |r| r.node.unsigned_abs() as usize);
            place(image, live, start + have, more, factor as i32)?
        }
    };
    *granted += more;
    let topic_id = bytes::Bytes::copy_from_slice(&topic.id.0);
    Ok(Command::CreatePartitions(CreatePartitions { topic_id, first: have as i32, partitions }))
}
