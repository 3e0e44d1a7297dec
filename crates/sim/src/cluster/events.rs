//! What is to happen, in the order of the simulated clock.
use super::network::{Dir, LinkKind};
use node::{PeerOut, Reply, Token};
use std::collections::BTreeMap;

/// Microseconds since the run began.
pub(crate) type Micros = u64;

/// A millisecond.
pub(crate) const MS: Micros = 1_000;
/// A second.
pub(crate) const SECOND: Micros = 1_000 * MS;

/// One thing that happens. Machines are named by their place, 0 and on.
#[derive(Debug)]
pub(crate) enum Event {
    /// The shell's loop of a process turns: timers, then what was appended goes to the disk.
    Turn { machine: usize, at: Micros },
    /// The disk of a machine does something.
    Disk { machine: usize, life: u64 },
    /// The oldest read that a process asked for is done.
    Read { machine: usize, life: u64 },
    /// The head of a stream arrives.
    Deliver { dir: Dir, kind: LinkKind, at: Micros },
    /// Something that another node said before arrives once more.
    Again { dir: Dir, said: Box<PeerOut> },
    /// Two nodes try to connect.
    Connect { a: usize, b: usize, kind: LinkKind },
    /// A process is started.
    Start { machine: usize },
    /// A process that is not registered asks others for its cluster.
    Find { machine: usize },
    /// A client does something.
    Client(usize),
    /// A client's request arrives.
    Request { client: usize, call: u64, machine: usize },
    /// An answer arrives at its client.
    Answer { client: usize, call: u64, reply: Box<Reply> },
    /// A client has waited long enough.
    Patience { client: usize, call: u64 },
    /// Something goes wrong.
    Fault,
    /// Something that went wrong is over.
    Mend(super::faults::Mend),
    /// Nothing; the run looks at its state.
    Look,
}

/// The queue of events; equal times keep the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Micros, u64), Event>,
    count: u64,
}

impl Queue {
    pub(crate) fn add(&mut self, at: Micros, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Micros, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// A reply with the process that gave it.
#[derive(Debug)]
pub(crate) struct Replied {
    pub(crate) machine: usize,
    pub(crate) token: Token,
    pub(crate) reply: Reply,
}
