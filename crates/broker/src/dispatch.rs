//! From a frame to its handler, and from a handler's answer to bytes.
use crate::budget::Held;
use crate::context::{Charge, RequestContext, Software};
use crate::handlers::{self, produce::ProduceCall};
use crate::metrics::handles::Closed;
use crate::peers::{self, Ask, Carried};
use crate::shared::{Shared, YOUNG};
use bytes::{Bytes, BytesMut};
use model::ErrorCode;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use wire::{ApiKey, Request, RequestError, RequestHeader, ResponseBody};

/// Why a frame reaches no handler.
pub(crate) enum Refusal {
    /// An answer is due all the same.
    Answer(Vec<Bytes>),
    /// The connection is to be closed; the text says why.
    Close(Closed, String),
}

/// What becomes of a request.
pub(crate) enum Outcome {
    /// A produce that waits in the pipeline.
    Produce(Box<ProduceCall>),
    /// A handler at work.
    Wait(Pin<Box<dyn Future<Output = Result<Finished, Closed>>>>),
}

/// An encoded answer.
pub(crate) struct Finished {
    /// The frame.
    pub(crate) pieces: Vec<Bytes>,
    /// Memory that counts until the frame is sent.
    pub(crate) memory: Option<Held>,
    /// What the client told of itself.
    pub(crate) software: Option<Rc<Software>>,
}

/// What a handler hands back.
pub(crate) struct Done {
    body: ResponseBody,
    memory: Option<Held>,
    software: Option<Rc<Software>>,
}

impl Done {
    /// An answer that says what its client told of itself.
    pub(crate) fn with_software(body: ResponseBody, software: Rc<Software>) -> Done {
        Done { body, memory: None, software: Some(software) }
    }

    /// An answer that holds memory until it is sent.
    pub(crate) fn with_memory(body: ResponseBody, memory: Option<Held>) -> Done {
        Done { body, memory, software: None }
    }
}

impl From<ResponseBody> for Done {
    fn from(body: ResponseBody) -> Done {
        Done { body, memory: None, software: None }
    }
}

/// Decodes a frame, or says what becomes of it.
pub(crate) fn decode(frame: BytesMut) -> Result<(RequestHeader, Request), Refusal> {
    wire::decode_request(frame).map_err(|error| match error {
        RequestError::UnservedVersion { api_key: ApiKey::ApiVersions, correlation_id, .. } => {
            let mut table = wire::api_versions_response();
            table.error_code = ErrorCode::UnsupportedVersion.code();
            let frame = wire::encode_response(0, correlation_id, &ResponseBody::ApiVersions(table))
                .expect("the table of served APIs fits version 0");
            Refusal::Answer(frame)
        }
        RequestError::UnknownApi { .. } | RequestError::UnservedVersion { .. } => {
            Refusal::Close(Closed::UnknownApi, error.to_string())
        }
        RequestError::Malformed(_) => Refusal::Close(Closed::Malformed, error.to_string()),
    })
}

/// Whether the request may be taken in while earlier ones of its connection are unanswered.
pub(crate) fn overlaps(request: &Request) -> bool {
    matches!(request, Request::Produce(_))
}

/// Hands a request to its handler.
pub(crate) fn begin(
    shared: &Rc<Shared>,
    ctx: RequestContext,
    request: Request,
    frame: Option<Bytes>,
) -> Outcome {
    if let Some(api) = shared.metrics.api(ctx.api_key) {
        api.requests.increment(1);
        api.request_bytes.increment(ctx.request_bytes as u64);
    }
    ctx.charge(Charge::Decode(ctx.request_bytes));
    if shared.serving_since.get().is_none() {
        return Outcome::Wait(Box::pin(starting(shared.clone(), ctx, request)));
    }
    if let Some(frame) = frame {
        return Outcome::Wait(Box::pin(forward(shared.clone(), ctx, request, frame)));
    }
    match request {
        Request::Produce(request) => {
            Outcome::Produce(Box::new(handlers::produce::begin(shared, ctx, request)))
        }
        request => Outcome::Wait(Box::pin(run(shared.clone(), ctx, request))),
    }
}

/// Has the leader of the metadata answer a request. `frame`: the request as it came.
async fn forward(
    shared: Rc<Shared>,
    mut ctx: RequestContext,
    request: Request,
    frame: Bytes,
) -> Result<Finished, Closed> {
    let from = (&ctx.connection.principal, &*ctx.connection.listener, &*ctx.client_id);
    match peers::carry_out(&shared, from, &Ask::Frame(frame), patience(&request)).await {
        Carried::Elsewhere(frame) => {
            // Its sender asks this node next, which hears of leaders no later than the one that answered, or a
            // little.
            shared.elected(&made_by(&request), peers::CATCH_UP).await;
            count_answer(&shared, &ctx, frame.len());
            return Ok(Finished { pieces: vec![frame], memory: None, software: None });
        }
        Carried::Here => {}
        Carried::Refused(code) => ctx.refused = Some(code),
    }
    run(shared, ctx, request).await
}

