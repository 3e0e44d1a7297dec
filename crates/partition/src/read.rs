//! What a reader may see, and where it lies.
use crate::api::{FetchError, FetchInput, FetchOk, Isolation};
use crate::partition::{Partition, Phase};
use model::{ErrorCode, LeaderEpoch, Offset, ProducerId};
use records::{HEADER_LEN, batches};
use storage::{ReadError, ReadPlan};

impl Partition {
    /// Plans a fetch, at the leader or, where [`FetchInput::at_follower`] allows it, at a follower, up to what
    /// that knows to be committed. The caller touches the partition first and waits for `PartitionFx::Became`; an
    /// offset at the bound gives an empty plan, to be planned again at `PartitionFx::HighWatermark`.
    pub fn fetch(&self, input: &FetchInput) -> Result<FetchOk, FetchError> {
        self.try_fetch(input).map_err(|code| FetchError {
            code,
            high_watermark: self.high_watermark(),
            log_start: self.log_start(),
        })
    }

    fn try_fetch(&self, input: &FetchInput) -> Result<FetchOk, ErrorCode> {
        let follows = input.at_follower && !self.group.is_leader();
        if follows && self.is_witness() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if follows {
            self.check_followed_epoch(input.current_leader_epoch)?;
        } else {
            self.check_epoch(input.current_leader_epoch)?;
        }
        let mut ok = FetchOk {
            plan: ReadPlan::Empty,
            high_watermark: self.high_watermark(),
            last_stable_offset: self.last_stable_offset(),
            log_start: self.log_start(),
            aborted: Vec::new(),
            diverging: None,
            at_follower: follows,
            not_yet: false,
            preferred: None,
        };
        // Where the log ends only a leader knows, and what lies above the watermark may give way here.
        if follows && input.offset > self.high_watermark() {
            ok.not_yet = true;
            return Ok(ok);
        }
        if input.offset < self.log_start() || input.offset > self.log_end() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if input.last_fetched_epoch >= 0 {
            ok.diverging = self.divergence(input.offset, input.last_fetched_epoch)?;
        }
        let upto = self.bound(input.isolation);
        if ok.diverging.is_none() && input.offset < upto {
            ok.plan = self.log.read_plan(input.offset, upto, input.max_bytes).map_err(code_of)?;
            if input.isolation == Isolation::ReadCommitted {
                ok.aborted = self.aborted(input.offset, upto, &ok.plan);
            }
        }
        Ok(ok)
    }

    /// The aborted transactions that a plan for `from..upto` may give records of.
    fn aborted(&self, from: Offset, upto: Offset, plan: &ReadPlan) -> Vec<(ProducerId, Offset)> {
        let all = self.producers.aborted();
        if all.is_empty() {
            return Vec::new();
        }
        match plan {
            ReadPlan::Empty => Vec::new(),
            ReadPlan::Memory(found) => {
                let headers = found.iter().flat_map(|bytes| batches(bytes).filter_map(Result::ok));
                let end = headers.last().map_or(upto, |(_, header)| header.next_offset());
                all.overlapping(from, end.min(upto), usize::MAX)
            }
            // Where it ends is known when it is read. Each that begins in it takes a batch at least.
            ReadPlan::File(range) => {
                all.overlapping(from, upto, 1 + range.max_bytes.max(range.len) as usize / HEADER_LEN)
            }
        }
    }

    /// The offset below which a reader sees.
    pub(crate) fn bound(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// Leader fencing (KIP-320): the client's epoch is ours, or it names none.
    pub(crate) fn check_epoch(&self, current: LeaderEpoch) -> Result<(), ErrorCode> {
        if let Phase::Failed(code) = self.phase {
            return Err(code);
        }
        match self.leader_epoch() {
            None => Err(ErrorCode::NotLeaderOrFollower),
            Some(ours) if current >= 0 && current < ours => Err(ErrorCode::FencedLeaderEpoch),
            Some(ours) if current > ours => Err(ErrorCode::UnknownLeaderEpoch),
            Some(_) => Ok(()),
        }
    }

    /// The same for a follower, which serves while it hears of a leader: whoever is cut off sends its consumers
    /// away.
    fn check_followed_epoch(&self, current: LeaderEpoch) -> Result<(), ErrorCode> {
        let ours = consensus::epoch_of_term(self.group.term());
        match self.phase {
            Phase::Failed(code) => Err(code),
            Phase::Rewriting { .. } => Err(ErrorCode::NotLeaderOrFollower),
            Phase::Running if self.group.leader().is_none() => Err(ErrorCode::NotLeaderOrFollower),
            Phase::Running if current >= 0 && current < ours => Err(ErrorCode::FencedLeaderEpoch),
            Phase::Running if current > ours => Err(ErrorCode::UnknownLeaderEpoch),
            Phase::Running => Ok(()),
        }
    }

    /// Where the log of a reader at `offset`, whose last record is of `epoch`, parts from ours (KIP-595).
    fn divergence(
        &self,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
        let (found, end) =
            self.log.epochs().end_offset_for(epoch, self.log_end()).ok_or(ErrorCode::OffsetOutOfRange)?;
        Ok((found < epoch || end < offset).then_some((found, end)))
    }

    /// OffsetForLeaderEpoch: the largest epoch not above `epoch` and where it ends; (-1, -1) when unknown.
    /// Errors: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
    pub fn offset_for_leader_epoch(
        &self,
        current_leader_epoch: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), ErrorCode> {
        self.check_epoch(current_leader_epoch)?;
        if epoch == -1 {
            return Ok((-1, -1));
        }
        Ok(self.log.epochs().end_offset_for(epoch, self.log_end()).unwrap_or((-1, -1)))
    }

    /// A plan for a machine that reads its log back: committed batches from `from` on, at least one where
    /// there is any. No epoch is checked.
    pub fn replay_plan(&self, from: Offset, max_bytes: usize) -> Result<ReadPlan, ReadError> {
        let from = from.max(self.log_start());
        if from >= self.high_watermark() {
            return Ok(ReadPlan::Empty);
        }
        self.log.read_plan(from, self.high_watermark(), max_bytes)
    }
}

/// Kafka's code for a range that cannot be read.
pub(crate) fn code_of(error: ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Damaged(_) => ErrorCode::CorruptMessage,
    }
}
