//! What waits to be sent to one peer on one connection, bounded by bytes.
//!
//! | full, and there comes | then |
//! |---|---|
//! | a raft message | it is dropped: raft sends again |
//! | a heartbeat | it takes the place of an older one that waits; it is never in the way of anything |
//! | rows of leaders | all rows that wait go: a whole table must be sent later |
//! | anything else | it is refused; the caller answers whoever asked |
//!
//! One frame is always taken when none waits, however large. What counts is what a frame takes: its bytes on
//! the wire, and its place in memory until then.
use crate::error::Unsendable;
use crate::frame::{Frame, Limits};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use proto::peer::peer_frame::Body;
use proto::peer::{EntryHead, Heartbeat, LeaderRow, LeaderRows, SleepingGroup};
use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;

/// What a queue holds unless told otherwise, bytes.
pub const DEFAULT_QUEUE_BYTES: usize = 16 << 20;
/// Sleeping groups that one heartbeat may name.
pub const MOST_SLEEPING: usize = 1 << 16;
/// Rows of leaders are cut into frames of so many bytes.
const ROWS_FRAME_BYTES: usize = 1 << 20;
/// Memory of a payload's handle and of its entry's head while a frame waits.
const PAYLOAD_HANDLE_BYTES: usize = size_of::<Bytes>() + size_of::<EntryHead>();

/// What a frame is to the queue, and to its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A message between replicas.
    Raft,
    /// A sign of life.
    Heartbeat,
    /// Rows of the table of leaders.
    LeaderRows,
    /// A client's request for another node.
    Forward,
    /// The answer to one.
    Forwarded,
    /// A small message between nodes.
    Node,
    /// Of a replica that is brought up from a checkpoint.
    Install,
    /// A node looks for its cluster; such frames wait in no queue.
    Find,
    /// Frames of the handshake, which wait in no queue.
    Handshake,
}

impl Kind {
    /// Every kind, in the order of the counters.
    pub const ALL: [Kind; 9] = [
        Kind::Raft,
        Kind::Heartbeat,
        Kind::LeaderRows,
        Kind::Forward,
        Kind::Forwarded,
        Kind::Node,
        Kind::Install,
        Kind::Find,
        Kind::Handshake,
    ];

    /// Its name as a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Raft => "raft",
            Kind::Heartbeat => "heartbeat",
            Kind::LeaderRows => "leader_rows",
            Kind::Forward => "forward",
            Kind::Forwarded => "forwarded",
            Kind::Node => "node",
            Kind::Install => "install",
            Kind::Find => "find",
            Kind::Handshake => "handshake",
        }
    }

    /// The kind of a message.
    pub fn of(body: &Body) -> Kind {
        match body {
            Body::Raft(_) => Kind::Raft,
            Body::Heartbeat(_) => Kind::Heartbeat,
            Body::LeaderRows(_) => Kind::LeaderRows,
            Body::Forward(_) => Kind::Forward,
            Body::Forwarded(_) => Kind::Forwarded,
            Body::Node(_) => Kind::Node,
            Body::Install(_) => Kind::Install,
            Body::Find(_) | Body::Found(_) => Kind::Find,
            Body::Hello(_) | Body::Proof(_) | Body::Refuse(_) => Kind::Handshake,
        }
    }
}

/// Why a frame does not wait to be sent. All of these are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// The queue holds as many bytes as it may.
    #[error("the queue to the peer is full")]
    Full,
    /// Rows of leaders: the peer needs a whole table, see [`SendQueue::table_due`].
    #[error("a whole table of leaders is due")]
    TableDue,
    /// The heartbeat waits, but none of the groups that it says are asleep: they must stay awake.
    #[error("more than {MOST_SLEEPING} sleeping groups wait to be named")]
    Sleeping,
    /// It could never be sent.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
}

/// What became of frames, since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    dropped: [u64; Kind::ALL.len()],
    sent: [(u64, u64); Kind::ALL.len()],
    /// Frames that could never be sent: larger than the limits.
    pub unsendable: u64,
    /// Heartbeats that gave way to a newer one.
    pub heartbeats_replaced: u64,
    /// Rows of leaders that were given up because a whole table follows.
    pub rows_collapsed: u64,
}

impl QueueCounters {
    /// Frames of `kind` that were not taken because the queue was full.
    pub fn dropped(&self, kind: Kind) -> u64 {
        self.dropped[kind as usize]
    }

    /// Frames of `kind` that were encoded to be sent, and their bytes.
    pub fn sent(&self, kind: Kind) -> (u64, u64) {
        self.sent[kind as usize]
    }
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    cost: usize,
}

