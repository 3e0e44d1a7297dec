//! ElectLeaders: leadership goes back to preferred replicas. An unclean election is an operator's word that loss is
//! accepted, for partitions that are named (KIP-460); with a type of our own it only tells what would be lost.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core;
use crate::shared::Shared;
use model::{ErrorCode, GroupKey, NodeId};
use node::{AdminReply, AdminRequest, RecoverAsk, RecoveryPlan};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};
use wire::elect_leaders_request::TopicPartitions;
use wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use wire::{ElectLeadersRequest, ElectLeadersResponse, ResponseBody, Str};

/// Election types of the protocol.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// Our own: what an unclean election of the partition would give up; nothing is done. Kafka refuses it.
const PLAN: i8 = 100;
/// First version that names a type, and has an error of the whole.
const TYPES_FROM: i16 = 1;
/// A leader that has not handed over is asked again after this: the message may have been lost, or the transfer
/// have come to nothing.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Nobody is waited for longer, whatever the request says.
const MOST: Duration = Duration::from_secs(60);

const NO_UNCLEAN: &str = "an unclean election gives acknowledged records up: it is for partitions that are named. \
     `plimsoll partition recover` shows what would be lost";

/// What became of one partition; `None`: it was handed over.
type Refused = Option<(ErrorCode, Option<String>)>;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ElectLeadersRequest,
) -> ResponseBody {
    let whole = |code| {
        let error_code = shared.code(ctx, code);
        ResponseBody::ElectLeaders(ElectLeadersResponse { error_code, ..Default::default() })
    };
    if !authorize(ctx, Operation::Alter, Resource::Cluster) {
        return whole(ErrorCode::ClusterAuthorizationFailed);
    }
    let election = if ctx.api_version < TYPES_FROM { PREFERRED } else { request.election_type };
    if !matches!(election, PREFERRED | UNCLEAN | PLAN) {
        return whole(ErrorCode::InvalidRequest);
    }
    let patience = Duration::from_millis(request.timeout_ms.max(0) as u64).min(MOST);
    if let Some(named) = request.topic_partitions.as_ref().filter(|_| election != PREFERRED) {
        let results = accept_loss(shared, ctx, named, election == UNCLEAN, patience).await;
        return ResponseBody::ElectLeaders(ElectLeadersResponse {
            replica_election_results: encode(shared, ctx, results),
            ..Default::default()
        });
    }
    let all = request.topic_partitions.is_none();
    let asked: BTreeMap<Str, BTreeSet<i32>> = match request.topic_partitions {
        None => {
            let every = |t: &std::sync::Arc<core::Topic>| (0..t.partitions.len() as i32).collect();
            shared.core.topics().iter().map(|t| (Str::from(&*t.name), every(t))).collect()
        }
        Some(topics) => {
            let mut asked: BTreeMap<Str, BTreeSet<i32>> = BTreeMap::new();
            topics.into_iter().for_each(|t| asked.entry(t.topic).or_default().extend(t.partitions));
            asked
        }
    };
    let mut results: BTreeMap<(Str, i32), Refused> = BTreeMap::new();
    let mut moves = Vec::new();
    for (name, partitions) in asked {
        for partition in partitions {
            match judge(shared, &name, partition, election) {
                Ok((key, to)) => moves.push(((name.clone(), partition), key, to)),
                Err(refused) => drop(results.insert((name.clone(), partition), Some(refused))),
            }
        }
    }
    let late = hand_over(shared, moves.iter().map(|(_, key, to)| (*key, *to)).collect(), patience).await;
    for (at, key, to) in moves {
        let why = || format!("{to} does not lead it yet");
        let refused = late.contains(&key).then(|| (ErrorCode::RequestTimedOut, Some(why())));
        results.insert(at, refused);
    }
    if all {
        // Who asks for everything is not told of what stands as it should.
        results.retain(|_, refused| !matches!(refused, Some((ErrorCode::ElectionNotNeeded, _))));
    }
    ResponseBody::ElectLeaders(ElectLeadersResponse {
        replica_election_results: encode(shared, ctx, results),
        ..Default::default()
    })
}

