//! DeleteGroups: empty groups go, with their offsets.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::Reply;
use model::ErrorCode;
use std::collections::HashSet;
use std::rc::Rc;
use wire::delete_groups_response::DeletableGroupResult;
use wire::{DeleteGroupsRequest, DeleteGroupsResponse, ResponseBody};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DeleteGroupsRequest,
) -> ResponseBody {
    let mut results = Vec::with_capacity(request.groups_names.len());
    // What is named twice is answered once.
    let mut seen = HashSet::new();
    for group_id in request.groups_names {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let code = if authorize(ctx, Operation::Delete, Resource::Group(&group_id)) {
            match shared
                .core
                .group(&group_id, GroupRequest::DeleteGroups(vec![group_id.as_str().to_owned()]))
                .await
            {
                Ok(Reply::DeleteGroups(rows)) => {
                    rows.first().map_or(ErrorCode::GroupIdNotFound, |(_, code)| *code)
                }
                Ok(_) => ErrorCode::UnknownServerError,
                Err(code) => code,
            }
        } else {
            ErrorCode::GroupAuthorizationFailed
        };
        results.push(DeletableGroupResult {
            group_id,
            error_code: shared.code(ctx, code),
            error_message: None,
        });
    }
    ResponseBody::DeleteGroups(DeleteGroupsResponse { results, ..Default::default() })
}
