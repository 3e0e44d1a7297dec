//! Producers: what was appended last, so that nothing is appended twice (KIP-98), and which transactions are open.
//!
//! Two layers. *Committed* is what applied entries left and what checkpoints hold. *Pending* is what this
//! leader appended and has not seen committed. Decisions look at both, pending first; answers wait for
//! commit. Losing leadership drops the pending layer whole.
use crate::aborted::{Aborted, AbortedList};
use crate::summary::{BatchSummary, EndSummary, Step};
use crate::transactions::{Known, LastMarker, OWN_EPOCHS, Open};
use model::{Offset, ProducerEpoch, ProducerId, WallMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Batches remembered for each producer: what a client may have in flight.
pub(crate) const WINDOW: usize = 5;
/// The epoch of a producer of which nothing but a begin mark is known.
pub(crate) const NO_WINDOW: ProducerEpoch = -1;

/// A remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) base_offset: Offset,
    pub(crate) base_sequence: i32,
    pub(crate) last_delta: i32,
    pub(crate) timestamp: WallMs,
}

impl Remembered {
    fn of(batch: &BatchSummary) -> Remembered {
        Remembered {
            base_offset: batch.base_offset,
            base_sequence: batch.base_sequence,
            last_delta: batch.last_delta,
            timestamp: batch.timestamp,
        }
    }

    pub(crate) fn last_sequence(&self) -> i32 {
        records::next_sequence(self.base_sequence, self.last_delta)
    }

    fn same_records(&self, batch: &BatchSummary) -> bool {
        self.base_sequence == batch.base_sequence && self.last_delta == batch.last_delta
    }
}

/// What transactions left of a producer. Those that are idempotent alone have none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactional {
    pub(crate) open: Option<Arc<Open>>,
    pub(crate) marker: Option<LastMarker>,
}

/// Committed state of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Of its last batch or marker, or [`NO_WINDOW`].
    pub(crate) epoch: ProducerEpoch,
    pub(crate) last_append_time: WallMs,
    pub(crate) batches: VecDeque<Remembered>,
    pub(crate) txn: Option<Box<Transactional>>,
}

impl Committed {
    fn at(append_time: WallMs) -> Committed {
        let batches = VecDeque::new();
        Committed { epoch: NO_WINDOW, last_append_time: append_time, batches, txn: None }
    }

    pub(crate) fn open(&self) -> Option<&Arc<Open>> {
        self.txn.as_ref().and_then(|txn| txn.open.as_ref())
    }

    fn marker(&self) -> Option<LastMarker> {
        self.txn.as_ref().and_then(|txn| txn.marker)
    }

    /// Its newest epoch.
    fn newest(&self) -> ProducerEpoch {
        self.open().map_or(self.epoch, |open| open.mark.epoch.max(self.epoch))
    }

    /// The window of a newer epoch begins anew.
    fn raise(&mut self, epoch: ProducerEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    /// Something of it follows its last marker.
    fn goes_on(&mut self) {
        if let Some(marker) = self.txn.as_mut().and_then(|txn| txn.marker.as_mut()) {
            marker.is_last = false;
        }
    }
}

/// A step that waits for commit.
#[derive(Clone, Debug)]
struct Pending {
    index: u64,
    epoch: ProducerEpoch,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Batch(Remembered),
    Begin(Arc<Open>),
    End(LastMarker),
}

impl Pending {
    fn of(index: u64, step: &Step) -> Pending {
        match step {
            Step::Batch(b) => {
                Pending { index, epoch: b.producer_epoch, what: What::Batch(Remembered::of(b)) }
            }
            Step::Begin(open) => Pending { index, epoch: open.mark.epoch, what: What::Begin(open.clone()) },
            Step::End(end) => Pending { index, epoch: end.producer_epoch, what: What::End(last_marker(end)) },
        }
    }
}

fn last_marker(end: &EndSummary) -> LastMarker {
    LastMarker {
        epoch: end.producer_epoch,
        coordinator_epoch: end.coordinator_epoch,
        commit: end.commit,
        offset: end.offset,
        timestamp: end.timestamp,
        is_last: true,
    }
}

/// What to do with a batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is the next one.
    Append,
    /// It was appended; `pending` is its entry where that is not committed yet.
    Duplicate { batch: Remembered, pending: Option<u64> },
    /// Its epoch is below the producer's newest, which is given: INVALID_PRODUCER_EPOCH.
    OldEpoch(ProducerEpoch),
    /// Its sequence does not follow: OUT_OF_ORDER_SEQUENCE_NUMBER. Holds what was expected.
    OutOfOrder(i32),
}

/// All producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct ProducerState {
    committed: BTreeMap<ProducerId, Committed>,
    pending: BTreeMap<ProducerId, VecDeque<Pending>>,
    /// First offset and producer of what is open in the committed layer.
    open: BTreeSet<(Offset, ProducerId)>,
    /// Begin marks in the pending layer.
    begins: usize,
    aborted: AbortedList,
}

