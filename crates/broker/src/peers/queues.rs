//! What waits to be sent to other nodes, and what became of it: two queues a peer, one for each connection.
use super::complaints::Complaints;
use bytes::Bytes;
use model::NodeId;
use node::PeerOut;
use peer::{Body, DEFAULT_QUEUE_BYTES, Frame, Kind, Limits, NotQueued, Purpose, Reason, SendQueue, since};
use proto::peer::RaftType;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A writer that made no progress for so long has a peer that does not read.
const STALLED: Duration = Duration::from_secs(30);

/// By kind: messages and their bytes.
#[derive(Default)]
pub(crate) struct ByKind([Cell<(u64, u64)>; Kind::ALL.len()]);

impl ByKind {
    /// One more message of so many bytes.
    pub(crate) fn add(&self, kind: Kind, bytes: u64) {
        let cell = &self.0[kind as usize];
        let (messages, before) = cell.get();
        cell.set((messages + 1, before + bytes));
    }

    /// Messages and bytes of a kind.
    pub(crate) fn of(&self, kind: Kind) -> (u64, u64) {
        self.0[kind as usize].get()
    }
}

/// All peers: what the reactor hands its messages to.
pub(crate) struct Links {
    links: RefCell<BTreeMap<NodeId, Rc<Link>>>,
    /// Where nodes are reached, and how often that was news.
    addresses: RefCell<BTreeMap<NodeId, (String, u16)>>,
    told: Cell<u64>,
    /// Handshakes of others that go on.
    pub(crate) handshakes: Rc<Cell<usize>>,
    limits: Limits,
    /// What came.
    pub(crate) received: ByKind,
    /// What there was no connection for, or what could not be read as it came.
    pub(crate) dropped: ByKind,
    /// Handshakes that came to nothing: why, and whether the other side said so.
    refused: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    complaints: Complaints,
    connections: Cell<u64>,
    stopped: Cell<bool>,
    /// Messages that have no form for the wire.
    unsendable: Cell<u64>,
    /// Messages that the replicas here refused.
    pub(crate) refused_messages: Cell<u64>,
}

/// One peer.
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) data: Channel,
    pub(crate) liveness: Channel,
    /// The latest start of its process that was seen.
    pub(crate) newest_start: Cell<u64>,
    /// Whether this node makes the connections, and does so already.
    pub(crate) connects: Cell<bool>,
    /// Why it cannot be reached; empty while it was not tried.
    pub(crate) trouble: RefCell<String>,
}

/// One of the two connections to a peer, and what waits for it.
pub(crate) struct Channel {
    queue: RefCell<SendQueue>,
    /// Wakes the writer.
    wake: Notify,
    /// Ends the task of a connection that is not the present one.
    over: Notify,
    /// The present connection; 0 for none.
    current: Cell<u64>,
    /// When the process at its other end was started.
    start: Cell<u64>,
    /// The version that both its ends speak.
    version: Cell<u32>,
    /// Something came on it: the other end has taken it for good as well.
    heard: Cell<bool>,
    /// Rows of leaders did not fit.
    missed: Cell<bool>,
    /// When the writer last made progress, while it writes.
    pub(crate) writing_since: Cell<Option<Instant>>,
}

impl Links {
    /// No peers yet; frames are bounded by `limits`.
    pub(crate) fn new(limits: Limits) -> Rc<Links> {
        Rc::new(Links {
            links: RefCell::default(),
            addresses: RefCell::default(),
            told: Cell::new(0),
            handshakes: Rc::default(),
            limits,
            received: ByKind::default(),
            dropped: ByKind::default(),
            refused: RefCell::default(),
            complaints: Complaints::default(),
            connections: Cell::new(0),
            stopped: Cell::new(false),
            unsendable: Cell::new(0),
            refused_messages: Cell::new(0),
        })
    }

    /// How large a frame may be.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The link to a node; there is one from now on.
    pub(crate) fn link(&self, node: NodeId) -> Rc<Link> {
        let make = || {
            Rc::new(Link {
                node,
                data: Channel::new(self.limits),
                liveness: Channel::new(self.limits),
                newest_start: Cell::new(0),
                connects: Cell::new(false),
                trouble: RefCell::default(),
            })
        };
        self.links.borrow_mut().entry(node).or_insert_with(make).clone()
    }

    /// A node is reached there from now on.
    pub(crate) fn tell_address(&self, node: NodeId, host: &str, port: u16) {
        let mut addresses = self.addresses.borrow_mut();
        let known = addresses.get(&node).is_some_and(|(at, on)| at == host && *on == port);
        if !known && port != 0 {
            addresses.insert(node, (host.to_owned(), port));
            self.told.set(self.told.get() + 1);
        }
    }

    /// Rises with each address that is news.
    pub(crate) fn addresses_told(&self) -> u64 {
        self.told.get()
    }

    /// Where a node is reached.
    pub(crate) fn address(&self, node: NodeId) -> Option<(String, u16)> {
        self.addresses.borrow().get(&node).cloned()
    }

