//! Connections between nodes. Each pair has two, as the real nodes have: one for data and one for liveness.
//!
//! A connection is two streams, as TCP gives them: what is on its way arrives in order, late, or not at all
//! once the connection is reset. A cut path delivers nothing and resets nothing by itself; when it heals,
//! what waited arrives.
use super::events::Micros;
use crate::rng::Rng;
use bytes::{Bytes, BytesMut};
use node::PeerOut;
use peer::{Decoder, Frame, Limits};
use std::collections::{BTreeMap, VecDeque};

/// Which of a pair's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    /// Raft's messages and small requests.
    Data,
    /// Heartbeats and the table of leaders.
    Liveness,
}

pub(crate) const KINDS: [LinkKind; 2] = [LinkKind::Data, LinkKind::Liveness];

/// From which machine to which.
pub(crate) type Dir = (usize, usize);

/// What travels in a stream.
#[derive(Debug)]
pub(crate) enum Item {
    /// The connection stands; the process at the other end has this number.
    Up { life: u64, number: u64 },
    /// A frame, as bytes.
    Message(Bytes),
    /// The connection is gone. No cut holds this up: each end finds out by itself.
    Down,
}

#[derive(Debug, Default)]
struct Stream {
    items: VecDeque<(Micros, Item)>,
    /// When the delivery is due that stands in the queue of events.
    scheduled: Option<Micros>,
    last_due: Micros,
    /// The connection to which it belongs; 0 once that was reset.
    number: u64,
}

/// What a stream holds at most; more is dropped, as from the real nodes' bounded queues.
const MOST_ITEMS: usize = 2_000;

/// How long messages take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) least: Micros,
    pub(crate) spread: Micros,
}

#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    streams: BTreeMap<(Dir, LinkKind), Stream>,
    /// By who believes it: the connection that stands, to the other.
    ends: BTreeMap<(Dir, LinkKind), u64>,
    connections: u64,
    /// How many faults cut each direction.
    cuts: BTreeMap<Dir, u32>,
    pub(crate) latency: Latency,
    /// Messages that found no room or no connection.
    pub(crate) dropped: u64,
    /// Messages delivered.
    pub(crate) delivered: u64,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way; true: a delivery must be scheduled at this time.
    OnItsWay(Option<Micros>),
    /// There is no connection.
    NoConnection,
    /// Too much waits already.
    Full,
}

