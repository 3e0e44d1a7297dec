//! The first files of a new directory: the state log, then `meta`, then everything else.
//!
//! A start that finds files of groups without `meta` refuses, because it cannot tell a lost `meta` from one
//! that was never written. So no other operation leaves the directory before both are durable, however long
//! a full disk makes that take.
use crate::directory::{DirEvent, Directory};
use crate::disk_op::{DiskError, DiskErrorKind, DiskOp, OpToken};
use crate::stall::RETRY_MS;
use crate::state_log::FILES;
use bytes::Bytes;
use model::Mono;

pub(crate) const META: &str = "meta";

/// What is still to be put in place.
#[derive(Debug)]
pub(crate) struct Founding {
    /// The state log comes first: `meta` says that it was durable before it.
    left: Vec<(&'static str, Bytes)>,
    pub(crate) ops: Vec<DiskOp>,
    running: Option<OpToken>,
    /// There was no space: tried again then.
    pub(crate) retry_at: Option<Mono>,
}

impl Founding {
    pub(crate) fn new(state_log: Bytes, meta: Bytes) -> Founding {
        // The other file of the state log has its room from the beginning: a start writes a snapshot, and a
        // full disk must not be in its way.
        let room = Bytes::from(vec![0; state_log.len()]);
        // The last one is taken first.
        let left = vec![(META, meta), (FILES[0], state_log), (FILES[1], room)];
        Founding { left, ops: Vec::new(), running: None, retry_at: None }
    }

    /// Of a directory that is there: see [`Founding::put_meta`].
    pub(crate) fn again() -> Founding {
        Founding { left: Vec::new(), ops: Vec::new(), running: None, retry_at: None }
    }

    /// `meta` is written, or written again, when all else is there.
    pub(crate) fn put_meta(&mut self, meta: Bytes) {
        self.left.insert(0, (META, meta));
    }

    /// Whether the disk had no room for it.
    pub(crate) fn stalled(&self) -> bool {
        self.retry_at.is_some()
    }
}

impl Directory {
    /// Puts the next file in place, unless one is on its way or its time has not come.
    pub(crate) fn found(&mut self, now: Mono) {
        let Some(founding) = &mut self.founding else { return };
        if founding.running.is_some() || founding.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let Some((path, bytes)) = founding.left.last() else {
            self.founding = None;
            return;
        };
        let token = self.fx.token();
        founding.running = Some(token);
        founding.ops.push(DiskOp::Put {
            path: (*path).to_string(),
            bytes: bytes.clone(),
            token,
            durable: true,
        });
    }

    /// Whether the completion of `token` is for here.
    pub(crate) fn founds(&self, token: OpToken) -> bool {
        self.founding.as_ref().is_some_and(|founding| founding.running == Some(token))
    }

    /// A file is there, or found no space.
    pub(crate) fn on_founded(&mut self, now: Mono, result: Result<(), DiskError>, out: &mut Vec<DirEvent>) {
        let Some(founding) = &mut self.founding else { return };
        founding.running = None;
        founding.retry_at = None;
        match result {
            Ok(()) => _ = founding.left.pop(),
            Err(e) if e.kind == DiskErrorKind::Full => founding.retry_at = Some(now.after_ms(RETRY_MS)),
            Err(e) => return self.fence(e.detail, out),
        }
        self.found(now);
        self.tell_full(out);
    }
}
