//! From a birth checkpoint, or from what recovery read back, to a replica that may campaign.
use crate::acks::PendingAcks;
use crate::api::{Counters, Opened, PartitionConfig, Start};
use crate::apply::decode_command;
use crate::in_sync::InSync;
use crate::partition::{Applied, Partition, Phase};
use crate::producer_state::ProducerState;
use crate::strong::Strong;
use crate::summary::EntrySummary;
use crate::tickets::Tickets;
use crate::watermark::Watermarks;
use bytes::Bytes;
use consensus::{EntryMeta, Group, GroupFx, GroupParams, LogView, Membership};
use model::planted::{Bug, planted};
use model::{ErrorCode, GroupKey, NodeId};
use proto::partition::command;
use std::collections::VecDeque;
use std::sync::Arc;
use storage::{
    Checkpoint, Directory, EntryBody, EntryKind, HardState, Log, Recovered, RecoveredEntry, Replica,
    group_dir,
};

/// Replayed state, from a checkpoint on.
struct Replay {
    producers: ProducerState,
    applied: Applied,
    log_start: i64,
    clean_horizon: i64,
    members: Membership,
    /// See [`GroupParams::changes_from`].
    changes_from: u64,
    unapplied: VecDeque<EntrySummary>,
    metas: Vec<EntryMeta>,
    opened: Opened,
}

pub(crate) fn open(
    key: GroupKey,
    start: Start,
    hard: HardState,
    replica_id: u64,
    cfg: Arc<PartitionConfig>,
    dir: &mut Directory,
    seed: u64,
) -> (Partition, Opened) {
    let reset = if let Start::Reset { from_term, node, .. } = start { (from_term, node) } else { (0, 0) };
    let (from_term, _) = reset;
    // A campaign raises it by one.
    let hard = if hard.term + 1 < from_term { HardState { term: from_term - 1, vote: 0 } } else { hard };
    let (mut partition, opened) = match start {
        Start::Born(birth) => {
            let replay = Replay::after(&birth, replica_id);
            let log = Log::born(key, group_dir(key), birth, cfg.log.clone());
            dir.born(key, replica_id);
            assemble(key, log, hard, replica_id, cfg, seed, replay, Phase::Running)
        }
        Start::Recovered(recovered) | Start::Reset { recovered, .. } => {
            let replay = replay(&recovered, replica_id, reset);
            let term = hard.term.max(recovered.last_term);
            let hard = HardState { term, vote: if term == hard.term { hard.vote } else { 0 } };
            let mut log = Log::from_recovered(*recovered, cfg.log.clone(), dir.fx());
            log.restore_log_start(replay.log_start);
            log.apply_clean_horizon(replay.clean_horizon);
            let phase = if dir.reopened(&log) {
                Phase::Rewriting { upto: log.last_index(), touched: false }
            } else {
                Phase::Running
            };
            assemble(key, log, hard, replica_id, cfg, seed, replay, phase)
        }
    };
    let (_, floor) = dir.life(key);
    if floor > 0 {
        partition.restrain(floor, dir);
    }
    (partition, opened)
}

fn assemble(
    key: GroupKey,
    mut log: Log,
    hard: HardState,
    replica_id: u64,
    cfg: Arc<PartitionConfig>,
    seed: u64,
    replay: Replay,
    phase: Phase,
) -> (Partition, Opened) {
    let Replay { producers, applied, log_start, members, changes_from, unapplied, metas, opened, .. } =
        replay;
    let mut view = LogView::applied(log.first_index(), applied.index, log.term_runs(), applied.next_offset);
    metas.into_iter().for_each(|meta| view.push_unapplied(meta));
    log.set_commit(applied.index);
    let params = GroupParams {
        key,
        replica_id,
        members,
        term: hard.term.max(log.last_term()),
        vote: hard.vote,
        commit: applied.index,
        max_uncommitted_bytes: cfg.max_uncommitted_bytes,
        prompt_commit: key == GroupKey::METADATA,
        changes_from,
        seed,
    };
    let phase = if opened.failed.is_some() { Phase::Failed(ErrorCode::KafkaStorageError) } else { phase };
    let partition = Partition {
        key,
        cfg,
        log,
        group: Group::new(params, view),
        replica_id,
        addresses: Vec::new(),
        agreed: None,
        down: Vec::new(),
        phase,
        parked: Vec::new(),
        proposed: VecDeque::new(),
        held: VecDeque::new(),
        gives_way: false,
        wishes: Vec::new(),
        stirred: false,
        in_sync: InSync::default(),
        prompt_until: None,
        unapplied,
        applied,
        announced: None,
        acks: PendingAcks::default(),
        strong: Strong::default(),
        marks: Watermarks::new(applied.next_offset, log_start, producers.first_open()),
        tickets: Tickets::default(),
        producers,
        proposed_log_start: None,
        counters: Counters::default(),
        scratch: GroupFx::default(),
        stands_down: false,
        strict: changes_from > 0,
        rested_at: 0,
    };
    (partition, opened)
}

