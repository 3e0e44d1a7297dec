//! ConsumerGroupHeartbeat (KIP-848): a member joins, leaves, or says what it has and is told what it is to have.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{GroupRequest, java_host};
use crate::shared::Shared;
use coordinator::{ConsumerHeartbeatReply, ConsumerHeartbeatRequest, Reply, TopicFilter};
use model::{ErrorCode, TopicId};
use std::rc::Rc;
use wire::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ResponseBody, Str};

/// First version whose members make their own ids.
const OWN_ID_FROM: i16 = 1;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ResponseBody {
    let reply = match check(shared, ctx, &request) {
        Ok(()) => ask(shared, convert(ctx, request)).await,
        Err(code) => ConsumerHeartbeatReply::refused(code, None),
    };
    ResponseBody::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
        throttle_time_ms: 0,
        error_code: shared.code(ctx, reply.error),
        error_message: reply.error_message.map(Str::from),
        member_id: reply.member_id.map(Str::from),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: reply.heartbeat_interval_ms,
        assignment: reply.assignment.map(assignment),
    })
}

fn check(
    shared: &Shared,
    ctx: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<(), ErrorCode> {
    if !cluster::serves_consumer_groups(&shared.core.image()) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    if !authorize(ctx, Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let mut named = request.subscribed_topic_names.iter().flatten();
    if named.any(|topic| !authorize(ctx, Operation::Describe, Resource::Topic(topic))) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    Ok(())
}

async fn ask(shared: &Rc<Shared>, request: ConsumerHeartbeatRequest) -> ConsumerHeartbeatReply {
    let group = request.group_id.clone();
    let code = match shared.core.group(&group, GroupRequest::ConsumerHeartbeat(Box::new(request))).await {
        Ok(Reply::ConsumerHeartbeat(reply)) => return reply,
        Ok(_) => ErrorCode::UnknownServerError,
        Err(code) => code,
    };
    ConsumerHeartbeatReply::refused(code, None)
}

fn convert(ctx: &RequestContext, r: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeatRequest {
    let owned = |topics: Vec<wire::consumer_group_heartbeat_request::TopicPartitions>| {
        topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect()
    };
    ConsumerHeartbeatRequest {
        group_id: r.group_id.into(),
        member_id: r.member_id.into(),
        member_epoch: r.member_epoch,
        instance_id: r.instance_id.map(String::from),
        rack_id: r.rack_id.map(String::from),
        rebalance_timeout_ms: r.rebalance_timeout_ms,
        topics: r.subscribed_topic_names.map(|names| names.into_iter().map(String::from).collect()),
        regex: r.subscribed_topic_regex.map(String::from),
        assignor: r.server_assignor.map(String::from),
        owned: r.topic_partitions.map(owned),
        client_id: ctx.client_id.to_string(),
        client_host: java_host(ctx.connection.peer),
        connection: ctx.connection.id,
        must_have_id: ctx.api_version >= OWN_ID_FROM,
        // Without an authorizer every client sees every topic.
        visible: TopicFilter::all(),
    }
}

fn assignment(topics: Vec<(TopicId, Vec<i32>)>) -> Assignment {
    let topic = |(topic_id, partitions)| TopicPartitions { topic_id, partitions };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}
