//! AddRaftVoter and RemoveRaftVoter (KIP-853): who votes on the metadata. Both are answered when the change is
//! made, not when it is wanted, unless the request asks for the latter.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::ItemError;
use model::{ErrorCode, NodeId};
use node::{AdminReply, AdminRequest};
use std::rc::Rc;
use std::time::{Duration, Instant};
use wire::{
    AddRaftVoterRequest, AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse, ResponseBody,
    Str,
};

/// RemoveRaftVoter has no time limit of its own; clients give up after 30 s by default.
const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) async fn add(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: AddRaftVoterRequest,
) -> ResponseBody {
    let patience = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let cluster_id = request.cluster_id.map(String::from);
    let (node, directory) = (request.voter_id, request.voter_directory_id);
    let wait = request.ack_when_committed;
    let done = if request.listeners.is_empty() {
        let why = "The voter's listeners are missing.";
        Err(ItemError::new(ErrorCode::InvalidRequest, why))
    } else {
        set(shared, ctx, Wish { cluster_id, node, directory, voter: true }, patience, wait).await
    };
    let (error_code, error_message) = told(shared, ctx, done);
    ResponseBody::AddRaftVoter(AddRaftVoterResponse { throttle_time_ms: 0, error_code, error_message })
}

pub(crate) async fn remove(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: RemoveRaftVoterRequest,
) -> ResponseBody {
    let cluster_id = request.cluster_id.map(String::from);
    let (node, directory) = (request.voter_id, request.voter_directory_id);
    let wish = Wish { cluster_id, node, directory, voter: false };
    let (error_code, error_message) = told(shared, ctx, set(shared, ctx, wish, PATIENCE, true).await);
    ResponseBody::RemoveRaftVoter(RemoveRaftVoterResponse { throttle_time_ms: 0, error_code, error_message })
}

struct Wish {
    cluster_id: Option<String>,
    node: NodeId,
    directory: [u8; 16],
    voter: bool,
}

async fn set(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    wish: Wish,
    patience: Duration,
    wait: bool,
) -> Result<(), ItemError> {
    if !authorize(ctx, Operation::Alter, Resource::Cluster) {
        return Err(ItemError::bare(ErrorCode::ClusterAuthorizationFailed));
    }
    let Wish { cluster_id, node, directory, voter } = wish;
    let deadline = Instant::now() + patience;
    let request = AdminRequest::SetVoter { cluster_id, node, directory, voter };
    match shared.admin(ctx, request, patience).await.map_err(ItemError::bare)? {
        AdminReply::Done(items) => match items.into_iter().next() {
            // Asked for before, and not done yet.
            Some(Err(error)) if error.code == ErrorCode::DuplicateVoter && !votes(shared, node) => {}
            Some(Err(error)) => return Err(error),
            Some(Ok(())) | None => {}
        },
        _ => return Err(ItemError::bare(ErrorCode::UnknownServerError)),
    }
    while wait && votes(shared, node) != voter {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let what =
                if voter { "votes as soon as it has caught up" } else { "votes until the others agree" };
            let why = format!("Noted, but not done within the time allowed: node {node} {what}.");
            return Err(ItemError::new(ErrorCode::RequestTimedOut, why));
        }
        // Late is no fault: it is looked at again.
        let _ = tokio::time::timeout(left, shared.core.turned()).await;
    }
    Ok(())
}

fn votes(shared: &Shared, node: NodeId) -> bool {
    shared.core.look(|n| n.votes_on_metadata(node))
}

fn told(shared: &Shared, ctx: &RequestContext, done: Result<(), ItemError>) -> (i16, Option<Str>) {
    match done {
        Ok(()) => (0, None),
        Err(error) => (shared.code(ctx, error.code), error.message.map(Str::from)),
    }
}
