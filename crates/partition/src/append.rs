//! Appending: one decision after the other, cheapest first, in Kafka's order.
use crate::acks::{Level, Waiter};
use crate::api::{AppendError, Origin, PartitionConfig, PartitionFx};
use crate::partition::{Parked, Partition, Phase};
use crate::producer_state::Decision;
use crate::summary::{BatchSummary, EntrySummary, Proposer, Step, Steps};
use crate::transactions::{BeginMark, Marker};
use bytes::BytesMut;
use consensus::{DataHead, ProposeError};
use model::{ErrorCode, Now, WallMs};
use records::{
    BatchError, BatchHeader, BatchLimits, CompressionTarget, TimestampType, WalkRules, batches,
    check_client_batch, recompress, set_base_offset, set_log_append_time, set_max_timestamp,
    set_partition_leader_epoch, walk,
};
use storage::{Directory, EntryKind};

/// A record set that passed every check that needs no state.
#[derive(Debug)]
pub(crate) struct Prepared {
    payload: BytesMut,
    /// The first batch, and those after it: (its end in `payload`, its header).
    first: (usize, BatchHeader),
    more: Vec<(usize, BatchHeader)>,
    log_append_time: WallMs,
    /// What the first batch is, where it is a control batch.
    marker: Option<Marker>,
}

impl Prepared {
    /// The batch of a marker.
    pub(crate) fn of_marker(
        payload: BytesMut,
        marker: Marker,
        log_append_time: WallMs,
    ) -> Result<Prepared, AppendError> {
        let first = (payload.len(), BatchHeader::parse(&payload)?);
        Ok(Prepared { payload, first, more: Vec::new(), log_append_time, marker: Some(marker) })
    }
}

impl Partition {
    /// Appends a record set and answers with `PartitionFx::AppendDone`: at once where it is refused or
    /// `acks` is 0, when written for 1, when committed and persisted for -1. An append before the group
    /// started waits for that and rides in the write of its no-op.
    pub fn append(
        &mut self,
        now: Now,
        token: u64,
        records: BytesMut,
        acks: i16,
        origin: Origin,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        if let Err(error) = self.try_append(now, token, records, acks, origin, None, dir, fx) {
            self.append_refused(token, error, fx);
        }
        self.pump(now, dir, fx);
    }

    pub(crate) fn append_refused(&mut self, token: u64, error: AppendError, fx: &mut Vec<PartitionFx>) {
        self.counters.refused += 1;
        let error = AppendError { log_start: self.log_start(), ..error };
        self.refuse_append(token, error, fx);
    }

