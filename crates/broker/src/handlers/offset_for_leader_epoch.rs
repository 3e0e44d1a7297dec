//! OffsetForLeaderEpoch: where an epoch ends.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, Reply};
use crate::shared::Shared;
use model::{ErrorCode, GroupKey};
use std::rc::Rc;
use wire::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use wire::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ResponseBody};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> ResponseBody {
    let mut response = OffsetForLeaderEpochResponse::default();
    let (mut places, mut asks) = (Vec::new(), Vec::new());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in &topic.partitions {
            // Until there is an answer: clients ask again.
            let mut end = EpochEndOffset {
                error_code: ErrorCode::NotLeaderOrFollower.code(),
                partition: p.partition,
                leader_epoch: -1,
                end_offset: -1,
            };
            match accept(shared, ctx, &topic.topic, p.partition) {
                Ok(key) => {
                    places.push((response.topics.len(), partitions.len()));
                    asks.push((key, p.current_leader_epoch, p.leader_epoch));
                }
                Err(code) => end.error_code = shared.code(ctx, code),
            }
            partitions.push(end);
        }
        response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    let mut call = shared.core.epoch_ends(&asks);
    call.done().await;
    call.take(|item, reply| {
        let Reply::EpochEnd(result) = reply else { return };
        let Some((topic, partition)) = places.get(item) else { return };
        let place = &mut response.topics[*topic].partitions[*partition];
        match result {
            Ok((epoch, end)) => (place.error_code, place.leader_epoch, place.end_offset) = (0, epoch, end),
            Err(code) => place.error_code = shared.code(ctx, code),
        }
    });
    ResponseBody::OffsetForLeaderEpoch(response)
}

fn accept(shared: &Shared, ctx: &RequestContext, name: &str, partition: i32) -> Result<GroupKey, ErrorCode> {
    if !authorize(ctx, Operation::Describe, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    core::group_key(&topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)
}
