//! DescribeConfigs: every config with its source, type, synonyms and documentation.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::{ConfigSource, DescribeResource, DescribedConfig, DescribedResource, ItemError, ResourceKind};
use model::ErrorCode;
use std::rc::Rc;
use wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::{DescribeConfigsRequest, DescribeConfigsResponse, ResponseBody, Str};

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeConfigsRequest,
) -> ResponseBody {
    let resources: Vec<DescribeResource> = request
        .resources
        .into_iter()
        .map(|r| DescribeResource {
            kind: r.resource_type,
            name: r.resource_name.into(),
            keys: r.configuration_keys.map(|keys| keys.into_iter().map(String::from).collect()),
        })
        .collect();
    let image = shared.core.image();
    let loggers = [("root".to_owned(), "INFO".to_owned())];
    let described = cluster::describe_configs(
        &image,
        &resources,
        request.include_synonyms,
        request.include_documentation,
        &loggers,
    );
    let results = described
        .into_iter()
        .map(|mut resource| {
            if let Some(code) = denied(ctx, &resource) {
                resource.result = Err(ItemError::bare(code));
            }
            encode(shared, ctx, resource)
        })
        .collect();
    ResponseBody::DescribeConfigs(DescribeConfigsResponse { throttle_time_ms: 0, results })
}

fn denied(ctx: &RequestContext, resource: &DescribedResource) -> Option<ErrorCode> {
    let (on, code) = match ResourceKind::from_wire(resource.kind) {
        Some(ResourceKind::Topic) => (Resource::Topic(&resource.name), ErrorCode::TopicAuthorizationFailed),
        Some(ResourceKind::Group) => (Resource::Group(&resource.name), ErrorCode::GroupAuthorizationFailed),
        _ => (Resource::Cluster, ErrorCode::ClusterAuthorizationFailed),
    };
    (!authorize(ctx, Operation::DescribeConfigs, on)).then_some(code)
}

fn encode(shared: &Shared, ctx: &RequestContext, resource: DescribedResource) -> DescribeConfigsResult {
    let mut out = DescribeConfigsResult {
        resource_type: resource.kind,
        resource_name: resource.name.into(),
        error_message: Some(Str::default()),
        ..Default::default()
    };
    match resource.result {
        Ok(configs) => out.configs = configs.into_iter().map(encode_config).collect(),
        Err(error) => {
            out.error_code = shared.code(ctx, error.code);
            out.error_message = Some(error.message.map(Str::from).unwrap_or_default());
        }
    }
    out
}

fn encode_config(config: DescribedConfig) -> DescribeConfigsResourceResult {
    let synonym = |s: cluster::DescribedSynonym| DescribeConfigsSynonym {
        name: s.name.into(),
        value: s.value.map(Str::from),
        source: s.source.to_wire(),
    };
    DescribeConfigsResourceResult {
        name: config.name.into(),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        is_default: config.source == ConfigSource::Default,
        config_source: config.source.to_wire(),
        is_sensitive: config.is_sensitive,
        synonyms: config.synonyms.into_iter().map(synonym).collect(),
        config_type: config.kind,
        documentation: config.documentation.map(Str::from),
    }
}
