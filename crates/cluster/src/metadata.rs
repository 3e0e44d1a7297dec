//! The state machine on the metadata log: commands in, changes and images out.
use crate::change::Change;
use crate::command::{Command, ResourceKind};
use crate::error::ApplyError;
use crate::image::{Endpoint, Image, Node, Partition, Replica, ReplicaKind, Topic};
use crate::quorum;
use crate::snapshot;
use crate::topic_name::is_internal;
use bytes::Bytes;
use model::{NodeId, TopicId};
use proto::cluster as pb;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Committed metadata, and on its leader also what is staged but not committed.
///
/// A leader judges each request against [`Metadata::pending`], stages what it proposes with
/// [`Metadata::stage`], and answers when the entry was applied. Losing leadership drops what is staged.
#[derive(Debug)]
pub struct Metadata {
    committed: Arc<Image>,
    pending: Option<Arc<Image>>,
    /// Entries staged and not yet applied.
    staged: usize,
}

/// What was staged before a command was.
#[derive(Debug)]
pub struct Unstaged {
    pending: Option<Arc<Image>>,
    staged: usize,
}

impl Metadata {
    /// The state before the first entry, on a node with these static configs.
    pub fn new(node_id: NodeId, fixed: BTreeMap<String, String>) -> Metadata {
        Metadata { committed: Arc::new(Image::empty(node_id, Arc::new(fixed))), pending: None, staged: 0 }
    }

    /// The committed metadata.
    pub fn image(&self) -> Arc<Image> {
        self.committed.clone()
    }

    /// The metadata with what is staged: what a leader decides on.
    pub fn pending(&self) -> Arc<Image> {
        self.pending.clone().unwrap_or_else(|| self.committed.clone())
    }

    /// Index applied last.
    pub fn applied(&self) -> u64 {
        self.committed.version
    }

    /// Applies the committed entry at `index`. On an error nothing changed and the replica must stop. A
    /// command that lost a race (a name that exists by now, a topic that is gone) changes nothing: who waits
    /// for it finds no change with its topic id.
    pub fn apply(&mut self, index: u64, command: &Command) -> Result<Vec<Change>, ApplyError> {
        let (image, changes) = step(&self.committed, index, command)?;
        self.committed = Arc::new(image);
        self.staged = self.staged.saturating_sub(1);
        if self.staged == 0 {
            self.pending = None;
        }
        Ok(changes)
    }

    /// Notes a committed entry that is no command (a leader's no-op, a membership change).
    pub fn skip_to(&mut self, index: u64) {
        if index > self.committed.version {
            Arc::make_mut(&mut self.committed).version = index;
        }
    }

    /// Lays a proposed command over the pending state. A leader stages every command that it proposes, in
    /// their order; each is applied later, or all are dropped with the leadership. What it gives back undoes it, for a
    /// command that the log did not take.
    pub fn stage(&mut self, command: &Command) -> Result<Unstaged, ApplyError> {
        let base = self.pending();
        let (image, _) = step(&base, base.version + 1, command)?;
        let before = Unstaged { pending: self.pending.replace(Arc::new(image)), staged: self.staged };
        self.staged += 1;
        Ok(before)
    }

    /// What was staged last is in no log. What was staged before it is, and counts.
    pub fn unstage(&mut self, before: Unstaged) {
        (self.pending, self.staged) = (before.pending, before.staged);
    }

    /// Whether anything is staged: what the pending state says may yet come to nothing.
    pub fn has_staged(&self) -> bool {
        self.staged > 0
    }

    /// Forgets what is staged: leadership is lost.
    pub fn drop_pending(&mut self) {
        self.pending = None;
        self.staged = 0;
    }

    /// The committed state as bytes; the same state gives the same bytes.
    pub fn snapshot(&self) -> Bytes {
        snapshot::encode(&self.committed)
    }

    /// Replaces the state with a snapshot's. On an error nothing changed.
    pub fn restore(&mut self, bytes: Bytes) -> Result<(), ApplyError> {
        let fixed = self.committed.layers.fixed.clone();
        self.committed = Arc::new(snapshot::decode(self.committed.node_id, fixed, bytes)?);
        self.drop_pending();
        Ok(())
    }
}

