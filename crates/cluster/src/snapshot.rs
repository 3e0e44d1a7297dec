//! The whole state as one prost message, in a fixed order.
use crate::bootstrap::endpoint;
use crate::command::{ResourceKind, VERSION};
use crate::entries::Entries;
use crate::error::ApplyError;
use crate::image::{Image, Moved, Node, Partition, Replica, ReplicaKind, Topic};
use crate::metadata::{node_from, topic_id};
use crate::recover::Recovery;
use crate::topic_name::is_internal;
use bytes::Bytes;
use model::NodeId;
use prost::Message;
use proto::cluster as pb;
use proto::storage as st;
use std::collections::BTreeMap;
use std::sync::Arc;

fn node_to(node: &Node) -> pb::RegisterNode {
    pb::RegisterNode {
        node_id: node.id,
        incarnation: node.incarnation,
        endpoints: node.endpoints.iter().map(endpoint).collect(),
        rack: node.rack.clone().unwrap_or_default(),
        directories: node.directories.iter().map(|d| Bytes::copy_from_slice(d)).collect(),
        peer: node.peer.as_ref().map(endpoint),
        features: node
            .features
            .iter()
            .map(|(name, lowest, highest)| pb::FeatureRange {
                name: name.clone(),
                lowest: i32::from(*lowest),
                highest: i32::from(*highest),
            })
            .collect(),
    }
}

pub(crate) fn replica_to(replica: &Replica) -> st::Replica {
    let kind = match replica.kind {
        ReplicaKind::Voter => st::ReplicaKind::Voter,
        ReplicaKind::Learner => st::ReplicaKind::Learner,
        ReplicaKind::Witness => st::ReplicaKind::Witness,
    };
    st::Replica { id: replica.id, node_id: replica.node, kind: kind.into(), witness: false }
}

pub(crate) fn replica_from(replica: &st::Replica) -> Result<Replica, ApplyError> {
    let kind = match st::ReplicaKind::try_from(replica.kind) {
        Ok(st::ReplicaKind::Voter) => ReplicaKind::Voter,
        Ok(st::ReplicaKind::Learner) => ReplicaKind::Learner,
        Ok(st::ReplicaKind::Witness) => ReplicaKind::Witness,
        Ok(st::ReplicaKind::Joining | st::ReplicaKind::Leaving) => {
            return Err(bad(format!("replica {}: a kind of a group's members alone", replica.id)));
        }
        Err(e) => return Err(bad(format!("replica {}: {e}", replica.id))),
    };
    Ok(Replica { id: replica.id, node: replica.node_id, kind })
}

fn recovery_to(r: &Recovery) -> pb::Recovery {
    pb::Recovery {
        index: r.index,
        replica: r.replica,
        was: r.was,
        epoch: r.epoch,
        last_index: r.last.0,
        last_term: r.last.1,
        from_offset: r.offsets.0,
        end_offset: r.offsets.1,
        principal: r.principal.clone(),
        given_up: r.given_up.iter().map(replica_to).collect(),
        done: r.done,
    }
}

fn recovery_from(r: &pb::Recovery) -> Result<Recovery, ApplyError> {
    Ok(Recovery {
        index: r.index,
        replica: r.replica,
        was: r.was,
        epoch: r.epoch,
        last: (r.last_index, r.last_term),
        offsets: (r.from_offset, r.end_offset),
        principal: r.principal.clone(),
        given_up: r.given_up.iter().map(replica_from).collect::<Result<_, _>>()?,
        done: r.done,
    })
}

fn partition_from(p: &pb::Partition) -> Result<Partition, ApplyError> {
    let rows = |rows: &[st::Replica]| rows.iter().map(replica_from).collect::<Result<Vec<_>, ApplyError>>();
    let moved = Moved {
        founders: rows(&p.founders)?,
        adding: p.adding.clone(),
        removing: p.removing.clone(),
        dropped: rows(&p.dropped)?,
        lost: rows(&p.lost)?,
        agreed: (p.agreed_index, p.agreed_term),
        raised: p.raised,
        generation: p.generation,
        recovery: p.recovery.as_ref().map(recovery_from).transpose()?.map(Arc::new),
    };
    let moved = (!moved.founders.is_empty()).then(|| Arc::new(moved));
    let witness = p.witness.as_ref().map(replica_from).transpose()?;
    Ok(Partition { replicas: rows(&p.replicas)?.into(), witness, moved })
}

