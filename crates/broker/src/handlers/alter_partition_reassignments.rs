//! AlterPartitionReassignments: partitions get other replicas, or go back to those that they had (KIP-455).
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::{ItemError, ItemResult, PartitionTarget};
use model::ErrorCode;
use node::{AdminReply, AdminRequest};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use wire::alter_partition_reassignments_request::ReassignableTopic;
use wire::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use wire::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ResponseBody};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> ResponseBody {
    let mut response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        ..AlterPartitionReassignmentsResponse::default()
    };
    if !authorize(ctx, Operation::Alter, Resource::Cluster) {
        response.error_code = shared.code(ctx, ErrorCode::ClusterAuthorizationFailed);
        return ResponseBody::AlterPartitionReassignments(response);
    }
    let targets = targets(&request.topics);
    ctx.charge(Charge::Mutation(targets.len()));
    let ask = AdminRequest::Reassign {
        targets: targets.clone(),
        keep_factor: !request.allow_replication_factor_change,
    };
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    match shared.admin(ctx, ask, timeout).await {
        Ok(AdminReply::Done(outcomes)) => {
            response.responses = answers(shared, ctx, &targets, &outcomes);
        }
        other => {
            let code = other.err().unwrap_or(ErrorCode::UnknownServerError);
            response.error_code = shared.code(ctx, code);
        }
    }
    ResponseBody::AlterPartitionReassignments(response)
}

/// What is asked for; of a partition that is named twice the first counts.
fn targets(topics: &[ReassignableTopic]) -> Vec<PartitionTarget> {
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    for topic in topics {
        for partition in &topic.partitions {
            if seen.insert((topic.name.as_str(), partition.partition_index)) {
                targets.push(PartitionTarget {
                    topic: topic.name.as_str().to_owned(),
                    partition: partition.partition_index,
                    nodes: partition.replicas.clone(),
                });
            }
        }
    }
    targets
}

fn answers(
    shared: &Shared,
    ctx: &RequestContext,
    targets: &[PartitionTarget],
    outcomes: &[ItemResult<()>],
) -> Vec<ReassignableTopicResponse> {
    let mut topics: Vec<ReassignableTopicResponse> = Vec::new();
    for (target, outcome) in targets.iter().zip(outcomes) {
        let error: Option<&ItemError> = outcome.as_ref().err();
        let row = ReassignablePartitionResponse {
            partition_index: target.partition,
            error_code: error.map_or(0, |e| shared.code(ctx, e.code)),
            error_message: error.and_then(|e| e.message.as_deref()).map(Into::into),
        };
        match topics.iter_mut().rfind(|t| t.name.as_str() == target.topic) {
            Some(topic) => topic.partitions.push(row),
            None => topics.push(ReassignableTopicResponse {
                name: target.topic.as_str().into(),
                partitions: vec![row],
            }),
        }
    }
    topics
}
