//! Idempotent producers: what was appended last, so that nothing is appended twice (KIP-98).
//!
//! Two layers. *Committed* is what applied entries left and what checkpoints hold. *Pending* is what this
//! leader appended and has not seen committed. Decisions look at both, pending first; answers wait for
//! commit. Losing leadership drops the pending layer whole.
use crate::summary::BatchSummary;
use bytes::Bytes;
use model::{Offset, ProducerEpoch, ProducerId, WallMs};
use prost::Message as _;
use proto::partition::{Producer, ProducerBatch, ProducerTable};
use std::collections::{BTreeMap, VecDeque};

/// Batches remembered for each producer: what a client may have in flight.
pub(crate) const WINDOW: usize = 5;

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

/// Committed state of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Committed {
    epoch: ProducerEpoch,
    last_append_time: WallMs,
    batches: VecDeque<Remembered>,
}

/// A batch that waits for commit.
#[derive(Clone, Copy, Debug)]
struct Pending {
    index: u64,
    epoch: ProducerEpoch,
    batch: Remembered,
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
}

impl ProducerState {
    /// Judges a client's batch. A producer that is not known may begin with any sequence, as in Kafka: its
    /// state may have expired or been deleted with its records.
    pub(crate) fn decide(&self, batch: &BatchSummary) -> Decision {
        let committed = self.committed.get(&batch.producer_id);
        let pending = self.pending.get(&batch.producer_id);
        let Some(epoch) =
            pending.and_then(|p| p.back()).map(|p| p.epoch).or_else(|| committed.map(|c| c.epoch))
        else {
            return Decision::Append;
        };
        if batch.producer_epoch < epoch {
            return Decision::OldEpoch(epoch);
        }
        if batch.producer_epoch > epoch {
            return if batch.base_sequence == 0 { Decision::Append } else { Decision::OutOfOrder(0) };
        }
        let waiting = pending.into_iter().flatten().filter(|p| p.epoch == epoch);
        let known = committed.filter(|c| c.epoch == epoch).into_iter().flat_map(|c| c.batches.iter());
        let mut newest =
            waiting.rev().map(|p| (p.batch, Some(p.index))).chain(known.rev().map(|b| (*b, None)));
        let mut last_sequence = None;
        for (remembered, pending) in newest.by_ref().take(WINDOW) {
            if remembered.same_records(batch) {
                return Decision::Duplicate { batch: remembered, pending };
            }
            last_sequence.get_or_insert(remembered.last_sequence());
        }
        match last_sequence.map(|last| records::next_sequence(last, 1)) {
            Some(expected) if expected != batch.base_sequence => Decision::OutOfOrder(expected),
            _ => Decision::Append,
        }
    }

