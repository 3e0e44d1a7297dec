//! What must hold in every history, judged by the log and by what partitions wrote, never by the coordinator.
use coordinator::txn::*;
use std::collections::{BTreeMap, BTreeSet};

/// `Err` names what was broken.
pub type Check = Result<(), String>;

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

/// All committed values of one id, and its tombstones.
#[derive(Default)]
pub struct History {
    pub values: Vec<Option<TxnValue>>,
}

impl History {
    pub fn last(&self) -> Option<&TxnValue> {
        self.values.last()?.as_ref()
    }

    /// The next record; only steps that the protocol knows are legal.
    pub fn push(&mut self, id: &str, next: Option<TxnValue>) -> Check {
        if let (Some(before), Some(next)) = (self.last(), &next) {
            legal(before, next).map_err(|e| format!("{id}: {e}: {before:?} then {next:?}"))?;
        }
        if let (Some(before), None) = (self.last(), &next) {
            ensure(!before.state.is_open(), || format!("{id}: an open transaction was removed"))?;
        }
        self.values.push(next);
        Ok(())
    }

    /// The result of the transaction of this producer and epoch; of several (before TV2) of the last.
    pub fn result_of(&self, producer: (i64, i16)) -> Option<bool> {
        let pairs = self.values.windows(2).rev();
        pairs.filter_map(|pair| pair[0].as_ref().zip(pair[1].as_ref())).find_map(|(before, after)| {
            let same = (before.producer_id, before.producer_epoch) == producer && after.state.is_prepare();
            same.then_some(after.state == TxnState::PrepareCommit)
        })
    }
}

fn legal(before: &TxnValue, next: &TxnValue) -> Check {
    use TxnState::*;
    let same_id = before.producer_id == next.producer_id;
    let states = match next.state {
        Empty => !before.state.is_open(),
        Ongoing => !before.state.is_prepare() && same_id && before.producer_epoch == next.producer_epoch,
        PrepareCommit => before.state == Ongoing && same_id,
        PrepareAbort => !before.state.is_prepare() && same_id,
        // A result once decided never changes.
        CompleteCommit => before.state == PrepareCommit,
        CompleteAbort => before.state == PrepareAbort,
    };
    ensure(states, || "no such step".into())?;
    if next.state.is_prepare() {
        let raised = if next.client_version == TxnVersion::V2 {
            next.producer_epoch == before.producer_epoch.saturating_add(1)
        } else {
            next.producer_epoch >= before.producer_epoch
        };
        ensure(raised && next.partitions == before.partitions, || "the wrong epoch or partitions".into())?;
    }
    let forward = !same_id || next.producer_epoch >= before.producer_epoch;
    ensure(forward, || "an epoch went back".into())?;
    ensure(same_id || next.producer_epoch == 0, || "a new producer id begins above 0".into())
}

/// Markers as the partitions have them, by the Prepare that they belong to: its place in the id's history.
#[derive(Default)]
pub struct Written {
    pub prepares: BTreeMap<MarkersId, usize>,
    done: BTreeSet<(String, usize, TopicPartition)>,
    pub gone: BTreeSet<TopicPartition>,
    /// The newest coordinator that each partition heard of.
    pub coordinators: BTreeMap<TopicPartition, i32>,
}

impl Written {
    /// A marker leaves the coordinator: its Prepare must be the last that is committed.
    pub fn sent(&mut self, markers: &Markers, history: &History) -> Check {
        let value = history.last().filter(|v| {
            v.state.is_prepare()
                && (v.producer_id, v.producer_epoch) == (markers.producer_id, markers.producer_epoch)
                && (v.state == TxnState::PrepareCommit) == markers.commit
                && markers.partitions.iter().all(|p| v.partitions.contains(p))
        });
        ensure(value.is_some(), || format!("a marker before its Prepare is committed: {markers:?}"))?;
        self.prepares.insert(markers.id, history.values.len() - 1);
        Ok(())
    }

    pub fn write(&mut self, markers: &Markers, partition: &TopicPartition) {
        if let Some(prepare) = self.prepares.get(&markers.id) {
            self.done.insert((markers.transactional_id.to_string(), *prepare, partition.clone()));
        }
    }

    /// Complete is appended: every partition of its Prepare has its marker.
    pub fn completes(&self, id: &str, history: &History) -> Check {
        let Some(value) = history.last() else { return Err(format!("{id}: Complete of nothing")) };
        let prepare = history.values.len() - 1;
        let missing = value
            .partitions
            .iter()
            .find(|p| !self.gone.contains(p) && !self.done.contains(&(id.to_owned(), prepare, (*p).clone())));
        ensure(missing.is_none(), || format!("{id}: Complete before the marker of {missing:?}"))
    }
}
