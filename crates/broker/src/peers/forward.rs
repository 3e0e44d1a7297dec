//! Admin requests that reach a node which does not lead the metadata go to the one that does (KIP-590): the
//! client's frame as it came, with who sent it; the leader runs the same handler, its answer goes back unread.
use super::queues::Links;
use crate::context::{ConnectionInfo, Principal, RequestContext, Software};
use crate::dispatch;
use crate::shared::{Complaint, Shared};
use bytes::{Bytes, BytesMut};
use model::{ErrorCode, NodeId};
use node::AdminRequest;
use peer::Frame;
use proto::peer::{Forward, Forwarded};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use wire::ApiKey;

/// Requests that may be on their way to the leader, and their bytes. One is always let go.
const MOST: usize = 256;
const MOST_BYTES: usize = 16 << 20;
/// Requests of others that may be worked on here.
const MOST_ASKED: usize = 1024;
/// Between two looks for a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What an answer may take beyond the time that the leader itself was given.
const GRACE: Duration = Duration::from_secs(1);
/// How long an answer waits until this node has applied what it tells of.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(200);

/// Requests of this node that another one answers.
#[derive(Default)]
pub(crate) struct Forwarding {
    last: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    bytes: Cell<usize>,
    asked: Cell<usize>,
    counted: [Cell<u64>; RESULTS.len()],
}

struct Waiting {
    node: NodeId,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

/// What came back; `None` when the connection is gone.
type Answer = Option<(Forwarded, Bytes)>;

/// What became of forwarded requests, as a metric's label.
pub(crate) const RESULTS: [&str; 6] = ["answered", "no_leader", "lost", "full", "late", "refused"];
const ANSWERED: usize = 0;
const NO_LEADER: usize = 1;
const LOST: usize = 2;
const FULL: usize = 3;
const LATE: usize = 4;
const REFUSED: usize = 5;

/// What is asked of the leader.
pub(crate) enum Ask {
    /// A client's request, its frame as it came.
    Frame(Bytes),
    /// Topics with the brokers' defaults, for this node itself.
    Create(Vec<String>),
}

/// Where a request was, or is to be, carried out.
pub(crate) enum Carried {
    /// This node leads: it is to do so itself.
    Here,
    /// The leader's answer: the frame for the client.
    Elsewhere(Bytes),
    /// Nobody did so.
    Refused(ErrorCode),
}

impl Forwarding {
    /// What became of requests, in the order of [`RESULTS`].
    pub(crate) fn counted(&self, result: usize) -> u64 {
        self.counted[result].get()
    }

    /// Requests that are on their way.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    fn count(&self, result: usize) {
        self.counted[result].set(self.counted[result].get() + 1);
    }

    /// An answer came.
    pub(super) fn answered(&self, head: Forwarded, frame: Bytes) {
        if let Some(waiting) = self.take(head.correlation) {
            // Whoever waited may have gone.
            let _ = waiting.answer.send(Some((head, frame)));
        }
    }

    /// The connection to `node` is gone, and the answers with it.
    pub(super) fn lost(&self, node: NodeId) {
        let lost: Vec<u64> = {
            let waiting = self.waiting.borrow();
            waiting.iter().filter(|(_, w)| w.node == node).map(|(id, _)| *id).collect()
        };
        for id in lost {
            if let Some(waiting) = self.take(id) {
                let _ = waiting.answer.send(None);
            }
        }
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.borrow_mut().remove(&id)?;
        self.bytes.set(self.bytes.get() - waiting.bytes);
        Some(waiting)
    }

    /// Sends a request; `None` where there is no room for it or no connection.
    fn send(
        &self,
        links: &Links,
        node: NodeId,
        head: Forward,
        frame: Bytes,
    ) -> Option<(u64, oneshot::Receiver<Answer>)> {
        let bytes = frame.len() + head.create_topics.iter().map(String::len).sum::<usize>();
        let count = self.waiting.borrow().len();
        if count >= MOST || count > 0 && self.bytes.get() + bytes > MOST_BYTES {
            return None;
        }
        let id = self.last.get() + 1;
        self.last.set(id);
        if !links.push(node, Frame::forward(Forward { correlation: id, ..head }, frame)) {
            return None;
        }
        let (answer, receive) = oneshot::channel();
        self.bytes.set(self.bytes.get() + bytes);
        self.waiting.borrow_mut().insert(id, Waiting { node, bytes, answer });
        Some((id, receive))
    }
}

/// Takes a request off the list when whoever waits for it goes.
struct OnItsWay<'a>(&'a Forwarding, u64);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.take(self.1);
    }
}

/// Whether requests of this API change the metadata, or ask what only its leader knows, so that it must answer
/// them.
fn is_admin(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::UnregisterBroker
            | ApiKey::DescribeQuorum
            | ApiKey::ElectLeaders
            | ApiKey::UpdateFeatures
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter
    )
}

/// The frame of a request, where another node may have to answer it.
pub(crate) fn keep(shared: &Shared, frame: &[u8]) -> Option<Bytes> {
    shared.clustered.then_some(())?;
    let key = ApiKey::from_code(i16::from_be_bytes(*frame.first_chunk()?))?;
    (is_admin(key) && !shared.core.leads_metadata()).then(|| Bytes::copy_from_slice(frame))
}