/// The topics that a request makes or enlarges.
fn made_by(request: &Request) -> Vec<String> {
    let owned = |name: &wire::Str| name.as_str().to_owned();
    match request {
        Request::CreateTopics(asked) => asked.topics.iter().map(|topic| owned(&topic.name)).collect(),
        Request::CreatePartitions(asked) => asked.topics.iter().map(|topic| owned(&topic.name)).collect(),
        _ => Vec::new(),
    }
}

/// Answers while the metadata has no leader yet that knows this node: what is asked of the cluster waits for a moment;
/// what is asked of named topics can be asked again. There is no such answer to anything else, and a connection that ends
/// is tried again too.
async fn starting(shared: Rc<Shared>, ctx: RequestContext, request: Request) -> Result<Finished, Closed> {
    let body = match request {
        Request::ApiVersions(_) => return run(shared, ctx, request).await,
        Request::Metadata(request) => {
            if shared.served_within(YOUNG).await {
                return run(shared, ctx, Request::Metadata(request)).await;
            }
            handlers::metadata::while_starting(&shared, &ctx, request)
        }
        _ => None,
    };
    let pieces = encode(&shared, &ctx, &body.ok_or(Closed::Starting)?)?;
    Ok(Finished { pieces, memory: None, software: None })
}

/// How long the sender of an admin request waits.
fn patience(request: &Request) -> Duration {
    let ms = |ms: i32| Duration::from_millis(ms.max(0) as u64);
    match request {
        Request::CreateTopics(r) => ms(r.timeout_ms),
        Request::DeleteTopics(r) => ms(r.timeout_ms),
        Request::CreatePartitions(r) => ms(r.timeout_ms),
        Request::AlterPartitionReassignments(r) => ms(r.timeout_ms),
        Request::ListPartitionReassignments(r) => ms(r.timeout_ms),
        Request::UpdateFeatures(r) => ms(r.timeout_ms),
        Request::AddRaftVoter(r) => ms(r.timeout_ms),
        Request::ElectLeaders(r) => ms(r.timeout_ms),
        _ => handlers::alter_configs::PATIENCE,
    }
}

/// Runs a request's handler and encodes its answer.
pub(crate) async fn run(
    shared: Rc<Shared>,
    ctx: RequestContext,
    request: Request,
) -> Result<Finished, Closed> {
    let done = answer(&shared, &ctx, request).await;
    let pieces = encode(&shared, &ctx, &done.body)?;
    Ok(Finished { pieces, memory: done.memory, software: done.software })
}

/// Encodes an answer and counts it. One that its version cannot carry is a fault of ours: it is logged and
/// the connection is closed.
pub(crate) fn encode(
    shared: &Shared,
    ctx: &RequestContext,
    body: &ResponseBody,
) -> Result<Vec<Bytes>, Closed> {
    let frame = wire::encode_response(ctx.api_version, ctx.correlation_id, body).map_err(|error| {
        tracing::error!(%error, "answer could not be encoded");
        Closed::Internal
    })?;
    count_answer(shared, ctx, frame.iter().map(Bytes::len).sum());
    Ok(frame)
}

fn count_answer(shared: &Shared, ctx: &RequestContext, bytes: usize) {
    if let Some(api) = shared.metrics.api(ctx.api_key) {
        api.response_bytes.increment(bytes as u64);
        api.seconds.record(ctx.received.elapsed().as_secs_f64());
    }
}

