//! ListConfigResources: what has configs, by type.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::ResourceKind;
use model::ErrorCode;
use std::rc::Rc;
use wire::list_config_resources_response::ConfigResource;
use wire::{ListConfigResourcesRequest, ListConfigResourcesResponse, ResponseBody};

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ResponseBody {
    let mut response = ListConfigResourcesResponse::default();
    if !authorize(ctx, Operation::DescribeConfigs, Resource::Cluster) {
        response.error_code = shared.code(ctx, ErrorCode::ClusterAuthorizationFailed);
        return ResponseBody::ListConfigResources(response);
    }
    // Version 0 lists client metrics subscriptions and nothing else.
    let kinds = if ctx.api_version == 0 {
        vec![ResourceKind::ClientMetrics.to_wire()]
    } else {
        request.resource_types
    };
    match cluster::list_config_resources(&shared.core.image(), &kinds) {
        Ok(found) => {
            let row = |(resource_type, name): (i8, String)| ConfigResource {
                resource_name: name.into(),
                resource_type,
            };
            response.config_resources = found.into_iter().map(row).collect();
        }
        Err(code) => response.error_code = shared.code(ctx, code),
    }
    ResponseBody::ListConfigResources(response)
}
