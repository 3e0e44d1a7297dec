//! Produce: each partition's record set goes to the node as it was cut out of the frame; the answer is
//! complete when every partition answered, and leaves when its turn comes.
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::core::{Appended, Call, Reply, Topic};
use crate::dispatch;
use crate::error_map;
use crate::metrics::handles::Closed;
use crate::shared::Shared;
use bytes::{Bytes, BytesMut};
use coordinator::InTransaction;
use model::{ErrorCode, GroupKey};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use wire::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use wire::{ProduceRequest, ProduceResponse, ResponseBody};

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 13;
/// First version that adds its partitions to the transaction by itself (KIP-890).
const ADDS_PARTITIONS_FROM: i16 = 12;
/// Version that knows TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 11;
/// First version with leader hints.
const HINTS_FROM: i16 = 10;
/// A producer that waits for the leader alone is told of a timeout after this at the earliest.
const LEADER_PATIENCE: Duration = Duration::from_secs(30);
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;
/// In the low byte of the attributes.
const TRANSACTIONAL: u8 = 0x10;
const RECORD_COUNT_AT: usize = 57;

/// A produce under way.
pub(crate) struct ProduceCall {
    ctx: RequestContext,
    acks: i16,
    deadline: Instant,
    call: Option<Call>,
    /// Where answer number n belongs: topic and partition in `response`, and its records.
    places: Vec<(u32, u32, u32)>,
    response: ProduceResponse,
    failed: bool,
}

/// Hands every record set to the node; errors found here are in the answer already.
pub(crate) fn begin(shared: &Rc<Shared>, ctx: RequestContext, request: ProduceRequest) -> ProduceCall {
    let mut timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    if request.acks == 1 {
        // The client's timeout is for other replicas; this one takes the time it takes.
        timeout = timeout.max(LEADER_PATIENCE);
    }
    let mut produce = ProduceCall {
        deadline: ctx.received + timeout,
        acks: request.acks,
        call: None,
        places: Vec::new(),
        response: ProduceResponse::default(),
        failed: false,
        ctx,
    };
    let refusal = refuse_whole(&produce.ctx, &request);
    let of = transaction(&produce.ctx, &request);
    let mut appends: Vec<(GroupKey, BytesMut)> = Vec::new();
    let mut bytes = 0;
    produce.response.responses.reserve(request.topic_data.len());
    for data in request.topic_data.into_iter().filter(|data| !data.partition_data.is_empty()) {
        let topic = if produce.ctx.api_version >= TOPIC_IDS_FROM {
            shared.core.topic_by_id(data.topic_id).ok_or(ErrorCode::UnknownTopicId)
        } else {
            shared.core.topic_by_name(&data.name).ok_or_else(|| missing(&data.name))
        };
        let topic = topic.and_then(|t| may_write(&produce.ctx, t));
        let at_topic = produce.response.responses.len() as u32;
        let mut answers = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let mut answer = PartitionProduceResponse {
                index,
                base_offset: -1,
                log_append_time_ms: -1,
                log_start_offset: -1,
                ..Default::default()
            };
            let accepted = accept(&produce.ctx, refusal, &topic, index, partition.records);
            match accepted {
                Ok((key, records)) => {
                    bytes += records.len();
                    answer.error_code = ErrorCode::RequestTimedOut.code();
                    produce.places.push((at_topic, answers.len() as u32, record_count(&records)));
                    appends.push((key, records));
                }
                Err((code, message)) => {
                    answer.error_code = shared.code(&produce.ctx, code);
                    answer.error_message = message.map(wire::Str::from);
                    produce.failed = true;
                }
            }
            answers.push(answer);
        }
        produce.response.responses.push(TopicProduceResponse {
            name: data.name,
            topic_id: data.topic_id,
            partition_responses: answers,
        });
    }
    shared.metrics.produced_bytes.increment(bytes as u64);
    shared.metrics.produced_appends.increment(appends.len() as u64);
    produce.response.throttle_time_ms = produce.ctx.charge(Charge::Append(bytes));
    if !appends.is_empty() {
        produce.call = Some(shared.core.produce(appends, request.acks, of.as_ref()));
    }
    produce
}

fn refuse_whole(ctx: &RequestContext, request: &ProduceRequest) -> Option<ErrorCode> {
    if !(-1..=1).contains(&request.acks) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    let Some(id) = request.transactional_id.as_ref() else {
        let refused = ErrorCode::TransactionalIdAuthorizationFailed;
        return has_transactional_batch(request).then_some(refused);
    };
    if authorize(ctx, Operation::Write, Resource::TransactionalId(id)) {
        None
    } else {
        Some(ErrorCode::TransactionalIdAuthorizationFailed)
    }
}

/// The transaction that the record sets belong to; producer and epoch are those of each batch.
fn transaction(ctx: &RequestContext, request: &ProduceRequest) -> Option<InTransaction> {
    let transactional_id = request.transactional_id.as_ref()?.as_str().to_owned();
    Some(InTransaction {
        transactional_id,
        producer_id: -1,
        producer_epoch: -1,
        version: match ctx.api_version {
            ADDS_PARTITIONS_FROM.. => 2,
            KNOWS_ABORTABLE => 1,
            _ => 0,
        },
        principal: ctx.connection.principal.to_string(),
        client_id: ctx.client_id.to_string(),
    })
}

fn has_transactional_batch(request: &ProduceRequest) -> bool {
    let sets = request.topic_data.iter().flat_map(|t| &t.partition_data).filter_map(|p| p.records.as_ref());
    sets.into_iter().any(|records| {
        let attributes = records.get(ATTRIBUTES_AT + 1).copied().unwrap_or(0);
        records.get(MAGIC_AT) == Some(&2) && attributes & TRANSACTIONAL != 0
    })
}

