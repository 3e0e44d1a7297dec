//! DeleteTopics: by name, or from version 6 on by id.
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::{ItemError, TopicRef};
use model::{ErrorCode, TopicId};
use node::{AdminReply, AdminRequest};
use std::rc::Rc;
use std::time::Duration;
use wire::delete_topics_response::DeletableTopicResult;
use wire::{DeleteTopicsRequest, DeleteTopicsResponse, ResponseBody, Str};

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 6;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DeleteTopicsRequest,
) -> ResponseBody {
    let topics: Vec<TopicRef> = if ctx.api_version >= TOPIC_IDS_FROM {
        request
            .topics
            .into_iter()
            .map(|t| TopicRef { name: t.name.map(String::from), id: t.topic_id })
            .collect()
    } else {
        let by_name = |name: Str| TopicRef { name: Some(name.into()), id: TopicId::ZERO };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut responses = Vec::with_capacity(topics.len());
    if !shared.core.broker_config().delete_topic_enable {
        let error = ItemError::bare(if ctx.api_version < 3 {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TopicDeletionDisabled
        });
        responses.extend(topics.into_iter().map(|t| answer(shared, ctx, t.name, t.id, Some(&error))));
        return ResponseBody::DeleteTopics(DeleteTopicsResponse { throttle_time_ms: 0, responses });
    }
    let mut asked = Vec::with_capacity(topics.len());
    for topic in topics {
        match refusal(shared, ctx, &topic) {
            // A name that may not be seen is not told to who asked by id.
            Some(code) => {
                let error = ItemError::bare(code);
                responses.push(answer(shared, ctx, topic.name, topic.id, Some(&error)));
            }
            None => asked.push(topic),
        }
    }
    ctx.charge(Charge::Mutation(asked.len()));
    let refs = asked.clone();
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    match shared.admin(ctx, AdminRequest::DeleteTopics(asked), timeout).await {
        Ok(AdminReply::Deleted(outcomes)) => {
            // What is named twice has one outcome: only the outcome knows whose it is.
            for outcome in outcomes {
                let error = outcome.result.err();
                responses.push(answer(shared, ctx, outcome.name, outcome.id, error.as_ref()));
            }
        }
        other => {
            let error = ItemError::bare(other.err().unwrap_or(ErrorCode::UnknownServerError));
            responses.extend(refs.into_iter().map(|t| answer(shared, ctx, t.name, t.id, Some(&error))));
        }
    }
    ResponseBody::DeleteTopics(DeleteTopicsResponse { throttle_time_ms: 0, responses })
}

fn refusal(shared: &Shared, ctx: &RequestContext, topic: &TopicRef) -> Option<ErrorCode> {
    let known = match &topic.name {
        Some(name) => shared.core.topic_by_name(name),
        None => shared.core.topic_by_id(topic.id),
    };
    let name = known.as_ref().map(|t| t.name.to_string()).or_else(|| topic.name.clone())?;
    if !authorize(ctx, Operation::Describe, Resource::Topic(&name)) && topic.name.is_none() {
        return Some(ErrorCode::UnknownTopicId);
    }
    (!authorize(ctx, Operation::Delete, Resource::Topic(&name)))
        .then_some(ErrorCode::TopicAuthorizationFailed)
}

fn answer(
    shared: &Shared,
    ctx: &RequestContext,
    name: Option<String>,
    topic_id: TopicId,
    error: Option<&ItemError>,
) -> DeletableTopicResult {
    // Before version 6 the name cannot be null.
    let name = if ctx.api_version < TOPIC_IDS_FROM { Some(name.unwrap_or_default()) } else { name };
    DeletableTopicResult {
        name: name.map(Str::from),
        topic_id,
        error_code: error.map_or(0, |e| shared.code(ctx, e.code)),
        error_message: error.and_then(|e| e.message.as_ref()).map(Str::from),
    }
}
