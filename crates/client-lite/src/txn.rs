//! Transactions: a producer whose batches and offsets count all together or not at all.
//!
//! Speaks both transaction versions of Kafka. At version 2 (KIP-890 part 2) partitions join a transaction with the first
//! batch, and every end raises the producer's epoch; at version 1 they are added by requests of their own, and the
//! epoch stays. Errors are treated as Apache Kafka's producer does: some are tried again, some leave nothing but an
//! abort, some end the producer.
use crate::client::{Client, ClientOptions, Retry};
use crate::error::{ClientError, check};
use crate::offsets::{Committer, Place};
use crate::produce::{Acks, Produced};
use bytes::Bytes;
use model::ErrorCode;
use records::{BatchBuilder, next_sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use wire::add_partitions_to_txn_request::AddPartitionsToTxnTopicV3;
use wire::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use wire::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, InitProducerIdRequest,
    RequestMessage, Str, TxnOffsetCommitRequest,
};

/// The type that FindCoordinator calls a transaction.
pub(crate) const TXN_COORDINATOR: i8 = 1;
/// The last versions that transaction version 1 speaks.
const PRODUCE_1: i16 = 11;
const END_1: i16 = 4;
const OFFSETS_1: i16 = 4;
/// Of AddPartitionsToTxn, the last one that is for clients.
const ADD_PARTITIONS_1: i16 = 3;
const PRODUCE_2: i16 = 12;
const END_2: i16 = 5;
/// The last version of TxnOffsetCommit that names topics.
const OFFSETS_2: i16 = 5;

/// How a transactional producer behaves.
#[derive(Clone, Debug)]
pub struct TxnOptions {
    /// The transactional id.
    pub id: String,
    /// After so long the coordinator aborts a transaction that goes on.
    pub timeout: Duration,
    /// How long each request is tried for.
    pub retry_for: Duration,
    /// The newest transaction version to speak, 1 or 2; older if the cluster knows no better.
    pub newest: i16,
}

/// What an error leaves to be done (KIP-1050).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnFailure {
    /// The same request may succeed later.
    Retriable,
    /// The transaction can only be aborted; the producer goes on.
    Abortable,
    /// The producer is at its end.
    Fatal,
}

/// Which request an error answers: some codes mean different things to different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Init,
    AddPartitions,
    Produce,
    Offsets,
    End,
}

/// What an error means, as Apache Kafka's producer takes it (`TransactionManager`).
fn failure(error: &ClientError, asked: Asked) -> TxnFailure {
    let Some(code) = error.code() else {
        return if error.is_retriable() { TxnFailure::Retriable } else { TxnFailure::Fatal };
    };
    match (code, asked) {
        (ErrorCode::TransactionAbortable, _) => TxnFailure::Abortable,
        (ErrorCode::ProducerFenced | ErrorCode::TransactionalIdAuthorizationFailed, _) => TxnFailure::Fatal,
        (code, _) if code.is_retriable() => TxnFailure::Retriable,
        // A batch of an epoch that is over: the abort says whether the producer is fenced.
        (_, Asked::Produce) => TxnFailure::Abortable,
        (ErrorCode::InvalidProducerIdMapping | ErrorCode::UnknownProducerId, Asked::Init | Asked::End) => {
            TxnFailure::Fatal
        }
        (ErrorCode::InvalidProducerIdMapping | ErrorCode::UnknownProducerId, _) => TxnFailure::Abortable,
        (ErrorCode::TopicAuthorizationFailed | ErrorCode::OperationNotAttempted, Asked::AddPartitions)
        | (
            ErrorCode::GroupAuthorizationFailed
            | ErrorCode::FencedInstanceId
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::StaleMemberEpoch
            | ErrorCode::RebalanceInProgress,
            Asked::Offsets,
        ) => TxnFailure::Abortable,
        _ => TxnFailure::Fatal,
    }
}

/// Where a producer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Open,
    /// Something went wrong: only an abort is possible.
    MustAbort,
    Dead,
}

/// A transactional producer. One batch of a partition is on its way at a time.
#[derive(Debug)]
pub struct TxnProducer {
    client: Arc<Client>,
    options: TxnOptions,
    version: i16,
    id: i64,
    epoch: i16,
    state: State,
    sequences: BTreeMap<Place, i32>,
    /// Partitions and groups of this transaction.
    added: BTreeSet<Place>,
    groups: BTreeSet<String>,
    /// Whether a batch of this transaction was asked for and nobody knows whether it was stored.
    unsure: bool,
}

