//! Turns read plans into records: memory as it is, files on the reader threads.
use crate::budget::Held;
use crate::core::ReadPlan;
use crate::error_map;
use crate::handlers::fetch::{Limits, Planned};
use crate::shared::Shared;
use bytes::Bytes;
use std::rc::Rc;
use wire::Records;

/// Bytes that a plan will give, as far as is known before reading.
pub(crate) fn planned_bytes(plan: &ReadPlan) -> usize {
    match plan {
        ReadPlan::Empty => 0,
        ReadPlan::Memory(batches) => batches.iter().map(Bytes::len).sum(),
        ReadPlan::File(range) => range.len.min(range.max_bytes).max(1) as usize,
    }
}

/// Reads everything planned. The first partition with data may exceed the limits by its first batch
/// (KIP-74), the others are left out when they do not fit.
pub(crate) async fn read_all(
    shared: &Rc<Shared>,
    limits: &Limits,
    mut planned: Vec<Planned>,
) -> (Vec<(Planned, Records)>, Option<Held>) {
    let from_files: usize = planned
        .iter()
        .filter_map(|p| match p {
            Planned::Read(plan) if matches!(plan.plan, ReadPlan::File(_)) => Some(planned_bytes(&plan.plan)),
            _ => None,
        })
        .sum();
    let memory =
        if from_files > 0 { Some(shared.response_memory.take(from_files as u64).await) } else { None };
    let mut jobs = Vec::new();
    for (at, one) in planned.iter_mut().enumerate() {
        let Planned::Read(plan) = one else { continue };
        if let ReadPlan::File(_) = plan.plan
            && let ReadPlan::File(range) = std::mem::replace(&mut plan.plan, ReadPlan::Empty)
        {
            jobs.push((at, shared.read_file(range)));
        }
    }
    let mut files: Vec<Option<Vec<Bytes>>> = Vec::new();
    if !jobs.is_empty() {
        files.resize_with(planned.len(), || None);
    }
    for (at, job) in jobs {
        match job.await {
            Ok(extracted) => files[at] = Some(extracted.batches),
            Err(error) => planned[at] = Planned::failed(error_map::read(&error)),
        }
    }
    let (mut total, mut out) = (0, Vec::with_capacity(planned.len()));
    for (at, mut one) in planned.into_iter().enumerate() {
        let file = files.get_mut(at).and_then(Option::take);
        let batches = match (&mut one, file) {
            (_, Some(batches)) => {
                shared.metrics.fetched_file.increment(batches.iter().map(|b| b.len() as u64).sum());
                batches
            }
            (Planned::Read(plan), None) => match std::mem::replace(&mut plan.plan, ReadPlan::Empty) {
                ReadPlan::Memory(batches) => {
                    shared.metrics.fetched_memory.increment(batches.iter().map(|b| b.len() as u64).sum());
                    batches
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        let fits = total == 0 || total + bytes <= limits.max_bytes;
        total += if fits { bytes } else { 0 };
        let records = if fits { batches.into_iter().collect() } else { Records::new() };
        out.push((one, records));
    }
    (out, memory)
}
