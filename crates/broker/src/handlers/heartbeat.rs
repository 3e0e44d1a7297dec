//! Heartbeat: a member is alive.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::Reply;
use model::ErrorCode;
use std::rc::Rc;
use wire::{HeartbeatRequest, HeartbeatResponse, ResponseBody};

pub(crate) async fn handle(shared: &Rc<Shared>, ctx: &RequestContext, r: HeartbeatRequest) -> ResponseBody {
    let code = if authorize(ctx, Operation::Read, Resource::Group(&r.group_id)) {
        let request = coordinator::HeartbeatRequest {
            group_id: r.group_id.into(),
            generation_id: r.generation_id,
            member_id: r.member_id.into(),
            instance_id: r.group_instance_id.map(String::from),
        };
        match shared.core.group(&request.group_id.clone(), GroupRequest::Heartbeat(request)).await {
            Ok(Reply::Heartbeat(code)) => code,
            Ok(_) => ErrorCode::UnknownServerError,
            Err(code) => code,
        }
    } else {
        ErrorCode::GroupAuthorizationFailed
    };
    ResponseBody::Heartbeat(HeartbeatResponse { throttle_time_ms: 0, error_code: shared.code(ctx, code) })
}