    /// Remembers batches of an entry that is appended and not committed.
    pub(crate) fn push_pending<'a>(&mut self, index: u64, batches: impl Iterator<Item = &'a BatchSummary>) {
        for batch in batches {
            let queue = self.pending.entry(batch.producer_id).or_default();
            queue.push_back(Pending { index, epoch: batch.producer_epoch, batch: Remembered::of(batch) });
        }
    }

    /// The entry at `index` is committed: its batches move to the committed layer.
    pub(crate) fn apply<'a>(
        &mut self,
        index: u64,
        append_time: WallMs,
        batches: impl Iterator<Item = &'a BatchSummary>,
    ) {
        for batch in batches {
            if let Some(queue) = self.pending.get_mut(&batch.producer_id) {
                while queue.front().is_some_and(|p| p.index <= index) {
                    queue.pop_front();
                }
                if queue.is_empty() {
                    self.pending.remove(&batch.producer_id);
                }
            }
            let row = self.committed.entry(batch.producer_id).or_insert_with(|| Committed {
                epoch: batch.producer_epoch,
                last_append_time: append_time,
                batches: VecDeque::new(),
            });
            if row.epoch != batch.producer_epoch {
                row.epoch = batch.producer_epoch;
                row.batches.clear();
            }
            row.last_append_time = row.last_append_time.max(append_time);
            if row.batches.len() == WINDOW {
                row.batches.pop_front();
            }
            row.batches.push_back(Remembered::of(batch));
        }
    }

    /// This replica leads no more.
    pub(crate) fn drop_pending(&mut self) {
        self.pending.clear();
    }

    /// Forgets producers that appended nothing for `expiration_ms`.
    pub(crate) fn expire(&mut self, now: WallMs, expiration_ms: i64) {
        let pending = &self.pending;
        self.committed.retain(|id, row| {
            now.saturating_sub(row.last_append_time) < expiration_ms || pending.contains_key(id)
        });
    }

    /// Keeps at most `max` producers: beyond it, the longest silent go, an eighth at a time.
    pub(crate) fn bound(&mut self, max: usize) {
        if self.committed.len() <= max {
            return;
        }
        let mut by_age: Vec<(WallMs, ProducerId)> =
            self.committed.iter().map(|(id, row)| (row.last_append_time, *id)).collect();
        by_age.sort_unstable();
        let excess = self.committed.len() - max + max / 8;
        for (_, id) in by_age.into_iter().take(excess) {
            self.committed.remove(&id);
        }
    }

    /// The committed layer, for a checkpoint.
    pub(crate) fn encode(&self) -> Bytes {
        let producers = self.committed.iter().map(|(id, row)| Producer {
            id: *id,
            epoch: i32::from(row.epoch),
            last_append_time: row.last_append_time,
            batches: row
                .batches
                .iter()
                .map(|b| ProducerBatch {
                    base_offset: b.base_offset,
                    base_sequence: b.base_sequence,
                    last_delta: b.last_delta,
                    timestamp: b.timestamp,
                })
                .collect(),
        });
        if self.committed.is_empty() {
            return Bytes::new();
        }
        ProducerTable { producers: producers.collect() }.encode_to_vec().into()
    }

    /// From a checkpoint. Errors: what is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<ProducerState, String> {
        let table = ProducerTable::decode(bytes).map_err(|e| format!("producer table: {e}"))?;
        let mut state = ProducerState::default();
        for p in table.producers {
            let epoch = ProducerEpoch::try_from(p.epoch)
                .map_err(|_| format!("producer table: producer {} has epoch {}", p.id, p.epoch))?;
            let batches = p.batches.iter().map(|b| Remembered {
                base_offset: b.base_offset,
                base_sequence: b.base_sequence,
                last_delta: b.last_delta,
                timestamp: b.timestamp,
            });
            let row = Committed {
                epoch,
                last_append_time: p.last_append_time,
                batches: batches.take(WINDOW).collect(),
            };
            state.committed.insert(p.id, row);
        }
        Ok(state)
    }

    /// Every committed producer: id, epoch, its last batch.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (ProducerId, ProducerEpoch, Option<&Remembered>)> {
        self.committed.iter().map(|(id, row)| (*id, row.epoch, row.batches.back()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_id: i64, epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchSummary {
        BatchSummary {
            producer_id,
            producer_epoch: epoch,
            base_sequence,
            last_delta: count - 1,
            base_offset,
            timestamp: 77,
        }
    }

    fn append(state: &mut ProducerState, index: u64, b: BatchSummary) {
        state.push_pending(index, std::iter::once(&b));
    }

    fn commit(state: &mut ProducerState, index: u64, b: BatchSummary) {
        state.apply(index, 1000, std::iter::once(&b));
    }

    #[test]
    fn duplicates_are_found_in_both_layers_and_only_the_last_five() {
        let mut state = ProducerState::default();
        for i in 0..7 {
            let b = batch(1, 0, i * 10, 10, i64::from(i) * 100);
            assert_eq!(state.decide(&b), Decision::Append);
            append(&mut state, i as u64 + 2, b);
            if i < 4 {
                commit(&mut state, i as u64 + 2, b);
            }
        }
        for (i, pending) in [(6, Some(8)), (5, Some(7)), (4, Some(6)), (3, None), (2, None)] {
            let Decision::Duplicate { batch: found, pending: p } = state.decide(&batch(1, 0, i * 10, 10, 0))
            else {
                panic!("batch {i} is remembered");
            };
            assert_eq!((found.base_offset, p), (i64::from(i) * 100, pending));
        }
        assert_eq!(state.decide(&batch(1, 0, 10, 10, 0)), Decision::OutOfOrder(70));
        assert_eq!(state.decide(&batch(1, 0, 80, 1, 0)), Decision::OutOfOrder(70));
        assert_eq!(
            state.decide(&batch(1, 0, 60, 3, 0)),
            Decision::OutOfOrder(70),
            "other records, same start"
        );
        assert_eq!(state.decide(&batch(1, 0, 70, 1, 0)), Decision::Append);
    }

    #[test]
    fn epochs_rise_from_sequence_zero_and_never_fall() {
        let mut state = ProducerState::default();
        assert_eq!(state.decide(&batch(1, 3, 500, 1, 0)), Decision::Append, "an unknown producer");
        commit(&mut state, 2, batch(1, 3, 500, 1, 0));
        assert_eq!(state.decide(&batch(1, 2, 501, 1, 0)), Decision::OldEpoch(3));
        assert_eq!(state.decide(&batch(1, 4, 501, 1, 0)), Decision::OutOfOrder(0));
        let bumped = batch(1, 4, 0, 2, 9);
        assert_eq!(state.decide(&bumped), Decision::Append);
        append(&mut state, 3, bumped);
        assert_eq!(state.decide(&batch(1, 3, 501, 1, 0)), Decision::OldEpoch(4));
        assert!(matches!(state.decide(&bumped), Decision::Duplicate { pending: Some(3), .. }));
        state.drop_pending();
        assert_eq!(state.decide(&batch(1, 3, 501, 1, 0)), Decision::Append);
    }

    #[test]
    fn sequences_wrap() {
        let mut state = ProducerState::default();
        commit(&mut state, 2, batch(1, 0, i32::MAX - 1, 3, 0));
        assert_eq!(state.decide(&batch(1, 0, 1, 1, 0)), Decision::Append);
        assert_eq!(state.decide(&batch(1, 0, 0, 1, 0)), Decision::OutOfOrder(1));
        let mut state = ProducerState::default();
        commit(&mut state, 2, batch(1, 0, i32::MAX, 1, 0));
        assert_eq!(state.decide(&batch(1, 0, 0, 1, 0)), Decision::Append);
    }

    #[test]
    fn a_checkpoint_keeps_the_committed_layer_alone() {
        let mut state = ProducerState::default();
        assert!(state.encode().is_empty());
        for i in 0..6 {
            commit(&mut state, i as u64 + 2, batch(9, 1, i, 1, i64::from(i)));
        }
        append(&mut state, 8, batch(9, 1, 6, 1, 6));
        let back = ProducerState::decode(&state.encode()).unwrap();
        assert_eq!(back.committed, state.committed);
        assert!(back.pending.is_empty());
        assert!(ProducerState::decode(&[0xff, 3]).is_err());
    }

    #[test]
    fn silent_producers_expire_and_the_table_is_bounded() {
        let mut state = ProducerState::default();
        for id in 0..100 {
            state.apply(2, id, std::iter::once(&batch(id, 0, 0, 1, 0)));
        }
        state.expire(1050, 1000);
        assert_eq!(state.rows().next().map(|r| r.0), Some(51));
        append(&mut state, 3, batch(51, 0, 1, 1, 0));
        state.expire(5000, 1000);
        assert_eq!(state.rows().map(|r| r.0).collect::<Vec<_>>(), [51]);
        for id in 0..100 {
            state.apply(2, id, std::iter::once(&batch(id, 0, 0, 1, 0)));
        }
        state.bound(64);
        assert_eq!(state.rows().count(), 56);
        assert_eq!(state.rows().next().map(|r| r.0), Some(44));
    }
}
