//! Metadata: topics, their leaders, the brokers; creates missing topics where that is wanted.
use crate::context::{
    CLUSTER_OPERATIONS, Charge, OPERATIONS_NOT_ASKED, Operation, RequestContext, Resource, TOPIC_OPERATIONS,
    authorize, authorized_operations,
};
use crate::core::Topic;
use crate::shared::Shared;
use model::{ErrorCode, TopicId};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use wire::metadata_request::MetadataRequestTopic;
use wire::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use wire::{MetadataRequest, MetadataResponse, ResponseBody, Str};

/// First version in which an empty list means no topics; before it meant all.
const EMPTY_IS_NONE_FROM: i16 = 1;
/// First version in which topics may be asked by id.
const ASK_BY_ID_FROM: i16 = 12;
/// First version that says whether missing topics may be created.
const SAYS_AUTO_CREATE_FROM: i16 = 4;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    mut request: MetadataRequest,
) -> ResponseBody {
    if let Some(topics) = &mut request.topics {
        if topics.iter().any(|asked| !may_ask(ctx, asked)) {
            return refused(shared, ctx, topics);
        }
        // One id is enough for names not to count.
        if topics.iter().any(|asked| !asked.topic_id.is_zero()) {
            topics.retain(|asked| !asked.topic_id.is_zero());
            topics.iter_mut().for_each(|asked| asked.name = None);
        }
        // What is asked for twice is answered once.
        let mut seen = HashSet::new();
        topics.retain(|asked| seen.insert((asked.topic_id, asked.name.clone())));
    }
    let all = match &request.topics {
        None => true,
        Some(list) => list.is_empty() && ctx.api_version < EMPTY_IS_NONE_FROM,
    };
    if let Some(patience) = shared.young_for() {
        shared.elected(&names(shared, &request, all), patience).await;
    }
    let mut response = MetadataResponse {
        cluster_id: Some(shared.core.cluster_id().as_ref().into()),
        controller_id: shared.core.controller_id(),
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    };
    let listener = &ctx.connection.listener;
    // An operator is told who is there at this moment.
    let brokers = match ctx.is_our_command_line() {
        true => shared.core.endpoints(listener),
        false => shared.core.endpoints_for_metadata(listener),
    };
    for e in brokers {
        let (node_id, port) = (e.node, e.port);
        let (host, rack) = (e.host.into(), e.rack.map(Str::from));
        response.brokers.push(MetadataResponseBroker { node_id, host, port, rack });
    }
    if request.include_cluster_authorized_operations && (8..=10).contains(&ctx.api_version) {
        response.cluster_authorized_operations = if authorize(ctx, Operation::Describe, Resource::Cluster) {
            authorized_operations(ctx, &CLUSTER_OPERATIONS, Resource::Cluster)
        } else {
            0
        };
    }
    let with_operations = request.include_topic_authorized_operations;
    if all {
        for topic in shared.core.topics() {
            if authorize(ctx, Operation::Describe, Resource::Topic(&topic.name)) {
                response.topics.push(describe(shared, ctx, &topic, with_operations));
            }
        }
        return ResponseBody::Metadata(response);
    }
    create_missing(shared, ctx, &request).await;
    for asked in request.topics.unwrap_or_default() {
        let topic = match &asked.name {
            Some(name) => by_name(shared, ctx, name, with_operations),
            None => by_id(shared, ctx, asked.topic_id, with_operations),
        };
        response.topics.push(topic);
    }
    ResponseBody::Metadata(response)
}

/// The topics that are asked for and that are there.
fn names(shared: &Shared, request: &MetadataRequest, all: bool) -> Vec<String> {
    if all {
        return shared.core.topics().iter().map(|topic| topic.name.to_string()).collect();
    }
    let by_id = |id| shared.core.topic_by_id(id).map(|topic| topic.name.to_string());
    let name = |asked: &MetadataRequestTopic| match &asked.name {
        Some(name) => Some(name.as_str().to_owned()),
        None => by_id(asked.topic_id),
    };
    request.topics.iter().flatten().filter_map(name).collect()
}

/// What is said before this node knows its cluster: no brokers, and that the leaders of the named topics are
/// not known. `None` where all topics are asked for: an empty list would be taken for an empty cluster.
pub(crate) fn while_starting(
    shared: &Shared,
    ctx: &RequestContext,
    request: MetadataRequest,
) -> Option<ResponseBody> {
    let topics = request.topics.filter(|topics| !topics.is_empty())?;
    let later = |asked: MetadataRequestTopic| {
        let name = asked.name.filter(|_| asked.topic_id.is_zero());
        failed(shared, ctx, name, asked.topic_id, ErrorCode::LeaderNotAvailable)
    };
    Some(ResponseBody::Metadata(MetadataResponse {
        topics: topics.into_iter().map(later).collect(),
        controller_id: -1,
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    }))
}

