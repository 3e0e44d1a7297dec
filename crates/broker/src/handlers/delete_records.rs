//! DeleteRecords: moves log starts.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, Reply};
use crate::shared::Shared;
use model::{ErrorCode, GroupKey};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use wire::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use wire::{DeleteRecordsRequest, DeleteRecordsResponse, ResponseBody};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DeleteRecordsRequest,
) -> ResponseBody {
    let mut response = DeleteRecordsResponse::default();
    let (mut places, mut moves) = (Vec::new(), Vec::new());
    // What is named twice is answered once; the last offset holds.
    let mut offsets = HashMap::new();
    for topic in &request.topics {
        offsets.extend(topic.partitions.iter().map(|p| ((&topic.name, p.partition_index), p.offset)));
    }
    let mut topics = HashMap::new();
    for topic in &request.topics {
        if topic.partitions.is_empty() {
            continue;
        }
        let at = *topics.entry(&topic.name).or_insert_with(|| {
            response.topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), ..Default::default() });
            response.topics.len() - 1
        });
        let partitions = &mut response.topics[at].partitions;
        for p in &topic.partitions {
            let Some(offset) = offsets.remove(&(&topic.name, p.partition_index)) else { continue };
            let mut result = DeleteRecordsPartitionResult {
                partition_index: p.partition_index,
                low_watermark: -1,
                error_code: ErrorCode::RequestTimedOut.code(),
            };
            match accept(shared, ctx, &topic.name, p.partition_index) {
                Ok(key) => {
                    places.push((at, partitions.len()));
                    moves.push((key, offset));
                }
                Err(code) => result.error_code = shared.code(ctx, code),
            }
            partitions.push(result);
        }
    }
    let mut call = shared.core.delete_records(&moves);
    call.done_within(Duration::from_millis(request.timeout_ms.max(0) as u64)).await;
    call.take(|item, reply| {
        let Reply::DeleteRecords(result) = reply else { return };
        let Some((topic, partition)) = places.get(item) else { return };
        let place = &mut response.topics[*topic].partitions[*partition];
        match result {
            Ok(low) => (place.low_watermark, place.error_code) = (low, 0),
            Err(code) => place.error_code = shared.code(ctx, code),
        }
    });
    ResponseBody::DeleteRecords(response)
}

fn accept(shared: &Shared, ctx: &RequestContext, name: &str, partition: i32) -> Result<GroupKey, ErrorCode> {
    if !authorize(ctx, Operation::Delete, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    core::group_key(&topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)
}
