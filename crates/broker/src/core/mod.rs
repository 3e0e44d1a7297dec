//! The reactor: the only code of the shell that touches the node.
//!
//! An input goes into the node, its effects come out at once: operations to the disk, answers to the
//! slots that wait for them. When something went in, one turn is scheduled; it ends the node's turn for
//! everything that arrived until then, which is what makes a group commit.
mod calls;
mod view;

pub(crate) use calls::{FetchPlan, Offset, java_host};
pub(crate) use cluster::Topic;
pub(crate) use node::{GroupRequest, Reply, TxnRequest};
pub(crate) use partition::{Appended, FetchInput, Isolation};
pub(crate) use storage::ReadPlan;
pub(crate) use view::group_key;

use crate::clock::Clock;
use crate::metrics::BrokerMetrics;
use crate::peers::Links;
use crate::slots::{SlotId, Slots};
use model::Now;
use node::{Effect, Event, Node, ReadToken, Token};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use storage::{Completion, DiskOp, FileRange};
use tokio::sync::{Notify, mpsc};

/// Takes disk operations in the order given; completions come back through the channel of [`Core::run`].
pub(crate) trait DiskQueue {
    /// Queues one operation.
    fn submit(&self, op: DiskOp);
}

/// The node with everything around it that a call needs.
pub(crate) struct Core {
    node: RefCell<Node>,
    slots: RefCell<Slots<Reply>>,
    effects: RefCell<Vec<Effect>>,
    disk: Box<dyn DiskQueue>,
    reads: mpsc::UnboundedSender<(ReadToken, FileRange)>,
    links: Rc<Links>,
    clock: Clock,
    turn: Notify,
    turned: Notify,
    dirty: Cell<bool>,
    events: RefCell<Vec<Event>>,
    writes: Cell<(u64, u64)>,
    unsynced: Cell<u64>,
}

impl Core {
    /// A core over an opened node; what the node wants read goes to `reads`, results come back through
    /// [`Node::on_read`]; what it says to others goes to `links`.
    pub(crate) fn new(
        node: Node,
        disk: Box<dyn DiskQueue>,
        reads: mpsc::UnboundedSender<(ReadToken, FileRange)>,
        links: Rc<Links>,
        clock: Clock,
    ) -> Rc<Core> {
        let core = Rc::new(Core {
            node: RefCell::new(node),
            slots: RefCell::new(Slots::new()),
            effects: RefCell::new(Vec::new()),
            disk,
            reads,
            links,
            clock,
            turn: Notify::new(),
            turned: Notify::new(),
            dirty: Cell::new(false),
            events: RefCell::new(Vec::new()),
            writes: Cell::new((0, 0)),
            unsynced: Cell::new(0),
        });
        // What opening the node asked of the disk.
        core.with_node(|_, _| ());
        core
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Time since the core was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    /// Requests that wait for the node.
    pub(crate) fn waiting(&self) -> usize {
        self.slots.borrow().in_use()
    }

    /// One input: runs `f`, carries out what it caused, schedules a turn.
    pub(crate) fn with_node<R>(&self, f: impl FnOnce(&mut Node, Now) -> R) -> R {
        self.with_node_if(|node, now| (f(node, now), true))
    }

    /// As `with_node`, for what seldom causes anything: `f` also says whether it did.
    pub(crate) fn with_node_if<R>(&self, f: impl FnOnce(&mut Node, Now) -> (R, bool)) -> R {
        let (result, caused) = f(&mut self.node.borrow_mut(), self.clock.now());
        if caused {
            self.carry_out();
            if !self.dirty.replace(true) {
                self.turn.notify_one();
            }
        }
        result
    }

    /// Looks at the node without causing anything.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&Node) -> R) -> R {
        f(&self.node.borrow())
    }