/// Has the leader of the metadata carry out what `ctx` asks, unless it is this node. Waits for a leader, and
/// for its answer, as long as `patience`.
pub(crate) async fn carry_out(
    shared: &Rc<Shared>,
    from: (&Principal, &str, &str),
    ask: &Ask,
    patience: Duration,
) -> Carried {
    let deadline = Instant::now() + patience;
    let mut why = NO_LEADER;
    loop {
        if shared.core.leads_metadata() {
            return Carried::Here;
        }
        let leader = shared.core.metadata_leader().filter(|leader| *leader != shared.core.node_id());
        if let Some(leader) = leader {
            match once(shared, leader, from, ask, deadline).await {
                Ok(carried) => return carried,
                Err(reason) => why = reason,
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            shared.forwarding.count(why);
            return Carried::Refused(ErrorCode::NotController);
        }
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
    }
}

/// One attempt. Errors: why another one may do better.
async fn once(
    shared: &Rc<Shared>,
    leader: NodeId,
    (principal, listener, client_id): (&Principal, &str, &str),
    ask: &Ask,
    deadline: Instant,
) -> Result<Carried, usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    let (frame, create_topics) = match ask {
        Ask::Frame(frame) => (frame.clone(), Vec::new()),
        Ask::Create(names) => (Bytes::new(), names.clone()),
    };
    let head = Forward {
        principal: principal.to_string(),
        listener: listener.to_owned(),
        client_id: Some(client_id.to_owned()),
        deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        create_topics,
        ..Forward::default()
    };
    let (id, answer) = shared.forwarding.send(&shared.links, leader, head, frame).ok_or(FULL)?;
    let _on_its_way = OnItsWay(&shared.forwarding, id);
    let (head, frame) = match tokio::time::timeout(left + GRACE, answer).await {
        Err(_) => {
            shared.forwarding.count(LATE);
            return Ok(Carried::Refused(ErrorCode::RequestTimedOut));
        }
        // As in Kafka it is sent again: the leader may have carried it out all the same.
        Ok(Err(_) | Ok(None)) => return Err(LOST),
        Ok(Ok(Some(answer))) => answer,
    };
    match i16::try_from(head.error_code).ok().and_then(ErrorCode::from_code) {
        Some(ErrorCode::None) => {}
        Some(ErrorCode::NotController) => return Err(NO_LEADER),
        code => {
            shared.forwarding.count(REFUSED);
            return Ok(Carried::Refused(code.unwrap_or(ErrorCode::UnknownServerError)));
        }
    }
    // What was created is found when its creator asks this node for it.
    let applied = async {
        while shared.core.image().version < head.metadata_version {
            shared.core.turned().await;
        }
    };
    let _ = tokio::time::timeout(CATCH_UP, applied).await;
    shared.forwarding.count(ANSWERED);
    Ok(Carried::Elsewhere(frame))
}

/// Another node forwards a request.
pub(super) fn asked(shared: &Rc<Shared>, node: NodeId, ask: Forward, frame: Bytes) {
    let correlation = ask.correlation;
    if shared.forwarding.asked.get() >= MOST_ASKED {
        return answer(shared, node, correlation, Err(ErrorCode::NotController));
    }
    let shared = shared.clone();
    shared.forwarding.asked.set(shared.forwarding.asked.get() + 1);
    spawn_local(async move {
        let done = carry_out_here(&shared, node, ask, frame).await;
        shared.forwarding.asked.set(shared.forwarding.asked.get() - 1);
        answer(&shared, node, correlation, done);
    });
}

fn answer(shared: &Shared, node: NodeId, correlation: u64, done: Result<Bytes, ErrorCode>) {
    let head = Forwarded {
        correlation,
        error_code: i32::from(done.as_ref().err().map_or(0, |code| code.code())),
        metadata_version: shared.core.image().version,
        ..Forwarded::default()
    };
    // Without a connection there is nobody left who waits for it.
    shared.links.push(node, Frame::forwarded(head, done.unwrap_or_default()));
}

async fn carry_out_here(
    shared: &Rc<Shared>,
    node: NodeId,
    ask: Forward,
    frame: Bytes,
) -> Result<Bytes, ErrorCode> {
    if !shared.core.leads_metadata() {
        return Err(ErrorCode::NotController);
    }
    let patience = Duration::from_millis(u64::from(ask.deadline_ms));
    if !ask.create_topics.is_empty() {
        let created = shared.core.admin(AdminRequest::AutoCreate(ask.create_topics), patience).await;
        return created.map(|_| Bytes::new());
    }
    let bytes = frame.len();
    let (header, request) = match dispatch::decode(BytesMut::from(&frame[..])) {
        Ok(request) if is_admin(request.0.api_key) => request,
        // It was decoded where it came from: that node is of another version.
        Ok(_) | Err(_) => {
            shared.complain(Complaint::Request, || {
                tracing::warn!(node, "a forwarded request is none that this version answers");
            });
            return Err(ErrorCode::UnsupportedVersion);
        }
    };
    let (kind, name) = ask.principal.split_once(':').unwrap_or(("User", &ask.principal));
    let connection = ConnectionInfo {
        id: shared.connections.next_id(),
        listener: ask.listener.as_str().into(),
        // The node that forwards knows it; nothing that an admin request does depends on it.
        peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        principal: Principal { kind: kind.into(), name: name.into() },
    };
    let ctx = RequestContext {
        connection: Rc::new(connection),
        client_id: ask.client_id.unwrap_or_default().as_str().into(),
        software: Rc::new(Software::default()),
        api_key: header.api_key.code(),
        api_version: header.api_version,
        correlation_id: header.correlation_id,
        received: Instant::now(),
        request_bytes: bytes,
        refused: None,
    };
    let done = dispatch::run(shared.clone(), ctx, request).await;
    let finished = done.map_err(|_| ErrorCode::UnknownServerError)?;
    Ok(finished.pieces.concat().into())
}
