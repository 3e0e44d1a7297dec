//! ListOffsets: earliest, latest, by time, of the largest timestamp.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, Core, Offset, Reply};
use crate::shared::Shared;
use model::{ErrorCode, GroupKey};
use partition::ListOffsetAsk;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use wire::list_offsets_request::ListOffsetsPartition;
use wire::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use wire::{ListOffsetsRequest, ListOffsetsResponse, ResponseBody};

/// The first version that has each negative timestamp from -1 down.
const SENTINEL_FROM: [i16; 6] = [0, 0, 7, 8, 9, 11];
/// First version that says how long its sender waits.
const TIMEOUT_FROM: i16 = 10;
/// The others wait for 30 s, unless they are told otherwise.
const PATIENCE: Duration = Duration::from_secs(25);
/// First version in which a leader that is not confirmed yet says OFFSET_NOT_AVAILABLE.
const NOT_AVAILABLE_FROM: i16 = 5;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ListOffsetsRequest,
) -> ResponseBody {
    let mut response = ListOffsetsResponse::default();
    let (mut places, mut asks) = (Vec::new(), Vec::new());
    let isolation = Core::isolation(request.isolation_level);
    let mut named = HashMap::new();
    for topic in &request.topics {
        for p in &topic.partitions {
            *named.entry((&topic.name, p.partition_index)).or_insert(0) += 1;
        }
    }
    let mut topics = HashMap::new();
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let at = *topics.entry(&topic.name).or_insert_with(|| {
            response.topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), ..Default::default() });
            response.topics.len() - 1
        });
        for p in &topic.partitions {
            // What is named twice is refused, in one answer.
            let accepted = match named.insert((&topic.name, p.partition_index), 0) {
                Some(0) => continue,
                Some(1) if Core::is_isolation(request.isolation_level) => accept(shared, ctx, &topic.name, p),
                _ => Err(ErrorCode::InvalidRequest),
            };
            let partitions = &mut response.topics[at].partitions;
            let mut answer = nothing(p.partition_index);
            match accepted {
                Ok(key) => {
                    let (timestamp, current_leader_epoch) = (p.timestamp, p.current_leader_epoch);
                    places.push((at, partitions.len(), p.max_num_offsets));
                    asks.push((key, ListOffsetAsk { timestamp, current_leader_epoch, isolation }));
                }
                Err(code) => answer.error_code = shared.code(ctx, code),
            }
            partitions.push(answer);
        }
    }
    let patience = if ctx.api_version >= TIMEOUT_FROM && request.timeout_ms > 0 {
        Duration::from_millis(u64::from(request.timeout_ms.unsigned_abs()))
    } else {
        PATIENCE
    };
    let answers = ask(shared, &asks, patience).await;
    for ((topic, partition, max), result) in places.into_iter().zip(answers) {
        let place = &mut response.topics[topic].partitions[partition];
        match result {
            Ok(found) => fill(ctx, place, found, max),
            Err(code) => place.error_code = shared.code(ctx, by_version(ctx, code)),
        }
    }
    ResponseBody::ListOffsets(response)
}

fn nothing(partition_index: i32) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..Default::default()
    }
}

fn accept(
    shared: &Shared,
    ctx: &RequestContext,
    name: &str,
    p: &ListOffsetsPartition,
) -> Result<GroupKey, ErrorCode> {
    if !authorize(ctx, Operation::Describe, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let key = core::group_key(&topic, p.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if p.timestamp < 0 {
        let at = usize::try_from(-1 - p.timestamp).unwrap_or(usize::MAX);
        if SENTINEL_FROM.get(at).is_none_or(|from| ctx.api_version < *from) {
            return Err(ErrorCode::UnsupportedVersion);
        }
    }
    Ok(key)
}

/// Asks the node, which reads files where it must.
async fn ask(
    shared: &Rc<Shared>,
    asks: &[(GroupKey, ListOffsetAsk)],
    patience: Duration,
) -> Vec<Result<Offset, ErrorCode>> {
    let mut call = shared.core.list_offsets(asks);
    // What stays without an answer is asked again.
    let unanswered =
        if call.is_nobodys() { ErrorCode::NotLeaderOrFollower } else { ErrorCode::RequestTimedOut };
    let mut found = vec![Err(unanswered); asks.len()];
    call.done_within(patience).await;
    call.take(|item, reply| {
        if let Reply::ListOffset(result) = reply {
            found[item] = result;
        }
    });
    found
}

fn fill(ctx: &RequestContext, place: &mut ListOffsetsPartitionResponse, found: Offset, max: i32) {
    if ctx.api_version == 0 {
        // Version 0 asked for a list of segment starts; the one offset is the best of them.
        place.old_style_offsets = if max > 0 && found.offset >= 0 { vec![found.offset] } else { Vec::new() };
        return;
    }
    place.timestamp = found.timestamp;
    place.offset = found.offset;
    place.leader_epoch = found.leader_epoch;
}

fn by_version(ctx: &RequestContext, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::OffsetNotAvailable if ctx.api_version < NOT_AVAILABLE_FROM => {
            ErrorCode::LeaderNotAvailable
        }
        code => code,
    }
}
