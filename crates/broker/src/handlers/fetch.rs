//! Fetch: what to read is planned in the node, long polls wait there, the session decides what is news.
use crate::context::{Charge, Operation, RequestContext, Resource, authorize};
use crate::core::{self, FetchInput, FetchPlan, Isolation, ReadPlan};
use crate::dispatch::Done;
use crate::error_map;
use crate::fetch_session::{PartitionRef, Plan, SessionRequest, Told, TopicRef, Want};
use crate::handlers::fetch_read;
use crate::shared::Shared;
use model::{ErrorCode, GroupKey};
use partition::FetchError;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use wire::{FetchRequest, FetchResponse, Records, ResponseBody};

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 13;
/// First version with leader hints.
const HINTS_FROM: i16 = 12;
/// First version whose clients read at followers too (KIP-392).
const FOLLOWERS_FROM: i16 = 11;
/// The replica id of Kafka's tools that look at replicas.
const DEBUGGING_REPLICA: i32 = -2;
/// A partition that is being opened is waited for at least this long.
const OPENING_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read from files: about what a socket takes at once and the processor's cache
/// holds. More in one answer costs more for each byte; the rest is there for the next request.
const FROM_FILES: usize = 3 << 20;
/// Less of it is not worth a read.
const READ_AT_LEAST: usize = 64 << 10;

/// One partition of the request, resolved.
pub(crate) struct Target {
    pub(crate) key: PartitionRef,
    pub(crate) want: Want,
    /// Its group, or why it has none.
    pub(crate) group: Result<GroupKey, ErrorCode>,
}

/// The answer for one partition before it is encoded.
pub(crate) enum Planned {
    /// Readable.
    Read(Box<FetchPlan>),
    /// An error.
    Failed(FetchError),
    /// Still being opened.
    Opening,
}

impl Planned {
    /// An error that says nothing of the partition.
    pub(crate) fn failed(code: ErrorCode) -> Planned {
        Planned::Failed(FetchError { code, high_watermark: -1, log_start: -1 })
    }
}

pub(crate) async fn handle(shared: &Rc<Shared>, ctx: &RequestContext, request: FetchRequest) -> Done {
    if !core::Core::is_isolation(request.isolation_level) {
        let error_code = shared.code(ctx, ErrorCode::InvalidRequest);
        return ResponseBody::Fetch(FetchResponse { error_code, ..Default::default() }).into();
    }
    let (limits, session) = take_apart(shared, ctx, request);
    let begun = shared.sessions.borrow_mut().begin(shared.core.now().mono, session);
    let plan = match begun {
        Ok(plan) => plan,
        Err(error) => {
            let code = shared.code(ctx, error_map::fetch_session(error));
            return ResponseBody::Fetch(FetchResponse { error_code: code, ..Default::default() }).into();
        }
    };
    let targets = resolve(shared, ctx, &plan.partitions);
    let planned = wait_for_data(shared, ctx, &targets, &limits).await;
    let (read, memory) = fetch_read::read_all(shared, &limits, planned).await;
    let response = assemble(shared, ctx, &plan, &targets, &limits, read);
    Done::with_memory(ResponseBody::Fetch(response), memory)
}

/// What bounds the answer.
pub(crate) struct Limits {
    pub(crate) max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
    isolation: Isolation,
    /// The client's rack, where it has one.
    rack: Option<wire::Str>,
    /// It may be answered by a follower.
    at_follower: bool,
}