/// What a frame takes. Errors: it can never be sent.
fn cost(frame: &Frame, limits: Limits) -> Result<usize, Unsendable> {
    let bytes = frame.measure(limits)?;
    let rows = if let Body::LeaderRows(rows) = &frame.body { rows.rows.len() } else { 0 };
    let parts = frame.payloads.len() * PAYLOAD_HANDLE_BYTES + rows * size_of::<LeaderRow>();
    Ok(bytes + size_of::<Waiting>() + parts)
}

/// Frames for one peer on one connection. They are encoded when they are taken.
#[derive(Debug)]
pub struct SendQueue {
    max_bytes: usize,
    limits: Limits,
    heartbeat: Option<Heartbeat>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Encoded and not taken yet: whole frames, the first perhaps begun.
    encoded: VecDeque<Bytes>,
    encoded_bytes: usize,
    table_due: bool,
    counters: QueueCounters,
}

impl SendQueue {
    /// A queue of `max_bytes` ([`DEFAULT_QUEUE_BYTES`]) for a new connection: a table of leaders is due.
    pub fn new(max_bytes: usize, limits: Limits) -> SendQueue {
        SendQueue {
            max_bytes,
            limits,
            heartbeat: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            encoded: VecDeque::new(),
            encoded_bytes: 0,
            table_due: true,
            counters: QueueCounters::default(),
        }
    }

    /// Lets a frame wait; order is kept but for heartbeats, which go first. Rows of leaders that are whole
    /// take the place of all rows that wait. Errors: see [`NotQueued`].
    pub fn push(&mut self, frame: Frame) -> Result<(), NotQueued> {
        match frame.body {
            Body::Heartbeat(heartbeat) => self.push_heartbeat(heartbeat),
            Body::LeaderRows(rows) => self.push_rows(rows),
            body => self.push_other(Frame { body, payloads: frame.payloads }),
        }
    }

    fn push_other(&mut self, frame: Frame) -> Result<(), NotQueued> {
        let cost = self.cost(&frame)?;
        if !self.has_room(cost) {
            self.counters.dropped[Kind::of(&frame.body) as usize] += 1;
            return Err(NotQueued::Full);
        }
        self.wait(frame, cost);
        Ok(())
    }

    fn cost(&mut self, frame: &Frame) -> Result<usize, NotQueued> {
        cost(frame, self.limits).map_err(|error| {
            self.counters.unsendable += 1;
            error.into()
        })
    }

    fn has_room(&self, cost: usize) -> bool {
        let queued = self.queued_bytes();
        queued == 0 || queued.saturating_add(cost) <= self.max_bytes
    }

    fn wait(&mut self, frame: Frame, cost: usize) {
        self.waiting_bytes += cost;
        self.waiting.push_back(Waiting { frame, cost });
    }

    /// A newer heartbeat says all that an older one said, but for the groups that fell asleep, and a load that is
    /// not told each time.
    fn push_heartbeat(&mut self, mut heartbeat: Heartbeat) -> Result<(), NotQueued> {
        let older = self.heartbeat.take();
        self.counters.heartbeats_replaced += u64::from(older.is_some());
        let (older, load) = older.map(|older| (older.sleeping, older.load)).unwrap_or_default();
        heartbeat.load = heartbeat.load.or(load);
        let newer = std::mem::take(&mut heartbeat.sleeping);
        let fits = older.len() + newer.len() <= MOST_SLEEPING;
        let newer = if fits { newer } else { Vec::new() };
        heartbeat.sleeping = match (older.is_empty(), newer.is_empty()) {
            (true, _) => newer,
            (_, true) => older,
            _ => {
                let group = |one: SleepingGroup| ((one.topic_id.clone(), one.partition), one);
                let all: BTreeMap<_, _> = older.into_iter().chain(newer).map(group).collect();
                all.into_values().collect()
            }
        };
        self.heartbeat = Some(heartbeat);
        if fits {
            return Ok(());
        }
        self.counters.dropped[Kind::Heartbeat as usize] += 1;
        Err(NotQueued::Sleeping)
    }

    /// Rows are taken all or none; a whole table takes the place of all that wait.
    fn push_rows(&mut self, rows: LeaderRows) -> Result<(), NotQueued> {
        let count = rows.rows.len() as u64;
        if rows.whole {
            self.collapse_rows();
        } else if self.table_due {
            self.counters.rows_collapsed += count;
            return Err(NotQueued::TableDue);
        }
        let whole = rows.whole;
        let mut frames = Vec::new();
        for frame in rows_frames(rows) {
            frames.push((self.cost(&frame)?, frame));
        }
        if !self.has_room(frames.iter().map(|(cost, _)| cost).sum()) {
            self.collapse_rows();
            self.counters.rows_collapsed += count;
            return Err(NotQueued::TableDue);
        }
        for (cost, frame) in frames {
            self.wait(frame, cost);
        }
        self.table_due &= !whole;
        Ok(())
    }

