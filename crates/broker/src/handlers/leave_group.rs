//! LeaveGroup: members go, or an administrator removes them.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::{LeaveReply, LeaveRequest, LeavingMember, Reply};
use model::ErrorCode;
use std::rc::Rc;
use wire::leave_group_response::MemberResponse;
use wire::{LeaveGroupRequest, LeaveGroupResponse, ResponseBody, Str};

/// First version with several members in a request.
const BATCHED_FROM: i16 = 3;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: LeaveGroupRequest,
) -> ResponseBody {
    let reply = leave(shared, ctx, request).await;
    let mut code = reply.error;
    let mut members = Vec::new();
    if ctx.api_version < BATCHED_FROM {
        // One member alone: its outcome is that of the request.
        if code.is_none() {
            code = reply.members.first().map_or(ErrorCode::None, |m| m.error);
        }
    } else {
        members = reply
            .members
            .into_iter()
            .map(|m| MemberResponse {
                member_id: m.member_id.into(),
                group_instance_id: m.instance_id.map(Str::from),
                error_code: shared.code(ctx, m.error),
            })
            .collect();
    }
    ResponseBody::LeaveGroup(LeaveGroupResponse {
        throttle_time_ms: 0,
        error_code: shared.code(ctx, code),
        members,
    })
}

async fn leave(shared: &Rc<Shared>, ctx: &RequestContext, r: LeaveGroupRequest) -> LeaveReply {
    let refused = |error| LeaveReply { error, members: Vec::new() };
    if !authorize(ctx, Operation::Read, Resource::Group(&r.group_id)) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    let members = if ctx.api_version < BATCHED_FROM {
        vec![LeavingMember { member_id: r.member_id.into(), instance_id: None, reason: None }]
    } else {
        r.members
            .into_iter()
            .map(|m| LeavingMember {
                member_id: m.member_id.into(),
                instance_id: m.group_instance_id.map(String::from),
                reason: m.reason.map(String::from),
            })
            .collect()
    };
    let request = LeaveRequest { group_id: r.group_id.into(), members };
    match shared.core.group(&request.group_id.clone(), GroupRequest::Leave(request)).await {
        Ok(Reply::Leave(reply)) => reply,
        Ok(_) => refused(ErrorCode::UnknownServerError),
        Err(code) => refused(code),
    }
}
