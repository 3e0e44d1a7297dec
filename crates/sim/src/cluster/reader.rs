//! One fetch at one node, checked.
use super::oracle::Oracle;
use super::world::World;
use crate::oracle::Value;
use crate::workload::decode;
use model::{ErrorCode, GroupKey, Offset};
use node::FetchResult;
use partition::{FetchInput, Isolation};
use std::collections::BTreeMap;
use storage::ReadPlan;

/// Reads once at the leader. The offset to go on from; `None` when refused or not ready.
pub(crate) fn read_once(
    world: &mut World,
    oracle: &mut Oracle,
    m: usize,
    key: GroupKey,
    from: Offset,
    seen: &mut BTreeMap<Offset, Value>,
) -> Option<Offset> {
    read_at(world, oracle, m, key, from, false, seen)
}

/// The same, `at_follower` too: its watermarks may be late.
pub(crate) fn read_at(
    world: &mut World,
    oracle: &mut Oracle,
    m: usize,
    key: GroupKey,
    from: Offset,
    at_follower: bool,
    seen: &mut BTreeMap<Offset, Value>,
) -> Option<Offset> {
    let input = FetchInput {
        offset: from,
        max_bytes: 200_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        isolation: Isolation::ReadUncommitted,
        at_follower,
    };
    let answer = world.call(m, |n, now| n.fetch(now, key, &input))?;
    let view = world.machines[m].node.as_ref().and_then(|n| n.replica_view(key));
    let epoch = view.and_then(|v| v.epoch);
    let ok = match answer {
        FetchResult::Ok(ok) => ok,
        FetchResult::Err(error) => {
            if let (ErrorCode::OffsetOutOfRange, Some(epoch)) = (error.code, epoch) {
                oracle.told(key, epoch, error.high_watermark, error.log_start);
                return (from < error.log_start).then_some(error.log_start);
            }
            return None;
        }
        FetchResult::NotReady => return None,
    };
    if !ok.at_follower {
        oracle.told(key, epoch?, ok.high_watermark, ok.log_start);
    }
    if ok.not_yet {
        return None;
    }
    let batches = match ok.plan {
        ReadPlan::Empty => return Some(from),
        ReadPlan::Memory(batches) => batches,
        ReadPlan::File(range) => match storage::read_range(&world.machines[m].disk, &range) {
            Ok(found) => found.batches,
            Err(storage::ExtractError::Disk(_)) => return None,
            Err(storage::ExtractError::Damaged(damage)) if world.rotten == Some(m) => {
                world.call(m, |n, now| n.on_damage(now, key, damage.to_string()));
                return None;
            }
            Err(error) => {
                oracle.violate("acked-lost", format!("node {} {key}@{from}: {error}", m + 1));
                return None;
            }
        },
    };
    let (records, next) = decode(&batches, from);
    let first = records.first().map_or(from, |(offset, _)| from.max(*offset));
    oracle.read(key, first.min(from), ok.high_watermark, &records);
    seen.extend(records.iter().copied());
    Some(next.max(from))
}