impl ProducerState {
    /// From the rows of a checkpoint.
    pub(crate) fn restored(
        committed: BTreeMap<ProducerId, Committed>,
        aborted: AbortedList,
    ) -> ProducerState {
        let open =
            committed.iter().filter_map(|(id, row)| row.open().map(|open| (open.first, *id))).collect();
        ProducerState { committed, aborted, open, ..ProducerState::default() }
    }

    /// Judges a client's batch. A producer that is not known may begin with any sequence, as in Kafka: its
    /// state may have expired or been deleted with its records.
    pub(crate) fn decide(&self, batch: &BatchSummary) -> Decision {
        let committed = self.committed.get(&batch.producer_id);
        let pending = self.pending.get(&batch.producer_id);
        let Some(newest) =
            pending.and_then(|p| p.back()).map(|p| p.epoch).or_else(|| committed.map(Committed::newest))
        else {
            return Decision::Append;
        };
        if batch.producer_epoch < newest {
            return Decision::OldEpoch(newest);
        }
        let windowed = |p: &&Pending| !matches!(p.what, What::Begin(_));
        let epoch = pending.and_then(|p| p.iter().rev().find(windowed)).map(|p| p.epoch);
        let epoch = epoch.or_else(|| committed.map(|c| c.epoch)).unwrap_or(NO_WINDOW);
        if epoch == NO_WINDOW {
            // A begin mark alone. Where transactions have epochs of their own, each begins at 0.
            let own = self.open_of(batch.producer_id).is_some_and(|open| open.mark.version >= OWN_EPOCHS);
            return if own { from_zero(batch) } else { Decision::Append };
        }
        if batch.producer_epoch > epoch {
            return from_zero(batch);
        }
        let waiting = pending.into_iter().flatten().filter(|p| p.epoch == epoch);
        let waiting = waiting.rev().filter_map(|p| match p.what {
            What::Batch(batch) => Some((batch, Some(p.index))),
            What::Begin(_) | What::End(_) => None,
        });
        let known = committed.filter(|c| c.epoch == epoch).into_iter().flat_map(|c| c.batches.iter());
        let mut newest = waiting.chain(known.rev().map(|b| (*b, None)));
        let mut last_sequence = None;
        for (remembered, pending) in newest.by_ref().take(WINDOW) {
            if remembered.same_records(batch) {
                return Decision::Duplicate { batch: remembered, pending };
            }
            last_sequence.get_or_insert(remembered.last_sequence());
        }
        match last_sequence.map(|last| records::next_sequence(last, 1)) {
            Some(expected) if expected != batch.base_sequence => Decision::OutOfOrder(expected),
            Some(_) => Decision::Append,
            // A marker brought the epoch about.
            None => from_zero(batch),
        }
    }

    /// Whether a producer is known, in either layer.
    pub(crate) fn knows(&self, id: ProducerId) -> bool {
        self.committed.contains_key(&id) || self.pending.contains_key(&id)
    }

    /// Whether any transaction is open or about to be.
    pub(crate) fn any_open(&self) -> bool {
        self.begins > 0 || !self.open.is_empty()
    }

    /// How many are, at most.
    pub(crate) fn count_open(&self) -> usize {
        self.begins + self.open.len()
    }

    /// What a producer has open, counting what is appended.
    pub(crate) fn open_of(&self, id: ProducerId) -> Option<&Arc<Open>> {
        for pending in self.pending.get(&id).into_iter().flatten().rev() {
            match &pending.what {
                What::Begin(open) => return Some(open),
                What::End(_) => return None,
                What::Batch(_) => {}
            }
        }
        self.committed.get(&id).and_then(Committed::open)
    }

    /// A producer's newest epoch, counting what is appended.
    pub(crate) fn newest_epoch(&self, id: ProducerId) -> Option<ProducerEpoch> {
        let pending = self.pending.get(&id).and_then(|p| p.back()).map(|p| p.epoch);
        pending.or_else(|| self.committed.get(&id).map(Committed::newest))
    }

    /// What is known of a producer when a marker comes.
    pub(crate) fn known(&self, id: ProducerId) -> Known {
        let mut follows = false;
        let mut marker = None;
        for pending in self.pending.get(&id).into_iter().flatten().rev() {
            if let What::End(last) = pending.what {
                marker = Some((LastMarker { is_last: !follows, ..last }, Some(pending.index)));
                break;
            }
            follows = true;
        }
        let committed = || self.committed.get(&id).and_then(Committed::marker);
        let committed =
            || committed().map(|last| (LastMarker { is_last: last.is_last && !follows, ..last }, None));
        Known {
            epoch: self.newest_epoch(id),
            is_open: self.open_of(id).is_some(),
            marker: marker.or_else(committed),
        }
    }

