//! ListGroups: every group that this broker coordinates.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use coordinator::ListRequest;
use std::rc::Rc;
use wire::list_groups_response::ListedGroup;
use wire::{ListGroupsRequest, ListGroupsResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ListGroupsRequest,
) -> ResponseBody {
    let text = |list: Vec<Str>| list.into_iter().map(String::from).collect();
    let asked = ListRequest { states: text(request.states_filter), types: text(request.types_filter) };
    let mut response = ListGroupsResponse::default();
    match shared.core.list_groups(asked).await {
        Ok(groups) => {
            response.groups = groups
                .into_iter()
                .filter(|g| authorize(ctx, Operation::Describe, Resource::Group(&g.group_id)))
                .map(|g| ListedGroup {
                    group_id: g.group_id.into(),
                    protocol_type: g.protocol_type.into(),
                    group_state: Str::from_static(g.state),
                    group_type: Str::from_static(g.group_type),
                })
                .collect();
        }
        Err(code) => response.error_code = shared.code(ctx, code),
    }
    ResponseBody::ListGroups(response)
}
