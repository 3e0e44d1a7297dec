//! Begin marks and markers: how a transaction begins and ends in the log of a partition (docs/transactions.md).
use crate::acks::{Level, Waiter};
use crate::api::{AppendError, Origin, PartitionFx};
use crate::append::{Prepared, refused};
use crate::partition::{Partition, Phase};
use crate::producer_state::Decision;
use crate::summary::{BatchSummary, Proposer};
use crate::tickets::{Question, Ticket, precedes};
use crate::transactions::{
    AbortedTransaction, BeginMark, Marker, MarkerDecision, OWN_EPOCHS, OpenTransaction, TransactionStatus,
    cut_name, judge_marker,
};
use bytes::BytesMut;
use model::planted::{Bug, planted};
use model::{ErrorCode, Now, Offset, WallMs};
use prost::Message as _;
use records::{BatchHeader, ControlKind, EndMarker, TimestampType, end_marker_batch, set_log_append_time};
use storage::Directory;

/// A coordinator's word that a transaction is open and that this partition belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    /// What was taken before it was asked.
    pub ticket: Ticket,
    /// Whose transaction, for people: of each of these the first [`crate::NAME_BYTES`] bytes are kept.
    pub transactional_id: &'a str,
    /// Who authenticated.
    pub principal: &'a str,
    /// As it called itself.
    pub client_id: &'a str,
}

impl Partition {
    /// Whether a transactional batch goes to [`Partition::append`] as it is (`None`: its transaction is open, or it will be
    /// refused there, or was appended before), or its coordinator has to be asked first: to add the partition where `txn_version` is 2 or more, else to verify that it was added. With the
    /// answer yes the batch goes to [`Partition::append_verified`]. Batches of one transaction that wait share a
    /// ticket, and are to be handed in in the order in which they came. The caller touches the partition first.
    ///
    /// Errors: NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR, COORDINATOR_LOAD_IN_PROGRESS where too many are open or asked
    /// about.
    pub fn verification(
        &mut self,
        now: Now,
        header: &BatchHeader,
        txn_version: i16,
    ) -> Result<Option<Ticket>, AppendError> {
        let asked = self.try_verification(now, header, txn_version);
        asked.map_err(|error| AppendError { log_start: self.log_start(), ..error })
    }

    fn try_verification(
        &mut self,
        now: Now,
        header: &BatchHeader,
        version: i16,
    ) -> Result<Option<Ticket>, AppendError> {
        match self.phase {
            Phase::Failed(code) => return Err(AppendError::bare(code)),
            Phase::Rewriting { .. } => return Err(AppendError::bare(ErrorCode::NotLeaderOrFollower)),
            Phase::Running => self.check_leads()?,
        }
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        // What it is refused for may rest on the log, and is said by a leader of the present alone.
        if self.check_transactional(header).is_err() {
            return Ok(None);
        }
        if let Some(batch) = BatchSummary::of(header, 0)
            && let Decision::Duplicate { .. } = self.producers.decide(&batch)
        {
            return Ok(None);
        }
        match self.producers.open_of(producer_id) {
            Some(open) if open.mark.epoch == epoch => return Ok(None),
            Some(_) => {}
            None => self.check_room()?,
        }
        let (term, sequence) = (self.group.term(), header.base_sequence);
        match self.tickets.take(now.mono, Question { term, producer_id, epoch, sequence, version }) {
            Some(ticket) => Ok(Some(ticket)),
            None => Err(self.too_many("questions to transaction coordinators are under way")),
        }
    }

    /// As [`Partition::append`], for a batch whose coordinator has confirmed its transaction. Where something came
    /// between question and answer (a marker, a change of leader, a newer epoch) nothing is done, and the records come
    /// back: ask [`Partition::verification`] again.
    #[must_use]
    pub fn append_verified(
        &mut self,
        now: Now,
        token: u64,
        records: BytesMut,
        acks: i16,
        origin: Origin,
        verified: &Verified<'_>,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> Option<BytesMut> {
        let ticket = &verified.ticket;
        let open = self.producers.open_of(ticket.producer_id);
        // An earlier batch of the transaction may have begun it.
        let begun = open.is_some_and(|open| open.mark.epoch == ticket.epoch);
        let holds = self.tickets.holds(ticket) && self.group.term() == ticket.term;
        if self.phase != Phase::Running || !(begun || holds) {
            return Some(records);
        }
        let mark = BeginMark {
            producer_id: ticket.producer_id,
            epoch: ticket.epoch,
            transactional_id: cut_name(verified.transactional_id),
            principal: cut_name(verified.principal),
            client_id: cut_name(verified.client_id),
            version: ticket.version,
        };
        if let Err(error) = self.try_append(now, token, records, acks, origin, Some(mark), dir, fx) {
            self.append_refused(token, error, fx);
        }
        self.pump(now, dir, fx);
        None
    }