impl Network {
    pub(crate) fn new(nodes: usize, latency: Latency) -> Network {
        Network {
            nodes,
            streams: BTreeMap::new(),
            ends: BTreeMap::new(),
            connections: 0,
            cuts: BTreeMap::new(),
            latency,
            dropped: 0,
            delivered: 0,
        }
    }

    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        (0..self.nodes).flat_map(|a| (a + 1..self.nodes).map(move |b| (a, b))).collect()
    }

    pub(crate) fn is_up(&self, me: usize, other: usize, kind: LinkKind) -> bool {
        self.ends.contains_key(&((me, other), kind))
    }

    pub(crate) fn is_cut(&self, dir: Dir) -> bool {
        self.cuts.get(&dir).is_some_and(|n| *n > 0)
    }

    pub(crate) fn cut(&mut self, dir: Dir) {
        *self.cuts.entry(dir).or_default() += 1;
    }

    /// One fault less cuts this direction; what waited is to be delivered.
    pub(crate) fn heal(&mut self, dir: Dir) {
        if let Some(n) = self.cuts.get_mut(&dir) {
            *n = n.saturating_sub(1);
        }
    }

    pub(crate) fn heal_all(&mut self) {
        self.cuts.clear();
    }

    fn delay(&self, rng: &mut Rng) -> Micros {
        self.latency.least + rng.below(self.latency.spread + 1)
    }

    fn push(&mut self, dir: Dir, kind: LinkKind, due: Micros, item: Item) -> Option<Micros> {
        let stream = self.streams.entry((dir, kind)).or_default();
        let due = due.max(stream.last_due);
        stream.last_due = due;
        stream.items.push_back((due, item));
        if stream.scheduled.is_some() {
            return None;
        }
        stream.scheduled = Some(due);
        Some(due)
    }

    /// `me` says something to `other`.
    pub(crate) fn send(&mut self, t: Micros, dir: Dir, kind: LinkKind, said: Bytes, rng: &mut Rng) -> Sent {
        let (Some(number), Some(stream)) = (self.ends.get(&(dir, kind)), self.streams.get(&(dir, kind)))
        else {
            self.dropped += 1;
            return Sent::NoConnection;
        };
        if stream.number != *number {
            // The other end is gone and this one has not heard of it: the bytes go nowhere.
            self.dropped += 1;
            return Sent::OnItsWay(None);
        }
        if stream.items.len() >= MOST_ITEMS {
            self.dropped += 1;
            return Sent::Full;
        }
        let due = t + self.delay(rng);
        Sent::OnItsWay(self.push(dir, kind, due, Item::Message(said)))
    }

    /// What arrives now in a stream by the delivery that was due at `at`, and when the next one is.
    pub(crate) fn arrive(
        &mut self,
        t: Micros,
        dir: Dir,
        kind: LinkKind,
        at: Micros,
    ) -> (Option<Item>, Option<Micros>) {
        let cut = self.is_cut(dir);
        let Some(stream) = self.streams.get_mut(&(dir, kind)) else { return (None, None) };
        if stream.scheduled != Some(at) {
            return (None, None);
        }
        stream.scheduled = None;
        let ready =
            stream.items.front().is_some_and(|(due, item)| *due <= t && (!cut || matches!(item, Item::Down)));
        let item = if ready { stream.items.pop_front().map(|(_, item)| item) } else { None };
        let next = match stream.items.front() {
            Some((_, Item::Message(_) | Item::Up { .. })) if cut => None,
            Some((due, _)) => Some((*due).max(t)),
            None => None,
        };
        stream.scheduled = next;
        (item, next)
    }

    /// Streams that may go on: the path is whole again, or the process that was paused goes on.
    pub(crate) fn stalled(&mut self, t: Micros) -> Vec<(Dir, LinkKind, Micros)> {
        let cuts = &self.cuts;
        let whole = |dir: &Dir| cuts.get(dir).is_none_or(|n| *n == 0);
        let mut found = Vec::new();
        for ((dir, kind), stream) in &mut self.streams {
            if let Some((due, _)) = stream.items.front()
                && stream.scheduled.is_none()
                && whole(dir)
            {
                let due = t.max(*due);
                stream.scheduled = Some(due);
                found.push((*dir, *kind, due));
            }
        }
        found
    }

    /// The connection is reset: everything on its way is lost, both ends learn of it after a while.
    pub(crate) fn reset(
        &mut self,
        t: Micros,
        a: usize,
        b: usize,
        kind: LinkKind,
        rng: &mut Rng,
    ) -> Vec<(Dir, Micros)> {
        let mut due = Vec::new();
        for dir in [(a, b), (b, a)] {
            let stream = self.streams.entry((dir, kind)).or_default();
            *stream = Stream::default();
            if self.is_up(dir.1, dir.0, kind) {
                let at = t + rng.below(self.latency.spread + 1_000);
                due.extend(self.push(dir, kind, at, Item::Down).map(|at| (dir, at)));
            }
        }
        due
    }

    /// The process at `dead` ended. What it sent arrives yet; then its peers see the end of the stream,
    /// unless the machine itself is gone: that they find out later.
    pub(crate) fn died(
        &mut self,
        t: Micros,
        dead: usize,
        silently: bool,
        rng: &mut Rng,
    ) -> Vec<(Dir, LinkKind, Micros)> {
        let mut due = Vec::new();
        for other in (0..self.nodes).filter(|n| *n != dead) {
            for kind in KINDS {
                self.ends.remove(&((dead, other), kind));
                self.streams.insert(((other, dead), kind), Stream::default());
                if let Some(outbound) = self.streams.get_mut(&((dead, other), kind)) {
                    outbound.number = 0;
                }
                let begun = self.streams.get(&((dead, other), kind)).is_some_and(|s| !s.items.is_empty());
                if !silently && (begun || self.is_up(other, dead, kind)) {
                    let at = t + self.delay(rng);
                    let dir = (dead, other);
                    due.extend(self.push(dir, kind, at, Item::Down).map(|at| (dir, kind, at)));
                }
            }
        }
        due
    }

    /// Whether packets travel both ways between two nodes.
    pub(crate) fn is_whole(&self, a: usize, b: usize) -> bool {
        !self.is_cut((a, b)) && !self.is_cut((b, a))
    }

    /// Whether a handshake can be made now: the path is whole and the end at `a`, which connects, has no
    /// connection. An end at `b` that believes in an old one takes the new one in its place.
    pub(crate) fn may_connect(&self, a: usize, b: usize, kind: LinkKind) -> bool {
        !self.is_cut((a, b)) && !self.is_cut((b, a)) && !self.is_up(a, b, kind)
    }

    /// An end at `a` that believes in a connection whose other end is gone learns so, if packets travel.
    pub(crate) fn is_stale(&self, a: usize, b: usize, kind: LinkKind) -> bool {
        self.is_up(a, b, kind) && !self.is_up(b, a, kind) && !self.is_cut((a, b)) && !self.is_cut((b, a))
    }

    /// A handshake: both ends hear of it when it reaches them.
    pub(crate) fn connect(
        &mut self,
        t: Micros,
        a: usize,
        b: usize,
        kind: LinkKind,
        lives: (u64, u64),
        rng: &mut Rng,
    ) -> Vec<(Dir, Micros)> {
        let mut due = Vec::new();
        self.connections += 1;
        let number = self.connections;
        for (dir, life) in [((a, b), lives.0), ((b, a), lives.1)] {
            self.streams.insert((dir, kind), Stream { number, ..Stream::default() });
            let at = t + self.delay(rng);
            due.extend(self.push(dir, kind, at, Item::Up { life, number }).map(|at| (dir, at)));
        }
        due
    }

    /// The end at `dir.1` takes note of what arrived: a connection, or that it is gone.
    pub(crate) fn note(&mut self, dir: Dir, kind: LinkKind, number: Option<u64>) {
        let end = ((dir.1, dir.0), kind);
        match number {
            Some(number) => self.ends.insert(end, number),
            None => self.ends.remove(&end),
        };
    }

    /// Whether a connection is being made or torn down.
    pub(crate) fn in_motion(&self, a: usize, b: usize, kind: LinkKind) -> bool {
        let turning = |dir: Dir| {
            let stream = self.streams.get(&(dir, kind));
            stream.is_some_and(|s| s.items.iter().any(|(_, i)| !matches!(i, Item::Message(_))))
        };
        turning((a, b)) || turning((b, a))
    }
}

/// A message as its frame. Errors: it can never be sent.
pub(crate) fn encode(said: PeerOut) -> Result<Bytes, String> {
    let (body, payloads) = said.into_wire().map_err(|e| e.to_string())?;
    let pieces = Frame { body, payloads }.encode(Limits::DEFAULT).map_err(|e| e.to_string())?;
    Ok(pieces.concat().into())
}

/// What a frame says. Errors: it says nothing that nodes say.
pub(crate) fn decode(frame: &Bytes) -> Result<PeerOut, String> {
    let mut decoder = Decoder::new();
    decoder.establish(Limits::DEFAULT);
    let mut buffer = BytesMut::from(&frame[..]);
    let received = decoder.decode(&mut buffer).map_err(|e| e.to_string())?;
    let frame = received.ok_or("a part of a frame")?.frame;
    let said = PeerOut::from_wire(frame.body, frame.payloads).map_err(|e| e.to_string())?;
    said.ok_or_else(|| "nothing for a node".to_owned())
}
