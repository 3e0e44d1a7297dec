//! TxnOffsetCommit: offsets that count when the transaction commits (KIP-447).
use super::commit_rows::{Wanted, commit};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::{CommitPartition, CommitRequest, CommitTopic, InTransaction, TxnCommitRequest};
use model::ErrorCode;
use std::rc::Rc;
use wire::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use wire::txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use wire::{ResponseBody, Str, TxnOffsetCommitRequest, TxnOffsetCommitResponse};

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 6;
/// First version that adds the group's partition to the transaction by itself (KIP-890).
const ADDS_FROM: i16 = 5;
/// Version that knows TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 4;
/// First version that names generation and member.
const MEMBER_FROM: i16 = 3;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    mut request: TxnOffsetCommitRequest,
) -> ResponseBody {
    let refused = refuse(ctx, &request);
    let topics = std::mem::take(&mut request.topics);
    let (by_id, group) = (ctx.api_version >= TOPIC_IDS_FROM, request.group_id.clone());
    let ask = |asked| GroupRequest::CommitInTransaction(in_transaction(ctx, request, asked));
    let wanted = topics.iter().map(wanted).collect();
    let codes = commit(shared, ctx, wanted, by_id, refused, &group, ask).await;
    let topics = topics.into_iter().zip(codes).map(|(topic, codes)| TxnOffsetCommitResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: (topic.partitions.iter().zip(codes))
            .map(|(p, error_code)| TxnOffsetCommitResponsePartition {
                partition_index: p.partition_index,
                error_code,
            })
            .collect(),
    });
    let topics = topics.collect();
    ResponseBody::TxnOffsetCommit(TxnOffsetCommitResponse { topics, ..Default::default() })
}

fn wanted(topic: &TxnOffsetCommitRequestTopic) -> Wanted<'_> {
    let partition = |p: &TxnOffsetCommitRequestPartition| CommitPartition {
        index: p.partition_index,
        offset: p.committed_offset,
        leader_epoch: p.committed_leader_epoch,
        metadata: p.committed_metadata.as_ref().map(Str::to_string),
    };
    let partitions = topic.partitions.iter().map(partition).collect();
    Wanted { name: &topic.name, id: topic.topic_id, partitions }
}

fn refuse(ctx: &RequestContext, request: &TxnOffsetCommitRequest) -> Option<ErrorCode> {
    if !authorize(ctx, Operation::Write, Resource::TransactionalId(&request.transactional_id)) {
        return Some(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let reads = authorize(ctx, Operation::Read, Resource::Group(&request.group_id));
    (!reads).then_some(ErrorCode::GroupAuthorizationFailed)
}

fn in_transaction(
    ctx: &RequestContext,
    request: TxnOffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> TxnCommitRequest {
    let names_member = ctx.api_version >= MEMBER_FROM;
    TxnCommitRequest {
        commit: CommitRequest {
            group_id: request.group_id.into(),
            member_id: request.member_id.into(),
            instance_id: request.group_instance_id.map(String::from),
            generation_id: if names_member { request.generation_id_or_member_epoch } else { -1 },
            retention_ms: None,
            knows_group_id_not_found: false,
            topics,
        },
        transaction: InTransaction {
            transactional_id: request.transactional_id.into(),
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            version: match ctx.api_version {
                ADDS_FROM.. => 2,
                KNOWS_ABORTABLE => 1,
                _ => 0,
            },
            principal: ctx.connection.principal.to_string(),
            client_id: ctx.client_id.to_string(),
        },
    }
}
