//! Appends that wait for their acknowledgement, in offset order: acks=1 until the entry is written on
//! the leader, acks=all until it is committed and persisted here.
use crate::api::{AppendError, Appended, PartitionFx};
use model::{Offset, WallMs};
use std::collections::VecDeque;

/// What `acks` of a Produce request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// `0`: nothing; answered at once.
    None,
    /// `1`.
    Written,
    /// `-1`.
    Committed,
}

impl Level {
    pub(crate) fn of(acks: i16) -> Option<Level> {
        match acks {
            0 => Some(Level::None),
            1 => Some(Level::Written),
            -1 => Some(Level::Committed),
            _ => None,
        }
    }
}

/// One caller that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) token: u64,
    pub(crate) index: u64,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) log_append_time: WallMs,
    pub(crate) duplicate: bool,
}

impl Waiter {
    pub(crate) fn done(&self, log_start: Offset) -> PartitionFx {
        let result = Ok(Appended {
            base_offset: self.base_offset,
            last_offset: self.last_offset,
            log_append_time: self.log_append_time,
            log_start,
            duplicate: self.duplicate,
        });
        PartitionFx::AppendDone { token: self.token, result }
    }
}

/// All that wait on one partition.
#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    written: VecDeque<Waiter>,
    committed: VecDeque<Waiter>,
    written_index: u64,
    /// Committed and applied here.
    committed_index: u64,
    /// Entries that enough replicas have persisted for `min.insync.replicas`, where that is more than what a
    /// commit needs.
    enough: Option<u64>,
}

impl PendingAcks {
    /// Adds a waiter at its place; duplicates of pending batches come out of order.
    pub(crate) fn wait(
        &mut self,
        level: Level,
        waiter: Waiter,
        log_start: Offset,
        fx: &mut Vec<PartitionFx>,
    ) {
        let queue = match level {
            Level::None => return fx.push(waiter.done(log_start)),
            Level::Written if waiter.index <= self.written_index => return fx.push(waiter.done(log_start)),
            Level::Written => &mut self.written,
            Level::Committed if waiter.index <= self.kept() => return fx.push(waiter.done(log_start)),
            Level::Committed => &mut self.committed,
        };
        let at = queue.partition_point(|w| w.index <= waiter.index);
        queue.insert(at, waiter);
    }

    /// Entries up to `index` reached the operating system.
    pub(crate) fn on_written(&mut self, index: u64, log_start: Offset, fx: &mut Vec<PartitionFx>) {
        self.written_index = self.written_index.max(index);
        release(&mut self.written, index, log_start, fx);
    }

    /// Entries up to `index` are committed and persisted, hence written.
    pub(crate) fn on_committed(&mut self, index: u64, log_start: Offset, fx: &mut Vec<PartitionFx>) {
        self.on_written(index, log_start, fx);
        self.committed_index = index;
        let kept = self.kept();
        release(&mut self.committed, kept, log_start, fx);
    }

    /// Entries up to this index are as safe as was asked for.
    fn kept(&self) -> u64 {
        self.committed_index.min(self.enough.unwrap_or(u64::MAX))
    }

    /// Whether somebody waits for more replicas though the entry is committed.
    pub(crate) fn wait_for_more(&self) -> bool {
        self.committed.front().is_some_and(|w| w.index <= self.committed_index)
    }

    /// Whoever waits for more replicas though the entry is committed is told this.
    pub(crate) fn fail_committed(&mut self, error: &AppendError, fx: &mut Vec<PartitionFx>) {
        while self.wait_for_more() {
            let Some(waiter) = self.committed.pop_front() else { return };
            fx.push(PartitionFx::AppendDone { token: waiter.token, result: Err(error.clone()) });
        }
    }

    /// `enough` replicas have persisted entries up to this index; `None` where a commit says it all.
    pub(crate) fn on_enough(&mut self, enough: Option<u64>, log_start: Offset, fx: &mut Vec<PartitionFx>) {
        self.enough = enough;
        let kept = self.kept();
        release(&mut self.committed, kept, log_start, fx);
    }

    pub(crate) fn shrink(&mut self) {
        self.written.shrink_to_fit();
        self.committed.shrink_to_fit();
    }

