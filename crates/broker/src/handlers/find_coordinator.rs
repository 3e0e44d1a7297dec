//! FindCoordinator: where a group, or a transactional id, lives.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use model::ErrorCode;
use std::rc::Rc;
use wire::find_coordinator_response::Coordinator;
use wire::{FindCoordinatorRequest, FindCoordinatorResponse, ResponseBody, Str};

/// First version with several keys in a request.
const BATCHED_FROM: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: FindCoordinatorRequest,
) -> ResponseBody {
    // The first group of a cluster makes the topic that groups live in, the first transactional id that of transactions.
    if let Some(topic) = topic_of(request.key_type) {
        shared.internal_topic(ctx, topic).await;
    }
    if ctx.api_version >= BATCHED_FROM {
        let find = |key: &Str| find(shared, ctx, request.key_type, key);
        let coordinators = request.coordinator_keys.iter().map(find).collect();
        return ResponseBody::FindCoordinator(FindCoordinatorResponse { coordinators, ..Default::default() });
    }
    let found = find(shared, ctx, request.key_type, &request.key);
    ResponseBody::FindCoordinator(FindCoordinatorResponse {
        error_code: found.error_code,
        // These versions tell the name of the code, also that of no error.
        error_message: if found.error_code == 0 {
            Some(Str::from_static(ErrorCode::None.name()))
        } else {
            found.error_message
        },
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    })
}

/// The topic in whose partitions such keys live.
fn topic_of(key_type: i8) -> Option<&'static str> {
    match key_type {
        GROUP => Some(cluster::CONSUMER_OFFSETS),
        TRANSACTION => Some(cluster::TRANSACTION_STATE),
        _ => None,
    }
}

fn find(shared: &Shared, ctx: &RequestContext, key_type: i8, key: &Str) -> Coordinator {
    match coordinator(shared, ctx, key_type, key) {
        Ok(found) => found,
        Err((code, message)) => Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: shared.code(ctx, code),
            error_message: Some(message.map_or_else(|| Str::from_static(code.name()), Str::from_static)),
            ..Default::default()
        },
    }
}

fn coordinator(
    shared: &Shared,
    ctx: &RequestContext,
    key_type: i8,
    key: &Str,
) -> Result<Coordinator, (ErrorCode, Option<&'static str>)> {
    match key_type {
        GROUP if !authorize(ctx, Operation::Describe, Resource::Group(key)) => {
            return Err((ErrorCode::GroupAuthorizationFailed, None));
        }
        TRANSACTION if !authorize(ctx, Operation::Describe, Resource::TransactionalId(key)) => {
            return Err((ErrorCode::TransactionalIdAuthorizationFailed, None));
        }
        _ => {}
    }
    let topic = topic_of(key_type).ok_or((ErrorCode::InvalidRequest, None))?;
    let node = shared.core.coordinator_node(topic, key).ok_or((ErrorCode::CoordinatorNotAvailable, None))?;
    let endpoint = shared.core.endpoints(&ctx.connection.listener).into_iter().find(|e| e.node == node);
    let endpoint = endpoint.ok_or((ErrorCode::CoordinatorNotAvailable, None))?;
    Ok(Coordinator {
        key: key.clone(),
        node_id: node,
        host: endpoint.host.into(),
        port: endpoint.port,
        error_code: 0,
        error_message: Some(Str::from_static("")),
    })
}
