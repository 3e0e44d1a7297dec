//! ConsumerGroupDescribe (KIP-848): epochs, members, what they have and what they are to have.
use super::describe_groups::rebalance_log;
use crate::context::{
    GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, Operation, RequestContext, Resource, authorize,
    authorized_operations,
};
use crate::shared::Shared;
use coordinator::{DescribedConsumer, DescribedConsumerGroup, DescribedTopic};
use model::ErrorCode;
use std::rc::Rc;
use wire::consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use wire::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> ResponseBody {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let mut group = match describe(shared, ctx, &group_id).await {
            Ok(described) => encode(shared, ctx, described),
            Err((code, text)) => DescribedGroup {
                error_code: shared.code(ctx, code),
                error_message: text.map(Str::from_static),
                group_id: group_id.clone(),
                ..Default::default()
            },
        };
        group.authorized_operations = if request.include_authorized_operations && group.error_code == 0 {
            authorized_operations(ctx, &GROUP_OPERATIONS, Resource::Group(&group_id))
        } else {
            OPERATIONS_NOT_ASKED
        };
        groups.push(group);
    }
    ResponseBody::ConsumerGroupDescribe(ConsumerGroupDescribeResponse { groups, ..Default::default() })
}

/// The group, unless a member reads or is to read what the client may not see.
async fn describe(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    group_id: &str,
) -> Result<DescribedConsumerGroup, (ErrorCode, Option<&'static str>)> {
    if !cluster::serves_consumer_groups(&shared.core.image()) {
        return Err((ErrorCode::UnsupportedVersion, None));
    }
    if !authorize(ctx, Operation::Describe, Resource::Group(group_id)) {
        return Err((ErrorCode::GroupAuthorizationFailed, None));
    }
    let group = shared.core.describe_consumer_group(group_id).await.map_err(|code| (code, None))?;
    let hidden = |topic: &str| !authorize(ctx, Operation::Describe, Resource::Topic(topic));
    let shows_hidden = |member: &DescribedConsumer| {
        let partitions = member.assignment.iter().chain(&member.target).map(|topic| &topic.name);
        member.topics.iter().chain(partitions).any(|topic| hidden(topic))
    };
    if group.members.iter().any(shows_hidden) {
        let text = "The group has described topic(s) that the client is not authorized to describe.";
        return Err((ErrorCode::TopicAuthorizationFailed, Some(text)));
    }
    Ok(group)
}

fn encode(shared: &Shared, ctx: &RequestContext, group: DescribedConsumerGroup) -> DescribedGroup {
    let error_message = if group.error.is_none() && ctx.is_our_command_line() {
        Some(Str::from(rebalance_log(&group.causes)))
    } else {
        group.error_message.map(Str::from)
    };
    DescribedGroup {
        error_code: shared.code(ctx, group.error),
        error_message,
        group_id: group.group_id.into(),
        group_state: Str::from_static(group.state),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: Str::from_static(group.assignor),
        members: group.members.into_iter().map(member).collect(),
        authorized_operations: OPERATIONS_NOT_ASKED,
    }
}

fn member(m: DescribedConsumer) -> Member {
    Member {
        member_id: m.member_id.into(),
        instance_id: m.instance_id.map(Str::from),
        rack_id: m.rack_id.map(Str::from),
        member_epoch: m.member_epoch,
        client_id: m.client_id.into(),
        client_host: m.client_host.into(),
        subscribed_topic_names: m.topics.into_iter().map(Str::from).collect(),
        // Empty where there is none, as in Kafka.
        subscribed_topic_regex: Some(m.regex.unwrap_or_default().into()),
        assignment: assignment(m.assignment),
        target_assignment: assignment(m.target),
        member_type: i8::from(!m.is_classic),
    }
}

fn assignment(topics: Vec<DescribedTopic>) -> Assignment {
    let one = |topic: DescribedTopic| TopicPartitions {
        topic_id: topic.id,
        topic_name: topic.name.into(),
        partitions: topic.partitions,
    };
    Assignment { topic_partitions: topics.into_iter().map(one).collect() }
}
