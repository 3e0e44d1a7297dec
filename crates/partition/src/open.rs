//! From a birth checkpoint, or from what recovery read back, to a replica that may campaign.
use crate::acks::PendingAcks;
use crate::api::{Counters, Opened, PartitionConfig, Start};
use crate::apply::decode_command;
use crate::in_sync::InSync;
use crate::partition::{Applied, Partition, Phase};
use crate::producer_state::ProducerState;
use crate::strong::Strong;
use crate::summary::EntrySummary;
use crate::watermark::Watermarks;
use bytes::Bytes;
use consensus::{EntryMeta, Group, GroupFx, GroupParams, LogView, Membership};
use model::planted::{Bug, planted};
use model::{ErrorCode, GroupKey};
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
    members: Membership,
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
    let (mut partition, opened) = match start {
        Start::Born(birth) => {
            let replay = Replay::after(&birth, replica_id);
            let log = Log::born(key, group_dir(key), birth, cfg.log.clone());
            dir.born(key, replica_id);
            assemble(key, log, hard, replica_id, cfg, seed, replay, Phase::Running)
        }
        Start::Recovered(recovered) => {
            let replay = replay(&recovered, replica_id);
            let term = hard.term.max(recovered.last_term);
            let hard = HardState { term, vote: if term == hard.term { hard.vote } else { 0 } };
            let mut log = Log::from_recovered(*recovered, cfg.log.clone(), dir.fx());
            log.restore_log_start(replay.log_start);
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
    let Replay { producers, applied, log_start, members, unapplied, metas, opened } = replay;
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
        producers,
        acks: PendingAcks::default(),
        strong: Strong::default(),
        marks: Watermarks::new(applied.next_offset, log_start),
        proposed_log_start: None,
        counters: Counters::default(),
        scratch: GroupFx::default(),
        stands_down: false,
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
            only(replica_id)
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
            members,
            unapplied: VecDeque::new(),
            metas: Vec::new(),
            opened: Opened { machine: checkpoint.machine.clone(), commands: Vec::new(), failed },
        }
    }

    /// An entry up to the commit index: applied here.
    fn apply(&mut self, entry: &RecoveredEntry) -> Result<(), String> {
        let summary = summarise(entry);
        if !planted(Bug::NoDedupeAfterRestart) {
            self.producers.apply(summary.index, summary.append_time, summary.batches.iter());
        }
        if let (EntryKind::Command, EntryBody::Whole(payload)) = (entry.head.kind, &entry.body) {
            match decode_command(payload.clone()).map_err(|e| format!("entry {}: {e}", summary.index))? {
                command::Kind::Machine(payload) => self.opened.commands.push((summary.index, payload)),
                command::Kind::LogStart(to) => {
                    self.log_start = self.log_start.max(to.offset.min(summary.next_offset));
                }
            }
        }
        if let (EntryKind::ConfChange, EntryBody::Whole(payload)) = (entry.head.kind, &entry.body) {
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
            self.producers.push_pending(summary.index, summary.batches.iter());
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
fn only(replica_id: u64) -> Membership {
    let row = Replica { id: replica_id.max(1), ..Replica::default() };
    Membership::new(vec![row]).expect("one voter is a membership")
}

fn replay(recovered: &Recovered, replica_id: u64) -> Replay {
    let mut replay = Replay::after(&recovered.checkpoint, replica_id);
    for entry in &recovered.entries {
        if entry.head.index <= replay.applied.index {
            continue;
        }
        if entry.head.index <= recovered.commit {
            if let Err(why) = replay.apply(entry) {
                replay.opened.failed = Some(why);
                break;
            }
        } else {
            replay.keep(entry);
        }
    }
    replay
}

fn summarise(entry: &RecoveredEntry) -> EntrySummary {
    let found = if let EntryBody::Data(found) = &entry.body { found.as_slice() } else { &[] };
    EntrySummary::of(&entry.head, found.iter().map(|batch| &batch.header))
}
