//! AddPartitionsToTxn: partitions join a transaction. From version 4 on it travels between brokers, for several
//! transactions, and may only ask whether the partitions are there (KIP-890).
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{TxnRequest, group_key};
use crate::handlers::end_txn::FENCED_FROM;
use crate::shared::Shared;
use coordinator::txn::{AddPartitionsRequest, Reply, TopicPartition, TxnVersion, client_code};
use model::ErrorCode;
use std::rc::Rc;
use wire::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use wire::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnPartitionResultV3, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult, AddPartitionsToTxnTopicResultV3,
};
use wire::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ResponseBody, Str};

/// First version between brokers.
const BROKERS_FROM: i16 = 4;

/// Topics with the outcome of each partition.
type Outcome = Vec<(Str, Vec<(i32, ErrorCode)>)>;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> ResponseBody {
    let mut response = AddPartitionsToTxnResponse::default();
    if ctx.api_version >= BROKERS_FROM {
        if !authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
            response.error_code = shared.code(ctx, ErrorCode::ClusterAuthorizationFailed);
            return ResponseBody::AddPartitionsToTxn(response);
        }
        for asked in request.transactions {
            let transactional_id = asked.transactional_id.clone();
            let one = AddPartitionsRequest {
                transactional_id: asked.transactional_id.into(),
                producer_id: asked.producer_id,
                producer_epoch: asked.producer_epoch,
                verify_only: asked.verify_only,
                version: TxnVersion::V2,
                partitions: Vec::new(),
            };
            let outcome = add(shared, ctx, one, asked.topics).await;
            let topic_results = outcome.into_iter().map(|topic| result(shared, ctx, topic)).collect();
            response
                .results_by_transaction
                .push(AddPartitionsToTxnResult { transactional_id, topic_results });
        }
        return ResponseBody::AddPartitionsToTxn(response);
    }
    let one = AddPartitionsRequest {
        transactional_id: request.v3_and_below_transactional_id.into(),
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        version: TxnVersion::V0,
        partitions: Vec::new(),
    };
    let topics = request.v3_and_below_topics.into_iter();
    let topics = topics.map(|t| AddPartitionsToTxnTopic { name: t.name, partitions: t.partitions }).collect();
    for topic in add(shared, ctx, one, topics).await {
        response.results_by_topic_v3_and_below.push(result_v3(shared, ctx, topic));
    }
    ResponseBody::AddPartitionsToTxn(response)
}

/// Adds what may be added. As in Kafka nothing is, where one partition may not.
async fn add(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    mut request: AddPartitionsRequest,
    topics: Vec<AddPartitionsToTxnTopic>,
) -> Outcome {
    let id = request.transactional_id.clone();
    if !authorize(ctx, Operation::Write, Resource::TransactionalId(&id)) {
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        return topics
            .into_iter()
            .map(|t| (t.name, t.partitions.into_iter().map(|p| (p, code)).collect()))
            .collect();
    }
    let mut outcome: Outcome = Vec::with_capacity(topics.len());
    let mut refused = false;
    for topic in topics {
        let judged: Vec<(i32, ErrorCode)> =
            topic.partitions.iter().map(|p| (*p, judge(shared, ctx, &topic.name, *p))).collect();
        refused |= judged.iter().any(|(_, code)| !code.is_none());
        outcome.push((topic.name, judged));
    }
    let each = |outcome: &mut Outcome, code: &dyn Fn(usize, ErrorCode) -> ErrorCode| {
        let rows = outcome.iter_mut().flat_map(|(_, partitions)| partitions);
        rows.enumerate().for_each(|(at, (_, row))| *row = code(at, *row));
    };
    if refused {
        each(&mut outcome, &|_, code| if code.is_none() { ErrorCode::OperationNotAttempted } else { code });
        return outcome;
    }
    request.partitions = outcome
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|(p, _)| TopicPartition::new(topic, *p)))
        .collect();
    match shared.core.transaction(&id, TxnRequest::AddPartitions(request)).await {
        Ok(Reply::AddPartitions(reply)) => {
            let code =
                |at: usize| reply.partitions.get(at).map_or(ErrorCode::UnknownServerError, |(_, code)| *code);
            each(&mut outcome, &|at, _| client_code(code(at), ctx.api_version, FENCED_FROM));
        }
        Ok(_) => each(&mut outcome, &|_, _| ErrorCode::UnknownServerError),
        Err(code) => each(&mut outcome, &|_, _| code),
    }
    outcome
}

fn judge(shared: &Shared, ctx: &RequestContext, topic: &str, partition: i32) -> ErrorCode {
    if ctx.api_version < BROKERS_FROM && !authorize(ctx, Operation::Write, Resource::Topic(topic)) {
        return ErrorCode::TopicAuthorizationFailed;
    }
    let known = shared.core.topic_by_name(topic).and_then(|topic| group_key(&topic, partition));
    if known.is_some() { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition }
}

fn result(
    shared: &Shared,
    ctx: &RequestContext,
    (name, partitions): (Str, Vec<(i32, ErrorCode)>),
) -> AddPartitionsToTxnTopicResult {
    let row = |(partition_index, code)| AddPartitionsToTxnPartitionResult {
        partition_index,
        partition_error_code: shared.code(ctx, code),
    };
    AddPartitionsToTxnTopicResult { name, results_by_partition: partitions.into_iter().map(row).collect() }
}

fn result_v3(
    shared: &Shared,
    ctx: &RequestContext,
    (name, partitions): (Str, Vec<(i32, ErrorCode)>),
) -> AddPartitionsToTxnTopicResultV3 {
    let row = |(partition_index, code)| AddPartitionsToTxnPartitionResultV3 {
        partition_index,
        partition_error_code: shared.code(ctx, code),
    };
    AddPartitionsToTxnTopicResultV3 { name, results_by_partition: partitions.into_iter().map(row).collect() }
}
