//! One partition: a raft group, its log, and what follows from both. Every input ends in `pump`, which
//! moves entries from the group to the log and from commit to the answers.
use crate::acks::PendingAcks;
use crate::api::{AppendError, Counters, Opened, Origin, PartitionConfig, PartitionFx, ProducerInfo, Start};
use crate::in_sync::{Down, InSync};
use crate::producer_state::ProducerState;
use crate::strong::Strong;
use crate::summary::{EntrySummary, Proposer};
use crate::tickets::Tickets;
use crate::watermark::Watermarks;
use bytes::{Bytes, BytesMut};
use consensus::{EntriesAsk, Group, GroupFx, NewEntry};
use model::{ErrorCode, GroupKey, LeaderEpoch, Mono, NodeId, Now, Offset};
use std::collections::VecDeque;
use std::sync::Arc;
use storage::{Directory, HardState, Log};

/// An append that waits for the group's start.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) token: u64,
    pub(crate) records: BytesMut,
    pub(crate) acks: i16,
    pub(crate) origin: Origin,
}

/// Whether the partition may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The tail above the mark is being written again up to this index.
    Rewriting { upto: u64, touched: bool },
    /// It campaigns at the first touch, and serves when it has won.
    Running,
    /// Broken; everything is refused with this.
    Failed(ErrorCode),
}

/// The newest applied entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) next_offset: Offset,
}

/// One replica of one partition.
#[derive(Debug)]
pub struct Partition {
    pub(crate) key: GroupKey,
    pub(crate) cfg: Arc<PartitionConfig>,
    pub(crate) log: Log,
    pub(crate) group: Group,
    pub(crate) replica_id: u64,
    /// Replicas that are no members, or not yet, and where they are: see [`Partition::set_addresses`].
    pub(crate) addresses: Vec<(u64, NodeId)>,
    /// Index and term of an entry that is known to be committed, until raft has been told.
    pub(crate) agreed: Option<(u64, u64)>,
    /// Nodes of members that are not live.
    pub(crate) down: Vec<Down>,
    pub(crate) phase: Phase,
    pub(crate) parked: Vec<Parked>,
    /// Proposed and not yet handed back by the group for appending.
    pub(crate) proposed: VecDeque<EntrySummary>,
    /// Handed out for appending while the log's end still gives way: they follow when it has.
    pub(crate) held: VecDeque<NewEntry>,
    /// Whether the log's end still gives way.
    pub(crate) gives_way: bool,
    /// Appended, or held, and not applied. Their batches are the producers' pending layer.
    pub(crate) unapplied: VecDeque<EntrySummary>,
    pub(crate) applied: Applied,
    /// The epoch whose `Became` was told.
    pub(crate) announced: Option<LeaderEpoch>,
    pub(crate) producers: ProducerState,
    /// Questions to transaction coordinators that are under way.
    pub(crate) tickets: Tickets,
    pub(crate) acks: PendingAcks,
    /// What waits until it is sure that this replica leads.
    pub(crate) strong: Strong,
    /// Entries that followers are behind by and that are not in their file yet.
    pub(crate) wishes: Vec<EntriesAsk>,
    /// Entries for a follower were in memory: the group has more to say.
    pub(crate) stirred: bool,
    /// How far the followers are, on a leader.
    pub(crate) in_sync: InSync,
    /// Until when followers hear of commits at once: consumers read there.
    pub(crate) prompt_until: Option<Mono>,
    pub(crate) marks: Watermarks,
    /// The newest log start that is proposed and not committed.
    pub(crate) proposed_log_start: Option<Offset>,
    pub(crate) counters: Counters,
    pub(crate) scratch: GroupFx,
    /// It does not campaign: it is damaged, and who leads must be able to read everything.
    pub(crate) stands_down: bool,
    /// Everything is synced before it counts: see [`Partition::set_strict`].
    pub(crate) strict: bool,
    /// The last index at the tick that found nothing to do.
    pub(crate) rested_at: u64,
}

impl Partition {
    /// Opens a replica. `hard` is the state log's term and vote (default where it has none), `replica_id`
    /// this replica's id among the checkpoint's members, `seed` decides election timeouts. Nothing is
    /// campaigned yet: see [`Partition::touch`]. Look at [`Opened::failed`].
    pub fn open(
        key: GroupKey,
        start: Start,
        hard: HardState,
        replica_id: u64,
        cfg: Arc<PartitionConfig>,
        dir: &mut Directory,
        seed: u64,
    ) -> (Partition, Opened) {
        crate::open::open(key, start, hard, replica_id, cfg, dir, seed)
    }

    /// Changed settings apply from now on.
    pub fn set_config(&mut self, cfg: Arc<PartitionConfig>) {
        let cfg = self.fitted(cfg);
        self.log.set_config(cfg.log.clone());
        self.cfg = cfg;
    }

    /// Which partition.
    pub fn key(&self) -> GroupKey {
        self.key
    }

    /// The first touch lets a replica that is alone campaign, once its tail is durable. `PartitionFx::Became`
    /// follows when it serves; until then requests wait. Later touches do nothing. Replicas of a larger group
    /// elect by themselves, see [`Partition::campaign`].
    pub fn touch(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        self.start();
        self.pump(now, dir, fx);
    }

    /// Campaigns, unless it leads already or may not yet.
    pub(crate) fn start(&mut self) {
        match &mut self.phase {
            Phase::Rewriting { touched, .. } => *touched = true,
            Phase::Running if self.group.is_alone() && !self.group.is_leader() => {
                self.group.campaign();
            }
            Phase::Running | Phase::Failed(_) => {}
        }
    }