fn take_apart(shared: &Shared, ctx: &RequestContext, request: FetchRequest) -> (Limits, SessionRequest) {
    let by_id = ctx.api_version >= TOPIC_IDS_FROM;
    let topic_ref = |name: &str, id| {
        if by_id { TopicRef::Id(id) } else { TopicRef::Name(name.into()) }
    };
    let mut wants = Vec::new();
    for topic in &request.topics {
        let reference = topic_ref(&topic.topic, topic.topic_id);
        for p in &topic.partitions {
            let key = PartitionRef { topic: reference.clone(), partition: p.partition };
            wants.push((
                key,
                Want {
                    offset: p.fetch_offset,
                    max_bytes: p.partition_max_bytes,
                    current_leader_epoch: p.current_leader_epoch,
                    last_fetched_epoch: p.last_fetched_epoch,
                },
            ));
        }
    }
    let mut forget = Vec::new();
    for topic in &request.forgotten_topics_data {
        let reference = topic_ref(&topic.topic, topic.topic_id);
        forget.extend(
            topic.partitions.iter().map(|p| PartitionRef { topic: reference.clone(), partition: *p }),
        );
    }
    let knows_followers = ctx.api_version >= FOLLOWERS_FROM;
    let debugs = request.replica_id.min(request.replica_state.replica_id) == DEBUGGING_REPLICA;
    let max_bytes = (request.max_bytes.max(0) as usize).min(shared.settings.borrow().fetch_max_bytes);
    let limits = Limits {
        max_bytes,
        min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
        deadline: ctx.received + Duration::from_millis(request.max_wait_ms.max(0) as u64),
        isolation: core::Core::isolation(request.isolation_level),
        at_follower: knows_followers && (!request.rack_id.is_empty() || debugs),
        rack: Some(request.rack_id).filter(|rack| knows_followers && !rack.is_empty()),
    };
    (limits, SessionRequest { id: request.session_id, epoch: request.session_epoch, by_id, wants, forget })
}

/// Resolves all partitions; neighbours share a topic, so each run of one is looked up once.
fn resolve(shared: &Shared, ctx: &RequestContext, partitions: &[(PartitionRef, Want)]) -> Vec<Target> {
    let mut last: Option<(&TopicRef, Result<Arc<core::Topic>, ErrorCode>)> = None;
    let mut targets = Vec::with_capacity(partitions.len());
    for (key, want) in partitions {
        let topic = match last.take().filter(|(same, _)| **same == key.topic) {
            Some((_, topic)) => topic,
            None => readable_topic(shared, ctx, &key.topic),
        };
        let of_topic = |t: &Arc<core::Topic>| core::group_key(t, key.partition);
        let group = match &topic {
            Ok(topic) => of_topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition),
            Err(code) => Err(*code),
        };
        targets.push(Target { key: key.clone(), want: *want, group });
        last = Some((&key.topic, topic));
    }
    targets
}

fn readable_topic(
    shared: &Shared,
    ctx: &RequestContext,
    reference: &TopicRef,
) -> Result<Arc<core::Topic>, ErrorCode> {
    let topic = match reference {
        TopicRef::Name(name) => shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicRef::Id(id) => shared.core.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
    };
    if authorize(ctx, Operation::Read, Resource::Topic(&topic.name)) {
        Ok(topic)
    } else {
        Err(ErrorCode::TopicAuthorizationFailed)
    }
}

/// Plans until there is enough, an error, or no time left.
async fn wait_for_data(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    targets: &[Target],
    limits: &Limits,
) -> Vec<Planned> {
    let mut keys: Vec<GroupKey> = Vec::new();
    loop {
        let (mut planned, available, urgent, opening) = plan_all(shared, targets, limits);
        let mut deadline = limits.deadline;
        // Nothing is better than an error for one partition, but not for what others have.
        if opening && available == 0 {
            deadline = deadline.max(ctx.received + OPENING_PATIENCE);
        }
        let enough = (!opening || available > 0) && available >= limits.min_bytes;
        let late = Instant::now() >= deadline;
        if urgent || enough || targets.is_empty() || late || shared.stopping() {
            if late && available == 0 {
                say_what_is_not_there(&mut planned);
            }
            return planned;
        }
        if keys.is_empty() {
            keys.extend(targets.iter().filter_map(|t| t.group.ok()));
        }
        let mut watch = shared.core.watch(&keys);
        if watch.is_nobodys() {
            return planned;
        }
        drop(planned);
        tokio::select! {
            biased;
            () = watch.done() => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = shared.stop_in_connection() => {}
        }
    }
}

