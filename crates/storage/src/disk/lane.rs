//! Where an operation is carried out: on the caller's thread while that is quick, else on the writer's.
//!
//! A write into the page cache is a copy; handing it to another thread costs more than a small one. The order
//! of operations is kept: while anything waits for the writer's thread, everything goes there.
use super::lock::Presence;
use super::shared::{Shared, guard};
use super::writer::Writer;
use crate::disk_op::DiskOp;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError, mpsc};
use std::time::{Duration, Instant};

/// Bytes written on the caller's thread up to a barrier; a turn with more gains by a second thread.
const AT_ONCE: usize = 1 << 20;
/// A write that took longer waited for something.
const SLOW: Duration = Duration::from_millis(5);
/// And for so long the caller's thread does not try again.
const REST: Duration = Duration::from_millis(200);

/// The caller's end.
pub(super) struct Lane {
    writer: Arc<Mutex<Writer>>,
    ops: mpsc::Sender<DiskOp>,
    queued: Arc<AtomicUsize>,
    left: Cell<usize>,
    slow_until: Cell<Option<Instant>>,
    /// Where the caller must not wait: tells whether a flush runs.
    prompt: Option<Arc<Shared>>,
}

/// The thread's end.
pub(super) struct Queue {
    writer: Arc<Mutex<Writer>>,
    ops: mpsc::Receiver<DiskOp>,
    queued: Arc<AtomicUsize>,
    presence: Presence,
}

/// Both ends of one writer.
pub(super) fn lane(writer: Writer, presence: Presence, prompt: Option<Arc<Shared>>) -> (Lane, Queue) {
    let (send, receive) = mpsc::channel();
    let (writer, queued) = (Arc::new(Mutex::new(writer)), Arc::new(AtomicUsize::new(0)));
    let queue = Queue { writer: writer.clone(), ops: receive, queued: queued.clone(), presence };
    let (left, slow_until) = (Cell::new(AT_ONCE), Cell::new(None));
    (Lane { writer, ops: send, queued, left, slow_until, prompt }, queue)
}

impl Lane {
    /// Carries `op` out, or hands it over.
    pub(super) fn submit(&self, op: DiskOp) {
        if let Some(op) = self.at_once(op) {
            self.queued.fetch_add(1, Ordering::Relaxed);
            // The thread lives as long as this end, so the channel is open.
            let _ = self.ops.send(op);
        }
    }

    /// Gives back what must go to the thread.
    pub(super) fn at_once(&self, op: DiskOp) -> Option<DiskOp> {
        let bytes = match &op {
            DiskOp::Write { bufs, .. } => bufs.iter().map(bytes::Bytes::len).sum(),
            DiskOp::Open { .. } | DiskOp::Sync { .. } => 0,
            DiskOp::Barrier { .. } => {
                self.left.set(AT_ONCE);
                0
            }
            _ => return Some(op),
        };
        // Nobody else adds to it, so nothing comes in between.
        let alone = self.queued.load(Ordering::Acquire) == 0;
        let waits = || self.slow() || self.prompt.as_ref().is_some_and(|shared| shared.flushes());
        if !alone || bytes > self.left.get() || (bytes > 0 && waits()) {
            return Some(op);
        }
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Some(op),
        };
        if bytes == 0 {
            writer.carry_out(op);
            return None;
        }
        // Opening a file may close, and sync, others.
        if matches!(&op, DiskOp::Write { file, .. } if !writer.is_open(*file)) {
            return Some(op);
        }
        self.left.set(self.left.get() - bytes);
        let begun = Instant::now();
        writer.carry_out(op);
        if begun.elapsed() > SLOW {
            self.slow_until.set(Some(begun + REST));
        }
        None
    }

    fn slow(&self) -> bool {
        match self.slow_until.get() {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.slow_until.set(None);
                false
            }
            None => false,
        }
    }
}

impl Queue {
    /// Until the other end is gone.
    pub(super) fn run(mut self) {
        guard(&self.writer).look_at_space();
        loop {
            match self.ops.recv_timeout(super::writer::SPACE_EVERY) {
                Ok(op) => {
                    guard(&self.writer).carry_out(op);
                    self.queued.fetch_sub(1, Ordering::Release);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            self.presence.look_now_and_then();
            guard(&self.writer).look_now_and_then();
        }
    }
}