    /// Whatever waits will not be known to have happened.
    pub(crate) fn fail(&mut self, error: &AppendError, fx: &mut Vec<PartitionFx>) {
        for waiter in self.written.drain(..).chain(self.committed.drain(..)) {
            fx.push(PartitionFx::AppendDone { token: waiter.token, result: Err(error.clone()) });
        }
    }
}

fn release(queue: &mut VecDeque<Waiter>, index: u64, log_start: Offset, fx: &mut Vec<PartitionFx>) {
    while queue.front().is_some_and(|w| w.index <= index) {
        let waiter = queue.pop_front().expect("looked at above");
        fx.push(waiter.done(log_start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ErrorCode;

    fn waiter(token: u64, index: u64) -> Waiter {
        Waiter { token, index, base_offset: 0, last_offset: 0, log_append_time: -1, duplicate: false }
    }

    fn tokens(fx: &mut Vec<PartitionFx>) -> Vec<(u64, bool)> {
        let done = fx.drain(..).map(|e| match e {
            PartitionFx::AppendDone { token, result } => (token, result.is_ok()),
            other => panic!("{other:?}"),
        });
        done.collect()
    }

    #[test]
    fn each_level_is_answered_when_its_promise_holds_and_in_order() {
        let (mut acks, mut fx) = (PendingAcks::default(), Vec::new());
        acks.wait(Level::None, waiter(1, 2), 0, &mut fx);
        assert_eq!(tokens(&mut fx), [(1, true)]);
        acks.wait(Level::Written, waiter(2, 2), 0, &mut fx);
        acks.wait(Level::Committed, waiter(3, 3), 0, &mut fx);
        acks.wait(Level::Committed, waiter(4, 2), 0, &mut fx);
        acks.wait(Level::Written, waiter(5, 3), 0, &mut fx);
        assert!(fx.is_empty());
        acks.on_written(2, 0, &mut fx);
        assert_eq!(tokens(&mut fx), [(2, true)]);
        acks.wait(Level::Written, waiter(6, 2), 0, &mut fx);
        assert_eq!(tokens(&mut fx), [(6, true)]);
        acks.on_committed(3, 0, &mut fx);
        assert_eq!(tokens(&mut fx), [(5, true), (4, true), (3, true)]);
    }

    #[test]
    fn what_is_committed_waits_for_as_many_replicas_as_were_asked_for() {
        let (mut acks, mut fx) = (PendingAcks::default(), Vec::new());
        acks.wait(Level::Committed, waiter(1, 3), 0, &mut fx);
        acks.on_enough(Some(2), 0, &mut fx);
        acks.on_committed(3, 0, &mut fx);
        assert!(fx.is_empty() && acks.wait_for_more());
        // A duplicate of it, or of one before.
        acks.wait(Level::Committed, waiter(2, 3), 0, &mut fx);
        acks.wait(Level::Committed, waiter(3, 2), 0, &mut fx);
        assert_eq!(tokens(&mut fx), [(3, true)]);
        acks.wait(Level::Committed, waiter(4, 4), 0, &mut fx);
        acks.fail_committed(&AppendError::bare(ErrorCode::NotEnoughReplicasAfterAppend), &mut fx);
        assert_eq!(tokens(&mut fx), [(1, false), (2, false)]);
        assert!(!acks.wait_for_more());
        acks.on_enough(None, 0, &mut fx);
        acks.on_committed(4, 0, &mut fx);
        assert_eq!(tokens(&mut fx), [(4, true)]);
    }

    #[test]
    fn failing_answers_everybody_once() {
        let (mut acks, mut fx) = (PendingAcks::default(), Vec::new());
        acks.wait(Level::Written, waiter(1, 2), 0, &mut fx);
        acks.wait(Level::Committed, waiter(2, 2), 0, &mut fx);
        acks.fail(&AppendError::bare(ErrorCode::KafkaStorageError), &mut fx);
        assert_eq!(tokens(&mut fx), [(1, false), (2, false)]);
        acks.on_committed(9, 0, &mut fx);
        assert!(fx.is_empty());
    }
}