/// Plans every partition in order. Also: bytes there, whether something must be told now, and whether
/// a partition is still being opened.
fn plan_all(shared: &Shared, targets: &[Target], limits: &Limits) -> (Vec<Planned>, usize, bool, bool) {
    let (mut available, mut urgent, mut opening) = (0, false, false);
    let mut from_files = FROM_FILES;
    let planned = shared.core.with_node_if(|node, now| {
        let mut planned = Vec::with_capacity(targets.len());
        for target in targets {
            let key = match target.group {
                Ok(key) => key,
                Err(code) => {
                    urgent = true;
                    planned.push(Planned::failed(code));
                    continue;
                }
            };
            let room = limits.max_bytes.saturating_sub(available);
            let input = FetchInput {
                offset: target.want.offset,
                max_bytes: room.min(target.want.max_bytes.max(0) as usize),
                current_leader_epoch: target.want.current_leader_epoch,
                last_fetched_epoch: target.want.last_fetched_epoch,
                isolation: limits.isolation,
                at_follower: limits.at_follower,
            };
            let mut one = core::Core::plan_fetch(node, now, key, &input);
            if let Some(rack) = &limits.rack {
                urgent |= prefer(node, now, key, rack, &mut one);
            }
            match &mut one {
                Planned::Read(plan) => {
                    // The core gives one batch whatever its size; only the first of the answer may be that.
                    if available > 0 && fetch_read::planned_bytes(&plan.plan) > input.max_bytes {
                        plan.plan = ReadPlan::Empty;
                    }
                    available += fetch_read::planned_bytes(&plan.plan);
                    bound_file_read(&mut plan.plan, &mut from_files);
                    urgent |= plan.diverging.is_some();
                }
                Planned::Failed(_) => urgent = true,
                Planned::Opening => opening = true,
            }
            planned.push(one);
        }
        // A partition that is open answers without a trace; only one that is opened causes anything.
        (planned, opening)
    });
    (planned, available, urgent, opening)
}

/// Sends a consumer that could read here to a replica of its rack instead; whether it did.
fn prefer(node: &mut node::Node, now: model::Now, key: GroupKey, rack: &str, planned: &mut Planned) -> bool {
    let Planned::Read(plan) = planned else { return false };
    if plan.diverging.is_some() || plan.not_yet {
        return false;
    }
    plan.preferred = node.preferred_replica(now, key, rack);
    if plan.preferred.is_some() {
        plan.plan = ReadPlan::Empty;
    }
    plan.preferred.is_some()
}

/// A follower that has waited in vain says that it does not have the offset.
fn say_what_is_not_there(planned: &mut [Planned]) {
    for one in planned {
        if matches!(one, Planned::Read(plan) if plan.not_yet) {
            *one = Planned::failed(ErrorCode::OffsetNotAvailable);
        }
    }
}

/// Takes what a file is to give from `left`; a partition that finds nothing left waits for the next request.
fn bound_file_read(plan: &mut ReadPlan, left: &mut usize) {
    let ReadPlan::File(range) = plan else { return };
    if *left < READ_AT_LEAST {
        *left = 0;
        *plan = ReadPlan::Empty;
        return;
    }
    range.bound(u32::try_from(*left).unwrap_or(u32::MAX));
    *left -= range.len as usize;
}

