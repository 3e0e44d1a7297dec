//! SyncGroup: a member gets its assignment.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use bytes::Bytes;
use coordinator::{Reply, SyncReply, SyncRequest};
use model::ErrorCode;
use std::rc::Rc;
use wire::{ResponseBody, Str, SyncGroupRequest, SyncGroupResponse};

/// From this version on protocol type and name must be there.
const NAMES_PROTOCOL_FROM: i16 = 5;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: SyncGroupRequest,
) -> ResponseBody {
    let reply = sync(shared, ctx, request).await;
    ResponseBody::SyncGroup(SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: shared.code(ctx, reply.error),
        protocol_type: reply.protocol_type.map(Str::from),
        protocol_name: reply.protocol_name.map(Str::from),
        assignment: reply.assignment,
    })
}

async fn sync(shared: &Rc<Shared>, ctx: &RequestContext, r: SyncGroupRequest) -> SyncReply {
    if ctx.api_version >= NAMES_PROTOCOL_FROM && (r.protocol_type.is_none() || r.protocol_name.is_none()) {
        return SyncReply::refused(ErrorCode::InconsistentGroupProtocol);
    }
    if !authorize(ctx, Operation::Read, Resource::Group(&r.group_id)) {
        return SyncReply::refused(ErrorCode::GroupAuthorizationFailed);
    }
    let request = SyncRequest {
        group_id: r.group_id.into(),
        generation_id: r.generation_id,
        member_id: r.member_id.into(),
        instance_id: r.group_instance_id.map(String::from),
        protocol_type: r.protocol_type.map(String::from),
        protocol_name: r.protocol_name.map(String::from),
        assignments: r
            .assignments
            .into_iter()
            .map(|a| (a.member_id.into(), Bytes::copy_from_slice(&a.assignment)))
            .collect(),
    };
    match shared.core.group(&request.group_id.clone(), GroupRequest::Sync(request)).await {
        Ok(Reply::Sync(reply)) => reply,
        Ok(_) => SyncReply::refused(ErrorCode::UnknownServerError),
        Err(code) => SyncReply::refused(code),
    }
}
