//! From a birth checkpoint, or from what recovery read back, to a replica that may campaign.
use crate::acks::PendingAcks;
use crate::api::{Counters, Opened, PartitionConfig, Start};
use crate::apply::decode_command;
use crate::in_sync::InSync;
use crate::partition::{Applied, Partition, Phase};
use crate::producer_state::ProducerState;
use crate::summary::EntrySummary;
use crate::watermark::Watermarks;
use bytes::Bytes;
use consensus::{EntryMeta, Group, GroupFx, GroupParams, LogView};
use model::planted::{Bug, planted};
use model::{ErrorCode, GroupKey};
use proto::partition::command;
use std::collections::VecDeque;
use std::sync::Arc;
use storage::{
    Checkpoint, Directory, EntryBody, EntryKind, HardState, Log, Recovered, RecoveredEntry, Replica,
    ReplicaKind, group_dir,
};

/// Replayed state, from a checkpoint on.
struct Replay {
    producers: ProducerState,
    applied: Applied,
    log_start: i64,
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
    match start {
        Start::Born(birth) => {
            let replay = Replay::after(&birth);
            let members = birth.members.clone();
            let log = Log::born(key, group_dir(key), birth, cfg.log.clone());
            assemble(key, log, members, hard, replica_id, cfg, seed, replay, Phase::Running)
        }
        Start::Recovered(recovered) => {
            let replay = replay(&recovered);
            let members = recovered.checkpoint.members.clone();
            let term = hard.term.max(recovered.last_term);
            let hard = HardState { term, vote: if term == hard.term { hard.vote } else { 0 } };
            let log = Log::from_recovered(*recovered, cfg.log.clone(), dir.fx());
            let phase = if dir.reopened(&log) {
                Phase::Rewriting { upto: log.last_index(), touched: false }
            } else {
                Phase::Running
            };
            assemble(key, log, members, hard, replica_id, cfg, seed, replay, phase)
        }
    }
}

fn assemble(
    key: GroupKey,
    mut log: Log,
    members: Vec<Replica>,
    hard: HardState,
    replica_id: u64,
    cfg: Arc<PartitionConfig>,
    seed: u64,
    replay: Replay,
    phase: Phase,
) -> (Partition, Opened) {
    let Replay { producers, applied, log_start, unapplied, metas, opened } = replay;
    let mut view = LogView::applied(log.first_index(), applied.index, log.term_runs(), applied.next_offset);
    metas.into_iter().for_each(|meta| view.push_unapplied(meta));
    log.set_commit(applied.index);
    let of_kind = |kind| members.iter().filter(move |m| m.kind() == kind).map(|m| m.id).collect::<Vec<u64>>();
    let params = GroupParams {
        key,
        replica_id,
        voters: of_kind(ReplicaKind::Voter),
        learners: of_kind(ReplicaKind::Learner),
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
        members,
        down: Vec::new(),
        phase,
        parked: Vec::new(),
        proposed: VecDeque::new(),
        held: VecDeque::new(),
        gives_way: false,
        wishes: Vec::new(),
        in_sync: InSync::default(),
        unapplied,
        applied,
        announced: None,
        producers,
        acks: PendingAcks::default(),
        marks: Watermarks::new(applied.next_offset, log_start),
        proposed_log_start: None,
        counters: Counters::default(),
        scratch: GroupFx::default(),
        rested_at: 0,
    };
    (partition, opened)
}

impl Replay {
    fn after(checkpoint: &Checkpoint) -> Replay {
        let mut failed = None;
        let producers = ProducerState::decode(&checkpoint.producers).unwrap_or_else(|why| {
            failed = Some(why);
            ProducerState::default()
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

fn replay(recovered: &Recovered) -> Replay {
    let mut replay = Replay::after(&recovered.checkpoint);
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