    /// `begin` is proposed before the batch that needs it.
    pub(crate) fn try_append(
        &mut self,
        now: Now,
        token: u64,
        records: BytesMut,
        acks: i16,
        origin: Origin,
        begin: Option<BeginMark>,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> Result<(), AppendError> {
        let level = Level::of(acks).ok_or_else(|| {
            AppendError::new(ErrorCode::InvalidRequiredAcks, format!("acks={acks} is none of -1, 0 and 1"))
        })?;
        self.check_accepts(origin, dir)?;
        if let Phase::Rewriting { .. } = self.phase {
            return self.park(Parked { token, records, acks, origin });
        }
        self.start();
        // First of all: what a follower knows of producers says nothing to a client.
        self.check_leads()?;
        self.check_replicas(now, level)?;
        let prepared = match origin {
            Origin::Client => prepare_client(&self.cfg, now, records)?,
            Origin::Coordinator => prepare_coordinator(records)?,
        };
        let judged = self.judge(&prepared, origin, begin.as_ref())?;
        if let Some((batch, Decision::Duplicate { batch: first, pending })) = judged {
            return self.answer_duplicate(token, level, &batch, first, pending, fx);
        }
        if let Some(mark) = begin {
            self.begin(now, mark, prepared.payload.len(), dir)?;
        }
        self.commit_to_order(now, token, level, origin, prepared, fx)
    }

    /// The replica and its directory take writes at all. A full disk refuses clients only: what makes
    /// room again goes on.
    pub(crate) fn check_accepts(&self, origin: Origin, dir: &Directory) -> Result<(), AppendError> {
        if let Phase::Failed(code) = self.phase {
            return Err(AppendError::bare(code));
        }
        if let Some(why) = dir.fenced() {
            return Err(AppendError::new(ErrorCode::KafkaStorageError, why));
        }
        if origin == Origin::Client && dir.full() {
            return Err(AppendError::new(ErrorCode::KafkaStorageError, "the disk is full"));
        }
        Ok(())
    }

    pub(crate) fn check_leads(&self) -> Result<(), AppendError> {
        if !self.group.is_leader() || self.group.is_transferring() {
            return Err(AppendError::bare(ErrorCode::NotLeaderOrFollower));
        }
        Ok(())
    }

    /// acks=all promises `min.insync.replicas` copies; too few replicas refuse before the append.
    pub(crate) fn check_replicas(&self, now: Now, level: Level) -> Result<(), AppendError> {
        let wanted = i64::from(self.cfg.min_insync_replicas);
        if level != Level::Committed || wanted <= 1 {
            return Ok(());
        }
        let replicas = self.admitted(now) as i64;
        // A new leader has not heard of anybody yet: the answer waits for the replicas all the same.
        if wanted > replicas && (self.leader_epoch().is_some() || wanted > self.data_voters() as i64) {
            let message = format!("min.insync.replicas is {wanted}, in sync are {replicas}");
            return Err(AppendError::new(ErrorCode::NotEnoughReplicas, message));
        }
        Ok(())
    }

    /// Until the tail found above the mark is durable again nothing may follow it.
    fn park(&mut self, parked: Parked) -> Result<(), AppendError> {
        let bytes: usize = self.parked.iter().map(|p| p.records.len()).sum();
        if !self.parked.is_empty() && (bytes + parked.records.len()) as u64 > self.cfg.max_uncommitted_bytes {
            return Err(AppendError::new(ErrorCode::RequestTimedOut, "the partition is starting"));
        }
        self.parked.push(parked);
        Ok(())
    }

    /// Idempotence: a batch is next, or was appended before, or is refused. Then transactions: what belongs to one needs
    /// it open, or `begin`.
    fn judge(
        &self,
        prepared: &Prepared,
        origin: Origin,
        begin: Option<&BeginMark>,
    ) -> Result<Option<(BatchSummary, Decision)>, AppendError> {
        for (_, header) in std::iter::once(&prepared.first).chain(&prepared.more) {
            if origin == Origin::Client
                && let Some(batch) = BatchSummary::of(header, 0)
            {
                let decision = self.producers.decide(&batch);
                if let Decision::Duplicate { .. } = decision {
                    return Ok(Some((batch, decision)));
                }
                self.check_decision(&batch, decision)?;
            }
            if header.is_transactional() {
                self.judge_transactional(header, origin, begin)?;
            } else if self.producers.any_open() && self.producers.open_of(header.producer_id).is_some() {
                let message = format!("producer {} has a transaction open here", header.producer_id);
                return Err(AppendError::new(ErrorCode::InvalidTxnState, message));
            }
        }
        Ok(None)
    }

    /// Until its term is confirmed a batch that this leader has never seen may yet be committed by
    /// another. A client that is told that its sequence is wrong takes what is on its way for refused,
    /// begins a new epoch, and sends it again.
    pub(crate) fn check_decision(&self, batch: &BatchSummary, decision: Decision) -> Result<(), AppendError> {
        match decision {
            Decision::Append | Decision::Duplicate { .. } => Ok(()),
            Decision::OldEpoch(_) | Decision::OutOfOrder(_) if !self.is_confirmed() => {
                Err(AppendError::bare(ErrorCode::NotLeaderOrFollower))
            }
            Decision::OldEpoch(newest) => {
                let message = format!(
                    "epoch {} of producer {} is older than {newest}",
                    batch.producer_epoch, batch.producer_id
                );
                Err(AppendError::new(ErrorCode::InvalidProducerEpoch, message))
            }
            Decision::OutOfOrder(expected) => {
                let message = format!(
                    "sequence {} of producer {} does not follow, expected {expected}",
                    batch.base_sequence, batch.producer_id
                );
                Err(AppendError::new(ErrorCode::OutOfOrderSequenceNumber, message))
            }
        }
    }

    /// Whether nothing but what is in this log can still be committed.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.leader_epoch().is_some() || self.group.is_alone()
    }

    /// A duplicate is answered with its first offsets, when they are as safe as was asked for.
    fn answer_duplicate(
        &mut self,
        token: u64,
        level: Level,
        batch: &BatchSummary,
        first: crate::producer_state::Remembered,
        pending: Option<u64>,
        fx: &mut Vec<PartitionFx>,
    ) -> Result<(), AppendError> {
        self.counters.duplicates += 1;
        let append_time = self.cfg.timestamp_type == TimestampType::LogAppendTime;
        let waiter = Waiter {
            token,
            // Of one that is committed the index is not kept: it is at most this.
            index: pending.unwrap_or(self.applied.index),
            base_offset: first.base_offset,
            last_offset: first.base_offset + i64::from(batch.last_delta),
            log_append_time: if append_time { first.timestamp } else { -1 },
            duplicate: true,
        };
        self.acks.wait(level, waiter, self.marks.log_start(), fx);
        Ok(())
    }

