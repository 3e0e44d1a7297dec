//! AlterConfigs: replaces all dynamic configs of resources. Java's tools left it in 4.0, librdkafka uses it.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::{AlterEntry, AlterResource, ItemError, ItemResult, ResourceKind};
use model::ErrorCode;
use node::{AdminReply, AdminRequest};
use std::rc::Rc;
use std::time::Duration;
use wire::alter_configs_response::AlterConfigsResourceResponse;
use wire::{AlterConfigsRequest, AlterConfigsResponse, ResponseBody, Str};

/// The request has no time limit of its own; clients give up after 30 s by default.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: AlterConfigsRequest,
) -> ResponseBody {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut asked = Vec::new();
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, String::from(resource.resource_name));
        if let Some(code) = denied(ctx, kind, &name) {
            responses.push(answer(shared, ctx, kind, name, &Err(ItemError::bare(code))));
            continue;
        }
        let entry = |c: wire::alter_configs_request::AlterableConfig| AlterEntry {
            name: c.name.into(),
            value: c.value.map(String::from),
        };
        asked.push(AlterResource { kind, name, entries: resource.configs.into_iter().map(entry).collect() });
    }
    let names: Vec<(i8, String)> = asked.iter().map(|r| (r.kind, r.name.clone())).collect();
    let admin = AdminRequest::AlterConfigs { resources: asked, validate_only: request.validate_only };
    let outcomes = outcomes(shared.admin(ctx, admin, PATIENCE).await, names.len());
    for ((kind, name), outcome) in names.into_iter().zip(outcomes) {
        responses.push(answer(shared, ctx, kind, name, &outcome));
    }
    ResponseBody::AlterConfigs(AlterConfigsResponse { throttle_time_ms: 0, responses })
}

/// Outcome by item, or the same refusal for all.
pub(super) fn outcomes(reply: Result<AdminReply, ErrorCode>, count: usize) -> Vec<ItemResult<()>> {
    match reply {
        Ok(AdminReply::Done(outcomes)) => outcomes,
        other => {
            let code = other.err().unwrap_or(ErrorCode::UnknownServerError);
            vec![Err(ItemError::bare(code)); count]
        }
    }
}

pub(super) fn denied(ctx: &RequestContext, kind: i8, name: &str) -> Option<ErrorCode> {
    let (on, code) = match ResourceKind::from_wire(kind) {
        Some(ResourceKind::Topic) => (Resource::Topic(name), ErrorCode::TopicAuthorizationFailed),
        Some(ResourceKind::Group) => (Resource::Group(name), ErrorCode::GroupAuthorizationFailed),
        _ => (Resource::Cluster, ErrorCode::ClusterAuthorizationFailed),
    };
    (!authorize(ctx, Operation::AlterConfigs, on)).then_some(code)
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