    fn carry_out(&self) {
        let mut effects = std::mem::take(&mut *self.effects.borrow_mut());
        self.node.borrow_mut().take_effects(&mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Disk(op) => {
                    if let DiskOp::Write { bufs, .. } = &op {
                        let (writes, bytes) = self.writes.get();
                        let more: usize = bufs.iter().map(bytes::Bytes::len).sum();
                        self.writes.set((writes + 1, bytes + more as u64));
                    }
                    self.disk.submit(op);
                }
                Effect::Read(token, range) => {
                    // The receiver ends with the broker; nobody waits then.
                    let _ = self.reads.send((token, range));
                }
                Effect::Peer(node, said) => self.links.send(node, said),
                Effect::Reply(token, reply) => self.slots.borrow_mut().complete(token.0, reply),
                Effect::Event(event) => self.events.borrow_mut().push(event),
            }
        }
        *self.effects.borrow_mut() = effects;
    }

    /// Runs turns, timers and what the disk completed for ever; `after` sees the events of each turn.
    pub(crate) async fn run(
        self: Rc<Core>,
        metrics: Rc<crate::shared::Shared>,
        mut completions: mpsc::UnboundedReceiver<Completion>,
        after: impl Fn(Event),
    ) {
        loop {
            let deadline = self.node.borrow().next_deadline().map(|at| self.clock.instant(at));
            let timer = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = self.turn.notified() => {
                    // Everything that can run now comes into the same turn.
                    tokio::task::yield_now().await;
                }
                Some(completion) = completions.recv() => self.on_disk(completion),
                () = tokio::time::sleep_until(timer.into()) => {
                    // What other nodes say that they live is heard before the next piece of work, however late that is.
                    tokio::task::yield_now().await;
                }
            }
            self.take_turn(&mut completions);
            self.count_writes(&metrics.metrics);
            let events = std::mem::take(&mut *self.events.borrow_mut());
            events.into_iter().for_each(&after);
            self.turned.notify_waiters();
        }
    }

    /// Ends the node's turn, and goes on with what the disk completed at once.
    fn take_turn(&self, completions: &mut mpsc::UnboundedReceiver<Completion>) {
        self.dirty.set(false);
        let now = self.clock.now();
        if self.node.borrow().next_deadline().is_some_and(|at| at <= now.mono) {
            self.node.borrow_mut().tick(now);
        }
        loop {
            while let Ok(completion) = completions.try_recv() {
                self.on_disk(completion);
            }
            self.node.borrow_mut().end_turn(now);
            self.carry_out();
            if completions.is_empty() {
                return;
            }
        }
    }

    fn on_disk(&self, completion: Completion) {
        self.node.borrow_mut().on_disk(self.clock.now(), completion);
        self.carry_out();
    }

    /// Resolves at the end of the next turn.
    pub(crate) async fn turned(&self) {
        self.turned.notified().await;
    }

    /// Bytes written since the last call: what the sync that ended made durable, about.
    pub(crate) fn written_since_sync(&self) -> u64 {
        self.unsynced.replace(0)
    }

    fn count_writes(&self, metrics: &BrokerMetrics) {
        let (writes, bytes) = self.writes.replace((0, 0));
        if writes > 0 {
            self.unsynced.set(self.unsynced.get() + bytes);
            metrics.disk_writes.increment(writes);
            metrics.disk_write_bytes.increment(bytes);
        }
    }

    /// A slot for `count` answers; where there is none, no answer will come.
    pub(crate) fn call(self: &Rc<Self>, count: usize) -> Call {
        let id = self.slots.borrow_mut().take(count).unwrap_or(SlotId::NOBODY);
        Call { core: self.clone(), id, watching: false }
    }
}

/// Answers that are awaited. Dropping it gives the slot back.
pub(crate) struct Call {
    core: Rc<Core>,
    id: SlotId,
    watching: bool,
}

impl Call {
    /// The token of answer number `item`.
    pub(crate) fn token(&self, item: usize) -> Token {
        Token(self.id.token(item))
    }

    /// Whether no answer can come.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.id == SlotId::NOBODY
    }

    /// Whether every answer is here.
    pub(crate) fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.slots.borrow_mut().poll_done(self.id, cx.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits for every answer.
    pub(crate) fn done(&mut self) -> impl Future<Output = ()> {
        poll_fn(|cx| self.poll_done(cx))
    }

    /// Waits for every answer, but no longer than `patience`.
    pub(crate) async fn done_within(&mut self, patience: Duration) {
        // What has not come by then stays unanswered; the caller says so.
        let _ = tokio::time::timeout(patience, self.done()).await;
    }

    /// Hands out the answers that came, how many; `each` must not call the core.
    pub(crate) fn take(&mut self, mut each: impl FnMut(usize, Reply)) -> usize {
        let mut count = 0;
        self.core.slots.borrow_mut().drain(self.id, |item, reply| {
            count += 1;
            each(item, reply);
        });
        count
    }

    /// The answer to a call with one.
    pub(crate) async fn one(mut self) -> Option<Reply> {
        self.done().await;
        self.first()
    }

    /// The answer to a call with one, if it comes within `patience`.
    pub(crate) async fn one_within(mut self, patience: Duration) -> Option<Reply> {
        self.done_within(patience).await;
        self.first()
    }

    fn first(&mut self) -> Option<Reply> {
        let mut first = None;
        self.take(|_, reply| first = Some(reply));
        first
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.watching {
            let token = self.token(0);
            self.core.node.borrow_mut().unwatch(token);
        }
        self.core.slots.borrow_mut().release(self.id);
    }
}
