//! OffsetCommit: answers when the offsets are as durable as records are.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{GroupRequest, Topic};
use crate::shared::Shared;
use coordinator::{CommitPartition, CommitRequest, CommitTopic, Reply};
use model::ErrorCode;
use std::rc::Rc;
use std::sync::Arc;
use wire::offset_commit_request::OffsetCommitRequestTopic;
use wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use wire::{OffsetCommitRequest, OffsetCommitResponse, ResponseBody, Str};

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 10;
/// First version that knows GROUP_ID_NOT_FOUND.
const GROUP_NOT_FOUND_FROM: i16 = 9;
/// First version that names generation and member.
const MEMBER_FROM: i16 = 1;
/// Versions with a retention of their own.
const RETENTION: std::ops::RangeInclusive<i16> = 2..=4;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: OffsetCommitRequest,
) -> ResponseBody {
    let mut response = OffsetCommitResponse::default();
    let mut commits: Vec<CommitTopic> = Vec::new();
    let mut places: Vec<usize> = Vec::new();
    let group_code = if authorize(ctx, Operation::Read, Resource::Group(&request.group_id)) {
        None
    } else {
        Some(ErrorCode::GroupAuthorizationFailed)
    };
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let accepted = match group_code {
            Some(code) => Err(code),
            None => accept(shared, ctx, topic),
        };
        // A partition that is not there keeps this code; the rest get the coordinator's.
        let code = accepted.as_ref().err().copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
        response.topics.push(answer(shared, ctx, topic, code, accepted.is_err()));
        let Ok(found) = accepted else { continue };
        let asked = commit(topic, &found);
        if !asked.partitions.is_empty() {
            places.push(response.topics.len() - 1);
            commits.push(asked);
        }
    }
    if commits.is_empty() {
        return ResponseBody::OffsetCommit(response);
    }
    let asked = CommitRequest {
        group_id: request.group_id.into(),
        member_id: request.member_id.into(),
        instance_id: request.group_instance_id.map(String::from),
        generation_id: if ctx.api_version < MEMBER_FROM { -1 } else { request.generation_id_or_member_epoch },
        retention_ms: (RETENTION.contains(&ctx.api_version) && request.retention_time_ms >= 0)
            .then_some(request.retention_time_ms),
        knows_group_id_not_found: ctx.api_version >= GROUP_NOT_FOUND_FROM,
        topics: commits,
    };
    match shared.core.group(&asked.group_id.clone(), GroupRequest::Commit(asked)).await {
        Ok(Reply::Commit(reply)) => {
            for (place, topic) in places.into_iter().zip(reply.topics) {
                let rows = &mut response.topics[place].partitions;
                for (index, code) in topic.partitions {
                    for row in rows.iter_mut().filter(|row| row.partition_index == index) {
                        row.error_code = shared.code(ctx, code);
                    }
                }
            }
        }
        other => {
            let code = other.err().unwrap_or(ErrorCode::UnknownServerError);
            for place in places {
                for partition in &mut response.topics[place].partitions {
                    partition.error_code = shared.code(ctx, code);
                }
            }
        }
    }
    ResponseBody::OffsetCommit(response)
}

fn accept(
    shared: &Shared,
    ctx: &RequestContext,
    topic: &OffsetCommitRequestTopic,
) -> Result<Arc<Topic>, ErrorCode> {
    let found = if ctx.api_version >= TOPIC_IDS_FROM {
        shared.core.topic_by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        if !authorize(ctx, Operation::Read, Resource::Topic(&topic.name)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        shared.core.topic_by_name(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if !authorize(ctx, Operation::Read, Resource::Topic(&found.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    Ok(found)
}

fn answer(
    shared: &Shared,
    ctx: &RequestContext,
    topic: &OffsetCommitRequestTopic,
    code: ErrorCode,
    counted: bool,
) -> OffsetCommitResponseTopic {
    let row = |index| OffsetCommitResponsePartition {
        partition_index: index,
        error_code: if counted { shared.code(ctx, code) } else { code.code() },
    };
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|p| row(p.partition_index)).collect(),
    }
}

fn commit(topic: &OffsetCommitRequestTopic, found: &Topic) -> CommitTopic {
    let partitions = topic
        .partitions
        .iter()
        .filter(|p| found.partition(p.partition_index).is_some())
        .map(|p| CommitPartition {
            index: p.partition_index,
            offset: p.committed_offset,
            leader_epoch: p.committed_leader_epoch,
            metadata: p.committed_metadata.as_ref().map(Str::to_string),
        })
        .collect();
    CommitTopic { name: found.name.to_string(), topic_id: found.id, partitions }
}
