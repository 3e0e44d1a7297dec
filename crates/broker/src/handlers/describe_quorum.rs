//! DescribeQuorum (KIP-595, KIP-853): who votes on the metadata, who follows it, and how far each is. Offsets are
//! indexes of its log, one entry each. Answered by the leader of the metadata.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use model::ErrorCode;
use node::{QuorumMember, QuorumView};
use std::rc::Rc;
use wire::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use wire::{DescribeQuorumRequest, DescribeQuorumResponse, ResponseBody, Str};

/// What Kafka calls the metadata log.
const TOPIC: &str = "__cluster_metadata";

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeQuorumRequest,
) -> ResponseBody {
    let refused = |code| {
        let error_code = shared.code(ctx, code);
        ResponseBody::DescribeQuorum(DescribeQuorumResponse { error_code, ..Default::default() })
    };
    if !authorize(ctx, Operation::Describe, Resource::Cluster) {
        return refused(ErrorCode::ClusterAuthorizationFailed);
    }
    let now = shared.core.now();
    let view = shared.core.look(|node| node.quorum(now)).filter(|_| ctx.refused.is_none());
    let mut response = DescribeQuorumResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let known = topic.topic_name.as_str() == TOPIC && index == 0;
            let described = match (&view, known) {
                (_, false) => Err(ErrorCode::UnknownTopicOrPartition),
                (None, true) => Err(ctx.refused.unwrap_or(ErrorCode::NotLeaderOrFollower)),
                (Some(view), true) => Ok(describe(shared, view)),
            };
            partitions.push(described.unwrap_or_else(|code| PartitionData {
                partition_index: index,
                error_code: shared.code(ctx, code),
                leader_id: -1,
                leader_epoch: -1,
                high_watermark: -1,
                ..Default::default()
            }));
        }
        response.topics.push(TopicData { topic_name: topic.topic_name, partitions });
    }
    response.nodes = nodes(shared, view.as_ref());
    ResponseBody::DescribeQuorum(response)
}

fn describe(shared: &Shared, view: &QuorumView) -> PartitionData {
    // An offset is that of the next entry.
    let next = |index: u64| i64::try_from(index + 1).unwrap_or(i64::MAX);
    let state = |m: &QuorumMember| ReplicaState {
        replica_id: m.node,
        replica_directory_id: m.directory,
        log_end_offset: if m.persisted == 0 { -1 } else { next(m.persisted) },
        last_fetch_timestamp: m.heard,
        last_caught_up_timestamp: m.caught_up,
    };
    let of = |votes: bool| view.members.iter().filter(|m| m.votes == votes).map(state).collect();
    PartitionData {
        leader_id: shared.core.node_id(),
        leader_epoch: view.epoch,
        high_watermark: next(view.committed),
        current_voters: of(true),
        observers: of(false),
        ..Default::default()
    }
}

/// Where the members are reached by other nodes.
fn nodes(shared: &Shared, view: Option<&QuorumView>) -> Vec<Node> {
    let image = shared.core.image();
    let Some(view) = view else { return Vec::new() };
    let node = |m: &QuorumMember| {
        let peer = image.nodes.get(&m.node)?.peer.as_ref()?;
        let (name, host) = (Str::from(&peer.listener), Str::from(&peer.host));
        Some(Node { node_id: m.node, listeners: vec![Listener { name, host, port: peer.port }] })
    };
    view.members.iter().filter_map(node).collect()
}
