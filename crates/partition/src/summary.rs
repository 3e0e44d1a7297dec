//! What is kept of an entry between its append and its commit, and all that apply needs of it.
use model::{Offset, ProducerEpoch, ProducerId, WallMs};
use records::BatchHeader;
use std::borrow::Borrow;
use storage::{EntryHead, EntryKind};

/// One batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSummary {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) base_sequence: i32,
    /// Records less one.
    pub(crate) last_delta: i32,
    pub(crate) base_offset: Offset,
    /// Largest timestamp, ms; the append time where the topic uses it.
    pub(crate) timestamp: WallMs,
}

impl BatchSummary {
    /// Of a batch at `base_offset`; `None` where no producer numbered it.
    pub(crate) fn of(header: &BatchHeader, base_offset: Offset) -> Option<BatchSummary> {
        let numbered = header.has_producer() && !header.is_control() && header.base_sequence >= 0;
        numbered.then_some(BatchSummary {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            last_delta: header.last_offset_delta,
            base_offset,
            timestamp: header.max_timestamp,
        })
    }
}

/// The producers' batches of an entry: almost always none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batches {
    first: Option<BatchSummary>,
    more: Vec<BatchSummary>,
}

impl Batches {
    pub(crate) fn push(&mut self, batch: BatchSummary) {
        match self.first {
            None => self.first = Some(batch),
            Some(_) => self.more.push(batch),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &BatchSummary> {
        self.first.iter().chain(&self.more)
    }
}

/// Who is told of an entry's commit, besides those who wait for acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proposer {
    /// Nobody of this process, or somebody who only waits for acknowledgement.
    Nobody,
    /// The machine on this log, under its token.
    Machine(u64),
    /// A caller of DeleteRecords.
    LogStart(u64),
}

/// An entry that is appended and not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntrySummary {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) kind: EntryKind,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) append_time: WallMs,
    /// Largest timestamp of its batches, ms; -1 unless data.
    pub(crate) max_timestamp: WallMs,
    pub(crate) batches: Batches,
    pub(crate) proposer: Proposer,
}

impl EntrySummary {
    /// Of an entry that somebody else proposed: `batches` are the headers of a data entry's batches.
    pub(crate) fn of<H: Borrow<BatchHeader>>(
        head: &EntryHead,
        batches: impl Iterator<Item = H>,
    ) -> EntrySummary {
        let mut summary = EntrySummary {
            index: head.index,
            term: head.term,
            kind: head.kind,
            base_offset: head.base_offset,
            next_offset: head.next_offset(),
            append_time: head.append_time,
            max_timestamp: -1,
            batches: Batches::default(),
            proposer: Proposer::Nobody,
        };
        for header in batches {
            let header = header.borrow();
            summary.max_timestamp = summary.max_timestamp.max(header.max_timestamp);
            if let Some(batch) = BatchSummary::of(header, header.base_offset) {
                summary.batches.push(batch);
            }
        }
        summary
    }
}