impl TxnProducer {
    /// Fences whoever had the id before, ends what that one left open, and gets a producer id. Errors: the
    /// coordinator's code; CONCURRENT_TRANSACTIONS where what was open did not end in time.
    pub async fn start(client: Arc<Client>, options: TxnOptions) -> Result<TxnProducer, ClientError> {
        let mut producer = TxnProducer {
            client,
            options,
            version: 1,
            id: -1,
            epoch: -1,
            state: State::Ready,
            sequences: BTreeMap::new(),
            added: BTreeSet::new(),
            groups: BTreeSet::new(),
            unsure: false,
        };
        producer.init((-1, -1)).await?;
        Ok(producer)
    }

    /// The producer id and epoch.
    pub fn identity(&self) -> (i64, i16) {
        (self.id, self.epoch)
    }

    /// What it was created with.
    pub fn options(&self) -> &TxnOptions {
        &self.options
    }

    /// The transaction version that it speaks.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether only [`TxnProducer::abort`] is left of the transaction.
    pub fn must_abort(&self) -> bool {
        self.state == State::MustAbort
    }

    /// Whether the producer is at its end, by a fence or an error that nothing can follow.
    pub fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Begins a transaction; the cluster hears of it with what comes first.
    pub fn begin(&mut self) -> Result<(), ClientError> {
        self.expect(State::Ready)?;
        self.state = State::Open;
        Ok(())
    }

    /// Stamps the batch with producer and sequence and appends it with acks=all. Errors: see
    /// [`TxnProducer::must_abort`] and [`TxnProducer::is_dead`] for what they leave.
    pub async fn send(
        &mut self,
        topic: &str,
        partition: i32,
        batch: BatchBuilder,
    ) -> Result<Produced, ClientError> {
        self.expect(State::Open)?;
        let place = (topic.to_owned(), partition);
        if self.version < 2 && !self.added.contains(&place) {
            self.add_partition(&place).await?;
        }
        self.added.insert(place.clone());
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let count = batch.len() as i32;
        let batch = batch.transactional().producer(self.id, self.epoch, sequence).finish()?.freeze();
        match self.produce(topic, partition, batch).await {
            Ok(produced) => {
                self.sequences.insert(place, next_sequence(sequence, count));
                Ok(produced)
            }
            Err(error) => {
                self.unsure = true;
                Err(self.failed(error, Asked::Produce))
            }
        }
    }