fn topic_to(topic: &Topic) -> pb::Topic {
    let rows = |rows: &[Replica]| rows.iter().map(replica_to).collect();
    let partition = |p: &Partition| {
        let moved = p.moved.as_deref();
        pb::Partition {
            replicas: rows(&p.replicas),
            witness: p.witness.as_ref().map(replica_to),
            founders: moved.map_or_else(Vec::new, |m| rows(&m.founders)),
            adding: moved.map_or_else(Vec::new, |m| m.adding.clone()),
            removing: moved.map_or_else(Vec::new, |m| m.removing.clone()),
            dropped: moved.map_or_else(Vec::new, |m| rows(&m.dropped)),
            lost: moved.map_or_else(Vec::new, |m| rows(&m.lost)),
            agreed_index: moved.map_or(0, |m| m.agreed.0),
            agreed_term: moved.map_or(0, |m| m.agreed.1),
            raised: moved.is_some_and(|m| m.raised),
            generation: moved.map_or(0, |m| m.generation),
            recovery: moved.and_then(|m| m.recovery.as_deref()).map(recovery_to),
        }
    };
    pb::Topic {
        name: topic.name.to_string(),
        topic_id: Bytes::copy_from_slice(&topic.id.0),
        partitions: topic.partitions.iter().map(partition).collect(),
        configs: topic.configs.to_proto(),
    }
}

fn bad(what: impl Into<String>) -> ApplyError {
    ApplyError::Snapshot { what: what.into() }
}

pub(crate) fn encode(image: &Image) -> Bytes {
    let resource = |((kind, name), entries): (&(ResourceKind, Arc<str>), &Entries)| {
        let kind = kind.to_proto().unwrap_or(pb::ResourceKind::ResourceUnknown);
        pb::Resource { resource: kind.into(), name: name.to_string(), entries: entries.to_proto() }
    };
    let feature =
        |(name, level): (&String, &i16)| pb::UpdateFeature { name: name.clone(), level: i32::from(*level) };
    let message = pb::Snapshot {
        version: VERSION,
        index: image.version,
        cluster_id: image.cluster_id.to_string(),
        nodes: image.nodes.values().map(|n| node_to(n)).collect(),
        topics: image.topics().map(|t| topic_to(t)).collect(),
        resources: image.resources.iter().map(resource).collect(),
        next_producer_id: image.next_producer_id,
        next_replica_id: image.next_replica_id,
        features: image.features.iter().map(feature).collect(),
        features_version: image.features_version,
        tombstones: image
            .tombstones
            .iter()
            .map(|(id, nodes)| pb::Tombstone {
                topic_id: Bytes::copy_from_slice(&id.0),
                nodes: nodes.clone(),
            })
            .collect(),
        founders: image.founders.iter().map(replica_to).collect(),
        quorum: image.quorum.values().map(replica_to).collect(),
    };
    Bytes::from(message.encode_to_vec())
}

pub(crate) fn decode(
    node_id: NodeId,
    fixed: Arc<BTreeMap<String, String>>,
    bytes: Bytes,
) -> Result<Image, ApplyError> {
    let message = pb::Snapshot::decode(bytes).map_err(|e| bad(e.to_string()))?;
    if message.version == 0 || message.version > VERSION {
        return Err(bad(format!("format version {}, this build knows {VERSION}", message.version)));
    }
    let index = message.index;
    let mut image = Image::empty(node_id, fixed);
    image.cluster_id = message.cluster_id.into();
    image.next_producer_id = message.next_producer_id;
    image.next_replica_id = message.next_replica_id;
    image.features_version = message.features_version;
    image.founders = message.founders.iter().map(replica_from).collect::<Result<_, _>>()?;
    let member = |r: &st::Replica| Ok((r.node_id, replica_from(r)?));
    image.quorum = Arc::new(message.quorum.iter().map(member).collect::<Result<_, ApplyError>>()?);
    let nodes = message.nodes.iter().map(|n| Ok((n.node_id, Arc::new(node_from(index, n)?))));
    image.nodes = Arc::new(nodes.collect::<Result<_, ApplyError>>()?);
    let level = |f: pb::UpdateFeature| Ok((f.name, i16::try_from(f.level).map_err(|e| bad(e.to_string()))?));
    image.features = Arc::new(message.features.into_iter().map(level).collect::<Result<_, ApplyError>>()?);
    let tombstone = |t: pb::Tombstone| Ok((topic_id(index, &t.topic_id)?, t.nodes));
    image.tombstones =
        Arc::new(message.tombstones.into_iter().map(tombstone).collect::<Result<_, ApplyError>>()?);
    let mut resources = BTreeMap::new();
    for r in message.resources {
        let kind = ResourceKind::from_proto(r.resource).ok_or_else(|| bad("configs of an unknown kind"))?;
        resources.insert((kind, Arc::from(r.name)), Entries::from_proto(r.entries));
    }
    image.resources = Arc::new(resources);
    image.resolve_broker();
    for topic in message.topics {
        let topic = Topic {
            id: topic_id(index, &topic.topic_id)?,
            partitions: topic.partitions.iter().map(partition_from).collect::<Result<_, ApplyError>>()?,
            configs: Entries::from_proto(topic.configs),
            internal: is_internal(&topic.name),
            name: topic.name.into(),
            resolved: None,
        };
        image.put_topic(topic);
    }
    image.version = index;
    Ok(image)
}
