//! OffsetFetch: committed offsets of one group, or from version 8 on of several.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::{FetchReply, FetchRequest, FetchedPartition, FetchedTopic, Reply, TopicPartitions};
use model::{ErrorCode, TopicId};
use std::rc::Rc;
use wire::offset_fetch_request::OffsetFetchRequestGroup;
use wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::{OffsetFetchRequest, OffsetFetchResponse, ResponseBody, Str};

/// First version with several groups.
const BATCHED_FROM: i16 = 8;
/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 10;
/// First version with an error of the whole.
const GROUP_ERROR_FROM: i16 = 2;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: OffsetFetchRequest,
) -> ResponseBody {
    if ctx.api_version < BATCHED_FROM {
        return single(shared, ctx, request).await;
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(one_of_many(shared, ctx, group, request.require_stable).await);
    }
    ResponseBody::OffsetFetch(OffsetFetchResponse { groups, ..Default::default() })
}

async fn fetch(shared: &Rc<Shared>, ctx: &RequestContext, request: FetchRequest) -> FetchReply {
    let refused = |error| FetchReply { error, topics: Vec::new() };
    if !authorize(ctx, Operation::Describe, Resource::Group(&request.group_id)) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    match shared.core.group(&request.group_id.clone(), GroupRequest::Fetch(request)).await {
        Ok(Reply::Fetch(reply)) => reply,
        Ok(_) => refused(ErrorCode::UnknownServerError),
        Err(code) => refused(code),
    }
}

async fn single(shared: &Rc<Shared>, ctx: &RequestContext, request: OffsetFetchRequest) -> ResponseBody {
    let asked = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|t| TopicPartitions {
                name: t.name.into(),
                topic_id: TopicId::ZERO,
                partitions: t.partition_indexes,
            })
            .collect::<Vec<_>>()
    });
    let (allowed, denied) = split_denied(ctx, asked.clone());
    let request = FetchRequest {
        group_id: request.group_id.into(),
        topics: allowed,
        require_stable: request.require_stable,
        member_id: None,
        member_epoch: -1,
    };
    let mut reply = fetch(shared, ctx, request).await;
    reply.topics.retain(|t| authorize(ctx, Operation::Describe, Resource::Topic(&t.name)));
    reply.topics.extend(denied);
    if !reply.error.is_none() {
        // Version 1 can only say it per partition.
        reply.topics = asked.unwrap_or_default().into_iter().map(|t| nothing(t, reply.error)).collect();
    }
    let topics = reply
        .topics
        .into_iter()
        .map(|t| OffsetFetchResponseTopic {
            name: t.name.into(),
            partitions: t
                .partitions
                .into_iter()
                .map(|p| OffsetFetchResponsePartition {
                    partition_index: p.index,
                    committed_offset: p.offset,
                    committed_leader_epoch: p.leader_epoch,
                    metadata: Some(p.metadata.into()),
                    error_code: shared.code(ctx, p.error),
                })
                .collect(),
        })
        .collect();
    let error_code = if ctx.api_version >= GROUP_ERROR_FROM { shared.code(ctx, reply.error) } else { 0 };
    ResponseBody::OffsetFetch(OffsetFetchResponse { topics, error_code, ..Default::default() })
}

async fn one_of_many(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let by_id = ctx.api_version >= TOPIC_IDS_FROM;
    let mut unknown = Vec::new();
    let asked = group.topics.map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for t in topics {
            let name = if by_id {
                shared.core.topic_by_id(t.topic_id).map(|t| t.name.to_string())
            } else {
                Some(t.name.into())
            };
            let row = |name| TopicPartitions { name, topic_id: t.topic_id, partitions: t.partition_indexes };
            match name {
                Some(name) => known.push(row(name)),
                None => unknown.push(nothing(row(String::new()), ErrorCode::UnknownTopicId)),
            }
        }
        known
    });
    let everything = asked.is_none();
    let (allowed, denied) = split_denied(ctx, asked);
    let request = FetchRequest {
        group_id: group.group_id.as_str().to_owned(),
        topics: allowed,
        require_stable,
        member_id: group.member_id.map(Into::into),
        member_epoch: group.member_epoch,
    };
    let mut reply = fetch(shared, ctx, request).await;
    if !reply.error.is_none() {
        let error_code = shared.code(ctx, reply.error);
        return OffsetFetchResponseGroup { group_id: group.group_id, topics: Vec::new(), error_code };
    }
    reply.topics.retain(|t| authorize(ctx, Operation::Describe, Resource::Topic(&t.name)));
    if by_id && everything {
        // What was committed for a topic that is gone has no id to be named by.
        reply.topics.retain_mut(|t| match shared.core.topic_by_name(&t.name) {
            Some(topic) => {
                t.topic_id = topic.id;
                true
            }
            None => false,
        });
    }
    reply.topics.extend(denied);
    reply.topics.extend(unknown);
    let topics = reply.topics.into_iter().map(|t| encode(shared, ctx, t)).collect();
    OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code: 0 }
}

fn encode(shared: &Shared, ctx: &RequestContext, topic: FetchedTopic) -> OffsetFetchResponseTopics {
    let row = |p: FetchedPartition| OffsetFetchResponsePartitions {
        partition_index: p.index,
        committed_offset: p.offset,
        committed_leader_epoch: p.leader_epoch,
        metadata: Some(p.metadata.into()),
        error_code: shared.code(ctx, p.error),
    };
    OffsetFetchResponseTopics {
        name: Str::from(topic.name),
        topic_id: topic.topic_id,
        partitions: topic.partitions.into_iter().map(row).collect(),
    }
}

/// Splits off what the client may not see.
fn split_denied(
    ctx: &RequestContext,
    asked: Option<Vec<TopicPartitions>>,
) -> (Option<Vec<TopicPartitions>>, Vec<FetchedTopic>) {
    let Some(topics) = asked else { return (None, Vec::new()) };
    let (allowed, denied): (Vec<_>, Vec<_>) =
        topics.into_iter().partition(|t| authorize(ctx, Operation::Describe, Resource::Topic(&t.name)));
    let denied = denied.into_iter().map(|t| nothing(t, ErrorCode::TopicAuthorizationFailed)).collect();
    (Some(allowed), denied)
}

fn nothing(topic: TopicPartitions, error: ErrorCode) -> FetchedTopic {
    let row =
        |index| FetchedPartition { index, offset: -1, leader_epoch: -1, metadata: String::new(), error };
    FetchedTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partitions.into_iter().map(row).collect(),
    }
}
