//! OffsetDelete: a group forgets offsets of topics it does not read.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::GroupRequest;
use crate::shared::Shared;
use coordinator::{DeleteOffsetsRequest, Reply, TopicPartitions};
use model::ErrorCode;
use std::rc::Rc;
use wire::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use wire::{OffsetDeleteRequest, OffsetDeleteResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: OffsetDeleteRequest,
) -> ResponseBody {
    let failed = |code| {
        let error_code = shared.code(ctx, code);
        ResponseBody::OffsetDelete(OffsetDeleteResponse { error_code, ..Default::default() })
    };
    if !authorize(ctx, Operation::Delete, Resource::Group(&request.group_id)) {
        return failed(ErrorCode::GroupAuthorizationFailed);
    }
    let mut asked = Vec::new();
    let mut answered: Vec<(String, Vec<(i32, ErrorCode)>)> = Vec::new();
    for topic in request.topics {
        let mut partitions: Vec<i32> = topic.partitions.iter().map(|p| p.partition_index).collect();
        let code = if !authorize(ctx, Operation::Read, Resource::Topic(&topic.name)) {
            ErrorCode::TopicAuthorizationFailed
        } else {
            let found = shared.core.topic_by_name(&topic.name);
            let there = |p: &i32| found.as_ref().is_some_and(|t| t.partition(*p).is_some());
            let (known, unknown) = partitions.into_iter().partition::<Vec<i32>, _>(there);
            if !known.is_empty() {
                let (name, topic_id) = (topic.name.to_string(), model::TopicId::ZERO);
                asked.push(TopicPartitions { name, topic_id, partitions: known });
            }
            partitions = unknown;
            ErrorCode::UnknownTopicOrPartition
        };
        if partitions.is_empty() {
            continue;
        }
        let rows = partitions.into_iter().map(|p| (p, code)).collect();
        answered.push((String::from(topic.name), rows));
    }
    let request = DeleteOffsetsRequest { group_id: request.group_id.into(), topics: asked };
    let reply = match shared.core.group(&request.group_id.clone(), GroupRequest::DeleteOffsets(request)).await
    {
        Ok(Reply::DeleteOffsets(reply)) => reply,
        Ok(_) => return failed(ErrorCode::UnknownServerError),
        Err(code) => return failed(code),
    };
    if !reply.error.is_none() {
        return failed(reply.error);
    }
    let row = |(partition_index, code)| OffsetDeleteResponsePartition {
        partition_index,
        error_code: shared.code(ctx, code),
    };
    let mut topics: Vec<OffsetDeleteResponseTopic> = Vec::new();
    for (name, rows) in answered.into_iter().chain(reply.topics) {
        let rows = rows.into_iter().map(row);
        match topics.iter_mut().find(|t| *t.name == *name) {
            Some(topic) => topic.partitions.extend(rows),
            None => {
                topics.push(OffsetDeleteResponseTopic { name: Str::from(name), partitions: rows.collect() })
            }
        }
    }
    ResponseBody::OffsetDelete(OffsetDeleteResponse { topics, ..Default::default() })
}
