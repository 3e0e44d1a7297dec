//! EndTxn: commits or aborts. Answered when the result is certain; the partitions learn of it afterwards (KIP-98).
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::TxnRequest;
use crate::shared::Shared;
use coordinator::txn::{EndRequest, ProducerReply, Reply, TxnVersion, client_code};
use model::ErrorCode;
use std::rc::Rc;
use wire::{EndTxnRequest, EndTxnResponse, ResponseBody};

/// First version whose end raises the producer's epoch (KIP-890).
const RAISES_FROM: i16 = 5;
/// First version that knows PRODUCER_FENCED.
pub(crate) const FENCED_FROM: i16 = 2;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: EndTxnRequest,
) -> ResponseBody {
    let reply = end(shared, ctx, request).await;
    let code = client_code(reply.error, ctx.api_version, FENCED_FROM);
    ResponseBody::EndTxn(EndTxnResponse {
        error_code: shared.code(ctx, code),
        producer_id: reply.producer_id,
        producer_epoch: reply.producer_epoch,
        ..Default::default()
    })
}

async fn end(shared: &Rc<Shared>, ctx: &RequestContext, request: EndTxnRequest) -> ProducerReply {
    if !authorize(ctx, Operation::Write, Resource::TransactionalId(&request.transactional_id)) {
        return ProducerReply::code(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let raises = ctx.api_version >= RAISES_FROM;
    let asked = EndRequest {
        transactional_id: request.transactional_id.into(),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        commit: request.committed,
        version: if raises { TxnVersion::V2 } else { TxnVersion::V0 },
        connection: ctx.connection.id,
    };
    let id = asked.transactional_id.clone();
    match shared.core.transaction(&id, TxnRequest::End(asked)).await {
        Ok(Reply::End(reply)) => reply,
        Ok(_) => ProducerReply::code(ErrorCode::UnknownServerError),
        Err(code) => ProducerReply::code(code),
    }
}