    /// Gives the batches their offsets and epoch, in place, and proposes them as one entry.
    pub(crate) fn commit_to_order(
        &mut self,
        now: Now,
        token: u64,
        level: Level,
        origin: Origin,
        prepared: Prepared,
        fx: &mut Vec<PartitionFx>,
    ) -> Result<(), AppendError> {
        let Prepared { mut payload, first, more, log_append_time, marker } = prepared;
        self.group.check_budget(payload.len() as u64).map_err(refused)?;
        let epoch = consensus::epoch_of_term(self.group.term());
        let base_offset = self.next_offset();
        let mut summary = EntrySummary {
            index: 0,
            term: 0,
            kind: EntryKind::Data,
            base_offset,
            next_offset: base_offset,
            append_time: now.wall,
            max_timestamp: -1,
            steps: Steps::default(),
            proposer: if origin == Origin::Coordinator { Proposer::Machine(token) } else { Proposer::Nobody },
            damage: None,
        };
        if let Some(marker) = marker {
            summary.steps.push(Step::End(marker.at(base_offset, now.wall)));
        }
        let mut at = 0;
        for (end, mut header) in std::iter::once(first).chain(more) {
            let bytes = &mut payload[at..end];
            at = end;
            set_base_offset(bytes, summary.next_offset);
            set_partition_leader_epoch(bytes, epoch);
            if log_append_time >= 0 {
                header.max_timestamp = log_append_time;
            }
            if let Some(batch) = BatchSummary::of(&header, summary.next_offset) {
                summary.steps.push(Step::Batch(batch));
            }
            summary.max_timestamp = summary.max_timestamp.max(header.max_timestamp);
            summary.next_offset += i64::from(header.last_offset_delta) + 1;
        }
        let records = summary.next_offset - base_offset;
        let head = DataHead {
            flags: 0,
            offset_count: u32::try_from(records)
                .map_err(|_| AppendError::bare(ErrorCode::RecordListTooLarge))?,
            base_offset,
            append_time: now.wall,
        };
        let bytes = payload.len() as u64;
        self.group.propose_data(head, payload.freeze()).map_err(refused)?;
        if origin == Origin::Client {
            self.counters.bytes_in += bytes;
            self.counters.records_in += records as u64;
        }
        let index = self.group.last_index();
        summary.index = index;
        let last_offset = summary.next_offset - 1;
        self.proposed.push_back(summary);
        let waiter = Waiter { token, index, base_offset, last_offset, log_append_time, duplicate: false };
        self.acks.wait(level, waiter, self.marks.log_start(), fx);
        Ok(())
    }
}

pub(crate) fn refused(error: ProposeError) -> AppendError {
    let code = match error {
        ProposeError::NotLeader => ErrorCode::NotLeaderOrFollower,
        ProposeError::Busy { .. } | ProposeError::Dropped => ErrorCode::RequestTimedOut,
    };
    AppendError::new(code, error.to_string())
}

/// Everything asked of a client's batch that needs no state: header, checksum, size, timestamps; its
/// records where the topic is compacted, asks for another codec, or wants them validated.
fn prepare_client(cfg: &PartitionConfig, now: Now, records: BytesMut) -> Result<Prepared, AppendError> {
    if records.is_empty() {
        return Err(BatchError::Empty.into());
    }
    let limits = BatchLimits {
        max_bytes: cfg.max_message_bytes,
        timestamp_type: cfg.timestamp_type,
        bounds: cfg.timestamp_bounds,
        now: now.wall,
    };
    let mut header = check_client_batch(&records, &limits)?;
    let mut payload = records;
    let append_time = cfg.timestamp_type == TimestampType::LogAppendTime;
    let rules = WalkRules {
        cap: cfg.walk_cap,
        require_keys: cfg.compact,
        dense_offsets: true,
        timestamps: (!append_time).then_some((cfg.timestamp_bounds, now.wall)),
    };
    let walked = match cfg.compression {
        CompressionTarget::Codec(codec, level) if cfg.compression.differs_from(&header) => {
            let walked;
            (payload, walked) = recompress(&payload, codec, level, &rules, cfg.max_message_bytes)?;
            Some(walked)
        }
        _ if cfg.compact || cfg.validate_records => Some(walk(&payload, &rules)?),
        _ => None,
    };
    let log_append_time = if append_time {
        set_log_append_time(&mut payload, now.wall);
        now.wall
    } else {
        // The header's word counts only where nobody looked at the records.
        if let Some(walked) = walked.filter(|walked| walked.max_timestamp != header.max_timestamp) {
            header.max_timestamp = walked.max_timestamp;
            set_max_timestamp(&mut payload, header.max_timestamp);
        }
        -1
    };
    let end = payload.len();
    Ok(Prepared { payload, first: (end, header), more: Vec::new(), log_append_time, marker: None })
}

/// A coordinator's batches were built by this process; only their lengths are looked at.
fn prepare_coordinator(records: BytesMut) -> Result<Prepared, AppendError> {
    let mut found = batches(&records);
    let (range, header) = found.next().ok_or(BatchError::Empty)??;
    let more =
        found.map(|batch| batch.map(|(range, header)| (range.end, header))).collect::<Result<Vec<_>, _>>()?;
    if header.is_control() || more.iter().any(|(_, header)| header.is_control()) {
        return Err(BatchError::Control.into());
    }
    Ok(Prepared { payload: records, first: (range.end, header), more, log_append_time: -1, marker: None })
}
