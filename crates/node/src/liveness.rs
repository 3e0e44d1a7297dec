//! Leases between nodes: which peers this node takes for alive (docs/design/cluster.md, section 4).
//!
//! Must not know: sockets, groups, what follows from a lost lease.
//!
//! # What grants a lease
//!
//! Each node sends each peer a [`Heartbeat`] every 100 ms on the liveness connection. A heartbeat that
//! arrives grants the lease on its sender for 400 ms, if all of this holds:
//!
//! - It names the process starts of both ends as they are now. A higher start of the sender is a new
//!   process: its predecessor's lease is lost at once, though no silence was seen.
//! - Its number is higher than all that were heard of that process.
//! - The sender's oldest write or sync is no older than 1 s: a node whose disk hangs is not to lead.
//! - It echoes a heartbeat of ours that left on this connection, for this process, no more than 400 ms ago.
//!
//! # Why the echo
//!
//! That a heartbeat arrives says only that its sender lived when it wrote it. If this process was paused,
//! heartbeats waited in the socket's buffer, and their sender may be long dead. The echo dates a heartbeat by
//! this node's own clock: its sender heard what left here at a known moment, so it was alive after that.
//! After a pause longer than the lease every lease has run out, all that waited echoes heartbeats that are
//! older than the lease, and only a new round trip grants anew. No clock is compared with another's.
//!
//! So a lease ends at most 400 ms after the last delivery from its peer, and at most 800 ms after a moment
//! at which the peer was certainly alive. A connection that carries only one way ends the leases at both
//! ends: one hears nothing, the other hears old echoes.
//!
//! A pause in which the monotonic clock stands still too (some virtual machines) cannot be seen here; it
//! prolongs a lease by what is left of it and no more, because later heartbeats do not come.
use crate::load::LoadReport;
use crate::sleep::Sleeping;
use model::{GroupKey, Mono, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Between two heartbeats to one peer.
pub(crate) const HEARTBEAT_MS: i64 = 100;
/// A lease lasts so long after the last heartbeat that granted it.
pub(crate) const LEASE: Duration = Duration::from_millis(400);
/// A heartbeat whose sender's oldest write or sync is older than this grants nothing.
const MOST_IO_MS: u64 = 1_000;
/// Heartbeats of ours whose time is remembered for each peer: four fit into a lease, and some that leave early.
const REMEMBERED: usize = 16;
/// Sleeping groups in one heartbeat.
const SLEEPING_A_HEARTBEAT: usize = 1_000;
/// Sleeping groups that wait to be told to one peer.
const MOST_SLEEPING: usize = 10_000;

/// What one node tells another every 100 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender's process start; rises with each start of that node.
    pub from_start: u64,
    /// The receiver's process start, as the sender knows it.
    pub to_start: u64,
    /// The sender's running number: rises with each heartbeat to this receiver, from 1 or more.
    pub number: u64,
    /// The highest number that the sender heard on this connection; 0 for none.
    pub echo: u64,
    /// Age of the sender's oldest write or sync that has not ended, ms; 0 where there is none.
    pub oldest_io_ms: u64,
    /// Groups led by the sender that sleep from now on.
    pub sleeping: Vec<Sleeping>,
    /// The sender refuses what clients append: its disk is full.
    pub full: bool,
    /// What the sender's replicas take in, every few seconds.
    pub load: Option<Arc<LoadReport>>,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseEvent {
    /// The peer is alive.
    Gained(NodeId),
    /// The peer is silent, was started anew, or closed the connection.
    Lost(NodeId),
}

/// This node's side of all leases. The caller passes the monotonic clock and drains the events.
#[derive(Debug)]
pub(crate) struct Liveness {
    node: NodeId,
    start: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// Number of the last heartbeat sent to anybody. One count for all: no peer, connection or process ever
    /// gets a number twice, so that an old echo matches nothing.
    last_number: u64,
}

#[derive(Debug)]
struct Peer {
    lease: Lease,
    link: Option<Link>,
}

#[derive(Clone, Copy, Debug)]
enum Lease {
    Lost { since: Mono },
    Held { until: Mono },
}

/// A connection to one process of a peer.
#[derive(Debug)]
struct Link {
    /// The peer's process start.
    start: u64,
    /// The highest number heard; 0 for none.
    heard: u64,
    /// When the next heartbeat leaves.
    due: Mono,
    /// Numbers and times of the last heartbeats that left for this process, oldest first.
    sent: VecDeque<(u64, Mono)>,
    /// To be told with the next heartbeats.
    sleeping: BTreeMap<GroupKey, Sleeping>,
    /// Its disk is full, as it said last.
    full: bool,
}

impl Link {
    fn new(start: u64, now: Mono) -> Link {
        Link { start, heard: 0, due: now, sent: VecDeque::new(), sleeping: BTreeMap::new(), full: false }
    }

    /// Whether the peer's process was alive within the time of a lease.
    fn is_recent(&self, now: Mono, echo: u64) -> bool {
        self.sent.iter().any(|(number, at)| *number == echo && now.since(*at) <= LEASE)
    }

    fn heartbeat(&mut self, now: Mono, number: u64, from_start: u64, oldest_io_ms: u64) -> Heartbeat {
        while self.sent.front().is_some_and(|(_, at)| now.since(*at) > LEASE) || self.sent.len() >= REMEMBERED
        {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
        self.due = now.after_ms(HEARTBEAT_MS);
        let mut sleeping = Vec::with_capacity(self.sleeping.len().min(SLEEPING_A_HEARTBEAT));
        while sleeping.len() < SLEEPING_A_HEARTBEAT
            && let Some((_, group)) = self.sleeping.pop_first()
        {
            sleeping.push(group);
        }
        Heartbeat {
            from_start,
            to_start: self.start,
            number,
            echo: self.heard,
            oldest_io_ms,
            sleeping,
            full: false,
            load: None,
        }
    }
}

impl Peer {
    fn lose(&mut self, node: NodeId, since: Mono, fx: &mut Vec<LeaseEvent>) {
        if let Lease::Held { .. } = self.lease {
            self.lease = Lease::Lost { since };
            fx.push(LeaseEvent::Lost(node));
        }
    }

    fn expire(&mut self, node: NodeId, now: Mono, fx: &mut Vec<LeaseEvent>) {
        if let Lease::Held { until } = self.lease
            && until <= now
        {
            self.lose(node, until, fx);
        }
    }

    fn grant(&mut self, node: NodeId, now: Mono, fx: &mut Vec<LeaseEvent>) {
        if let Lease::Lost { .. } = self.lease {
            fx.push(LeaseEvent::Gained(node));
        }
        self.lease = Lease::Held { until: now.after(LEASE) };
    }
}

impl Liveness {
    /// No peers yet. `start` is this process's; it must be higher than that of any process before it on this
    /// node, as [`NodeConfig::incarnation`](crate::NodeConfig::incarnation) is.
    pub(crate) fn new(node: NodeId, start: u64) -> Liveness {
        Liveness { node, start, peers: BTreeMap::new(), last_number: 0 }
    }

    /// A peer is known from now on, and lost until it is heard. Nothing changes for one that is known.
    pub(crate) fn add(&mut self, now: Mono, node: NodeId) {
        if node != self.node {
            let lost = Peer { lease: Lease::Lost { since: now }, link: None };
            self.peers.entry(node).or_insert(lost);
        }
    }

    /// The liveness connection to `node` stands, and its handshake named the process start `start`. Ends
    /// whatever was before. A heartbeat is due at once.
    pub(crate) fn on_connected(&mut self, now: Mono, node: NodeId, start: u64, fx: &mut Vec<LeaseEvent>) {
        self.add(now, node);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.expire(node, now, fx);
            peer.lose(node, now, fx);
            peer.link = Some(Link::new(start, now));
        }
    }

    /// The liveness connection to `node` was reset: the lease is lost without waiting for its end.
    pub(crate) fn on_disconnected(&mut self, now: Mono, node: NodeId, fx: &mut Vec<LeaseEvent>) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.expire(node, now, fx);
            peer.lose(node, now, fx);
            peer.link = None;
        }
    }

    /// A heartbeat arrived. False if it is none for this process from the peer's present one, or is older
    /// than one that was heard: then its sleeping groups must not be looked at either.
    pub(crate) fn on_heartbeat(
        &mut self,
        now: Mono,
        node: NodeId,
        beat: &Heartbeat,
        fx: &mut Vec<LeaseEvent>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        peer.expire(node, now, fx);
        let Some(link) = &mut peer.link else { return false };
        if beat.from_start > link.start {
            // What it is to hear of us leaves at once: the new process is alive and waits for it.
            *link = Link::new(beat.from_start, now);
            peer.lose(node, now, fx);
        }
        let Some(link) = &mut peer.link else { return false };
        let addressed = beat.from_start == link.start && beat.to_start == self.start;
        if !addressed || beat.number <= link.heard {
            return false;
        }
        (link.heard, link.full) = (beat.number, beat.full);
        if beat.oldest_io_ms <= MOST_IO_MS && link.is_recent(now, beat.echo) {
            peer.grant(node, now, fx);
        }
        true
    }

    /// Ends the leases that ran out. To be called before anything is decided by them.
    pub(crate) fn advance(&mut self, now: Mono, fx: &mut Vec<LeaseEvent>) {
        for (node, peer) in &mut self.peers {
            peer.expire(*node, now, fx);
        }
    }

    /// Whether the disk of a peer is full, as it said last.
    pub(crate) fn is_full(&self, node: NodeId) -> bool {
        self.peers.get(&node).and_then(|peer| peer.link.as_ref()).is_some_and(|link| link.full)
    }

    /// Pushes the heartbeats that are due. `oldest_io_ms` is the age of this node's oldest write or sync.
    pub(crate) fn heartbeats(&mut self, now: Mono, oldest_io_ms: u64, out: &mut Vec<(NodeId, Heartbeat)>) {
        for (node, peer) in &mut self.peers {
            if let Some(link) = peer.link.as_mut().filter(|link| link.due <= now) {
                self.last_number += 1;
                out.push((*node, link.heartbeat(now, self.last_number, self.start, oldest_io_ms)));
            }
        }
    }

    /// When [`advance`](Self::advance) or [`heartbeats`](Self::heartbeats) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        let due = self.peers.values().filter_map(|peer| peer.link.as_ref().map(|link| link.due));
        let ends = self.peers.values().filter_map(|peer| match peer.lease {
            Lease::Held { until } => Some(until),
            Lease::Lost { .. } => None,
        });
        due.chain(ends).min()
    }

    /// Whether `node` is taken for alive at `now`. This node always is.
    pub(crate) fn holds(&self, now: Mono, node: NodeId) -> bool {
        node == self.node
            || self
                .peers
                .get(&node)
                .is_some_and(|peer| matches!(peer.lease, Lease::Held { until } if until > now))
    }

    /// All nodes that are taken for alive at `now`, this one among them, in order of their ids.
    pub(crate) fn live(&self, now: Mono) -> Vec<NodeId> {
        let peers = self.peers.keys().copied().filter(|node| self.holds(now, *node));
        let mut live: Vec<NodeId> = peers.chain([self.node]).collect();
        live.sort_unstable();
        live
    }

    /// Those, and the nodes whose lease was lost less than `patience` before.
    pub(crate) fn recent(&self, now: Mono, patience: Duration) -> Vec<NodeId> {
        let lately = |peer: &Peer| {
            let (Lease::Lost { since } | Lease::Held { until: since }) = peer.lease;
            now.since(since) < patience
        };
        let peers = self.peers.iter().filter(|(node, peer)| self.holds(now, **node) || lately(peer));
        let mut recent: Vec<NodeId> = peers.map(|(node, _)| *node).chain([self.node]).collect();
        recent.sort_unstable();
        recent
    }

    /// Since when a known peer is lost; `None` while it is not, as of the last call that took the time.
    pub(crate) fn lost_since(&self, node: NodeId) -> Option<Mono> {
        match self.peers.get(&node)?.lease {
            Lease::Lost { since } => Some(since),
            Lease::Held { .. } => None,
        }
    }

    /// `group` sleeps from now on: the next heartbeats to `node` say so. False if that cannot be told, because
    /// there is no connection or too much waits already: then the group must stay awake.
    pub(crate) fn sleeps(&mut self, node: NodeId, group: Sleeping) -> bool {
        let link = self.peers.get_mut(&node).and_then(|peer| peer.link.as_mut());
        let Some(link) = link else { return false };
        if link.sleeping.len() >= MOST_SLEEPING && !link.sleeping.contains_key(&group.key) {
            return false;
        }
        link.sleeping.insert(group.key, group);
        true
    }

    /// A group is awake again: what was not told yet is not told.
    pub(crate) fn wakes(&mut self, key: GroupKey) {
        for link in self.peers.values_mut().filter_map(|peer| peer.link.as_mut()) {
            link.sleeping.remove(&key);
        }
    }
}
