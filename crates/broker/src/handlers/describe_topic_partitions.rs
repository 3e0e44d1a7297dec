//! DescribeTopicPartitions: topics in order of their names, page by page.
use crate::context::{
    Operation, RequestContext, Resource, TOPIC_OPERATIONS, authorize, authorized_operations,
};
use crate::core::Topic;
use crate::shared::Shared;
use model::{ErrorCode, TopicId};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use wire::describe_topic_partitions_request::TopicRequest;
use wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use wire::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, ResponseBody, Str};

/// Partitions of one page (`max.request.partition.size.limit`).
const MOST_PARTITIONS: i32 = 2_000;

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> ResponseBody {
    if let Some(cursor) = &request.cursor
        && !may_begin_at(cursor, &request.topics)
    {
        return refused(shared, ctx, &request.topics);
    }
    let from = request.cursor.as_ref().map(|c| (c.topic_name.as_str().to_owned(), c.partition_index));
    let start = from.as_ref().map_or("", |(name, _)| name.as_str());
    let everything = request.topics.is_empty();
    let names: BTreeSet<String> = if everything {
        shared
            .core
            .topics()
            .iter()
            .map(|t| t.name.to_string())
            .filter(|name| name.as_str() >= start)
            .collect()
    } else {
        request
            .topics
            .iter()
            .map(|t| t.name.as_str().to_owned())
            .filter(|name| name.as_str() >= start)
            .collect()
    };
    let limit = shared.core.broker_config().max_request_partition_size_limit.clamp(1, MOST_PARTITIONS.max(1));
    let mut room = request.response_partition_limit.clamp(1, limit) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if !authorize(ctx, Operation::Describe, Resource::Topic(&name)) {
            if !everything {
                response.topics.push(failed(shared, ctx, &name, ErrorCode::TopicAuthorizationFailed));
            }
            continue;
        }
        let Some(topic) = shared.core.topic_by_name(&name) else {
            let code = match cluster::validate_topic_name(&name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            let operations = authorized_operations(ctx, &TOPIC_OPERATIONS, Resource::Topic(&name));
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                topic_authorized_operations: operations,
                ..failed(shared, ctx, &name, code)
            });
            continue;
        };
        let first = from.as_ref().filter(|(n, _)| *n == name).map_or(0, |(_, p)| *p);
        let count = topic.partitions.len() as i32;
        let upto = first.saturating_add(room as i32).min(count);
        if room == 0 || upto < count && first >= upto {
            response.next_cursor = Some(Cursor { topic_name: Str::from(&name), partition_index: first });
            break;
        }
        response.topics.push(describe(shared, ctx, &topic, first, upto));
        room -= (upto - first).max(0) as usize;
        if upto < count {
            response.next_cursor = Some(Cursor { topic_name: Str::from(&name), partition_index: upto });
            break;
        }
    }
    ResponseBody::DescribeTopicPartitions(response)
}

/// A cursor points at one of the topics asked for, and at a partition that can be.
fn may_begin_at(cursor: &wire::describe_topic_partitions_request::Cursor, topics: &[TopicRequest]) -> bool {
    let listed = topics.is_empty() || topics.iter().any(|t| t.name == cursor.topic_name);
    listed && cursor.partition_index >= 0
}

/// A request that makes no sense fails as a whole: the error on each of its topics.
fn refused(shared: &Shared, ctx: &RequestContext, topics: &[TopicRequest]) -> ResponseBody {
    let fail = |asked: &TopicRequest| DescribeTopicPartitionsResponseTopic {
        is_internal: false,
        ..failed(shared, ctx, &asked.name, ErrorCode::InvalidRequest)
    };
    ResponseBody::DescribeTopicPartitions(DescribeTopicPartitionsResponse {
        topics: topics.iter().map(fail).collect(),
        ..Default::default()
    })
}

fn failed(
    shared: &Shared,
    ctx: &RequestContext,
    name: &str,
    code: ErrorCode,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: shared.code(ctx, code),
        name: Some(Str::from(name)),
        topic_id: TopicId::ZERO,
        is_internal: cluster::is_internal(name),
        ..Default::default()
    }
}

fn describe(
    shared: &Shared,
    ctx: &RequestContext,
    topic: &Arc<Topic>,
    first: i32,
    upto: i32,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (first..upto)
        .map(|index| {
            let view = shared.core.partition_view(topic, index, &ctx.connection.listener);
            DescribeTopicPartitionsResponsePartition {
                error_code: view.error.code(),
                partition_index: index,
                leader_id: view.leader,
                leader_epoch: view.leader_epoch,
                replica_nodes: view.replicas,
                isr_nodes: view.in_sync,
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: view.offline,
            }
        })
        .collect();
    DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: Some(Str::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions,
        topic_authorized_operations: authorized_operations(
            ctx,
            &TOPIC_OPERATIONS,
            Resource::Topic(&topic.name),
        ),
    }
}