    /// What every transactional batch must be, whoever it is from.
    fn check_transactional(&self, header: &BatchHeader) -> Result<(), AppendError> {
        if !self.cfg.transactions {
            let message = "transactions need plimsoll.version 4";
            return Err(AppendError::new(ErrorCode::UnsupportedVersion, message));
        }
        if !header.has_producer() || header.producer_epoch < 0 {
            let message = "a transactional batch without a producer";
            return Err(AppendError::new(ErrorCode::InvalidRecord, message));
        }
        match self.producers.newest_epoch(header.producer_id) {
            Some(newest) if newest > header.producer_epoch => {
                // A coordinator's batches have no sequence, and an epoch all the same.
                let batch = BatchSummary {
                    producer_id: header.producer_id,
                    producer_epoch: header.producer_epoch,
                    base_sequence: header.base_sequence,
                    last_delta: header.last_offset_delta,
                    base_offset: 0,
                    timestamp: header.max_timestamp,
                };
                self.check_decision(&batch, Decision::OldEpoch(newest))
            }
            _ => Ok(()),
        }
    }

    /// A transactional batch has its transaction open at its epoch, or begins it with `begin`.
    pub(crate) fn judge_transactional(
        &self,
        header: &BatchHeader,
        origin: Origin,
        begin: Option<&BeginMark>,
    ) -> Result<(), AppendError> {
        self.check_transactional(header)?;
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let open = self.producers.open_of(id).map(|open| open.mark.epoch);
        if open == Some(epoch) {
            return Ok(());
        }
        let Some(begin) = begin.filter(|begin| begin.producer_id == id && begin.epoch == epoch) else {
            let message = format!("no transaction of producer {id} is open here at epoch {epoch}");
            return Err(AppendError::new(ErrorCode::InvalidTxnState, message));
        };
        if let Some(older) = open {
            let message = format!("a transaction of epoch {older} of producer {id} has not ended here");
            return Err(AppendError::new(ErrorCode::ConcurrentTransactions, message));
        }
        if origin != Origin::Client {
            return Ok(());
        }
        let zero = begin.version >= OWN_EPOCHS && !self.producers.knows(id) && header.base_sequence != 0;
        // A batch that overtakes one that came before it and is tried again would shut that one out.
        let lowest =
            self.tickets.lowest(id).filter(|low| precedes(begin.version, *low, header.base_sequence));
        if let Some(expected) = zero.then_some(0).or(lowest) {
            let message =
                format!("sequence {} of producer {id} comes after {expected}", header.base_sequence);
            return Err(AppendError::new(ErrorCode::OutOfOrderSequenceNumber, message));
        }
        Ok(())
    }

    fn too_many(&mut self, of_what: &str) -> AppendError {
        self.counters.transactions_refused += 1;
        AppendError::new(ErrorCode::CoordinatorLoadInProgress, format!("too many {of_what}"))
    }

    /// Whether one more transaction may be open.
    fn check_room(&mut self) -> Result<(), AppendError> {
        if self.producers.count_open() < self.cfg.max_open_transactions {
            return Ok(());
        }
        Err(self.too_many("transactions are open in this partition"))
    }