    async fn produce(&self, topic: &str, partition: i32, batch: Bytes) -> Result<Produced, ClientError> {
        let newest = if self.version < 2 { PRODUCE_1 } else { i16::MAX };
        let mut retry = self.retry();
        loop {
            let sent = (Some(self.options.id.as_str()), newest);
            let error = match self.client.produce_with(topic, partition, batch.clone(), Acks::All, sent).await
            {
                Ok(produced) => return Ok(produced),
                Err(error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => {
                    return Ok(Produced { base_offset: -1, log_append_time: -1, log_start_offset: -1 });
                }
                Err(error) => error,
            };
            self.client.forget_topic(topic);
            retry.after(error).await?;
        }
    }

    async fn add_partition(&mut self, (topic, partition): &Place) -> Result<(), ClientError> {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from(&self.options.id),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopicV3 {
                name: Str::from(topic),
                partitions: vec![*partition],
            }],
            ..Default::default()
        };
        let code = |answer: &wire::AddPartitionsToTxnResponse| {
            let rows = answer.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
            rows.map(|row| row.partition_error_code).find(|code| *code != 0).unwrap_or(0)
        };
        let added = self.ask("AddPartitionsToTxn", request, ADD_PARTITIONS_1, code).await;
        added.map(drop).map_err(|error| self.failed(error, Asked::AddPartitions))
    }

    /// Commits offsets of a group with the transaction.
    pub async fn send_offsets(
        &mut self,
        group: &str,
        who: Committer<'_>,
        offsets: &BTreeMap<Place, i64>,
    ) -> Result<(), ClientError> {
        self.expect(State::Open)?;
        if self.version < 2 && !self.groups.contains(group) {
            let request = AddOffsetsToTxnRequest {
                transactional_id: Str::from(&self.options.id),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: Str::from(group),
            };
            let added = self.ask("AddOffsetsToTxn", request, i16::MAX, |answer| answer.error_code).await;
            added.map_err(|error| self.failed(error, Asked::AddPartitions))?;
        }
        self.groups.insert(group.to_owned());
        let request = self.offsets_request(group, who, offsets);
        let mut retry = self.retry();
        loop {
            let Err(error) = self.send_offsets_once(group, request.clone()).await else { return Ok(()) };
            self.client.forget_coordinator(group);
            retry.after(error).await.map_err(|error| self.failed(error, Asked::Offsets))?;
        }
    }

    fn offsets_request(
        &self,
        group: &str,
        who: Committer<'_>,
        offsets: &BTreeMap<Place, i64>,
    ) -> TxnOffsetCommitRequest {
        let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(TxnOffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: -1,
                committed_metadata: Some(Str::default()),
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| TxnOffsetCommitRequestTopic {
            name: Str::from(name),
            partitions,
            ..Default::default()
        });
        TxnOffsetCommitRequest {
            transactional_id: Str::from(&self.options.id),
            group_id: Str::from(group),
            producer_id: self.id,
            producer_epoch: self.epoch,
            generation_id_or_member_epoch: who.generation,
            member_id: Str::from(who.member),
            group_instance_id: who.instance.map(Str::from),
            topics: topics.collect(),
        }
    }

    async fn send_offsets_once(
        &self,
        group: &str,
        request: TxnOffsetCommitRequest,
    ) -> Result<(), ClientError> {
        let conn = self.client.coordinator(group).await?;
        let newest = if self.version < 2 { OFFSETS_1 } else { OFFSETS_2 };
        let version = conn.version_up_to(ApiKey::TxnOffsetCommit, newest)?;
        let answer = conn.request_at(request, version).await?;
        for topic in &answer.topics {
            for row in &topic.partitions {
                let what = || format!("offset of {group} for {}-{}", topic.name, row.partition_index);
                check(what, row.error_code, None)?;
            }
        }
        Ok(())
    }

    /// Commits. Errors: with [`TxnProducer::must_abort`] nothing is committed and the transaction is to be aborted;
    /// with [`TxnProducer::is_dead`] and a broker's code it is not committed. Any other error leaves it unknown:
    /// only this commit may be tried again.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        self.expect(State::Open)?;
        self.end(true).await
    }

    /// Aborts.
    pub async fn abort(&mut self) -> Result<(), ClientError> {
        if self.state != State::MustAbort {
            self.expect(State::Open)?;
        }
        self.end(false).await
    }

    async fn end(&mut self, committed: bool) -> Result<(), ClientError> {
        if self.added.is_empty() && self.groups.is_empty() {
            self.ended();
            return Ok(());
        }
        let request = EndTxnRequest {
            transactional_id: Str::from(&self.options.id),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        let newest = if self.version < 2 { END_1 } else { i16::MAX };
        let told = self.ask("EndTxn", request, newest, |answer| answer.error_code).await;
        let answer = told.map_err(|error| self.failed(error, Asked::End))?;
        if self.version >= 2 {
            (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        } else if self.unsure {
            // What is stored of it would have a number that is used again: a new epoch counts anew (KIP-360).
            self.init((self.id, self.epoch)).await?;
        }
        self.ended();
        Ok(())
    }

    fn ended(&mut self) {
        self.added.clear();
        self.groups.clear();
        self.unsure = false;
        self.state = State::Ready;
    }

    async fn init(&mut self, (id, epoch): (i64, i16)) -> Result<(), ClientError> {
        let conn = self.client.any().await?;
        self.version = version_of(&conn).min(self.options.newest);
        let request = InitProducerIdRequest {
            transactional_id: Some(Str::from(&self.options.id)),
            transaction_timeout_ms: self.options.timeout.as_millis().min(i32::MAX as u128) as i32,
            producer_id: id,
            producer_epoch: epoch,
        };
        let told = self.ask("InitProducerId", request, i16::MAX, |answer| answer.error_code).await;
        let answer = told.map_err(|error| self.failed(error, Asked::Init))?;
        (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
        self.sequences.clear();
        Ok(())
    }

    /// Asks the coordinator until it is told something that does not change.
    async fn ask<R: RequestMessage + Clone>(
        &self,
        what: &'static str,
        request: R,
        newest: i16,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let mut retry = self.retry();
        loop {
            let answer = match self.client.txn_coordinator(&self.options.id).await {
                Ok(conn) => match conn.version_up_to(R::KEY, newest) {
                    Ok(version) => conn.request_at(request.clone(), version).await,
                    Err(error) => return Err(error),
                },
                Err(error) => Err(error),
            };
            let error = match answer {
                Ok(answer) => {
                    match check(|| format!("{what} of {}", self.options.id), code_of(&answer), None) {
                        Ok(()) => return Ok(answer),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.client.forget_txn_coordinator(&self.options.id);
            retry.after(error).await?;
        }
    }

    fn retry(&self) -> Retry {
        Retry::new(&ClientOptions { retry_for: self.options.retry_for, ..self.client.options.clone() })
    }

    /// Takes a failure's state. A commit that was not answered keeps the transaction open: it may be asked for again.
    fn failed(&mut self, error: ClientError, asked: Asked) -> ClientError {
        self.state = match (failure(&error, asked), asked) {
            (TxnFailure::Fatal, _) => State::Dead,
            (TxnFailure::Retriable, Asked::Init | Asked::End) => self.state,
            _ => State::MustAbort,
        };
        error
    }

    fn expect(&self, state: State) -> Result<(), ClientError> {
        if self.state == state {
            return Ok(());
        }
        let what = format!("a transaction of {} that is {state:?} (it is {:?})", self.options.id, self.state);
        Err(ClientError::Missing { what })
    }
}

/// The transaction version that a broker has finalised, as far as it speaks it.
fn version_of(conn: &crate::conn::Conn) -> i16 {
    let told = conn.features().map(|answer| &answer.finalized_features).into_iter().flatten();
    let level = told.filter(|f| f.name == "transaction.version").map(|f| f.max_version_level).max();
    let speaks = |api, at_least| conn.version(api).is_ok_and(|version| version >= at_least);
    let both = speaks(ApiKey::Produce, PRODUCE_2) && speaks(ApiKey::EndTxn, END_2);
    if level.unwrap_or(0) >= 2 && both { 2 } else { 1 }
}

impl Client {
    /// A connection to the coordinator of a transactional id.
    pub async fn txn_coordinator(&self, id: &str) -> Result<Arc<crate::conn::Conn>, ClientError> {
        self.coordinator_of(TXN_COORDINATOR, id).await
    }

    /// Drops the cached coordinator of a transactional id.
    pub fn forget_txn_coordinator(&self, id: &str) {
        self.forget_coordinator_of(TXN_COORDINATOR, id);
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, TxnFailure, failure};
    use crate::error::ClientError;
    use model::ErrorCode;

    fn of(code: ErrorCode, asked: Asked) -> TxnFailure {
        failure(&ClientError::broker("a request", code.code(), None), asked)
    }

    #[test]
    fn one_code_means_different_things_to_different_requests() {
        assert_eq!(of(ErrorCode::InvalidProducerEpoch, Asked::Produce), TxnFailure::Abortable);
        assert_eq!(of(ErrorCode::InvalidProducerEpoch, Asked::End), TxnFailure::Fatal);
        assert_eq!(of(ErrorCode::IllegalGeneration, Asked::Offsets), TxnFailure::Abortable);
        assert_eq!(of(ErrorCode::IllegalGeneration, Asked::End), TxnFailure::Fatal);
        assert_eq!(of(ErrorCode::InvalidTxnState, Asked::End), TxnFailure::Fatal);
        assert_eq!(of(ErrorCode::InvalidTxnState, Asked::Produce), TxnFailure::Abortable);
    }

    #[test]
    fn a_fence_is_the_end_and_a_moved_coordinator_is_not() {
        for asked in [Asked::Init, Asked::AddPartitions, Asked::Produce, Asked::Offsets, Asked::End] {
            assert_eq!(of(ErrorCode::ProducerFenced, asked), TxnFailure::Fatal);
            assert_eq!(of(ErrorCode::TransactionAbortable, asked), TxnFailure::Abortable);
            assert_eq!(of(ErrorCode::NotCoordinator, asked), TxnFailure::Retriable);
            assert_eq!(of(ErrorCode::ConcurrentTransactions, asked), TxnFailure::Retriable);
        }
    }
}