/// Builds the answer; in a session only what is news, topics in the order of their first partition.
fn assemble(
    shared: &Shared,
    ctx: &RequestContext,
    plan: &Plan,
    targets: &[Target],
    limits: &Limits,
    read: Vec<(Planned, Records)>,
) -> FetchResponse {
    let mut response = FetchResponse { session_id: plan.session, ..Default::default() };
    let mut told = Vec::with_capacity(if plan.create { targets.len() } else { 0 });
    let mut bytes = 0;
    let mut nodes = Vec::new();
    for (target, (planned, records)) in targets.iter().zip(read) {
        bytes += records.len();
        if matches!(&planned, Planned::Read(plan) if plan.at_follower) {
            shared.metrics.fetched_at_follower.increment(records.len() as u64);
        }
        let data = partition_data(shared, ctx, target, limits.isolation, (planned, records), &mut nodes);
        let news = Told {
            high_watermark: data.high_watermark,
            log_start: data.log_start_offset,
            has_records: data.records.as_ref().is_some_and(|r| !r.is_empty()),
            must_tell: data.records.as_ref().is_some_and(|r| !r.is_empty())
                || data.error_code != 0
                || data.preferred_read_replica >= 0
                || data.diverging_epoch.epoch >= 0,
            is_error: data.error_code != 0,
        };
        if plan.incremental && !shared.sessions.borrow_mut().is_news(plan.session, &target.key, news) {
            continue;
        }
        if plan.create {
            told.push((target.key.clone(), target.want, news));
        }
        push(&mut response.responses, &target.key, data);
    }
    if plan.create {
        let now = shared.core.now().mono;
        let by_id = ctx.api_version >= TOPIC_IDS_FROM;
        response.session_id = shared.sessions.borrow_mut().create(now, by_id, told.into_iter());
    }
    response.throttle_time_ms = ctx.charge(Charge::Response(bytes));
    if !nodes.is_empty() && ctx.api_version >= 16 {
        for e in shared.core.endpoints(&ctx.connection.listener) {
            if nodes.contains(&e.node) {
                let (node_id, port) = (e.node, e.port);
                let (host, rack) = (e.host.into(), e.rack.map(wire::Str::from));
                response.node_endpoints.push(NodeEndpoint { node_id, host, port, rack });
            }
        }
    }
    response
}

fn push(topics: &mut Vec<FetchableTopicResponse>, key: &PartitionRef, data: PartitionData) {
    let same = |t: &FetchableTopicResponse| match &key.topic {
        TopicRef::Name(name) => t.topic == **name,
        TopicRef::Id(id) => t.topic_id == *id,
    };
    // Neighbours in the order share a topic, so the last one is the usual hit.
    if let Some(topic) = topics.last_mut().filter(|t| same(t)) {
        topic.partitions.push(data);
        return;
    }
    let mut topic = FetchableTopicResponse { partitions: vec![data], ..Default::default() };
    match &key.topic {
        TopicRef::Name(name) => topic.topic = wire::Str::from(&**name),
        TopicRef::Id(id) => topic.topic_id = *id,
    }
    topics.push(topic);
}

fn partition_data(
    shared: &Shared,
    ctx: &RequestContext,
    target: &Target,
    isolation: Isolation,
    (planned, records): (Planned, Records),
    nodes: &mut Vec<i32>,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index: target.key.partition,
        high_watermark: -1,
        records: Some(Records::new()),
        ..Default::default()
    };
    let code = match planned {
        Planned::Read(plan) => {
            data.high_watermark = plan.high_watermark;
            data.last_stable_offset = plan.last_stable_offset;
            data.log_start_offset = plan.log_start;
            data.preferred_read_replica = plan.preferred.unwrap_or(-1);
            if let Some((epoch, end_offset)) = plan.diverging {
                data.diverging_epoch = EpochEndOffset { epoch, end_offset };
            }
            let row = |(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset };
            data.aborted_transactions = match isolation {
                Isolation::ReadCommitted => Some(plan.aborted.into_iter().map(row).collect()),
                Isolation::ReadUncommitted => None,
            };
            data.records = Some(records);
            return data;
        }
        // As in Kafka an error tells nothing of the log.
        Planned::Failed(error) => {
            data.aborted_transactions = target.group.is_err().then(Vec::new);
            error.code
        }
        Planned::Opening => ErrorCode::NotLeaderOrFollower,
    };
    data.error_code = shared.code(ctx, code);
    let wrong_leader = matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    if wrong_leader
        && ctx.api_version >= HINTS_FROM
        && let Some((leader_id, leader_epoch)) = target.group.ok().and_then(|key| shared.core.leader_of(key))
    {
        data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
        nodes.push(leader_id);
    }
    data
}
