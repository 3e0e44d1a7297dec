//! Reading the metadata image as handlers answer from it.
use super::Core;
use cluster::{BrokerConfig, Image, Partition, Topic};
use model::{ErrorCode, GroupKey, NodeId, TopicId};
use node::Node;
use std::sync::Arc;
use std::time::Duration;

/// Where a broker can be reached on one listener.
pub(crate) struct EndpointView {
    pub(crate) node: NodeId,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
}

/// A partition as Metadata answers it.
pub(crate) struct PartitionView {
    pub(crate) error: ErrorCode,
    pub(crate) leader: NodeId,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<NodeId>,
    pub(crate) in_sync: Vec<NodeId>,
    pub(crate) offline: Vec<NodeId>,
}

/// How a partition is, as its node counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its files here are damaged, or the data directory failed.
    pub(crate) offline: bool,
    /// Something of it is here, a replica or the witness, and clients are told of no leader.
    pub(crate) leaderless: bool,
    /// This node leads it.
    pub(crate) leads: bool,
    /// Led here, with fewer replicas in sync than replicas. Those that are being added do not count among the latter,
    /// as in Apache Kafka: nothing is wrong while one is copied.
    pub(crate) behind: bool,
    /// Led here, with fewer replicas in sync than `min.insync.replicas`.
    pub(crate) under_min: bool,
}

/// Whether what a node has of a partition cannot be used. `failed`: this node, where its replica is offline.
fn is_down(partition: &Partition, node: NodeId, live: &[NodeId], failed: Option<NodeId>) -> bool {
    // Whoever is to have the only replica of what was lost has nothing to serve.
    partition.is_lost() || !live.contains(&node) || failed == Some(node)
}

/// The group of a topic's partition, if there is such a partition.
pub(crate) fn group_key(topic: &Topic, partition: i32) -> Option<GroupKey> {
    topic.partition(partition).map(|_| GroupKey { topic: topic.id, partition })
}

