//! OffsetCommit: answers when the offsets are as durable as records are.
use super::commit_rows::{Wanted, commit};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::{CommitPartition, CommitRequest, CommitTopic};
use model::ErrorCode;
use std::rc::Rc;
use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
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
    mut request: OffsetCommitRequest,
) -> ResponseBody {
    let reads = authorize(ctx, Operation::Read, Resource::Group(&request.group_id));
    let refused = (!reads).then_some(ErrorCode::GroupAuthorizationFailed);
    let mut topics = std::mem::take(&mut request.topics);
    topics.retain(|topic| !topic.partitions.is_empty());
    let (by_id, group) = (ctx.api_version >= TOPIC_IDS_FROM, request.group_id.clone());
    let ask = |asked| GroupRequest::Commit(of_group(ctx, request, asked));
    let wanted = topics.iter().map(wanted).collect();
    let codes = commit(shared, ctx, wanted, by_id, refused, &group, ask).await;
    let topics = topics.into_iter().zip(codes).map(|(topic, codes)| OffsetCommitResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: (topic.partitions.iter().zip(codes))
            .map(|(p, error_code)| OffsetCommitResponsePartition {
                partition_index: p.partition_index,
                error_code,
            })
            .collect(),
    });
    let topics = topics.collect();
    ResponseBody::OffsetCommit(OffsetCommitResponse { topics, ..Default::default() })
}

fn wanted(topic: &OffsetCommitRequestTopic) -> Wanted<'_> {
    let partition = |p: &OffsetCommitRequestPartition| CommitPartition {
        index: p.partition_index,
        offset: p.committed_offset,
        leader_epoch: p.committed_leader_epoch,
        metadata: p.committed_metadata.as_ref().map(Str::to_string),
    };
    let partitions = topic.partitions.iter().map(partition).collect();
    Wanted { name: &topic.name, id: topic.topic_id, partitions }
}

fn of_group(ctx: &RequestContext, request: OffsetCommitRequest, topics: Vec<CommitTopic>) -> CommitRequest {
    CommitRequest {
        group_id: request.group_id.into(),
        member_id: request.member_id.into(),
        instance_id: request.group_instance_id.map(String::from),
        generation_id: if ctx.api_version < MEMBER_FROM { -1 } else { request.generation_id_or_member_epoch },
        retention_ms: (RETENTION.contains(&ctx.api_version) && request.retention_time_ms >= 0)
            .then_some(request.retention_time_ms),
        knows_group_id_not_found: ctx.api_version >= GROUP_NOT_FOUND_FROM,
        topics,
    }
}