fn step(image: &Image, index: u64, command: &Command) -> Result<(Image, Vec<Change>), ApplyError> {
    if index <= image.version {
        return Err(ApplyError::OutOfOrder { index, applied: image.version });
    }
    let mut next = image.clone();
    let changes = match command {
        Command::SetClusterId(c) => quorum::set_cluster_id(&mut next, index, c)?,
        Command::RegisterNode(c) => register_node(&mut next, index, c)?,
        Command::SetVoter(c) => quorum::set_voter(&mut next, c),
        Command::CreateTopic(c) => create_topic(&mut next, index, c)?,
        Command::DeleteTopic(c) => delete_topic(&mut next, topic_id(index, &c.topic_id)?),
        Command::CreatePartitions(c) => create_partitions(&mut next, index, c)?,
        Command::SetConfigs(c) => set_configs(&mut next, index, c)?,
        Command::AllocateProducerIds(c) => allocate_producer_ids(&mut next, index, c)?,
        Command::UpdateFeature(c) => update_feature(&mut next, index, c)?,
        Command::Reassign(c) => crate::reassign::apply(&mut next, index, c)?,
        Command::Reassigned(c) => crate::reassign::complete(&mut next, index, c)?,
        Command::SetWitness(c) => crate::witness::apply(&mut next, index, c)?,
        Command::Recover(c) => crate::recover::apply(&mut next, index, c)?,
        Command::UnregisterNode(c) => crate::nodes::unregister(&mut next, index, c),
        Command::ConfirmDeletion(c) => confirm_deletion(&mut next, topic_id(index, &c.topic_id)?, c.node_id),
    };
    next.version = index;
    Ok((next, changes))
}

pub(crate) fn topic_id(index: u64, bytes: &[u8]) -> Result<TopicId, ApplyError> {
    let malformed = ApplyError::Malformed { index, what: "a topic id has 16 bytes and is not zero" };
    let id = TopicId(bytes.try_into().map_err(|_| malformed.clone())?);
    if id.is_zero() { Err(malformed) } else { Ok(id) }
}

pub(crate) fn node_from(index: u64, command: &pb::RegisterNode) -> Result<Node, ApplyError> {
    let malformed = |what| ApplyError::Malformed { index, what };
    let endpoint = |e: &pb::Endpoint| {
        let port = u16::try_from(e.port).map_err(|_| malformed("a port has 16 bits"))?;
        let (listener, host, protocol) = (e.listener.clone(), e.host.clone(), e.protocol.clone());
        Ok(Endpoint { listener, host, port, protocol })
    };
    let level = |level: i32| i16::try_from(level).map_err(|_| malformed("a feature level has 16 bits"));
    let range = |f: &pb::FeatureRange| Ok((f.name.clone(), level(f.lowest)?, level(f.highest)?));
    let directories = command
        .directories
        .iter()
        .map(|d| <[u8; 16]>::try_from(&d[..]).map_err(|_| malformed("a directory id has 16 bytes")));
    Ok(Node {
        id: command.node_id,
        incarnation: command.incarnation,
        endpoints: command.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
        rack: (!command.rack.is_empty()).then(|| command.rack.clone()),
        directories: directories.collect::<Result<_, _>>()?,
        peer: command.peer.as_ref().map(endpoint).transpose()?,
        features: command.features.iter().map(range).collect::<Result<_, _>>()?,
    })
}

fn register_node(
    image: &mut Image,
    index: u64,
    command: &pb::RegisterNode,
) -> Result<Vec<Change>, ApplyError> {
    let node = node_from(index, command)?;
    let id = node.id;
    Arc::make_mut(&mut image.nodes).insert(id, Arc::new(node));
    let follows = quorum::follow(image, id);
    Ok(follows.into_iter().chain([Change::NodeRegistered(id)]).collect())
}

fn new_partitions(image: &mut Image, sets: &[pb::ReplicaSet]) -> Vec<Partition> {
    let mut replica = |node: NodeId, kind: ReplicaKind| {
        let id = image.next_replica_id;
        image.next_replica_id += 1;
        Replica { id, node, kind }
    };
    let mut partition = |set: &pb::ReplicaSet| {
        let replicas = set.nodes.iter().map(|node| replica(*node, ReplicaKind::Voter)).collect();
        let witness = set.witness.filter(|node| !set.nodes.contains(node));
        Partition::founded(replicas, witness.map(|node| replica(node, ReplicaKind::Witness)))
    };
    sets.iter().map(&mut partition).collect()
}

fn create_topic(image: &mut Image, index: u64, command: &pb::CreateTopic) -> Result<Vec<Change>, ApplyError> {
    let id = topic_id(index, &command.topic_id)?;
    if command.partitions.iter().any(|p| p.nodes.is_empty()) || command.partitions.is_empty() {
        return Err(ApplyError::Malformed { index, what: "a topic has partitions, each with a replica" });
    }
    // Two requests for one name may both be in the log when the leader changed between them: the first wins.
    if image.topic(&command.name).is_some() || image.topic_by_id(id).is_some() {
        return Ok(Vec::new());
    }
    let topic = Topic {
        name: command.name.as_str().into(),
        id,
        partitions: new_partitions(image, &command.partitions),
        configs: crate::Entries::default().apply(&command.configs, index),
        internal: is_internal(&command.name),
        resolved: None,
    };
    Ok(vec![Change::TopicCreated(image.put_topic(topic))])
}