    /// Where nodes are reached, in order of the nodes.
    pub(crate) fn addresses(&self) -> Vec<(NodeId, (String, u16))> {
        self.addresses.borrow().iter().map(|(node, at)| (*node, at.clone())).collect()
    }

    /// The link to a node that there is one to.
    pub(crate) fn find(&self, node: NodeId) -> Option<Rc<Link>> {
        self.links.borrow().get(&node).cloned()
    }

    /// Every link, in order of the nodes.
    pub(crate) fn all(&self) -> Vec<Rc<Link>> {
        self.links.borrow().values().cloned().collect()
    }

    /// A number for a new connection.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// Says something to a node, or drops it: whoever says it says it again where that matters.
    pub(crate) fn send(&self, node: NodeId, said: PeerOut) {
        match said.into_wire() {
            Ok((body, payloads)) => {
                // Both ways of being dropped are counted where they happen.
                let _ = self.push(node, Frame { body, payloads });
            }
            Err(error) => {
                // Only raft's messages have fields that may not leave. One line is enough to find the fault, which
                // is ours.
                self.dropped.add(Kind::Raft, 0);
                if self.unsendable.replace(self.unsendable.get() + 1) == 0 {
                    tracing::error!(node, %error, "a message for another node cannot be sent");
                }
            }
        }
    }

    /// Lets a frame wait on the connection where it belongs. `false`: it is not sent.
    pub(crate) fn push(&self, node: NodeId, frame: Frame) -> bool {
        let links = self.links.borrow();
        let kind = Kind::of(&frame.body);
        let Some(link) = links.get(&node) else {
            self.dropped.add(kind, 0);
            return false;
        };
        let channel = link.channel(purpose_of(&frame.body));
        // An older node would take it for nonsense.
        if !channel.is_up() || channel.version.get() < since(&frame.body) {
            self.dropped.add(kind, 0);
            return false;
        }
        channel.push(frame)
    }

    /// Counts a handshake that came to nothing.
    pub(crate) fn count_refused(&self, reason: &'static str, by: &'static str) {
        *self.refused.borrow_mut().entry((reason, by)).or_default() += 1;
    }

    /// Handshakes that came to nothing: reason, who said so, how many.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.refused.borrow().iter().map(|((reason, by), count)| (*reason, *by, *count)).collect()
    }

    /// Runs `log` for the first complaint of its kind, which is the node, why and who says so, and then at most every
    /// half minute. It is handed what to add: how many were kept back.
    pub(crate) fn complain(
        &self,
        kind: (Option<NodeId>, &'static str, &'static str),
        uptime: Duration,
        log: impl FnOnce(&str),
    ) {
        if let Some(more) = self.complaints.may(kind, uptime) {
            log(&more);
        }
    }

    /// Ends all connections: the broker stops.
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
        for link in self.links.borrow().values() {
            link.channels().into_iter().for_each(|(_, channel)| channel.end());
        }
    }

    /// Whether there are to be no connections any more.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Ends connections whose peer takes nothing.
    pub(crate) fn sweep(&self, now: Instant) {
        for link in self.links.borrow().values() {
            for (purpose, channel) in link.channels() {
                let since = channel.writing_since.get();
                if since.is_some_and(|since| now.duration_since(since) > STALLED) {
                    tracing::warn!(
                        node = link.node,
                        connection = name(purpose),
                        "peer takes nothing: closed"
                    );
                    channel.end();
                }
            }
        }
    }
}

impl Link {
    /// The connection for a purpose.
    pub(crate) fn channel(&self, purpose: Purpose) -> &Channel {
        if purpose == Purpose::Liveness { &self.liveness } else { &self.data }
    }

    /// Both.
    pub(crate) fn channels(&self) -> [(Purpose, &Channel); 2] {
        [(Purpose::Data, &self.data), (Purpose::Liveness, &self.liveness)]
    }

    /// A later start of the node is registered: ends connections to an earlier one. Whether there were any.
    pub(crate) fn superseded(&self, registered: u64) -> bool {
        let earlier = |channel: &&Channel| channel.is_up() && channel.start.get() < registered;
        let ends = self.channels().map(|(_, channel)| channel);
        let ends: Vec<&Channel> = ends.into_iter().filter(earlier).collect();
        ends.iter().for_each(|channel| channel.end());
        !ends.is_empty()
    }
}

