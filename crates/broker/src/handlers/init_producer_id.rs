//! InitProducerId: ids for idempotent producers, from this node; for transactional ones from their coordinator (KIP-98,
//! KIP-360).
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, TxnRequest};
use crate::shared::Shared;
use coordinator::txn::{InitRequest, Reply, client_code, expected_producer};
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
    if let Some(id) = &request.transactional_id {
        return init_transactional(shared, ctx, id, request).await;
    }
    if !authorize(ctx, Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    if (request.producer_id < 0) != (request.producer_epoch < 0) {
        return Err(ErrorCode::InvalidRequest);
    }
    match shared.core.init_producer_id().await {
        Some(core::Reply::ProducerId(result)) => result,
        _ => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

/// First version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

async fn init_transactional(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    id: &str,
    request: &InitProducerIdRequest,
) -> Result<(i64, i16), ErrorCode> {
    if !authorize(ctx, Operation::Write, Resource::TransactionalId(id)) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let asked = InitRequest {
        transactional_id: id.to_owned(),
        timeout_ms: request.transaction_timeout_ms,
        expected: expected_producer(request.producer_id, request.producer_epoch)?,
        // Version 6 alone has these, which is not stable in Kafka 4.4 and not served.
        enable_2pc: false,
        keep_prepared: false,
        principal: Some(ctx.connection.principal.to_string().into()),
    };
    let reply = match shared.core.transaction(id, TxnRequest::Init(asked)).await {
        Ok(Reply::Init(reply)) => reply,
        Ok(_) => return Err(ErrorCode::UnknownServerError),
        Err(code) => return Err(code),
    };
    if reply.error == ErrorCode::InvalidTransactionTimeout {
        // The answer has no room for a text.
        tracing::info!(
            transactional_id = id,
            client_id = %ctx.client_id,
            asked_ms = request.transaction_timeout_ms,
            most_ms = shared.core.image().broker_config().transaction_max_timeout_ms,
            "a producer's transaction.timeout.ms is not between 1 and this broker's transaction.max.timeout.ms"
        );
    }
    match client_code(reply.error, ctx.api_version, FENCED_FROM) {
        ErrorCode::None => Ok((reply.producer_id, reply.producer_epoch)),
        code => Err(code),
    }
}