impl Replay {
    fn after(checkpoint: &Checkpoint, replica_id: u64) -> Replay {
        let mut failed = None;
        let producers = ProducerState::decode(&checkpoint.producers).unwrap_or_else(|why| {
            failed = Some(why);
            ProducerState::default()
        });
        let members = Membership::new(checkpoint.members.clone()).unwrap_or_else(|misfit| {
            failed = Some(format!("the checkpoint's members: {misfit}"));
            // raft starts from something; a failed replica says and hears nothing.
            only(replica_id, 0)
        });
        let forget = planted(Bug::NoDedupeAfterRestart);
        Replay {
            producers: if forget { ProducerState::default() } else { producers },
            applied: Applied {
                index: checkpoint.index,
                term: checkpoint.term,
                next_offset: checkpoint.next_offset,
            },
            log_start: checkpoint.log_start,
            clean_horizon: checkpoint.clean_horizon,
            members,
            changes_from: 0,
            unapplied: VecDeque::new(),
            metas: Vec::new(),
            opened: Opened { machine: checkpoint.machine.clone(), commands: Vec::new(), failed },
        }
    }

    /// An entry up to the commit index: applied here.
    fn apply(&mut self, entry: &RecoveredEntry) -> Result<(), String> {
        let summary = summarise(entry);
        if !planted(Bug::NoDedupeAfterRestart) {
            self.producers.apply(summary.index, summary.append_time, summary.steps.iter());
        }
        if let Some(why) = summary.damage {
            return Err(format!("entry {}: {why}", summary.index));
        }
        if let (EntryKind::Command, EntryBody::Whole(payload)) = (entry.head.kind, &entry.body) {
            match decode_command(payload.clone()).map_err(|e| format!("entry {}: {e}", summary.index))? {
                command::Kind::Machine(payload) => self.opened.commands.push((summary.index, payload)),
                command::Kind::BeginTransaction(_) => {}
                command::Kind::CleanHorizon(to) => self.clean_horizon = self.clean_horizon.max(to.offset),
                command::Kind::LogStart(to) => {
                    self.log_start = self.log_start.max(to.offset.min(summary.next_offset));
                }
            }
        }
        if let (EntryKind::ConfChange, EntryBody::Whole(payload)) = (entry.head.kind, &entry.body)
            && entry.head.term >= self.changes_from
        {
            let misfit = |misfit| format!("entry {}: {misfit}", summary.index);
            self.members = self.members.after(payload).map_err(misfit)?;
        }
        self.applied = Applied { index: summary.index, term: summary.term, next_offset: summary.next_offset };
        Ok(())
    }

    /// An entry above the commit index: its fate is decided by the group, but appends are judged as if it
    /// were there.
    fn keep(&mut self, entry: &RecoveredEntry) {
        let summary = summarise(entry);
        if !planted(Bug::NoDedupeAfterRestart) {
            self.producers.push_pending(summary.index, summary.steps.iter());
        }
        let payload = match &entry.body {
            EntryBody::Whole(payload) => payload.clone(),
            EntryBody::Data(_) => Bytes::new(),
        };
        self.metas.push(EntryMeta {
            index: summary.index,
            term: summary.term,
            kind: summary.kind,
            len: payload.len() as u32,
            next_offset: summary.next_offset,
            payload,
        });
        self.unapplied.push_back(summary);
    }
}

/// A membership of one.
fn only(replica_id: u64, node_id: NodeId) -> Membership {
    let row = Replica { id: replica_id.max(1), node_id, ..Replica::default() };
    Membership::new(vec![row]).expect("one voter is a membership")
}

/// Entries up to here are committed: those that were marked so, and every change of the members but the last, because
/// nobody proposes one before the one before it holds.
fn committed(marked: u64, entries: impl DoubleEndedIterator<Item = (u64, EntryKind)>) -> u64 {
    let before_last = entries.rev().filter(|(_, kind)| *kind == EntryKind::ConfChange).nth(1);
    before_last.map_or(0, |(index, _)| index).max(marked)
}

/// `reset`: as in [`Start::Reset`], or zeros.
fn replay(recovered: &Recovered, replica_id: u64, reset: (u64, NodeId)) -> Replay {
    let entries = recovered.entries.iter().map(|entry| (entry.head.index, entry.head.kind));
    let committed = committed(recovered.commit, entries);
    let mut replay = Replay::after(&recovered.checkpoint, replica_id);
    replay.changes_from = reset.0;
    if reset.0 > 0 && replay.members.kind_of(replica_id).is_none() {
        replay.members = only(replica_id, reset.1);
    }
    for entry in &recovered.entries {
        if entry.head.index <= replay.applied.index {
            continue;
        }
        if entry.head.index <= committed {
            if let Err(why) = replay.apply(entry) {
                replay.opened.failed = Some(why);
                break;
            }
        } else {
            replay.keep(entry);
        }
    }
    replay.producers.prune(replay.log_start);
    replay
}

fn summarise(entry: &RecoveredEntry) -> EntrySummary {
    match &entry.body {
        EntryBody::Data(found) => EntrySummary::of_data(
            &entry.head,
            found.iter().map(|batch| (batch.header, batch.control.clone())),
        ),
        EntryBody::Whole(payload) => EntrySummary::of_other(&entry.head, payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_members_says_that_the_one_before_it_is_committed() {
        let entry = |index: u64| {
            (index, if index.is_multiple_of(10) { EntryKind::ConfChange } else { EntryKind::Data })
        };
        assert_eq!(committed(5, (6..10).map(entry)), 5);
        assert_eq!(committed(5, (6..15).map(entry)), 5, "one alone may be given up");
        assert_eq!(committed(5, (6..35).map(entry)), 20);
        assert_eq!(committed(25, (6..35).map(entry)), 25);
    }
}
