//! CreatePartitions: more partitions for topics.
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::shared::{ELECTIONS, Shared};
use cluster::{ItemError, ItemResult, NewPartitions};
use model::ErrorCode;
use node::{AdminReply, AdminRequest};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;
use wire::create_partitions_response::CreatePartitionsTopicResult;
use wire::{CreatePartitionsRequest, CreatePartitionsResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: CreatePartitionsRequest,
) -> ResponseBody {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut asked: Vec<NewPartitions> = Vec::new();
    for topic in request.topics {
        if !authorize(ctx, Operation::Alter, Resource::Topic(&topic.name)) {
            let error = Err(ItemError::bare(ErrorCode::TopicAuthorizationFailed));
            results.push(answer(shared, ctx, topic.name, &error));
            continue;
        }
        asked.push(NewPartitions {
            name: topic.name.into(),
            count: topic.count,
            assignments: topic.assignments.map(|list| list.into_iter().map(|a| a.broker_ids).collect()),
        });
    }
    // A name asked for twice has one answer.
    let mut seen = HashSet::new();
    let names: Vec<String> =
        asked.iter().filter(|topic| seen.insert(&topic.name)).map(|topic| topic.name.clone()).collect();
    ctx.charge(Charge::Mutation(asked.len()));
    let admin = AdminRequest::CreatePartitions { topics: asked, validate_only: request.validate_only };
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    match shared.admin(ctx, admin, timeout).await {
        Ok(AdminReply::Done(outcomes)) => {
            shared.elected(&names, timeout.min(ELECTIONS)).await;
            for (name, outcome) in names.into_iter().zip(outcomes) {
                results.push(answer(shared, ctx, name.into(), &outcome));
            }
        }
        other => {
            let error = Err(ItemError::bare(other.err().unwrap_or(ErrorCode::UnknownServerError)));
            results.extend(names.into_iter().map(|name| answer(shared, ctx, name.into(), &error)));
        }
    }
    ResponseBody::CreatePartitions(CreatePartitionsResponse { throttle_time_ms: 0, results })
}

fn answer(
    shared: &Shared,
    ctx: &RequestContext,
    name: Str,
    outcome: &ItemResult<()>,
) -> CreatePartitionsTopicResult {
    let error = outcome.as_ref().err();
    CreatePartitionsTopicResult {
        name,
        error_code: error.map_or(0, |e| shared.code(ctx, e.code)),
        error_message: error.and_then(|e| e.message.as_ref()).map(Str::from),
    }
}
