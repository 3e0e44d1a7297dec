//! InitProducerId: ids for idempotent producers.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::Reply;
use crate::shared::Shared;
use model::ErrorCode;
use std::rc::Rc;
use wire::{InitProducerIdRequest, InitProducerIdResponse, ResponseBody};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: InitProducerIdRequest,
) -> ResponseBody {
    let (code, producer_id, producer_epoch) = match init(shared, ctx, &request).await {
        Ok((id, epoch)) => (ErrorCode::None, id, epoch),
        Err(code) => (code, -1, -1),
    };
    let error_code = shared.code(ctx, code);
    ResponseBody::InitProducerId(InitProducerIdResponse {
        error_code,
        producer_id,
        producer_epoch,
        ..Default::default()
    })
}

async fn init(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: &InitProducerIdRequest,
) -> Result<(i64, i16), ErrorCode> {
    if request.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
        return Err(ErrorCode::InvalidRequest);
    }
    if request.transactional_id.is_some() {
        // Fatal in every client; anything retriable would be retried for ever.
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if !authorize(ctx, Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    if (request.producer_id < 0) != (request.producer_epoch < 0) {
        return Err(ErrorCode::InvalidRequest);
    }
    match shared.core.init_producer_id().await {
        Some(Reply::ProducerId(result)) => result,
        _ => Err(ErrorCode::CoordinatorNotAvailable),
    }
}
