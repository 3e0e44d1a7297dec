//! What happens by and by: retention, DeleteRecords, rolling, producer expiry, checkpoints.
use crate::api::PartitionFx;
use crate::append::refused;
use crate::apply::COMMAND_VERSION;
use crate::partition::{Partition, Phase};
use crate::summary::{EntrySummary, Proposer, Steps};
use bytes::Bytes;
use consensus::GroupFx;
use model::{ErrorCode, Now, Offset};
use prost::Message as _;
use proto::partition::{Command, LogStart, command};
use storage::{AppliedPoint, Directory, EntryKind};

impl Partition {
    /// All that time asks for: retention, and what [`Partition::tick_active`] does. Call it every
    /// `log.retention.check.interval.ms`.
    pub fn tick(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        if self.phase == Phase::Running {
            self.producers.expire(now.wall, self.cfg.producer_expiration_ms);
            self.tickets.expire(now.mono);
            self.retain(now, dir, fx);
        }
        self.tick_active(now, dir);
    }

    /// `segment.ms`, and the checkpoint where no machine lives on the log. Call it every second or so for
    /// partitions that were appended to.
    pub fn tick_active(&mut self, now: Now, dir: &mut Directory) {
        if self.phase != Phase::Running {
            return;
        }
        self.log.roll_if_due(now, dir.fx());
        if !self.cfg.machine && self.log.wants_checkpoint() {
            self.checkpoint(Bytes::new(), false, dir);
        }
        let last_index = self.log.last_index();
        if self.unapplied.is_empty() && self.rested_at != last_index {
            self.rest();
            self.rested_at = last_index;
        }
    }

    /// Gives back the room that busy times took: ten thousand idle partitions keep little each.
    pub(crate) fn rest(&mut self) {
        self.group.rest();
        self.scratch = GroupFx::default();
        self.unapplied.shrink_to_fit();
        self.proposed.shrink_to_fit();
        self.parked.shrink_to_fit();
        self.acks.shrink();
    }

    /// Proposes the log start that `retention.ms` and `retention.bytes` want. Only a leader that serves
    /// does; an untouched partition is left alone until somebody wants it.
    fn retain(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        if !self.cfg.delete || self.leader_epoch().is_none() {
            return;
        }
        let (ms, bytes) = (self.cfg.retention_ms, self.cfg.retention_bytes);
        let wanted = self.log.retention_start(now, ms, bytes, self.high_watermark());
        let Some(offset) = wanted.filter(|o| *o > self.log_start()) else { return };
        if self.proposed_log_start.is_some_and(|p| p >= offset) {
            return;
        }
        // Refused means busy; the next tick tries again.
        let kind = command::Kind::LogStart(LogStart { offset });
        if self.propose_kind(now, kind, Proposer::Nobody, dir).is_ok() {
            self.proposed_log_start = Some(offset);
        }
        self.pump(now, dir, fx);
    }

    /// DeleteRecords: moves the log start to `offset` (-1: the high watermark) by a committed command.
    /// Ends with `PartitionFx::LogStartDone`. Errors: OFFSET_OUT_OF_RANGE, POLICY_VIOLATION where the
    /// topic's policy does not delete, NOT_LEADER_OR_FOLLOWER.
    pub fn delete_records(
        &mut self,
        now: Now,
        token: u64,
        offset: Offset,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        match self.try_delete_records(now, token, offset, dir) {
            Ok(None) => {}
            Ok(Some(done)) => fx.push(PartitionFx::LogStartDone { token, result: Ok(done) }),
            Err(code) => fx.push(PartitionFx::LogStartDone { token, result: Err(code) }),
        }
        self.pump(now, dir, fx);
    }

    fn try_delete_records(
        &mut self,
        now: Now,
        token: u64,
        offset: Offset,
        dir: &mut Directory,
    ) -> Result<Option<Offset>, ErrorCode> {
        self.check_epoch(-1)?;
        if !self.cfg.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let offset = if offset == -1 { self.high_watermark() } else { offset };
        if offset < 0 || offset > self.high_watermark() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if offset <= self.log_start() {
            return Ok(Some(self.log_start()));
        }
        let kind = command::Kind::LogStart(LogStart { offset });
        self.propose_kind(now, kind, Proposer::LogStart(token), dir)?;
        self.proposed_log_start = self.proposed_log_start.max(Some(offset));
        Ok(None)
    }

    /// Proposes a command; it is in the log after the next `pump`.
    pub(crate) fn propose_kind(
        &mut self,
        now: Now,
        kind: command::Kind,
        proposer: Proposer,
        dir: &Directory,
    ) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Failed(code) => return Err(code),
            Phase::Rewriting { .. } => return Err(ErrorCode::NotLeaderOrFollower),
            Phase::Running if dir.fenced().is_some() => return Err(ErrorCode::KafkaStorageError),
            Phase::Running => {}
        }
        let payload = Command { version: COMMAND_VERSION, kind: Some(kind) }.encode_to_vec();
        let base_offset = self.next_offset();
        self.group.propose_command(base_offset, now.wall, payload.into()).map_err(|e| refused(e).code)?;
        self.proposed.push_back(EntrySummary {
            index: self.group.last_index(),
            term: self.group.term(),
            kind: EntryKind::Command,
            base_offset,
            next_offset: base_offset,
            append_time: now.wall,
            max_timestamp: -1,
            steps: Steps::default(),
            proposer,
            damage: None,
        });
        Ok(())
    }

    /// Whether the machine on this log should hand over its state with [`Partition::checkpoint`].
    pub fn wants_checkpoint(&self) -> bool {
        self.phase == Phase::Running && self.log.wants_checkpoint()
    }

    /// Whether anything was appended since the last checkpoint, for a clean stop.
    pub fn checkpoint_is_stale(&self) -> bool {
        self.phase == Phase::Running && self.log.checkpoint_is_stale()
    }

    /// Takes a checkpoint at the applied position. `machine` stands for exactly the entries that were
    /// told as `PartitionFx::Committed`. With `stop` (a clean stop) only where anything was appended since
    /// the last. `false`: ask again later. It is written when all that it stands for is durable.
    pub fn checkpoint(&mut self, machine: Bytes, stop: bool, dir: &mut Directory) -> bool {
        // A replica that was just made all of its group knows more of the members than its log says.
        let resets = self.applied.term < self.group.changes_from();
        if self.phase != Phase::Running || resets || (stop && !self.log.checkpoint_is_stale()) {
            return false;
        }
        self.forget_records(dir);
        let at = AppliedPoint {
            index: self.applied.index,
            term: self.applied.term,
            next_offset: self.applied.next_offset,
            log_start: self.marks.log_start(),
        };
        let taken = self.log.checkpoint(self.producers.encode(), machine, self.members().to_vec(), at);
        self.on_flushed(dir);
        taken
    }

    /// Entries may have become durable: a checkpoint that waits for that is written.
    pub fn on_flushed(&mut self, dir: &mut Directory) {
        if self.log.holds_checkpoint() {
            self.log.put_checkpoint(dir.durable_index(self.key), dir.fx());
        }
    }

    /// The checkpoint at `index` ended; `ok` when it is durable.
    pub fn on_checkpoint_done(&mut self, index: u64, ok: bool, dir: &mut Directory) {
        self.log.checkpoint_done(index, ok, dir.fx());
        self.group.compact_to(self.log.first_index());
    }
}
