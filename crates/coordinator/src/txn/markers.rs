//! Markers of an end that is certain: sent, asked for again, and counted until all are committed.
use super::api::MarkerOutcome;
use super::coordinator::{Step, TxnCoordinator};
use super::effects::{Effect, Effects, Markers, MarkersId, TxnEvent};
use super::value::{TopicPartition, TxnState, TxnValue};
use model::planted::{Bug, planted};
use model::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug)]
struct Ask {
    /// When it is asked for again.
    due: Mono,
    /// Refusals so far.
    failures: u32,
}

/// The markers of one end.
#[derive(Debug)]
pub(crate) struct Round {
    id: MarkersId,
    /// Partitions whose marker is not known to be committed.
    open: BTreeMap<TopicPartition, Ask>,
    dues: BTreeSet<(Mono, TopicPartition)>,
}

impl Round {
    /// When a partition is asked next; none is left, or when.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.dues.first().map(|(due, _)| *due)
    }

    /// Partitions whose marker is not known to be committed.
    pub(crate) fn open(&self) -> impl Iterator<Item = &TopicPartition> {
        self.open.keys()
    }

    fn put(&mut self, partition: TopicPartition, due: Mono, failures: u32) {
        if let Some(before) = self.open.insert(partition.clone(), Ask { due, failures }) {
            self.dues.remove(&(before.due, partition.clone()));
        }
        self.dues.insert((due, partition));
    }

    fn remove(&mut self, partition: &TopicPartition) {
        if let Some(ask) = self.open.remove(partition) {
            self.dues.remove(&(ask.due, partition.clone()));
        }
    }

    fn take_due(&mut self, now: Mono, again: Mono) -> Vec<TopicPartition> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.dues.first()
            && *at <= now
        {
            due.extend(self.dues.pop_first().map(|(_, partition)| partition));
        }
        for partition in &due {
            if let Some(ask) = self.open.get_mut(partition) {
                ask.due = again;
                self.dues.insert((again, partition.clone()));
            }
        }
        due
    }
}

impl TxnCoordinator {
    /// Appends the decision of an end; its markers wait for the commit.
    pub(crate) fn append_prepare(&mut self, now: Now, id: &Arc<str>, step: Step, fx: &mut Effects) {
        let value = planted(Bug::MarkerBeforePrepareCommitted).then(|| step.value.clone());
        self.append(now, id, step, fx);
        if let Some(value) = value {
            self.begin_round(now, id, &value, fx);
        }
    }

    /// Sends the markers of the end that `value` decides.
    fn begin_round(&mut self, now: Now, id: &Arc<str>, value: &TxnValue, fx: &mut Effects) {
        self.last_markers += 1;
        let markers_id = MarkersId { instance: self.instance, sequence: self.last_markers };
        let mut round = Round { id: markers_id, open: BTreeMap::new(), dues: BTreeSet::new() };
        let due = now.mono.after_ms(self.config.marker_timeout_ms.max(1));
        value.partitions.iter().for_each(|partition| round.put(partition.clone(), due, 0));
        if let Some(entry) = self.entries.get_mut(id) {
            entry.round = Some(round);
        }
        self.send(id, markers_id, value, value.partitions.iter().cloned().collect(), fx);
    }

    fn send(
        &self,
        id: &Arc<str>,
        markers_id: MarkersId,
        value: &TxnValue,
        partitions: Vec<TopicPartition>,
        fx: &mut Effects,
    ) {
        if partitions.is_empty() {
            return;
        }
        fx.push(Effect::SendMarkers(Markers {
            id: markers_id,
            transactional_id: id.clone(),
            producer_id: value.producer_id,
            producer_epoch: value.producer_epoch,
            commit: value.state == TxnState::PrepareCommit,
            coordinator_epoch: self.coordinator_epoch,
            version: value.client_version,
            partitions,
        }));
    }

    /// Prepare is committed, or something of its markers is due.
    pub(crate) fn drive_markers(&mut self, now: Now, id: &Arc<str>, fx: &mut Effects) {
        let Some(value) = self.value(id).filter(|v| v.state.is_prepare()).cloned() else { return };
        let again = now.mono.after_ms(self.config.marker_timeout_ms.max(1));
        let Some(entry) = self.entries.get_mut(id).filter(|e| e.pending.is_none()) else { return };
        match &mut entry.round {
            None => self.begin_round(now, id, &value, fx),
            Some(round) => {
                let (markers_id, due) = (round.id, round.take_due(now.mono, again));
                if !due.is_empty() {
                    let (transactional_id, partitions) = (id.clone(), due.len());
                    fx.push(Effect::Event(TxnEvent::MarkersAgain { transactional_id, partitions }));
                    self.send(id, markers_id, &value, due, fx);
                }
            }
        }
        self.complete(now, id, fx);
    }

    /// What came of the marker at one partition. Answers to markers of another end, or of before an `unload`,
    /// change nothing.
    pub fn on_marker_result(
        &mut self,
        now: Now,
        id: MarkersId,
        transactional_id: &str,
        partition: &TopicPartition,
        outcome: MarkerOutcome,
        fx: &mut Effects,
    ) {
        let Some(name) = self.entries.get_key_value(transactional_id).map(|(name, _)| name.clone()) else {
            return;
        };
        let Some(round) = self.entries.get_mut(&name).and_then(|e| e.round.as_mut()) else { return };
        let Some(failures) = round.open.get(partition).map(|ask| ask.failures).filter(|_| round.id == id)
        else {
            return;
        };
        let event = match outcome {
            MarkerOutcome::Done => {
                round.remove(partition);
                None
            }
            MarkerOutcome::Gone | MarkerOutcome::Superseded => {
                round.remove(partition);
                let (transactional_id, partition) = (name.clone(), partition.clone());
                Some(TxnEvent::PartitionLeftOut { transactional_id, partition, why: outcome })
            }
            MarkerOutcome::AskAgain => {
                let failures = failures.saturating_add(1);
                let due = now.mono.after_ms(self.config.backoff_after(failures));
                round.put(partition.clone(), due, failures);
                None
            }
            MarkerOutcome::CoordinatorFenced => {
                // Never a success. Whoever leads now goes on; this one sees that soon.
                let due = now.mono.after_ms(self.config.max_backoff_ms.max(1));
                round.put(partition.clone(), due, failures.saturating_add(1));
                let (transactional_id, partition) = (name.clone(), partition.clone());
                Some(TxnEvent::CoordinatorFenced { transactional_id, partition })
            }
        };
        fx.extend(event.map(Effect::Event));
        self.complete(now, &name, fx);
        self.arm(&name);
    }

    /// Appends the end of an end once no marker is missing.
    fn complete(&mut self, now: Now, id: &Arc<str>, fx: &mut Effects) {
        let Some(entry) = self.entries.get(id).filter(|e| e.pending.is_none()) else { return };
        let ready = match &entry.round {
            Some(round) => round.open.is_empty() || planted(Bug::CompleteBeforeMarkers),
            None => false,
        };
        let waits = entry.retry_at.is_some_and(|at| at > now.mono);
        let Some(value) = entry.committed.as_ref().filter(|v| ready && !waits && v.state.is_prepare()) else {
            return;
        };
        let step = Step { value: value.completed(now.wall), last_epoch: entry.last_epoch, after: None };
        self.append(now, id, step, fx);
    }
}
