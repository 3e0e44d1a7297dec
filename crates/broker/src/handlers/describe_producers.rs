//! DescribeProducers: who writes to a partition.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core;
use crate::shared::Shared;
use model::ErrorCode;
use std::rc::Rc;
use wire::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use wire::{DescribeProducersRequest, DescribeProducersResponse, ResponseBody, Str};

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeProducersRequest,
) -> ResponseBody {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic
            .partition_indexes
            .iter()
            .map(|index| {
                let mut row = PartitionResponse { partition_index: *index, ..Default::default() };
                match describe(shared, ctx, &topic.name, *index) {
                    Ok(producers) => row.active_producers = producers,
                    Err(code) => {
                        row.error_code = shared.code(ctx, code);
                        row.error_message = message(code).map(Str::from_static);
                    }
                }
                row
            })
            .collect();
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    ResponseBody::DescribeProducers(DescribeProducersResponse { topics, ..Default::default() })
}

fn message(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopicOrPartition => Some("This server does not host this topic-partition."),
        ErrorCode::InvalidTopicException => Some("The topic name is not valid."),
        _ => None,
    }
}

fn describe(
    shared: &Shared,
    ctx: &RequestContext,
    name: &str,
    index: i32,
) -> Result<Vec<ProducerState>, ErrorCode> {
    if !authorize(ctx, Operation::Read, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if cluster::validate_topic_name(name).is_err() {
        return Err(ErrorCode::InvalidTopicException);
    }
    let topic = shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let key = core::group_key(&topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    // A partition that is not open since the start has no producer that is active.
    let producers = shared.core.describe_producers(key).unwrap_or_default();
    Ok(producers
        .into_iter()
        .map(|p| ProducerState {
            producer_id: p.producer_id,
            producer_epoch: i32::from(p.epoch),
            last_sequence: p.last_sequence,
            last_timestamp: p.last_timestamp,
            coordinator_epoch: -1,
            current_txn_start_offset: -1,
        })
        .collect())
}