async fn answer(shared: &Rc<Shared>, ctx: &RequestContext, request: Request) -> Done {
    use handlers as h;
    match request {
        Request::Produce(_) => unreachable!("produce goes through the pipeline"),
        Request::Fetch(r) => h::fetch::handle(shared, ctx, r).await,
        Request::ListOffsets(r) => h::list_offsets::handle(shared, ctx, r).await.into(),
        Request::Metadata(r) => h::metadata::handle(shared, ctx, r).await.into(),
        Request::OffsetCommit(r) => h::offset_commit::handle(shared, ctx, r).await.into(),
        Request::OffsetFetch(r) => h::offset_fetch::handle(shared, ctx, r).await.into(),
        Request::FindCoordinator(r) => h::find_coordinator::handle(shared, ctx, r).await.into(),
        Request::JoinGroup(r) => h::join_group::handle(shared, ctx, r).await.into(),
        Request::Heartbeat(r) => h::heartbeat::handle(shared, ctx, r).await.into(),
        Request::LeaveGroup(r) => h::leave_group::handle(shared, ctx, r).await.into(),
        Request::SyncGroup(r) => h::sync_group::handle(shared, ctx, r).await.into(),
        Request::DescribeGroups(r) => h::describe_groups::handle(shared, ctx, r).await.into(),
        Request::ListGroups(r) => h::list_groups::handle(shared, ctx, r).await.into(),
        Request::ApiVersions(r) => h::api_versions::handle(shared, ctx, r),
        Request::CreateTopics(r) => h::create_topics::handle(shared, ctx, r).await.into(),
        Request::DeleteTopics(r) => h::delete_topics::handle(shared, ctx, r).await.into(),
        Request::DeleteRecords(r) => h::delete_records::handle(shared, ctx, r).await.into(),
        Request::InitProducerId(r) => h::init_producer_id::handle(shared, ctx, r).await.into(),
        Request::AddPartitionsToTxn(r) => h::add_partitions_to_txn::handle(shared, ctx, r).await.into(),
        Request::AddOffsetsToTxn(r) => h::add_offsets_to_txn::handle(shared, ctx, r).await.into(),
        Request::EndTxn(r) => h::end_txn::handle(shared, ctx, r).await.into(),
        Request::WriteTxnMarkers(r) => h::write_txn_markers::handle(shared, ctx, r).await.into(),
        Request::TxnOffsetCommit(r) => h::txn_offset_commit::handle(shared, ctx, r).await.into(),
        Request::DescribeTransactions(r) => h::describe_transactions::handle(shared, ctx, r).await.into(),
        Request::ListTransactions(r) => h::list_transactions::handle(shared, ctx, r).await.into(),
        Request::ConsumerGroupHeartbeat(r) => {
            h::consumer_group_heartbeat::handle(shared, ctx, r).await.into()
        }
        Request::ConsumerGroupDescribe(r) => h::consumer_group_describe::handle(shared, ctx, r).await.into(),
        Request::OffsetForLeaderEpoch(r) => h::offset_for_leader_epoch::handle(shared, ctx, r).await.into(),
        Request::DescribeConfigs(r) => h::describe_configs::handle(shared, ctx, r).into(),
        Request::AlterConfigs(r) => h::alter_configs::handle(shared, ctx, r).await.into(),
        Request::AlterReplicaLogDirs(r) => h::alter_replica_log_dirs::handle(shared, ctx, r).into(),
        Request::ElectLeaders(r) => h::elect_leaders::handle(shared, ctx, r).await.into(),
        Request::DescribeLogDirs(r) => h::describe_log_dirs::handle(shared, ctx, r).into(),
        Request::CreatePartitions(r) => h::create_partitions::handle(shared, ctx, r).await.into(),
        Request::DeleteGroups(r) => h::delete_groups::handle(shared, ctx, r).await.into(),
        Request::IncrementalAlterConfigs(r) => {
            h::incremental_alter_configs::handle(shared, ctx, r).await.into()
        }
        Request::AlterPartitionReassignments(r) => {
            h::alter_partition_reassignments::handle(shared, ctx, r).await.into()
        }
        Request::ListPartitionReassignments(r) => {
            h::list_partition_reassignments::handle(shared, ctx, r).into()
        }
        Request::UnregisterBroker(r) => h::unregister_broker::handle(shared, ctx, r).await.into(),
        Request::OffsetDelete(r) => h::offset_delete::handle(shared, ctx, r).await.into(),
        Request::DescribeQuorum(r) => h::describe_quorum::handle(shared, ctx, r).into(),
        Request::UpdateFeatures(r) => h::update_features::handle(shared, ctx, r).await.into(),
        Request::AddRaftVoter(r) => h::raft_voter::add(shared, ctx, r).await.into(),
        Request::RemoveRaftVoter(r) => h::raft_voter::remove(shared, ctx, r).await.into(),
        Request::DescribeCluster(r) => h::describe_cluster::handle(shared, ctx, r).into(),
        Request::DescribeProducers(r) => h::describe_producers::handle(shared, ctx, r).await.into(),
        Request::ListConfigResources(r) => h::list_config_resources::handle(shared, ctx, r).into(),
        Request::DescribeTopicPartitions(r) => h::describe_topic_partitions::handle(shared, ctx, r).into(),
    }
}
