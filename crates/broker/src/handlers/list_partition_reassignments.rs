//! ListPartitionReassignments: partitions whose replicas are being changed, and nothing else.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::Topic;
use model::ErrorCode;
use std::rc::Rc;
use wire::list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment};
use wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, ResponseBody};

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ResponseBody {
    let mut response = ListPartitionReassignmentsResponse::default();
    if !authorize(ctx, Operation::Describe, Resource::Cluster) {
        response.error_code = shared.code(ctx, ErrorCode::ClusterAuthorizationFailed);
        return ResponseBody::ListPartitionReassignments(response);
    }
    if let Some(code) = ctx.refused {
        response.error_code = shared.code(ctx, code);
        return ResponseBody::ListPartitionReassignments(response);
    }
    let image = shared.core.image();
    response.topics = match &request.topics {
        None => image.topics().filter_map(|topic| moving(topic, None)).collect(),
        Some(asked) => {
            let one = |t: &wire::list_partition_reassignments_request::ListPartitionReassignmentsTopics| {
                moving(image.topic(&t.name)?, Some(&t.partition_indexes))
            };
            asked.iter().filter_map(one).collect()
        }
    };
    ResponseBody::ListPartitionReassignments(response)
}

/// The partitions of a topic that are moving, of `asked` ones or of all.
fn moving(topic: &Topic, asked: Option<&[i32]>) -> Option<OngoingTopicReassignment> {
    let rows = (0..).zip(&topic.partitions).filter(|(index, _)| asked.is_none_or(|a| a.contains(index)));
    let row = |(partition_index, p): (i32, &cluster::Partition)| {
        let (adding_replicas, removing_replicas) = (p.adding(), p.removing());
        let moves = !adding_replicas.is_empty() || !removing_replicas.is_empty();
        let replicas = p.replicas.iter().map(|r| r.node).collect();
        moves.then_some(OngoingPartitionReassignment {
            partition_index,
            replicas,
            adding_replicas,
            removing_replicas,
        })
    };
    let partitions: Vec<_> = rows.filter_map(row).collect();
    let name = (&*topic.name).into();
    (!partitions.is_empty()).then_some(OngoingTopicReassignment { name, partitions })
}
