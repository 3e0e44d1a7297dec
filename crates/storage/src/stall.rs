//! Writes that find no space: tried again, in order, and first of all without what clients appended.
//!
//! Everything of a directory waits in one queue, so batches for which there is no room would keep back the
//! commands that make room. Groups that have such batches are named ([`DirEvent::NoRoom`]); their owner closes
//! them and recovers them from what is on disk, as after a crash.
use crate::directory::{DirEvent, Directory, GroupState};
use crate::disk_op::{DiskOp, OpToken};
use crate::rounds::{Barrier, Rounds};
use model::{GroupKey, Mono};
use std::collections::BTreeSet;

/// A write that found no space is tried again after this, ms.
pub(crate) const RETRY_MS: i64 = 200;
/// Where no batches of clients are left to give up, every group is named after so many tries more.
const TRIES: u32 = 5;

/// The state of it.
#[derive(Debug)]
pub(crate) struct Stall {
    pub(crate) since: Mono,
    retry_at: Mono,
    /// The barrier of the try that runs.
    running: Option<OpToken>,
    /// Tries that failed since groups were named.
    failed: u32,
}

impl Stall {
    /// Whether `token` is the barrier of the try that runs.
    pub(crate) fn tries(&self, token: OpToken) -> bool {
        self.running == Some(token)
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.running.is_none().then_some(self.retry_at)
    }
}

impl Rounds {
    fn on_the_way(&self) -> impl Iterator<Item = &crate::rounds::Entries> {
        self.barriers.iter().flat_map(|b| &b.entries).chain(&self.unwritten)
    }

    /// Whether batches of clients wait to be written.
    fn holds_data(&self) -> bool {
        self.on_the_way().any(|e| e.data)
    }

    /// Groups to be given up after a try that failed: those with batches of clients at once, all later.
    fn in_the_way(&mut self) -> Vec<GroupKey> {
        let Some(failed) = self.stall.as_ref().map(|stall| stall.failed) else { return Vec::new() };
        let holds_data = self.holds_data();
        let named = self.on_the_way().filter(|e| if holds_data { e.data } else { failed >= TRIES });
        let named: BTreeSet<GroupKey> = named.map(|e| e.key).collect();
        if let Some(stall) = self.stall.as_mut().filter(|_| !named.is_empty()) {
            stall.failed = 0;
        }
        named.into_iter().collect()
    }
}

impl Directory {
    /// A barrier's writes found no space.
    pub(crate) fn no_room(&mut self, now: Mono, token: OpToken, out: &mut Vec<DirEvent>) {
        let Some(barrier) = self.rounds.barriers.iter_mut().find(|b| b.token == token) else {
            // Its writes are part of a later try.
            return;
        };
        barrier.failed = true;
        let holds_data = self.rounds.holds_data();
        match &mut self.rounds.stall {
            None => {
                // Commands alone are tried at once with what is kept back for them.
                let retry_at = if holds_data { now.after_ms(RETRY_MS) } else { now };
                self.rounds.stall = Some(Stall { since: now, retry_at, running: None, failed: 0 });
            }
            Some(stall) if stall.tries(token) => {
                stall.running = None;
                stall.failed += 1;
                stall.retry_at = now.after_ms(RETRY_MS);
                let groups = self.rounds.in_the_way();
                if !groups.is_empty() {
                    out.push(DirEvent::NoRoom { groups });
                }
            }
            Some(_) => {}
        }
    }

    /// Forgets everything of a group that is not on disk, as a crash of this one replica would: nothing of it
    /// is written from here on, and no event tells of it. Answer its waiters and close its log
    /// ([`crate::Log::close`]) next; then recover it from what this returns. What was persisted, and for
    /// relaxed groups what was written, is on disk and is found there.
    pub fn give_up(&mut self, key: GroupKey) -> GroupState {
        self.fx.drop_group(key);
        self.rounds.drop_entries(key);
        if let Some(stall) = self.rounds.stall.as_mut().filter(|stall| stall.running.is_none()) {
            stall.retry_at = self.rounds.clock;
        }
        let row = self.groups.get(&key).cloned().unwrap_or_default();
        GroupState::of(key, &row)
    }

    /// Since when nothing can be written for lack of space.
    pub fn stalled_since(&self) -> Option<Mono> {
        self.rounds.stall.as_ref().map(|stall| stall.since)
    }

    /// Lets commands have what is kept back, once no client can take it from them: new batches are refused
    /// and none is on its way.
    pub(crate) fn spend_reserve(&mut self) {
        if self.full() && !self.rounds.holds_data() {
            self.fx.ops.push(DiskOp::SpendReserve);
        }
    }

    /// Writes everything again since the first write that failed, when it is time.
    pub(crate) fn try_again(&mut self, now: Mono) {
        let due = |stall: &Stall| stall.running.is_none() && stall.retry_at <= now;
        if !self.rounds.stall.as_ref().is_some_and(due) {
            return;
        }
        self.spend_reserve();
        // Takes the failures of what was written meanwhile without a barrier: it is written again as well.
        let token = self.fx.token();
        self.fx.ops.push(DiskOp::Barrier { token });
        let mut again = Barrier { token: OpToken(0), entries: Vec::new(), writes: Vec::new(), failed: false };
        for barrier in std::mem::take(&mut self.rounds.barriers) {
            again.entries.extend(barrier.entries);
            again.writes.extend(barrier.writes);
        }
        again.writes.append(&mut self.fx.unwritten);
        for write in again.writes {
            self.fx.write_again(write);
        }
        let (token, writes) = self.fx.barrier();
        again.entries.extend(std::mem::take(&mut self.rounds.unwritten));
        if let Some(running) = &mut self.rounds.running {
            running.barrier = token;
            running.again = true;
        }
        if let Some(flush) = &mut self.rounds.flush {
            flush.again = true;
        }
        self.rounds.barriers.push_back(Barrier { token, entries: again.entries, writes, failed: false });
        if let Some(stall) = &mut self.rounds.stall {
            stall.running = Some(token);
        }
    }
}