/// The replica that is to lead, or why nothing is to be done.
fn judge(
    shared: &Shared,
    name: &Str,
    partition: i32,
    election: i8,
) -> Result<(GroupKey, NodeId), (ErrorCode, Option<String>)> {
    let unknown = |what: String| (ErrorCode::UnknownTopicOrPartition, Some(format!("No such {what}")));
    let topic = shared.core.topic_by_name(name).ok_or_else(|| unknown(format!("topic as {name}")))?;
    let key = core::group_key(&topic, partition)
        .ok_or_else(|| unknown(format!("partition as {name}-{partition}")))?;
    let leader = shared.core.leader_of(key).map(|(leader, _)| leader);
    if election != PREFERRED {
        return Err(match leader {
            Some(_) => (ErrorCode::ElectionNotNeeded, None),
            None => (ErrorCode::EligibleLeadersNotAvailable, Some(NO_UNCLEAN.to_owned())),
        });
    }
    let preferred = topic.partition(partition).and_then(|p| p.replicas.first()).map(|r| r.node);
    match preferred {
        Some(preferred) if leader == Some(preferred) => Err((ErrorCode::ElectionNotNeeded, None)),
        Some(preferred) if leader.is_some() && shared.core.in_sync_of(key).contains(&preferred) => {
            Ok((key, preferred))
        }
        _ => {
            let why = "the preferred replica is not in sync, or its broker is not alive".to_owned();
            Err((ErrorCode::PreferredLeaderNotAvailable, Some(why)))
        }
    }
}

/// Asks what is left of each partition, and has the best go on alone where that is accepted.
async fn accept_loss(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    named: &[TopicPartitions],
    accept: bool,
    patience: Duration,
) -> BTreeMap<(Str, i32), Refused> {
    let mut results = BTreeMap::new();
    for topic in named {
        for partition in &topic.partitions {
            let (at, name) = ((topic.topic.clone(), *partition), topic.topic.as_str().to_owned());
            let by = &ctx.connection.principal;
            let principal = format!("{}:{}", by.kind, by.name);
            let ask = RecoverAsk { topic: name, partition: *partition, principal, accept };
            let refused = match shared.admin(ctx, AdminRequest::Recover(ask), patience).await {
                Ok(AdminReply::Recovery(plan)) => Some(follow(shared, &plan, accept, patience).await),
                Ok(AdminReply::Done(items)) => {
                    items.into_iter().find_map(Result::err).map(|error| (error.code, error.message))
                }
                Ok(_) => Some((ErrorCode::UnknownServerError, None)),
                Err(code) => Some((code, None)),
            };
            results.insert(at, refused);
        }
    }
    results
}

/// Waits until the replica that is left leads.
async fn follow(
    shared: &Shared,
    plan: &RecoveryPlan,
    accept: bool,
    patience: Duration,
) -> (ErrorCode, Option<String>) {
    let (loss, node) = match &plan.verdict {
        Err((code, why)) => return (*code, Some(if accept { why.clone() } else { plan.to_string() })),
        Ok((loss, node)) => (loss, *node),
    };
    if !accept {
        return (ErrorCode::None, Some(plan.to_string()));
    }
    tracing::error!(
        topic = %loss.topic,
        partition = loss.partition,
        broker = node,
        from_offset = loss.offsets.0,
        end_offset = loss.offsets.1,
        principal = loss.principal,
        "loss is accepted: {plan}"
    );
    let key = GroupKey { topic: loss.topic, partition: loss.partition };
    let led = async {
        while shared.core.leader_of(key).is_none() {
            shared.core.turned().await;
        }
    };
    match tokio::time::timeout(patience, led).await {
        Ok(()) => (ErrorCode::None, Some(plan.to_string())),
        Err(_) => {
            (ErrorCode::RequestTimedOut, Some(format!("it is accepted; broker {node} does not lead yet")))
        }
    }
}

/// Has each partition handed to its node; those that were not within `patience`.
async fn hand_over(
    shared: &Rc<Shared>,
    mut moves: Vec<(GroupKey, NodeId)>,
    patience: Duration,
) -> Vec<GroupKey> {
    let deadline = Instant::now() + patience;
    loop {
        moves.retain(|(key, to)| shared.core.leader_of(*key).is_none_or(|(leader, _)| leader != *to));
        if moves.is_empty() || Instant::now() >= deadline || shared.stopping() {
            return moves.into_iter().map(|(key, _)| key).collect();
        }
        shared.core.hand_over(&moves);
        let again = (Instant::now() + ASK_AGAIN).min(deadline);
        let all_led = async {
            while moves
                .iter()
                .any(|(key, to)| shared.core.leader_of(*key).is_none_or(|(leader, _)| leader != *to))
            {
                shared.core.turned().await;
            }
        };
        // What is left is asked for again.
        let _ = tokio::time::timeout_at(again.into(), all_led).await;
    }
}

fn encode(
    shared: &Shared,
    ctx: &RequestContext,
    results: BTreeMap<(Str, i32), Refused>,
) -> Vec<ReplicaElectionResult> {
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for ((topic, partition_id), refused) in results {
        let (code, error_message) = refused.unwrap_or((ErrorCode::None, None));
        let row = PartitionResult {
            partition_id,
            error_code: shared.code(ctx, code),
            error_message: error_message.map(Str::from),
        };
        match topics.last_mut().filter(|last| last.topic == topic) {
            Some(last) => last.partition_result.push(row),
            None => topics.push(ReplicaElectionResult { topic, partition_result: vec![row] }),
        }
    }
    topics
}
