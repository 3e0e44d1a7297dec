//! JoinGroup: waits until the rebalance it takes part in is complete.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{GroupRequest, java_host};
use crate::shared::Shared;
use coordinator::{JoinReply, JoinRequest, Protocol, Reply};
use model::ErrorCode;
use std::rc::Rc;
use wire::join_group_response::JoinGroupResponseMember;
use wire::{JoinGroupRequest, JoinGroupResponse, ResponseBody, Str};

/// First version in which a new member must come back with the id it is given.
const KNOWN_ID_FROM: i16 = 4;
/// First version in which the protocol's name may be null.
const NULL_NAME_FROM: i16 = 7;
/// First version in which the leader may be told to skip its assignment.
const SKIP_FROM: i16 = 9;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: JoinGroupRequest,
) -> ResponseBody {
    let member_id = request.member_id.as_str().to_owned();
    let reply = if authorize(ctx, Operation::Read, Resource::Group(&request.group_id)) {
        let request = convert(ctx, request);
        let group = request.group_id.clone();
        match shared.core.group(&group, GroupRequest::Join(request)).await {
            Ok(Reply::Join(reply)) => reply,
            Ok(_) => JoinReply::refused(ErrorCode::UnknownServerError, &member_id),
            Err(code) => JoinReply::refused(code, &member_id),
        }
    } else {
        JoinReply::refused(ErrorCode::GroupAuthorizationFailed, &member_id)
    };
    ResponseBody::JoinGroup(JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: shared.code(ctx, reply.error),
        generation_id: reply.generation_id,
        protocol_type: reply.protocol_type.map(Str::from),
        protocol_name: match reply.protocol_name {
            None if ctx.api_version < NULL_NAME_FROM => Some(Str::default()),
            name => name.map(Str::from),
        },
        leader: reply.leader.into(),
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id.into(),
        members: reply
            .members
            .into_iter()
            .map(|m| JoinGroupResponseMember {
                member_id: m.member_id.into(),
                group_instance_id: m.instance_id.map(Str::from),
                metadata: m.metadata,
            })
            .collect(),
    })
}

fn convert(ctx: &RequestContext, r: JoinGroupRequest) -> JoinRequest {
    JoinRequest {
        group_id: r.group_id.into(),
        member_id: r.member_id.into(),
        instance_id: r.group_instance_id.map(String::from),
        client_id: ctx.client_id.to_string(),
        client_host: java_host(ctx.connection.peer),
        session_timeout_ms: r.session_timeout_ms,
        rebalance_timeout_ms: r.rebalance_timeout_ms,
        protocol_type: r.protocol_type.into(),
        protocols: r
            .protocols
            .into_iter()
            .map(|p| Protocol { name: p.name.into(), metadata: detach(p.metadata) })
            .collect(),
        require_known_member_id: ctx.api_version >= KNOWN_ID_FROM,
        supports_skip_assignment: ctx.api_version >= SKIP_FROM,
        reason: r.reason.map(String::from),
    }
}

/// What a group keeps must not keep the whole frame alive.
fn detach(bytes: bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&bytes)
}
