//! One fetch of what is committed, filtered as a consumer filters it (KIP-98).
use super::super::oracle::Oracle;
use super::super::world::World;
use super::model::Model;
use crate::oracle::Value;
use bytes::Bytes;
use model::{GroupKey, Offset, ProducerId};
use node::FetchResult;
use partition::{FetchInput, Isolation};
use records::{BatchHeader, ControlKind};
use std::collections::{BTreeMap, BTreeSet};
use storage::ReadPlan;

/// Records are small here.
const MOST_UNPACKED: usize = 64 << 20;

/// A batch as it was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) header: BatchHeader,
    /// What it ends, if it is a marker.
    pub(super) marker: Option<ControlKind>,
    records: Vec<Seen>,
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) offset: Offset,
    pub(super) name: String,
    pub(super) value: Option<Value>,
}

fn found(runs: &[Bytes]) -> Vec<Found> {
    let mut all = Vec::new();
    for run in runs {
        for batch in records::batches(run) {
            let Ok((range, header)) = batch else { return all };
            let Ok(records) = records::records(&run.slice(range), MOST_UNPACKED) else { return all };
            let (mut marker, mut values) = (None, Vec::new());
            for record in records.flatten() {
                if header.is_control() {
                    marker = record.key.as_deref().and_then(ControlKind::of_key);
                    continue;
                }
                let value = record.value.as_deref().and_then(|v| v.first_chunk()).copied();
                let name = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                values.push(Seen { offset: record.offset, name, value: value.map(u64::from_be_bytes) });
            }
            all.push(Found { header, marker, records: values });
        }
    }
    all
}

/// Leaves out what was aborted, as consumers do with the list that comes with the batches.
fn committed(batches: &[Found], aborted: &[(ProducerId, Offset)]) -> Vec<Seen> {
    let mut coming = aborted.iter().peekable();
    let (mut out, mut values) = (BTreeSet::new(), Vec::new());
    for batch in batches {
        while let Some((producer, _)) = coming.next_if(|(_, first)| *first <= batch.header.last_offset()) {
            out.insert(*producer);
        }
        match batch.marker {
            Some(ControlKind::Abort) => {
                out.remove(&batch.header.producer_id);
            }
            Some(_) => {}
            None if batch.header.is_transactional() && out.contains(&batch.header.producer_id) => {}
            None => values.extend(batch.records.iter().cloned()),
        }
    }
    values
}

/// What a fetch gave.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) next: Offset,
    pub(super) stable: Offset,
    /// What is committed.
    pub(super) records: Vec<Seen>,
}

/// Reads once on `m`; what may not be seen is a violation. `None` when refused or not ready.
pub(super) fn read(
    world: &mut World,
    oracle: &mut Oracle,
    model: &mut Model,
    m: usize,
    (key, from, at_follower): (GroupKey, Offset, bool),
) -> Option<Read> {
    let input = FetchInput {
        offset: from,
        max_bytes: 200_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        isolation: Isolation::ReadCommitted,
        at_follower,
    };
    let answer = world.call(m, |n, now| n.fetch(now, key, &input))?;
    let FetchResult::Ok(ok) = answer else { return None };
    let view = world.machines[m].node.as_ref().and_then(|n| n.replica_view(key));
    let epoch = view.and_then(|v| v.epoch).filter(|_| !ok.at_follower);
    model.told(oracle, key, epoch, (ok.log_start, ok.last_stable_offset, ok.high_watermark));
    if ok.not_yet {
        return None;
    }
    let stable = ok.last_stable_offset;
    let runs = match ok.plan {
        ReadPlan::Empty => return Some(Read { next: from, stable, records: Vec::new() }),
        ReadPlan::Memory(runs) => runs,
        // What is damaged is another reader's business.
        ReadPlan::File(range) => storage::read_range(&world.machines[m].disk, &range).ok()?.batches,
    };
    let batches = found(&runs);
    let mut records = committed(&batches, &ok.aborted);
    records.retain(|record| record.offset >= from);
    for Seen { offset, value, .. } in &records {
        if *offset >= stable {
            oracle.violate("lso-too-high", format!("{key}@{offset} was readable at {stable}"));
        }
        value.iter().for_each(|value| model.seen(oracle, key, *offset, *value));
    }
    let next = batches.last().map_or(from, |batch| batch.header.next_offset());
    Some(Read { next: next.max(from), stable, records })
}

/// In the order of the log no producer goes back to an older epoch. Where to go on.
pub(super) fn in_order(
    oracle: &mut Oracle,
    key: GroupKey,
    runs: &[Bytes],
    epochs: &mut BTreeMap<ProducerId, i16>,
) -> Offset {
    let batches = found(runs);
    for batch in batches.iter().filter(|b| b.header.is_transactional()) {
        let (producer, epoch) = (batch.header.producer_id, batch.header.producer_epoch);
        let before = epochs.insert(producer, epoch).unwrap_or(epoch);
        if before > epoch {
            let at = batch.header.base_offset;
            let detail = format!("{key}@{at}: producer {producer} at epoch {epoch} after {before}");
            oracle.violate("txn-fenced-came-back", detail);
        }
    }
    batches.last().map_or(0, |batch| batch.header.next_offset())
}
