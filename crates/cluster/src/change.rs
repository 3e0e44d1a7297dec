//! What one applied command changed, for those who act on it.
use crate::{ResourceKind, Topic};
use model::{NodeId, ProducerId, TopicId};
use std::sync::Arc;

/// One change of the metadata. The image that [`crate::Metadata::image`] returns already holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The cluster has its id.
    ClusterIdSet,
    /// A node joined or came back.
    NodeRegistered(NodeId),
    /// The wanted members of the metadata group changed.
    QuorumChanged,
    /// A topic exists; its first replicas are to be born.
    TopicCreated(Arc<Topic>),
    /// A topic is gone; what this node holds of it is to be removed, then confirmed.
    TopicDeleted(Arc<Topic>),
    /// Every node has confirmed the deletion.
    TombstoneCleared(TopicId),
    /// Partitions `first..` of the topic are new.
    PartitionsAdded {
        /// The topic with its new partitions.
        topic: Arc<Topic>,
        /// Number of the first new one.
        first: i32,
    },
    /// A partition has other wanted replicas, or its group has changed to them.
    Reassigned {
        /// The topic as it is now.
        topic: Arc<Topic>,
        /// The partition.
        partition: i32,
    },
    /// A node was unregistered. Partitions that it held replicas of want others there, which
    /// [`Change::Reassigned`] names.
    NodeGone(NodeId),
    /// Configs of a resource changed. A BROKER change may alter every topic's resolved config.
    ConfigChanged {
        /// Kind of the resource.
        kind: ResourceKind,
        /// Topic name, node id (empty: all nodes), group or subscription.
        name: Arc<str>,
    },
    /// `node` owns the producer ids `first .. first + count`.
    ProducerIdsAllocated {
        /// The owner.
        node: NodeId,
        /// First id.
        first: ProducerId,
        /// How many.
        count: i32,
    },
    /// The finalized level of a feature changed.
    FeatureChanged(String),
}