    /// Proposes a begin mark, unless the transaction is open; its batch of `len` bytes follows at once.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        mark: BeginMark,
        len: usize,
        dir: &Directory,
    ) -> Result<(), AppendError> {
        let id = mark.producer_id;
        if self.producers.open_of(id).is_some() {
            return Ok(());
        }
        self.check_room()?;
        let kind = mark.command();
        let command = mark.encode().encoded_len() + 16;
        self.group.check_budget((len + command) as u64).map_err(refused)?;
        self.propose_kind(now, kind, Proposer::Nobody, dir).map_err(AppendError::bare)?;
        if let Some(summary) = self.proposed.back_mut() {
            summary.begins(mark);
        }
        self.tickets.void(id);
        Ok(())
    }

    /// Appends a marker and answers with `PartitionFx::AppendDone` when it is committed and persisted (WriteTxnMarkers).
    /// A repeat is answered with the offset of its first time and appended no second time.
    ///
    /// Errors: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, INVALID_TXN_STATE where the transaction ended
    /// otherwise, INVALID_REQUEST, and those of an append.
    pub fn append_marker(
        &mut self,
        now: Now,
        token: u64,
        marker: Marker,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        // Whatever comes of it: what was asked before the transaction ended says nothing about the next one.
        self.tickets.void(marker.producer_id);
        if let Err(error) = self.try_append_marker(now, token, marker, dir, fx) {
            self.append_refused(token, error, fx);
        }
        self.pump(now, dir, fx);
    }

    fn try_append_marker(
        &mut self,
        now: Now,
        token: u64,
        marker: Marker,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> Result<(), AppendError> {
        self.check_accepts(Origin::Coordinator, dir)?;
        if let Phase::Rewriting { .. } = self.phase {
            return Err(AppendError::bare(ErrorCode::NotLeaderOrFollower));
        }
        self.start();
        self.check_leads()?;
        if !self.cfg.transactions {
            let message = "transactions need plimsoll.version 4";
            return Err(AppendError::new(ErrorCode::UnsupportedVersion, message));
        }
        self.check_replicas(now, Level::Committed)?;
        let known = self.producers.known(marker.producer_id);
        match judge_marker(&known, &marker, !planted(Bug::MarkerWithoutEpochCheck)) {
            MarkerDecision::Append => {}
            MarkerDecision::Done { offset, pending } => {
                let waiter = Waiter {
                    token,
                    index: pending.unwrap_or(self.applied.index),
                    base_offset: offset,
                    last_offset: offset,
                    log_append_time: -1,
                    duplicate: true,
                };
                self.acks.wait(Level::Committed, waiter, self.marks.log_start(), fx);
                return Ok(());
            }
            // What an unconfirmed leader has of the producer may give way.
            MarkerDecision::OldEpoch(_) | MarkerDecision::Refused(_) if !self.is_confirmed() => {
                return Err(AppendError::bare(ErrorCode::NotLeaderOrFollower));
            }
            MarkerDecision::OldEpoch(error) | MarkerDecision::Refused(error) => return Err(error),
        }
        let prepared = self.prepare_marker(now, marker)?;
        self.commit_to_order(now, token, Level::Committed, Origin::Coordinator, prepared, fx)
    }

    /// Kafka's control batch; its offset and leader epoch come with its place in the log.
    fn prepare_marker(&self, now: Now, marker: Marker) -> Result<Prepared, AppendError> {
        let end = EndMarker {
            kind: if marker.commit { ControlKind::Commit } else { ControlKind::Abort },
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            timestamp: now.wall,
        };
        let mut payload = end_marker_batch(&end, 0, 0);
        let append_time = self.cfg.timestamp_type == TimestampType::LogAppendTime;
        if append_time {
            set_log_append_time(&mut payload, now.wall);
        }
        Prepared::of_marker(payload, marker, if append_time { now.wall } else { -1 })
    }

    /// Transactions at the applied position, for metrics.
    pub fn transactions(&self) -> TransactionStatus {
        let aborted = self.producers.aborted();
        TransactionStatus {
            open: self.producers.open().len(),
            oldest: self.open_transactions().next(),
            lag: self.high_watermark() - self.last_stable_offset(),
            aborted: aborted.len(),
            aborted_bytes: aborted.bytes(),
        }
    }

    /// How many transactions are open at the applied position.
    pub fn open_count(&self) -> usize {
        self.producers.open().len()
    }

    /// When the oldest of these began, by its leader's clock, ms.
    pub fn oldest_begun_at(&self) -> Option<WallMs> {
        self.producers.open().map(|open| open.begun_at).min()
    }

    /// Bytes of memory that the list of aborted transactions takes.
    pub fn aborted_bytes(&self) -> u64 {
        self.producers.aborted().bytes()
    }

    /// What is open at the applied position, by first offset.
    pub fn open_transactions(&self) -> impl Iterator<Item = OpenTransaction> + '_ {
        self.producers.open().map(|open| OpenTransaction::from(&**open))
    }

    /// Aborted transactions that overlap `from..upto`, in the order of their markers, below the applied position: for who
    /// removes their records.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upto: Offset,
    ) -> impl Iterator<Item = AbortedTransaction> + '_ {
        self.producers.aborted().between(from, upto).map(|row| AbortedTransaction {
            producer_id: row.producer_id,
            first_offset: row.first,
            last_offset: row.last,
        })
    }
}
