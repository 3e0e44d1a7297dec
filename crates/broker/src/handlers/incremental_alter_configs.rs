//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from single configs.
use crate::context::RequestContext;
use crate::handlers::alter_configs::{PATIENCE, denied, outcomes};
use crate::shared::Shared;
use cluster::{IncrementalEntry, IncrementalResource, ItemError, ItemResult};
use node::AdminRequest;
use std::rc::Rc;
use wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use wire::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> ResponseBody {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut asked = Vec::new();
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, String::from(resource.resource_name));
        if let Some(code) = denied(ctx, kind, &name) {
            responses.push(answer(shared, ctx, kind, name, &Err(ItemError::bare(code))));
            continue;
        }
        let entry = |c: wire::incremental_alter_configs_request::AlterableConfig| IncrementalEntry {
            name: c.name.into(),
            operation: c.config_operation,
            value: c.value.map(String::from),
        };
        asked.push(IncrementalResource {
            kind,
            name,
            entries: resource.configs.into_iter().map(entry).collect(),
        });
    }
    let names: Vec<(i8, String)> = asked.iter().map(|r| (r.kind, r.name.clone())).collect();
    let admin =
        AdminRequest::IncrementalAlterConfigs { resources: asked, validate_only: request.validate_only };
    let outcomes = outcomes(shared.admin(ctx, admin, PATIENCE).await, names.len());
    for ((kind, name), outcome) in names.into_iter().zip(outcomes) {
        responses.push(answer(shared, ctx, kind, name, &outcome));
    }
    ResponseBody::IncrementalAlterConfigs(IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses })
}

fn answer(
    shared: &Shared,
    ctx: &RequestContext,
    resource_type: i8,
    name: String,
    outcome: &ItemResult<()>,
) -> AlterConfigsResourceResponse {
    let error = outcome.as_ref().err();
    AlterConfigsResourceResponse {
        error_code: error.map_or(0, |e| shared.code(ctx, e.code)),
        error_message: error.and_then(|e| e.message.as_ref()).map(Str::from),
        resource_type,
        resource_name: name.into(),
    }
}