    /// The epoch under which it serves; `None` until its own no-op is applied.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        match self.phase {
            Phase::Running => self.group.leader_epoch(),
            Phase::Rewriting { .. } | Phase::Failed(_) => None,
        }
    }

    /// The epoch that metadata names: the present one of a leader, else the one that a first touch brings.
    pub fn announced_epoch(&self) -> LeaderEpoch {
        let term = self.group.term();
        let elects = self.group.is_alone() && !self.group.is_leader();
        consensus::epoch_of_term(if elects { term + 1 } else { term })
    }

    /// Proposes a command of the machine on this log. Committed, it comes back as
    /// `PartitionFx::Committed` with `token`; otherwise as `PartitionFx::CommandFailed`. Whether it was taken in: one
    /// that was not will never be in the log.
    pub fn propose_command(
        &mut self,
        now: Now,
        token: u64,
        payload: Bytes,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> bool {
        self.start();
        let kind = proto::partition::command::Kind::Machine(payload);
        let proposed = self.propose_kind(now, kind, Proposer::Machine(token), dir);
        if let Err(code) = proposed {
            fx.push(PartitionFx::CommandFailed { token, code });
        }
        self.pump(now, dir, fx);
        proposed.is_ok()
    }

    /// Entries up to `index` were written: acks=1 is answered, followers that are behind may read them.
    pub fn on_written(&mut self, now: Now, index: u64, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        self.acks.on_written(index, self.marks.log_start(), fx);
        if !self.wishes.is_empty() {
            for ask in std::mem::take(&mut self.wishes) {
                self.read_for_follower(ask, dir, fx);
            }
            self.pump(now, dir, fx);
        }
    }

    /// Entries up to `index` are persisted (0 says nothing of entries), and so is the hard state of rounds up
    /// to `round`.
    pub fn on_persisted(
        &mut self,
        now: Now,
        index: u64,
        round: u64,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        match self.phase {
            Phase::Failed(_) => return,
            Phase::Rewriting { upto, touched } => {
                if index < upto {
                    return;
                }
                self.phase = Phase::Running;
                if touched {
                    self.start();
                }
                for p in std::mem::take(&mut self.parked) {
                    self.append(now, p.token, p.records, p.acks, p.origin, dir, fx);
                }
            }
            Phase::Running => {}
        }
        self.group.on_persisted(index, round);
        self.pump(now, dir, fx);
        self.on_flushed(dir);
    }

    /// Answers everything that waits with `code`; every later call is refused with it.
    pub fn fail(&mut self, code: ErrorCode, fx: &mut Vec<PartitionFx>) {
        self.phase = Phase::Failed(code);
        self.answer_all(code, fx);
    }

    /// What is unanswered will not be known to have happened.
    pub(crate) fn answer_all(&mut self, code: ErrorCode, fx: &mut Vec<PartitionFx>) {
        let error = AppendError { log_start: self.log_start(), ..AppendError::bare(code) };
        for parked in self.parked.drain(..) {
            fx.push(PartitionFx::AppendDone { token: parked.token, result: Err(error.clone()) });
        }
        self.acks.fail(&error, fx);
        let refusal = if code == ErrorCode::RequestTimedOut { ErrorCode::NotLeaderOrFollower } else { code };
        self.strong.refuse(refusal, fx);
        for entry in self.unapplied.iter_mut().chain(&mut self.proposed) {
            match std::mem::replace(&mut entry.proposer, Proposer::Nobody) {
                Proposer::Machine(token) if entry.kind == storage::EntryKind::Command => {
                    fx.push(PartitionFx::CommandFailed { token, code });
                }
                Proposer::LogStart(token) => fx.push(PartitionFx::LogStartDone { token, result: Err(code) }),
                Proposer::Machine(_) | Proposer::Nobody => {}
            }
        }
    }

    /// Counts what was handed to readers.
    pub fn count_out(&mut self, bytes: u64, records: u64) {
        self.counters.bytes_out += bytes;
        self.counters.records_out += records;
    }

    /// Counted since the partition was opened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The producers that are remembered, by id.
    pub fn describe_producers(&self) -> Vec<ProducerInfo> {
        self.producers.rows().collect()
    }

    /// The offset up to which everything is committed and applied.
    pub fn high_watermark(&self) -> Offset {
        self.marks.high()
    }

    /// The offset up to which readers of committed transactions see.
    pub fn last_stable_offset(&self) -> Offset {
        self.marks.last_stable()
    }

    /// The first offset that readers see.
    pub fn log_start(&self) -> Offset {
        self.marks.log_start()
    }

    /// The offset of the next record.
    pub fn log_end(&self) -> Offset {
        self.log.next_offset()
    }

    /// The log, for descriptions.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Removes its files and its state; [`storage::DirEvent::Removed`] is the end of it. Answer its waiters with
    /// `fail` first.
    pub fn delete(self, dir: &mut Directory) {
        self.log.delete(dir.fx());
        dir.remove(self.key);
        dir.forget(self.key);
    }

    /// Gives back the room behind the log's end, for a full disk.
    pub fn cut_tail(&self, dir: &mut Directory) {
        self.log.cut_tail(dir.fx());
    }

    /// Closes its files. Answer its waiters with `fail` first.
    pub fn close(self, dir: &mut Directory) {
        self.log.close(dir.fx());
    }
}
