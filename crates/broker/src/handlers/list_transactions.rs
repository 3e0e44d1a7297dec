//! ListTransactions: every transactional id that this broker coordinates.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use coordinator::txn::{ListFilter, ListTxnsRequest};
use std::rc::Rc;
use wire::list_transactions_response::TransactionState;
use wire::{ListTransactionsRequest, ListTransactionsResponse, ResponseBody, Str};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: ListTransactionsRequest,
) -> ResponseBody {
    let mut response = ListTransactionsResponse::default();
    let asked = ListTxnsRequest {
        states: request.state_filters.into_iter().map(String::from).collect(),
        producer_ids: request.producer_id_filters,
        duration_ms: request.duration_filter,
        pattern: request.transactional_id_pattern.map(String::from),
    };
    let listed = match ListFilter::new(&asked) {
        Ok(filter) => {
            response.unknown_state_filters = filter.unknown_states.iter().cloned().map(Str::from).collect();
            shared.core.list_transactions(filter).await
        }
        Err(code) => Err(code),
    };
    match listed {
        Ok(rows) => {
            response.transaction_states = rows
                .into_iter()
                .filter(|row| {
                    authorize(ctx, Operation::Describe, Resource::TransactionalId(&row.transactional_id))
                })
                .map(|row| TransactionState {
                    transactional_id: row.transactional_id.into(),
                    producer_id: row.producer_id,
                    transaction_state: Str::from_static(row.state),
                })
                .collect();
        }
        Err(code) => response.error_code = shared.code(ctx, code),
    }
    ResponseBody::ListTransactions(response)
}