impl Core {
    /// The metadata now.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.look(|node| node.image())
    }

    /// This node.
    pub(crate) fn node_id(&self) -> NodeId {
        self.image().node_id
    }

    /// The cluster's id.
    pub(crate) fn cluster_id(&self) -> Arc<str> {
        self.image().cluster_id.clone()
    }

    /// Who is told to be the controller: the leader of the metadata group. Any live broker takes admin
    /// requests, so while there is none it is this one.
    pub(crate) fn controller_id(&self) -> NodeId {
        let leader = self.look(|node| node.metadata_leader());
        leader.filter(|leader| self.live_nodes().contains(leader)).unwrap_or_else(|| self.node_id())
    }

    /// The node that leads the metadata, as far as this one knows.
    pub(crate) fn metadata_leader(&self) -> Option<NodeId> {
        self.look(Node::metadata_leader)
    }

    /// Whether nothing is led here that another node could lead.
    pub(crate) fn handed_over(&self) -> bool {
        let now = self.now();
        self.look(|node| node.handed_over(now))
    }

    /// What this node takes in and stores.
    pub(crate) fn load_view(&self) -> node::LoadView {
        let now = self.now();
        self.look(|node| node.load_view(now))
    }

    /// Whether this node may change the metadata.
    pub(crate) fn leads_metadata(&self) -> bool {
        self.look(Node::leads_metadata)
    }

    /// The nodes that are taken for alive.
    pub(crate) fn live_nodes(&self) -> Vec<NodeId> {
        let now = self.now();
        self.look(|node| node.live_nodes(now))
    }

    /// The resolved broker configs.
    pub(crate) fn broker_config(&self) -> Arc<BrokerConfig> {
        self.image().broker_config().clone()
    }

    /// A topic by name.
    pub(crate) fn topic_by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.image().topic(name).cloned()
    }

    /// A topic by id.
    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.image().topic_by_id(id).cloned()
    }

    /// All topics in order of their names.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.image().topics().cloned().collect()
    }

    /// Every live broker that has the listener.
    pub(crate) fn endpoints(&self, listener: &str) -> Vec<EndpointView> {
        self.endpoints_of(&self.live_nodes(), listener)
    }

    /// The brokers that Metadata names: also those that were lost less than 9 s ago, Kafka's session timeout, though none of
    /// them leads anything. librdkafka forgets a broker that is not named, and waits for it for ever where it was a coordinator.
    pub(crate) fn endpoints_for_metadata(&self, listener: &str) -> Vec<EndpointView> {
        let now = self.now();
        self.endpoints_of(&self.look(|node| node.recent_nodes(now)), listener)
    }

    fn endpoints_of(&self, nodes: &[NodeId], listener: &str) -> Vec<EndpointView> {
        let image = self.image();
        let of = |n: &cluster::Node| {
            let endpoint = n.endpoints.iter().find(|e| e.listener == listener)?;
            let (host, port) = (endpoint.host.clone(), i32::from(endpoint.port));
            Some(EndpointView { node: n.id, host, port, rack: n.rack.clone() })
        };
        image.nodes.values().filter(|n| nodes.contains(&n.id)).filter_map(|n| of(n)).collect()
    }

    /// The node that coordinates a group or a transactional id: the leader of its partition of `topic`.
    pub(crate) fn coordinator_node(&self, topic: &str, key: &str) -> Option<NodeId> {
        let topic = self.topic_by_name(topic)?;
        let partition = coordinator::coordinator_partition_for(key, topic.partitions.len() as i32);
        self.leader(&topic, partition).map(|(node, _)| node)
    }

    /// Leader and epoch of a partition.
    pub(crate) fn leader(&self, topic: &Topic, partition: i32) -> Option<(NodeId, i32)> {
        group_key(topic, partition).and_then(|key| self.leader_of(key))
    }

    /// Leader and epoch of a group; `None` while no live leader is known.
    pub(crate) fn leader_of(&self, key: GroupKey) -> Option<(NodeId, i32)> {
        let (epoch, leader) = self.look(|node| node.leader_of(key));
        leader.map(|leader| (leader, epoch))
    }

    /// A partition as clients of `listener` are told of it: a leader that has no endpoint there is none for
    /// them.
    pub(crate) fn partition_view(&self, topic: &Topic, partition: i32, listener: &str) -> PartitionView {
        let view = self.partition_state(topic, partition);
        if view.leader < 0 || self.has_endpoint(view.leader, listener) {
            return view;
        }
        PartitionView { error: ErrorCode::ListenerNotFound, leader: -1, ..view }
    }

    fn has_endpoint(&self, node: NodeId, listener: &str) -> bool {
        let image = self.image();
        image.nodes.get(&node).is_some_and(|n| n.endpoints.iter().any(|e| e.listener == listener))
    }

    /// Whether this node has a replica of a partition.
    pub(crate) fn holds(&self, key: GroupKey) -> bool {
        let image = self.image();
        let partition = image.partition(key);
        partition.is_some_and(|p| p.replicas.iter().any(|r| r.node == image.node_id))
    }

    /// Whether this node has the witness of a partition.
    pub(crate) fn is_witness_of(&self, key: GroupKey) -> bool {
        let image = self.image();
        let partition = image.partition(key);
        partition.and_then(|p| p.witness).is_some_and(|w| w.node == image.node_id)
    }

    /// The nodes whose replicas of a partition are in sync.
    pub(crate) fn in_sync_of(&self, key: GroupKey) -> Vec<NodeId> {
        self.look(|node| node.in_sync_of(key))
    }

    /// Whether a partition is offline: damaged, or the data directory failed.
    pub(crate) fn is_offline(&self, key: GroupKey) -> bool {
        self.look(|node| node.is_offline(key))
    }

    /// How a partition is from here, where clients and the metrics agree. `live`: the nodes that are taken for alive.
    pub(crate) fn standing(&self, topic: &Topic, key: GroupKey, live: &[NodeId]) -> Standing {
        let Some(partition) = topic.partition(key.partition) else { return Standing::default() };
        let image = self.image();
        let offline = self.is_offline(key);
        let failed = offline.then_some(image.node_id);
        let (leader, _) = self.told_leader(key, |node| is_down(partition, *node, live, failed));
        // Of a partition that is on other nodes alone they tell.
        let holds = partition.holders().any(|r| r.node == image.node_id);
        let mut standing = Standing { offline, leaderless: holds && leader.is_none(), ..Standing::default() };
        if leader == Some(image.node_id) {
            let in_sync = self.in_sync_of(key).len();
            let wanted = partition.replicas.len().saturating_sub(partition.adding().len());
            let least = usize::try_from(image.min_insync_replicas(topic)).unwrap_or(0);
            standing.leads = true;
            standing.behind = in_sync < wanted;
            standing.under_min = in_sync < least;
        }
        standing
    }

    /// The leader of a partition that clients are told of, if there is one, and the epoch of its last.
    fn told_leader(&self, key: GroupKey, down: impl Fn(&NodeId) -> bool) -> (Option<NodeId>, i32) {
        let (epoch, leader) = self.look(|node| node.leader_of(key));
        (leader.filter(|leader| !down(leader)), epoch)
    }

    fn partition_state(&self, topic: &Topic, partition: i32) -> PartitionView {
        let replicas: Vec<NodeId> =
            topic.partition(partition).map_or_else(Vec::new, |p| p.replicas.iter().map(|r| r.node).collect());
        let key = group_key(topic, partition);
        let failed = key.filter(|key| self.is_offline(*key)).map(|_| self.node_id());
        let live = self.live_nodes();
        let wanted = topic.partition(partition);
        let down = |node: &NodeId| wanted.is_some_and(|p| is_down(p, *node, &live, failed));
        let offline: Vec<NodeId> = replicas.iter().copied().filter(down).collect();
        let (leader, leader_epoch) = key.map_or((None, -1), |key| self.told_leader(key, down));
        let Some(leader) = leader else {
            let (error, in_sync) = (ErrorCode::LeaderNotAvailable, Vec::new());
            return PartitionView { error, leader: -1, leader_epoch, in_sync, offline, replicas };
        };
        let mut in_sync = key.map_or_else(Vec::new, |key| self.look(|node| node.in_sync_of(key)));
        in_sync.retain(|node| !down(node));
        PartitionView { error: ErrorCode::None, leader, leader_epoch, in_sync, offline, replicas }
    }

    /// For how long nothing can be written for lack of space.
    pub(crate) fn stalled(&self) -> Option<Duration> {
        let now = self.now().mono;
        self.look(|node| node.stalled_since()).map(|since| now.since(since))
    }

    /// Why the data directory takes no writes any more.
    pub(crate) fn fenced(&self) -> Option<String> {
        self.look(|node| node.fenced().map(str::to_owned))
    }
}

impl Core {
    /// Whether the metadata is loaded and this node registered.
    pub(crate) fn ready(&self) -> bool {
        self.look(|node| node.ready())
    }

    /// Committed offsets of groups that this node coordinates: group, topic, partition, offset.
    pub(crate) fn committed_offsets(&self, most: usize) -> Vec<(String, String, i32, i64)> {
        self.look(|node| {
            let offsets = node.coordinators().flat_map(|c| c.committed_offsets());
            offsets
                .take(most)
                .map(|(group, topic, partition, value)| {
                    (group.to_owned(), topic.to_owned(), partition, value.offset)
                })
                .collect()
        })
    }
}
