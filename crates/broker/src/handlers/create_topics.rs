//! CreateTopics: answered when the topics are in the committed metadata and have leaders.
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::shared::{ELECTIONS, Shared};
use cluster::{CreatedTopic, ItemError, NewTopic};
use model::ErrorCode;
use node::{AdminReply, AdminRequest};
use std::rc::Rc;
use std::time::Duration;
use wire::create_topics_request::CreatableTopic;
use wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use wire::{CreateTopicsRequest, CreateTopicsResponse, ResponseBody, Str};

/// First version in which the answer shows partitions and configs.
const SHOWS_CONFIGS_FROM: i16 = 5;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: CreateTopicsRequest,
) -> ResponseBody {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut asked = Vec::new();
    let anywhere = authorize(ctx, Operation::Create, Resource::Cluster);
    for topic in request.topics {
        if anywhere || authorize(ctx, Operation::Create, Resource::Topic(&topic.name)) {
            asked.push(convert(topic));
        } else {
            let error = ItemError::bare(ErrorCode::TopicAuthorizationFailed);
            results.push(failed(shared, ctx, topic.name, &error));
        }
    }
    ctx.charge(Charge::Mutation(asked.len()));
    let names: Vec<String> = asked.iter().map(|t| t.name.clone()).collect();
    let admin = AdminRequest::CreateTopics { topics: asked, validate_only: request.validate_only };
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    match shared.admin(ctx, admin, timeout).await {
        Ok(AdminReply::Topics(outcomes)) => {
            if !request.validate_only {
                let made = outcomes.iter().filter(|outcome| outcome.result.is_ok());
                let made: Vec<String> = made.map(|outcome| outcome.name.clone()).collect();
                shared.elected(&made, timeout.min(ELECTIONS)).await;
            }
            for outcome in outcomes {
                results.push(match outcome.result {
                    Ok(created) => succeeded(shared, ctx, outcome.name, created),
                    Err(error) => failed(shared, ctx, outcome.name.into(), &error),
                });
            }
        }
        other => {
            let error = ItemError::bare(other.err().unwrap_or(ErrorCode::UnknownServerError));
            results.extend(names.into_iter().map(|name| failed(shared, ctx, name.into(), &error)));
        }
    }
    ResponseBody::CreateTopics(CreateTopicsResponse { throttle_time_ms: 0, topics: results })
}

fn convert(topic: CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.into(),
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.into_iter().map(|a| (a.partition_index, a.broker_ids)).collect(),
        configs: topic.configs.into_iter().map(|c| (c.name.into(), c.value.map(String::from))).collect(),
    }
}

fn failed(shared: &Shared, ctx: &RequestContext, name: Str, error: &ItemError) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: shared.code(ctx, error.code),
        error_message: error.message.as_ref().map(Str::from),
        num_partitions: -1,
        replication_factor: -1,
        configs: (ctx.api_version >= SHOWS_CONFIGS_FROM).then(Vec::new),
        ..Default::default()
    }
}

fn succeeded(
    shared: &Shared,
    ctx: &RequestContext,
    name: String,
    created: CreatedTopic,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult {
        topic_id: created.id,
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    };
    if ctx.api_version >= SHOWS_CONFIGS_FROM {
        if authorize(ctx, Operation::DescribeConfigs, Resource::Topic(&name)) {
            result.num_partitions = created.num_partitions;
            result.replication_factor = created.replication_factor;
            let row = |c: cluster::CreatedConfig| CreatableTopicConfigs {
                name: Str::from_static(c.name),
                value: c.value.map(Str::from),
                read_only: false,
                config_source: c.source.to_wire(),
                is_sensitive: false,
            };
            result.configs = Some(created.configs.into_iter().map(row).collect());
        } else {
            result.configs = Some(Vec::new());
            result.topic_config_error_code = shared.code(ctx, ErrorCode::TopicAuthorizationFailed);
        }
    }
    result.name = name.into();
    result
}
