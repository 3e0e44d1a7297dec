//! DescribeGroups: state, members and assignments.
use crate::context::{
    GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, Operation, RequestContext, Resource, authorize,
    authorized_operations,
};
use crate::shared::Shared;
use coordinator::{DescribedGroup, RebalanceCause};
use model::ErrorCode;
use std::fmt::Write;
use std::rc::Rc;
use wire::describe_groups_response::{self as out, DescribedGroupMember};
use wire::{DescribeGroupsRequest, DescribeGroupsResponse, ResponseBody, Str};

/// First version that knows GROUP_ID_NOT_FOUND and a text.
const NOT_FOUND_FROM: i16 = 6;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeGroupsRequest,
) -> ResponseBody {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let allowed = authorize(ctx, Operation::Describe, Resource::Group(&group_id));
        let described = if allowed {
            shared.core.describe_group(&group_id).await
        } else {
            Err(ErrorCode::GroupAuthorizationFailed)
        };
        let mut group = match described {
            Ok(described) => encode(shared, ctx, described),
            Err(code) => out::DescribedGroup {
                error_code: shared.code(ctx, code),
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
    ResponseBody::DescribeGroups(DescribeGroupsResponse { groups, ..Default::default() })
}

fn encode(shared: &Shared, ctx: &RequestContext, group: DescribedGroup) -> out::DescribedGroup {
    let missing = group.error == ErrorCode::GroupIdNotFound;
    let code = if missing && ctx.api_version < NOT_FOUND_FROM { ErrorCode::None } else { group.error };
    let error_message = if ctx.api_version < NOT_FOUND_FROM {
        None
    } else if code.is_none() && ctx.is_our_command_line() {
        // A successful answer has no use for its error text.
        Some(Str::from(rebalance_log(&group.causes)))
    } else {
        group.error_message.map(Str::from)
    };
    out::DescribedGroup {
        error_code: shared.code(ctx, code),
        error_message,
        group_id: group.group_id.into(),
        group_state: Str::from_static(group.state),
        protocol_type: group.protocol_type.into(),
        protocol_data: group.protocol_data.into(),
        members: group
            .members
            .into_iter()
            .map(|m| DescribedGroupMember {
                member_id: m.member_id.into(),
                group_instance_id: m.instance_id.map(Str::from),
                client_id: m.client_id.into(),
                client_host: m.client_host.into(),
                member_metadata: m.metadata,
                member_assignment: m.assignment,
            })
            .collect(),
        authorized_operations: OPERATIONS_NOT_ASKED,
    }
}

/// A line an event: time, generation, kind, member and reason with tabs between them, oldest first.
pub(super) fn rebalance_log(causes: &[RebalanceCause]) -> String {
    let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
    let mut log = String::new();
    for cause in causes {
        let member = if cause.member_id.is_empty() { "-".to_owned() } else { plain(&cause.member_id) };
        let (kind, reason) = (cause.kind.name(), plain(&cause.reason));
        // Writing to a String cannot fail.
        let _ = writeln!(log, "{}\t{}\t{kind}\t{member}\t{reason}", cause.at, cause.generation_id);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator::CauseKind;

    #[test]
    fn a_clients_words_cannot_forge_lines_of_the_log() {
        let cause = RebalanceCause {
            at: 5,
            generation_id: 2,
            member_id: String::new(),
            kind: CauseKind::MemberJoined,
            reason: "a\tb\nc".to_owned(),
        };
        assert_eq!(rebalance_log(&[cause]), "5\t2\tmember-joined\t-\ta b c\n");
    }
}
