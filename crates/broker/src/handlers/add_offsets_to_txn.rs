//! AddOffsetsToTxn: a group's partition of `__consumer_offsets` joins the transaction.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::TxnRequest;
use crate::handlers::end_txn::FENCED_FROM;
use crate::shared::Shared;
use coordinator::coordinator_partition_for;
use coordinator::txn::{AddOffsetsRequest, Reply, TopicPartition, client_code};
use model::ErrorCode;
use std::rc::Rc;
use wire::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ResponseBody};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: AddOffsetsToTxnRequest,
) -> ResponseBody {
    let code = client_code(add(shared, ctx, request).await, ctx.api_version, FENCED_FROM);
    let error_code = shared.code(ctx, code);
    ResponseBody::AddOffsetsToTxn(AddOffsetsToTxnResponse { error_code, ..Default::default() })
}

async fn add(shared: &Rc<Shared>, ctx: &RequestContext, request: AddOffsetsToTxnRequest) -> ErrorCode {
    if !authorize(ctx, Operation::Write, Resource::TransactionalId(&request.transactional_id)) {
        return ErrorCode::TransactionalIdAuthorizationFailed;
    }
    if !authorize(ctx, Operation::Read, Resource::Group(&request.group_id)) {
        return ErrorCode::GroupAuthorizationFailed;
    }
    if request.transactional_id.is_empty() {
        return ErrorCode::InvalidRequest;
    }
    // The client looks for the group only once this is answered.
    shared.internal_topic(ctx, cluster::CONSUMER_OFFSETS).await;
    let Some(offsets) = shared.core.topic_by_name(cluster::CONSUMER_OFFSETS) else {
        return ErrorCode::CoordinatorNotAvailable;
    };
    let partition = coordinator_partition_for(&request.group_id, offsets.partitions.len() as i32);
    let asked = AddOffsetsRequest {
        transactional_id: request.transactional_id.into(),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        offsets_partition: TopicPartition::new(cluster::CONSUMER_OFFSETS, partition),
    };
    let id = asked.transactional_id.clone();
    match shared.core.transaction(&id, TxnRequest::AddOffsets(asked)).await {
        Ok(Reply::AddOffsets(code)) => code,
        Ok(_) => ErrorCode::UnknownServerError,
        Err(code) => code,
    }
}