fn delete_topic(image: &mut Image, id: TopicId) -> Vec<Change> {
    let Some(topic) = image.take_topic(id) else { return Vec::new() };
    let mut holders: Vec<NodeId> =
        topic.partitions.iter().flat_map(|p| p.holders().map(|r| r.node)).collect();
    holders.sort_unstable();
    holders.dedup();
    Arc::make_mut(&mut image.tombstones).insert(id, holders);
    vec![Change::TopicDeleted(topic)]
}

fn confirm_deletion(image: &mut Image, id: TopicId, node: NodeId) -> Vec<Change> {
    let tombstones = Arc::make_mut(&mut image.tombstones);
    let Some(holders) = tombstones.get_mut(&id) else { return Vec::new() };
    holders.retain(|n| *n != node);
    if !holders.is_empty() {
        return Vec::new();
    }
    tombstones.remove(&id);
    vec![Change::TombstoneCleared(id)]
}

fn create_partitions(
    image: &mut Image,
    index: u64,
    command: &pb::CreatePartitions,
) -> Result<Vec<Change>, ApplyError> {
    let id = topic_id(index, &command.topic_id)?;
    // The topic may have been deleted by an earlier entry.
    let Some(old) = image.topic_by_id(id).cloned() else { return Ok(Vec::new()) };
    if command.partitions.iter().any(|p| p.nodes.is_empty()) || command.partitions.is_empty() {
        return Err(ApplyError::Malformed { index, what: "a new partition has a replica" });
    }
    if usize::try_from(command.first) != Ok(old.partitions.len()) {
        // Judged by a state that another command has changed since: that one made them.
        return Ok(Vec::new());
    }
    let mut topic = Topic::clone(&old);
    topic.partitions.extend(new_partitions(image, &command.partitions));
    Ok(vec![Change::PartitionsAdded { topic: image.put_topic(topic), first: command.first }])
}

fn set_configs(image: &mut Image, index: u64, command: &pb::SetConfigs) -> Result<Vec<Change>, ApplyError> {
    let unknown = ApplyError::Malformed { index, what: "configs of a resource of unknown kind" };
    let kind = ResourceKind::from_proto(command.resource).ok_or(unknown)?;
    let name: Arc<str> = command.name.as_str().into();
    if kind == ResourceKind::Topic {
        // The topic may have been deleted by an earlier entry.
        let Some(old) = image.topic(&name).cloned() else { return Ok(Vec::new()) };
        let mut topic = Topic::clone(&old);
        topic.configs = topic.configs.apply(&command.entries, index);
        image.put_topic(topic);
    } else {
        let key = (kind, name.clone());
        let entries = image.resources.get(&key).cloned().unwrap_or_default().apply(&command.entries, index);
        let resources = Arc::make_mut(&mut image.resources);
        if entries.is_empty() {
            resources.remove(&key);
        } else {
            resources.insert(key, entries);
        }
        if image.is_own_broker(kind, &name) {
            image.resolve_broker();
        }
    }
    Ok(vec![Change::ConfigChanged { kind, name }])
}

fn allocate_producer_ids(
    image: &mut Image,
    index: u64,
    command: &pb::AllocateProducerIds,
) -> Result<Vec<Change>, ApplyError> {
    let end = command
        .first
        .checked_add(i64::from(command.count))
        .filter(|_| command.first >= 0 && command.count > 0);
    let Some(end) = end else {
        return Err(ApplyError::Malformed { index, what: "a block of producer ids is positive" });
    };
    // A block decided on before another leader's block was applied: nobody owns it.
    if command.first < image.next_producer_id {
        return Ok(Vec::new());
    }
    image.next_producer_id = end;
    let (node, first, count) = (command.node_id, command.first, command.count);
    Ok(vec![Change::ProducerIdsAllocated { node, first, count }])
}

fn update_feature(
    image: &mut Image,
    index: u64,
    command: &pb::UpdateFeature,
) -> Result<Vec<Change>, ApplyError> {
    let level = i16::try_from(command.level)
        .map_err(|_| ApplyError::Malformed { index, what: "a feature level has 16 bits" })?;
    let features = Arc::make_mut(&mut image.features);
    if level == 0 {
        features.remove(&command.name);
    } else {
        features.insert(command.name.clone(), level);
    }
    image.features_version = index;
    Ok(vec![Change::FeatureChanged(command.name.clone())])
}