/// Topics are named, or from version 12 on told by id alone.
fn may_ask(ctx: &RequestContext, asked: &MetadataRequestTopic) -> bool {
    if ctx.api_version < ASK_BY_ID_FROM {
        asked.topic_id.is_zero() && asked.name.is_some()
    } else {
        asked.name.is_some() || !asked.topic_id.is_zero()
    }
}

/// A request that makes no sense fails as a whole: no brokers, and the error on each of its topics.
fn refused(shared: &Shared, ctx: &RequestContext, topics: &[MetadataRequestTopic]) -> ResponseBody {
    let fail = |asked: &MetadataRequestTopic| {
        let name = Some(asked.name.clone().unwrap_or_default());
        let topic = failed(shared, ctx, name, asked.topic_id, ErrorCode::InvalidRequest);
        MetadataResponseTopic { is_internal: false, ..topic }
    };
    ResponseBody::Metadata(MetadataResponse {
        topics: topics.iter().map(fail).collect(),
        controller_id: -1,
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    })
}

/// Creates the topics of the request that are missing, if client and broker both want it, and waits:
/// the answer shows them as they are then.
async fn create_missing(shared: &Rc<Shared>, ctx: &RequestContext, request: &MetadataRequest) {
    let allowed = request.allow_auto_topic_creation || ctx.api_version < SAYS_AUTO_CREATE_FROM;
    if !allowed || !shared.core.broker_config().auto_create_topics_enable {
        return;
    }
    let missing: Vec<String> = request
        .topics
        .iter()
        .flatten()
        .filter(|t| t.topic_id.is_zero())
        .filter_map(|t| t.name.as_ref())
        .filter(|name| {
            shared.core.topic_by_name(name).is_none() && cluster::validate_topic_name(name).is_ok()
        })
        .filter(|name| {
            authorize(ctx, Operation::Describe, Resource::Topic(name))
                && (authorize(ctx, Operation::Create, Resource::Cluster)
                    || authorize(ctx, Operation::Create, Resource::Topic(name)))
        })
        .map(|name| name.as_str().to_owned())
        .collect();
    if !missing.is_empty() {
        ctx.charge(Charge::Mutation(missing.len()));
        shared.auto_create(ctx, missing).await;
    }
}

fn by_name(
    shared: &Shared,
    ctx: &RequestContext,
    name: &Str,
    with_operations: bool,
) -> MetadataResponseTopic {
    if !authorize(ctx, Operation::Describe, Resource::Topic(name)) {
        return failed(shared, ctx, Some(name.clone()), TopicId::ZERO, ErrorCode::TopicAuthorizationFailed);
    }
    if let Some(topic) = shared.core.topic_by_name(name) {
        return describe(shared, ctx, &topic, with_operations);
    }
    let code = match cluster::validate_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    failed(shared, ctx, Some(name.clone()), TopicId::ZERO, code)
}

fn by_id(shared: &Shared, ctx: &RequestContext, id: TopicId, with_operations: bool) -> MetadataResponseTopic {
    // Who may not see a topic does not learn that its id exists.
    match shared.core.topic_by_id(id) {
        Some(topic) if authorize(ctx, Operation::Describe, Resource::Topic(&topic.name)) => {
            describe(shared, ctx, &topic, with_operations)
        }
        _ => failed(shared, ctx, None, id, ErrorCode::UnknownTopicId),
    }
}

fn failed(
    shared: &Shared,
    ctx: &RequestContext,
    name: Option<Str>,
    topic_id: TopicId,
    code: ErrorCode,
) -> MetadataResponseTopic {
    // Before version 12 the name cannot be null.
    let name = if ctx.api_version < ASK_BY_ID_FROM { Some(name.unwrap_or_default()) } else { name };
    let is_internal = name.as_deref().is_some_and(cluster::is_internal);
    MetadataResponseTopic {
        error_code: shared.code(ctx, code),
        name,
        topic_id,
        is_internal,
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    }
}

fn describe(
    shared: &Shared,
    ctx: &RequestContext,
    topic: &Arc<Topic>,
    with_operations: bool,
) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions.len() as i32)
        .map(|index| {
            let view = shared.core.partition_view(topic, index, &ctx.connection.listener);
            let error = match view.error {
                // Older clients do not know the code.
                ErrorCode::ListenerNotFound if ctx.api_version < 6 => ErrorCode::LeaderNotAvailable,
                error => error,
            };
            MetadataResponsePartition {
                error_code: error.code(),
                partition_index: index,
                leader_id: view.leader,
                leader_epoch: view.leader_epoch,
                replica_nodes: view.replicas,
                isr_nodes: view.in_sync,
                offline_replicas: view.offline,
            }
        })
        .collect();
    let topic_authorized_operations = if with_operations && ctx.api_version >= 8 {
        authorized_operations(ctx, &TOPIC_OPERATIONS, Resource::Topic(&topic.name))
    } else {
        OPERATIONS_NOT_ASKED
    };
    MetadataResponseTopic {
        error_code: 0,
        name: Some(Str::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions,
        topic_authorized_operations,
    }
}
