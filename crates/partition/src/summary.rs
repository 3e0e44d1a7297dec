//! What is kept of an entry between its append and its commit, and all that apply needs of it.
use crate::apply::decode_command;
use crate::transactions::{BeginMark, Open};
use bytes::Bytes;
use model::{Offset, ProducerEpoch, ProducerId, WallMs};
use proto::partition::command;
use records::{BatchHeader, ControlKind, parse_end_marker};
use std::sync::Arc;
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

/// The end of a producer's transaction, as the log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndSummary {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) commit: bool,
    pub(crate) coordinator_epoch: i32,
    pub(crate) offset: Offset,
    pub(crate) timestamp: WallMs,
}

impl EndSummary {
    /// Of a control batch; `None` where it ends no transaction. Errors: its record cannot be read.
    fn of(batch: &Bytes, header: &BatchHeader) -> Result<Option<EndSummary>, String> {
        let parsed = parse_end_marker(batch);
        let marker = parsed.map_err(|e| format!("a control batch at offset {}: {e}", header.base_offset))?;
        Ok(marker.filter(|marker| marker.producer_id >= 0).map(|marker| EndSummary {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            commit: marker.kind == ControlKind::Commit,
            coordinator_epoch: marker.coordinator_epoch,
            offset: header.base_offset,
            timestamp: marker.timestamp,
        }))
    }
}

/// What an entry changes about producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch.
    Batch(BatchSummary),
    /// A transaction begins.
    Begin(Arc<Open>),
    /// A transaction ends.
    End(EndSummary),
}

impl Step {
    pub(crate) fn producer_id(&self) -> ProducerId {
        match self {
            Step::Batch(batch) => batch.producer_id,
            Step::Begin(open) => open.mark.producer_id,
            Step::End(end) => end.producer_id,
        }
    }
}

/// The steps of an entry, in order: almost always none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    first: Option<Step>,
    more: Vec<Step>,
}

impl Steps {
    pub(crate) fn push(&mut self, step: Step) {
        match self.first {
            None => self.first = Some(step),
            Some(_) => self.more.push(step),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.first.iter().chain(&self.more)
    }

    /// The markers among them.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &EndSummary> {
        self.iter().filter_map(|step| if let Step::End(end) = step { Some(end) } else { None })
    }
}

impl From<Step> for Steps {
    fn from(step: Step) -> Steps {
        Steps { first: Some(step), more: Vec::new() }
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
    pub(crate) steps: Steps,
    pub(crate) proposer: Proposer,
    /// It cannot be applied, and why: its checksums are right, and what it holds cannot be read.
    pub(crate) damage: Option<Box<str>>,
}

impl EntrySummary {
    /// Of an entry that somebody else proposed.
    fn bare(head: &EntryHead) -> EntrySummary {
        EntrySummary {
            index: head.index,
            term: head.term,
            kind: head.kind,
            base_offset: head.base_offset,
            next_offset: head.next_offset(),
            append_time: head.append_time,
            max_timestamp: -1,
            steps: Steps::default(),
            proposer: Proposer::Nobody,
            damage: None,
        }
    }

    /// Of a data entry: the headers of its batches, and the control batches among them whole.
    pub(crate) fn of_data(
        head: &EntryHead,
        batches: impl Iterator<Item = (BatchHeader, Option<Bytes>)>,
    ) -> EntrySummary {
        let mut summary = EntrySummary::bare(head);
        for (header, control) in batches {
            summary.max_timestamp = summary.max_timestamp.max(header.max_timestamp);
            if let Some(batch) = BatchSummary::of(&header, header.base_offset) {
                summary.steps.push(Step::Batch(batch));
            }
            match control.map(|control| EndSummary::of(&control, &header)).transpose() {
                Ok(end) => end.flatten().into_iter().for_each(|end| summary.steps.push(Step::End(end))),
                Err(why) => summary.damage = Some(why.into()),
            }
        }
        summary
    }

    /// Of any other entry.
    pub(crate) fn of_other(head: &EntryHead, payload: &Bytes) -> EntrySummary {
        let mut summary = EntrySummary::bare(head);
        if head.kind != EntryKind::Command {
            return summary;
        }
        // A command that cannot be read says so when it is applied.
        if let Ok(command::Kind::BeginTransaction(begin)) = decode_command(payload.clone()) {
            match BeginMark::decode(begin) {
                Ok(mark) => summary.begins(mark),
                Err(why) => summary.damage = Some(why.into()),
            }
        }
        summary
    }

    /// It is a begin mark.
    pub(crate) fn begins(&mut self, mark: BeginMark) {
        let open = Open { mark, first: self.base_offset, begun_at: self.append_time };
        self.steps = Step::Begin(Arc::new(open)).into();
    }
}