/// An internal topic refuses clients before it is made, too.
fn missing(name: &str) -> ErrorCode {
    if cluster::is_internal(name) {
        ErrorCode::InvalidTopicException
    } else {
        ErrorCode::UnknownTopicOrPartition
    }
}

fn may_write(ctx: &RequestContext, topic: Arc<Topic>) -> Result<Arc<Topic>, ErrorCode> {
    if !authorize(ctx, Operation::Write, Resource::Topic(&topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if cluster::is_internal(&topic.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(topic)
}

type Refused = (ErrorCode, Option<String>);

/// Without it clients call the name illegal.
fn why_not(code: ErrorCode) -> Option<String> {
    let internal = code == ErrorCode::InvalidTopicException;
    internal.then(|| "an internal topic: only the broker itself writes to it".to_owned())
}

/// What can be judged without the partition's state.
fn accept(
    ctx: &RequestContext,
    refusal: Option<ErrorCode>,
    topic: &Result<Arc<Topic>, ErrorCode>,
    index: i32,
    records: Option<BytesMut>,
) -> Result<(GroupKey, BytesMut), Refused> {
    if let Some(code) = refusal {
        return Err((code, None));
    }
    let topic = topic.as_ref().map_err(|code| (*code, why_not(*code)))?;
    let key = crate::core::group_key(topic, index).ok_or((ErrorCode::UnknownTopicOrPartition, None))?;
    let records = records::only_batch_of(ctx.api_version, records.unwrap_or_default())
        .map_err(|error| (error.code(), Some(error.to_string())))?;
    Ok((key, records))
}

/// Records by the header's own count, for the metrics; the partition checks it.
fn record_count(batch: &[u8]) -> u32 {
    batch
        .get(RECORD_COUNT_AT..RECORD_COUNT_AT + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

impl ProduceCall {
    /// Whether the answer is complete or its time is over. acks=0 has no time: its errors end the
    /// connection, so they must not be missed.
    pub(crate) fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(call) = &mut self.call else { return Poll::Ready(()) };
        if call.poll_done(cx).is_pending() && (self.acks == 0 || Instant::now() < self.deadline) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The encoded answer; nothing for acks=0, whose errors end the connection.
    pub(crate) fn finish(&mut self, shared: &Shared) -> Result<Vec<Bytes>, Closed> {
        let mut records = 0;
        if let Some(mut call) = self.call.take() {
            let answered = call.take(|item, reply| {
                let Some(&(topic, partition, count)) = self.places.get(item) else { return };
                let Reply::Produce(result) = reply else { return };
                let answer =
                    &mut self.response.responses[topic as usize].partition_responses[partition as usize];
                match result {
                    Ok(appended) => {
                        records += u64::from(count);
                        fill(answer, appended);
                    }
                    Err(error) => {
                        self.failed = true;
                        answer.error_code = shared.code(&self.ctx, error_map::append(&error));
                        answer.error_message = error_map::append_message(&error).map(wire::Str::from);
                        answer.log_start_offset = error_map::append_log_start(&error);
                        answer.record_errors = error_map::record_errors(&error)
                            .into_iter()
                            .map(|(index, message)| BatchIndexAndErrorMessage {
                                batch_index: index,
                                batch_index_error_message: message.map(wire::Str::from),
                            })
                            .collect();
                    }
                }
            });
            // What has no answer keeps the REQUEST_TIMED_OUT that it began with.
            for _ in answered..self.places.len() {
                self.failed = true;
                shared.code(&self.ctx, ErrorCode::RequestTimedOut);
            }
        }
        shared.metrics.produced_records.increment(records);
        if self.acks == 0 {
            if let Some(api) = shared.metrics.api(self.ctx.api_key) {
                api.seconds.record(self.ctx.received.elapsed().as_secs_f64());
            }
            return if self.failed { Err(Closed::Acks0Error) } else { Ok(Vec::new()) };
        }
        if self.failed && self.ctx.api_version >= HINTS_FROM {
            self.add_hints(shared);
        }
        let response = std::mem::take(&mut self.response);
        dispatch::encode(shared, &self.ctx, &ResponseBody::Produce(response))
    }

    /// Tells who leads where the client asked the wrong broker.
    fn add_hints(&mut self, shared: &Shared) {
        let mut nodes: Vec<i32> = Vec::new();
        for topic in &mut self.response.responses {
            let known = if self.ctx.api_version >= TOPIC_IDS_FROM {
                shared.core.topic_by_id(topic.topic_id)
            } else {
                shared.core.topic_by_name(&topic.name)
            };
            let Some(known) = known else { continue };
            for answer in &mut topic.partition_responses {
                let code = answer.error_code;
                if code != ErrorCode::NotLeaderOrFollower.code()
                    && code != ErrorCode::FencedLeaderEpoch.code()
                {
                    continue;
                }
                if let Some((leader_id, leader_epoch)) = shared.core.leader(&known, answer.index) {
                    answer.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
                    nodes.push(leader_id);
                }
            }
        }
        for endpoint in shared.core.endpoints(&self.ctx.connection.listener) {
            if nodes.contains(&endpoint.node) {
                self.response.node_endpoints.push(NodeEndpoint {
                    node_id: endpoint.node,
                    host: endpoint.host.into(),
                    port: endpoint.port,
                    rack: endpoint.rack.map(wire::Str::from),
                });
            }
        }
    }
}

fn fill(answer: &mut PartitionProduceResponse, appended: Appended) {
    answer.error_code = 0;
    answer.base_offset = appended.base_offset;
    answer.log_append_time_ms = appended.log_append_time;
    answer.log_start_offset = appended.log_start;
}
