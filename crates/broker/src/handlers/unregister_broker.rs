//! UnregisterBroker: what a broker had is lost, and it may come back with another directory.
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::handlers::alter_configs::PATIENCE;
use crate::shared::Shared;
use cluster::ItemError;
use model::ErrorCode;
use node::{AdminReply, AdminRequest};
use std::rc::Rc;
use wire::{ResponseBody, UnregisterBrokerRequest, UnregisterBrokerResponse};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: UnregisterBrokerRequest,
) -> ResponseBody {
    let mut response = UnregisterBrokerResponse::default();
    if !authorize(ctx, Operation::Alter, Resource::Cluster) {
        response.error_code = shared.code(ctx, ErrorCode::ClusterAuthorizationFailed);
        return ResponseBody::UnregisterBroker(response);
    }
    ctx.charge(Charge::Mutation(1));
    let error: Option<ItemError> =
        match shared.admin(ctx, AdminRequest::Unregister(request.broker_id), PATIENCE).await {
            Ok(AdminReply::Done(outcomes)) => outcomes.into_iter().find_map(Result::err),
            other => Some(ItemError::bare(other.err().unwrap_or(ErrorCode::UnknownServerError))),
        };
    if let Some(error) = error {
        response.error_code = shared.code(ctx, error.code);
        response.error_message = error.message.as_deref().map(Into::into);
    }
    ResponseBody::UnregisterBroker(response)
}