    /// Gives up all rows that wait; until a whole table comes, more of them are of no use.
    fn collapse_rows(&mut self) {
        let SendQueue { waiting, waiting_bytes, counters, .. } = self;
        waiting.retain(|one| {
            let Body::LeaderRows(rows) = &one.frame.body else { return true };
            *waiting_bytes -= one.cost;
            counters.rows_collapsed += rows.rows.len() as u64;
            false
        });
        self.table_due = true;
    }

    /// Whether the peer lacks rows: the caller is to push a whole table, at once or when it next has rows.
    pub fn table_due(&self) -> bool {
        self.table_due
    }

    /// Up to `max_bytes` in up to `max_pieces` pieces, for one vectored write; nothing when nothing waits.
    /// Payloads are not copied. All that is taken must be written, in this order, or the connection closed.
    pub fn take(&mut self, max_bytes: usize, max_pieces: usize) -> Vec<Bytes> {
        self.encode_up_to(max_bytes, max_pieces);
        let (mut pieces, mut room) = (Vec::new(), max_bytes);
        while let Some(front) = self.encoded.front_mut() {
            if room == 0 || pieces.len() == max_pieces {
                break;
            }
            let piece = if front.len() <= room { std::mem::take(front) } else { front.split_to(room) };
            if !front.has_remaining() {
                self.encoded.pop_front();
            }
            room -= piece.len();
            self.encoded_bytes -= piece.len();
            pieces.push(piece);
        }
        pieces
    }

    /// Encodes frames until there is enough for one write. Heads that follow each other share a piece.
    fn encode_up_to(&mut self, max_bytes: usize, max_pieces: usize) {
        let mut heads = BytesMut::new();
        while self.encoded_bytes + heads.len() < max_bytes && self.encoded.len() < max_pieces {
            let Some(frame) = self.next_frame() else { break };
            let (kind, before) = (Kind::of(&frame.body), heads.len());
            let payloads = frame.encode_head(&mut heads);
            let bytes = heads.len() - before + payloads.iter().map(Bytes::len).sum::<usize>();
            let sent = &mut self.counters.sent[kind as usize];
            *sent = (sent.0 + 1, sent.1 + bytes as u64);
            for payload in payloads.into_iter().filter(|payload| !payload.is_empty()) {
                self.add_piece(heads.split().freeze());
                self.add_piece(payload);
            }
        }
        self.add_piece(heads.freeze());
    }

    fn add_piece(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.encoded_bytes += piece.len();
            self.encoded.push_back(piece);
        }
    }

    fn next_frame(&mut self) -> Option<Frame> {
        if let Some(heartbeat) = self.heartbeat.take() {
            return Some(Frame::bare(Body::Heartbeat(heartbeat)));
        }
        let next = self.waiting.pop_front()?;
        self.waiting_bytes -= next.cost;
        Some(next.frame)
    }

    /// The connection is gone, and what waited with it. A new one begins with a whole table of leaders.
    pub fn clear(&mut self) {
        let (max_bytes, limits, counters) = (self.max_bytes, self.limits, self.counters);
        *self = SendQueue { counters, ..SendQueue::new(max_bytes, limits) };
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.heartbeat.is_none() && self.waiting.is_empty() && self.encoded.is_empty()
    }

    /// What waits takes so many bytes; a heartbeat is not counted.
    pub fn queued_bytes(&self) -> usize {
        self.waiting_bytes + self.encoded_bytes
    }

    /// What became of frames.
    pub fn counters(&self) -> QueueCounters {
        self.counters
    }
}

/// Rows in frames of moderate size: where they are whole, the first frame voids the rows that the peer has
/// and the others add to it.
fn rows_frames(rows: LeaderRows) -> impl Iterator<Item = Frame> {
    let mut whole = rows.whole;
    let mut rows = rows.rows.into_iter().peekable();
    std::iter::from_fn(move || {
        if !whole && rows.peek().is_none() {
            return None;
        }
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next_if(|row| bytes == 0 || bytes + row.encoded_len() < ROWS_FRAME_BYTES) {
            bytes += row.encoded_len();
            part.push(row);
        }
        let body = Body::LeaderRows(LeaderRows { whole: std::mem::take(&mut whole), rows: part });
        Some(Frame::bare(body))
    })
}
