//! DescribeTransactions: what the coordinator knows of transactional ids.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use model::ErrorCode;
use std::rc::Rc;
use wire::describe_transactions_response::{TopicData, TransactionState};
use wire::{DescribeTransactionsRequest, DescribeTransactionsResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeTransactionsRequest,
) -> ResponseBody {
    let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        let state = match describe(shared, ctx, &id).await {
            Ok(state) => state,
            Err(code) => {
                let error_code = shared.code(ctx, code);
                TransactionState { transactional_id: id, error_code, ..Default::default() }
            }
        };
        transaction_states.push(state);
    }
    ResponseBody::DescribeTransactions(DescribeTransactionsResponse {
        transaction_states,
        ..Default::default()
    })
}

async fn describe(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    id: &Str,
) -> Result<TransactionState, ErrorCode> {
    if !authorize(ctx, Operation::Describe, Resource::TransactionalId(id)) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let found = shared.core.describe_transaction(id).await?;
    if !found.error.is_none() {
        return Err(found.error);
    }
    let seen = found
        .topics
        .into_iter()
        .filter(|(topic, _)| authorize(ctx, Operation::Describe, Resource::Topic(topic)))
        .map(|(topic, partitions)| TopicData { topic: topic.to_string().into(), partitions });
    Ok(TransactionState {
        error_code: 0,
        transactional_id: id.clone(),
        transaction_state: Str::from_static(found.state),
        transaction_timeout_ms: found.timeout_ms,
        transaction_start_time_ms: found.start,
        producer_id: found.producer_id,
        producer_epoch: found.producer_epoch,
        topics: seen.collect(),
    })
}