impl Channel {
    fn new(limits: Limits) -> Channel {
        Channel {
            queue: RefCell::new(SendQueue::new(DEFAULT_QUEUE_BYTES, limits)),
            wake: Notify::new(),
            over: Notify::new(),
            current: Cell::new(0),
            start: Cell::new(0),
            version: Cell::new(0),
            heard: Cell::new(false),
            missed: Cell::new(false),
            writing_since: Cell::new(None),
        }
    }

    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        self.current.get() != 0
    }

    /// Whether `connection` is the present one.
    pub(crate) fn is(&self, connection: u64) -> bool {
        self.current.get() == connection
    }

    /// `connection`, of this version, to the process of this start, is the present one from now on; it begins with an
    /// empty queue.
    pub(crate) fn begin(&self, connection: u64, version: u32, start: u64) {
        self.current.set(connection);
        self.start.set(start);
        self.version.set(version);
        self.queue.borrow_mut().clear();
        self.missed.set(false);
        self.heard.set(false);
        self.writing_since.set(None);
        self.over.notify_waiters();
    }

    /// Whether something came on the present connection.
    pub(crate) fn heard(&self) -> bool {
        self.heard.get()
    }

    /// Something came on it: whether it is the first.
    pub(crate) fn first_heard(&self) -> bool {
        !self.heard.replace(true)
    }

    /// There is no connection any more.
    pub(crate) fn end(&self) {
        self.current.set(0);
        self.queue.borrow_mut().clear();
        self.writing_since.set(None);
        self.over.notify_waiters();
    }

    /// Resolves when `connection` is not the present one any more.
    pub(crate) async fn over(&self, connection: u64) {
        while self.is(connection) {
            self.over.notified().await;
        }
    }

    fn push(&self, frame: Frame) -> bool {
        match self.queue.borrow_mut().push(frame) {
            Ok(()) | Err(NotQueued::Sleeping) => {}
            Err(NotQueued::TableDue) => {
                self.missed.set(true);
                return false;
            }
            Err(NotQueued::Full | NotQueued::Unsendable(_)) => return false,
        }
        self.wake.notify_one();
        true
    }

    /// What is to be written next; waits until there is something.
    pub(crate) async fn next(&self, max_bytes: usize, max_pieces: usize) -> Vec<Bytes> {
        loop {
            let pieces = self.queue.borrow_mut().take(max_bytes, max_pieces);
            if !pieces.is_empty() {
                return pieces;
            }
            self.wake.notified().await;
        }
    }

    /// Whether rows of leaders were given up, now that there is room for them again.
    pub(crate) fn take_missed(&self) -> bool {
        self.missed.get() && self.queue.borrow().is_empty() && self.missed.replace(false)
    }

    /// Bytes that wait.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.borrow().queued_bytes()
    }

    /// Messages of a kind that were sent with their bytes, and those that the queue had no room for.
    pub(crate) fn counted(&self, kind: Kind) -> ((u64, u64), u64) {
        let counters = self.queue.borrow().counters();
        (counters.sent(kind), counters.dropped(kind))
    }
}

/// Which connection a message takes: what elections and leases need must not wait behind data.
fn purpose_of(body: &Body) -> Purpose {
    let data = match body {
        Body::Raft(message) => match message.r#type() {
            RaftType::Append | RaftType::AppendResponse | RaftType::Snapshot => true,
            RaftType::Unknown
            | RaftType::Vote
            | RaftType::VoteResponse
            | RaftType::PreVote
            | RaftType::PreVoteResponse
            | RaftType::Heartbeat
            | RaftType::HeartbeatResponse
            | RaftType::TransferLeader
            | RaftType::TimeoutNow
            | RaftType::ReadIndex
            | RaftType::ReadIndexResponse => false,
        },
        Body::Heartbeat(_) | Body::LeaderRows(_) => false,
        _ => true,
    };
    if data { Purpose::Data } else { Purpose::Liveness }
}

/// A connection's purpose, as a metric's label.
pub(crate) fn name(purpose: Purpose) -> &'static str {
    if purpose == Purpose::Liveness { "liveness" } else { "data" }
}

/// A reason as a metric's label.
pub(crate) fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Unknown => "unknown",
        Reason::WrongCluster => "wrong_cluster",
        Reason::WrongSecret => "wrong_secret",
        Reason::DuplicateNodeId => "duplicate_node_id",
        Reason::WrongNode => "wrong_node",
        Reason::UnknownPeer => "unknown_peer",
        Reason::NoCommonVersion => "no_common_version",
        Reason::OlderProcess => "older_process",
        Reason::WrongDirectory => "wrong_directory",
        Reason::Itself => "itself",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{GroupKey, TopicId};

    #[test]
    fn connections_to_an_earlier_start_of_a_node_end_when_a_later_one_is_registered() {
        let links = Links::new(Limits::DEFAULT);
        let link = links.link(2);
        link.data.begin(1, 2, 5);
        link.liveness.begin(2, 2, 6);
        assert!(!link.superseded(5) && link.data.is_up());
        assert!(link.superseded(6));
        assert!(!link.data.is_up() && link.liveness.is_up());
        assert!(!link.superseded(6));
    }

    #[test]
    fn a_peer_of_an_older_version_is_not_told_what_it_cannot_read() {
        let links = Links::new(Limits::DEFAULT);
        let link = links.link(2);
        let key = GroupKey { topic: TopicId([1; 16]), partition: 0 };
        let say = || links.send(2, PeerOut::Chain { key, index: 3, value: 4, asks: true });
        let older = || links.send(2, PeerOut::HandOver { key, to: 1 });
        link.data.begin(1, 1, 5);
        say();
        assert_eq!((link.data.queued_bytes(), links.dropped.of(Kind::Node).0), (0, 1));
        older();
        assert!(link.data.queued_bytes() > 0, "what it knows it is told");
        link.data.begin(2, 2, 5);
        say();
        assert!(link.data.queued_bytes() > 0);
        assert_eq!(links.dropped.of(Kind::Node).0, 1);
    }
}