    /// Remembers the steps of an entry that is appended and not committed.
    pub(crate) fn push_pending<'a>(&mut self, index: u64, steps: impl Iterator<Item = &'a Step>) {
        for step in steps {
            self.begins += usize::from(matches!(step, Step::Begin(_)));
            self.pending.entry(step.producer_id()).or_default().push_back(Pending::of(index, step));
        }
    }

    /// The entry at `index` is committed: its steps move to the committed layer.
    pub(crate) fn apply<'a>(
        &mut self,
        index: u64,
        append_time: WallMs,
        steps: impl Iterator<Item = &'a Step>,
    ) {
        for step in steps {
            self.pop_pending(step.producer_id(), index);
            let row = self.committed.entry(step.producer_id()).or_insert_with(|| Committed::at(append_time));
            row.last_append_time = row.last_append_time.max(append_time);
            match step {
                Step::Batch(batch) => {
                    if row.epoch != batch.producer_epoch {
                        row.epoch = batch.producer_epoch;
                        row.batches.clear();
                    }
                    row.goes_on();
                    if row.batches.len() == WINDOW {
                        row.batches.pop_front();
                    }
                    row.batches.push_back(Remembered::of(batch));
                }
                Step::Begin(open) => self.begin(open),
                Step::End(end) => self.end(end),
            }
        }
    }

    fn pop_pending(&mut self, id: ProducerId, index: u64) {
        let Some(queue) = self.pending.get_mut(&id) else { return };
        while let Some(first) = queue.pop_front_if(|p| p.index <= index) {
            self.begins -= usize::from(matches!(first.what, What::Begin(_)));
        }
        if queue.is_empty() {
            self.pending.remove(&id);
        }
    }

    /// A leader lets none begin while another is open; where one is, what it holds back stays back.
    fn begin(&mut self, open: &Arc<Open>) {
        let id = open.mark.producer_id;
        let Some(row) = self.committed.get_mut(&id) else { return };
        row.goes_on();
        let txn = row.txn.get_or_insert_default();
        let open = match txn.open.take() {
            Some(before) => {
                self.open.remove(&(before.first, id));
                Arc::new(Open { first: before.first, ..Open::clone(open) })
            }
            None => open.clone(),
        };
        self.open.insert((open.first, id));
        txn.open = Some(open);
    }

    fn end(&mut self, end: &EndSummary) {
        let id = end.producer_id;
        let Some(row) = self.committed.get_mut(&id) else { return };
        row.raise(end.producer_epoch);
        let txn = row.txn.get_or_insert_default();
        txn.marker = Some(last_marker(end));
        let Some(open) = txn.open.take() else { return };
        self.open.remove(&(open.first, id));
        if !end.commit {
            let above = end.offset + 1;
            let stable = self.first_open().map_or(above, |first| first.min(above));
            self.aborted.push(Aborted { producer_id: id, first: open.first, last: end.offset, stable });
        }
    }

    /// Where the first transaction begins that is open in the committed layer.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|(first, _)| *first)
    }

    /// What is open in the committed layer, by first offset.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = &Arc<Open>> {
        self.open.iter().map(|(_, id)| {
            self.committed.get(id).and_then(Committed::open).expect("the set and the rows go together")
        })
    }

    pub(crate) fn aborted(&self) -> &AbortedList {
        &self.aborted
    }

    /// Nothing below `log_start` is read any more.
    pub(crate) fn prune(&mut self, log_start: Offset) {
        self.aborted.prune(log_start);
    }

    /// This replica leads no more.
    pub(crate) fn drop_pending(&mut self) {
        self.pending.clear();
        self.begins = 0;
    }

    /// Of each producer the last offset of its last batch, as far as it is committed.
    pub(crate) fn last_offsets(&self) -> impl Iterator<Item = (ProducerId, Offset)> + '_ {
        let last = |batch: &Remembered| batch.base_offset + i64::from(batch.last_delta);
        self.committed.iter().filter_map(move |(id, row)| Some((*id, last(row.batches.back()?))))
    }

    /// Forgets producers that appended nothing for `expiration_ms` and have nothing open.
    pub(crate) fn expire(&mut self, now: WallMs, expiration_ms: i64) {
        let pending = &self.pending;
        self.committed.retain(|id, row| {
            now.saturating_sub(row.last_append_time) < expiration_ms
                || row.open().is_some()
                || pending.contains_key(id)
        });
    }

    /// Keeps at most `max` producers: beyond it, the longest silent go, an eighth at a time. Those that have a
    /// transaction open stay.
    pub(crate) fn bound(&mut self, max: usize) {
        if self.committed.len() <= max {
            return;
        }
        let ended = self.committed.iter().filter(|(_, row)| row.open().is_none());
        let mut by_age: Vec<(WallMs, ProducerId)> =
            ended.map(|(id, row)| (row.last_append_time, *id)).collect();
        by_age.sort_unstable();
        let excess = self.committed.len() - max + max / 8;
        for (_, id) in by_age.into_iter().take(excess) {
            self.committed.remove(&id);
        }
    }

    /// The committed layer, by producer.
    pub(crate) fn committed(&self) -> &BTreeMap<ProducerId, Committed> {
        &self.committed
    }
}

fn from_zero(batch: &BatchSummary) -> Decision {
    if batch.base_sequence == 0 { Decision::Append } else { Decision::OutOfOrder(0) }
}

#[cfg(test)]
mod tests;
