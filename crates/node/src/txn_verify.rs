//! Transactional appends whose transaction has not begun at the partition yet: its coordinator is asked first (KIP-890).
//!
//! A batch waits here until the coordinator has said that the transaction holds the partition, or has added it. What
//! comes between question and answer (a marker, a change of leader, a newer epoch) makes the partition ask anew. Appends
//! of one producer stay in their order.
use crate::admin::{INTERNAL_BIT, Internal};
use crate::api::{Effect, PeerOut, Token, TxnRequest};
use crate::groups::Touch;
use crate::machines::HostRequest;
use crate::node::Node;
use crate::txn_host::TxnAsk;
use bytes::BytesMut;
use coordinator::{BatchId, InTransaction, Record};
use model::{ErrorCode, GroupKey, Mono, Now, ProducerEpoch, ProducerId};
use partition::{AppendError, Origin, PartitionFx, Ticket, Verified};
use records::{BatchBuilder, BatchHeader, NO_SEQUENCE};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Appends that wait at most, and their bytes; one is always let in. More are told to come back.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 64 << 20;
/// A question without an answer is asked again after this, ms.
const AGAIN_MS: i64 = 1_000;
/// Where the coordinator is not known, or is busy with the transaction before, ms.
const SOON_MS: i64 = 20;
/// So long an append waits for a coordinator, ms: then its client is told to come back.
const PATIENCE_MS: i64 = 5_000;

/// An append that belongs to a transaction.
#[derive(Debug)]
pub(crate) struct HeldAppend {
    pub(crate) token: u64,
    pub(crate) records: BytesMut,
    pub(crate) acks: i16,
    pub(crate) origin: Origin,
    pub(crate) of: InTransaction,
}

#[derive(Debug)]
struct Question {
    key: GroupKey,
    ticket: Ticket,
    waiting: VecDeque<HeldAppend>,
    /// Since when anybody waits, and when it is asked again.
    since: Mono,
    next: Mono,
}

/// Counted since the start, and what waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyStats {
    /// Questions that coordinators were asked.
    pub asked: u64,
    /// Appends that were refused because too many wait.
    pub full: u64,
    /// Appends that no coordinator answered for in time.
    pub late: u64,
    /// Appends that wait.
    pub waiting: usize,
}

/// All that waits for coordinators of transactions.
#[derive(Debug, Default)]
pub(crate) struct Verifying {
    questions: BTreeMap<u64, Question>,
    by: BTreeMap<(GroupKey, ProducerId, ProducerEpoch), u64>,
    due: BTreeSet<(Mono, u64)>,
    last: u64,
    bytes: usize,
    stats: VerifyStats,
}

impl Verifying {
    /// With questions numbered from `first` on.
    pub(crate) fn new(first: u64) -> Verifying {
        Verifying { last: first, ..Verifying::default() }
    }

    /// A number that no other question has.
    pub(crate) fn new_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.stats.waiting == 0 || self.stats.waiting < MOST && self.bytes + bytes <= MOST_BYTES
    }

    /// When a question is looked at next.
    fn arm(&mut self, number: u64, at: Mono) {
        let Some(question) = self.questions.get_mut(&number) else { return };
        self.due.remove(&(question.next, number));
        question.next = at;
        self.due.insert((at, number));
    }

    fn take(&mut self, number: u64) -> Option<Question> {
        let question = self.questions.remove(&number)?;
        self.due.remove(&(question.next, number));
        self.by.remove(&(question.key, question.ticket.producer_id(), question.ticket.producer_epoch()));
        self.stats.waiting -= question.waiting.len();
        self.bytes -= question.waiting.iter().map(|held| held.records.len()).sum::<usize>();
        Some(question)
    }
}

impl Node {
    /// Appends the record set of one partition inside a transaction. Ends with [`crate::Reply::Produce`]; with acks 0,
    /// too.
    pub fn produce_in_transaction(
        &mut self,
        now: Now,
        token: Token,
        key: GroupKey,
        records: BytesMut,
        acks: i16,
        of: InTransaction,
    ) {
        let held = HeldAppend { token: token.0, records, acks, origin: Origin::Client, of };
        self.touch(now, key, Touch::InTransaction(Box::new(held)));
        self.settle(now);
    }

    /// Appends records of a coordinator of groups inside a client's transaction.
    pub(crate) fn append_in_transaction(
        &mut self,
        now: Now,
        key: GroupKey,
        batch: BatchId,
        records: &[Record],
        of: InTransaction,
    ) {
        let builder = BatchBuilder::new().producer(of.producer_id, of.producer_epoch, NO_SEQUENCE);
        let Some(records) = crate::hosts::encode(builder.transactional(), now, records) else {
            return self.batch_refused(now, key, batch, ErrorCode::UnknownServerError);
        };
        let token = self.new_internal(Internal::Batch { key, batch });
        self.append_held(now, key, HeldAppend { token, records, acks: -1, origin: Origin::Coordinator, of });
    }

    /// Appends now if the transaction is open at the partition, else when its coordinator has answered.
    pub(crate) fn append_held(&mut self, now: Now, key: GroupKey, held: HeldAppend) {
        self.active.insert(key);
        self.stir(now, key);
        let header = BatchHeader::parse(&held.records).ok().filter(BatchHeader::is_transactional);
        let asked = match header {
            Some(header) => {
                let asked = self.with(key, |p, _, _| p.verification(now, &header, held.of.version));
                asked.unwrap_or_else(|| Err(AppendError::bare(ErrorCode::NotLeaderOrFollower)))
            }
            // It is damaged, or belongs to no transaction: the partition says what is wrong with it.
            None => Ok(None),
        };
        match asked {
            Ok(Some(ticket)) => self.hold(now, key, ticket, held),
            Ok(None) => {
                let HeldAppend { token, records, acks, origin, .. } = held;
                self.with(key, |p, dir, fx| p.append(now, token, records, acks, origin, dir, fx));
            }
            Err(error) => self.refuse_held(now, key, held.token, error),
        }
    }

    /// An append is refused before anything was written.
    fn refuse_held(&mut self, now: Now, key: GroupKey, token: u64, error: AppendError) {
        if token & INTERNAL_BIT == 0 {
            return self.said.push_back((key, PartitionFx::AppendDone { token, result: Err(error) }));
        }
        if let Some(Internal::Batch { key, batch }) = self.internal.remove(&token) {
            self.batch_refused(now, key, batch, error.code);
        }
    }

    fn hold(&mut self, now: Now, key: GroupKey, ticket: Ticket, held: HeldAppend) {
        let verifying = &mut self.txn.verifying;
        if !verifying.has_room(held.records.len()) {
            verifying.stats.full += 1;
            let why = "too many appends wait for coordinators of transactions";
            let error = AppendError::new(ErrorCode::NotEnoughReplicas, why);
            return self.refuse_held(now, key, held.token, error);
        }
        verifying.stats.waiting += 1;
        verifying.bytes += held.records.len();
        let who = (key, ticket.producer_id(), ticket.producer_epoch());
        let known = verifying.by.get(&who).and_then(|number| verifying.questions.get_mut(number));
        if let Some(question) = known {
            let void = question.ticket != ticket;
            question.waiting.push_back(held);
            if void {
                question.ticket = ticket;
                self.renumber(now, who);
            }
            return;
        }
        let number = verifying.new_number();
        let question =
            Question { key, ticket, waiting: VecDeque::from([held]), since: now.mono, next: now.mono };
        verifying.questions.insert(number, question);
        verifying.by.insert(who, number);
        self.ask_coordinator(now, number);
    }

    /// The answer to what was asked counts no more: asks under another number.
    fn renumber(&mut self, now: Now, who: (GroupKey, ProducerId, ProducerEpoch)) {
        let verifying = &mut self.txn.verifying;
        let Some(old) = verifying.by.get(&who).copied() else { return };
        let Some(question) = verifying.questions.remove(&old) else { return };
        verifying.due.remove(&(question.next, old));
        let number = verifying.new_number();
        verifying.questions.insert(number, question);
        verifying.by.insert(who, number);
        self.ask_coordinator(now, number);
    }

    /// Asks the coordinator of a transaction, on this node or another one.
    fn ask_coordinator(&mut self, now: Now, number: u64) {
        self.txn.verifying.arm(number, now.mono.after_ms(AGAIN_MS));
        let Some(question) = self.txn.verifying.questions.get(&number) else { return };
        let Some(first) = question.waiting.front() else { return };
        let image = self.metadata.image();
        let Some(topic) = image.topic_by_id(question.key.topic) else { return };
        let ask = TxnAsk {
            transactional_id: first.of.transactional_id.clone(),
            producer: (question.ticket.producer_id(), question.ticket.producer_epoch()),
            topic: topic.name.to_string(),
            partition: question.key.partition,
            verify: first.of.version < 2,
            known: false,
        };
        let coordinator = self.transaction_key(&ask.transactional_id);
        let leader = coordinator.and_then(|key| self.leader_of(key).1);
        let (Some(key), Some(leader)) = (coordinator, leader) else {
            return self.txn.verifying.arm(number, now.mono.after_ms(SOON_MS));
        };
        self.txn.verifying.stats.asked += 1;
        if leader == self.cfg.node_id {
            if !self.txn.asks(leader, number) {
                return;
            }
            let token = Token(self.new_internal(Internal::TxnAsk(number)));
            let request = HostRequest::Transaction(TxnRequest::AddPartitions(ask.into()));
            return self.ask_host(now, key, token, request);
        }
        self.fx.push(Effect::Peer(leader, PeerOut::TxnAsk { number, ask: Box::new(ask) }));
    }

    /// The coordinator of a transaction has answered.
    pub(crate) fn on_txn_answer(&mut self, now: Now, number: u64, code: ErrorCode) {
        if self.on_known_answer(now, number, code) {
            return;
        }
        let Some(question) = self.txn.verifying.questions.get(&number) else { return };
        let patient = question.since.after_ms(PATIENCE_MS) > now.mono;
        let again = code == ErrorCode::ConcurrentTransactions || is_about_the_coordinator(code);
        if again && patient {
            return self.txn.verifying.arm(number, now.mono.after_ms(SOON_MS));
        }
        let Some(question) = self.txn.verifying.take(number) else { return };
        if code == ErrorCode::None {
            return self.append_verified(now, question);
        }
        for held in question.waiting {
            let error = refusal(code, held.of.version);
            self.refuse_held(now, question.key, held.token, error);
        }
    }

    /// The transaction holds the partition: appends what waited, in its order.
    fn append_verified(&mut self, now: Now, question: Question) {
        let Question { key, ticket, waiting, .. } = question;
        self.txn.hanging.arm();
        let mut again = Vec::new();
        for held in waiting {
            let HeldAppend { token, records, acks, origin, of } = held;
            let verified = Verified {
                ticket,
                transactional_id: &of.transactional_id,
                principal: &of.principal,
                client_id: &of.client_id,
            };
            let back = self.with(key, |p, dir, fx| {
                p.append_verified(now, token, records, acks, origin, &verified, dir, fx)
            });
            match back {
                Some(None) => {}
                Some(Some(records)) => again.push(HeldAppend { token, records, acks, origin, of }),
                None => {
                    let error = AppendError::bare(ErrorCode::NotLeaderOrFollower);
                    self.refuse_held(now, key, token, error);
                }
            }
        }
        again.into_iter().for_each(|held| self.append_held(now, key, held));
    }

    /// A partition leads no more: what waited for it is told so.
    pub(crate) fn verify_no_more(&mut self, now: Now, key: GroupKey) {
        let of_key = (key, ProducerId::MIN, ProducerEpoch::MIN)..=(key, ProducerId::MAX, ProducerEpoch::MAX);
        let numbers: Vec<u64> = self.txn.verifying.by.range(of_key).map(|(_, number)| *number).collect();
        for number in numbers {
            let Some(question) = self.txn.verifying.take(number) else { continue };
            for held in question.waiting {
                let error = AppendError::bare(ErrorCode::NotLeaderOrFollower);
                self.refuse_held(now, key, held.token, error);
            }
        }
    }

    /// Asks again, or gives up, what is due.
    pub(crate) fn tick_verifying(&mut self, now: Now) {
        while let Some((at, number)) = self.txn.verifying.due.first().copied()
            && at <= now.mono
        {
            let Some(question) = self.txn.verifying.questions.get(&number) else {
                self.txn.verifying.due.pop_first();
                continue;
            };
            if question.since.after_ms(PATIENCE_MS) > now.mono {
                self.ask_coordinator(now, number);
            } else {
                self.txn.verifying.stats.late += question.waiting.len() as u64;
                self.on_txn_answer(now, number, ErrorCode::CoordinatorNotAvailable);
            }
        }
    }

    /// What became of appends that had to wait for coordinators of transactions.
    pub fn verify_stats(&self) -> VerifyStats {
        self.txn.verifying.stats
    }
}

/// Codes that say where the coordinator is or is not, and nothing of the transaction.
fn is_about_the_coordinator(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::RequestTimedOut
    )
}

/// What the producer is told, as Kafka tells it: clients know of no coordinator in an answer to Produce.
fn refusal(code: ErrorCode, version: i16) -> AppendError {
    let unverified =
        is_about_the_coordinator(code) || code == ErrorCode::ConcurrentTransactions && version < 2;
    match code {
        ErrorCode::InvalidTxnState | ErrorCode::TransactionAbortable => {
            let code = if version < 1 { ErrorCode::InvalidTxnState } else { code };
            AppendError::new(code, "the partition was not added to the transaction".to_owned())
        }
        ErrorCode::ProducerFenced => AppendError::bare(ErrorCode::InvalidProducerEpoch),
        code if unverified => {
            let why = format!("the coordinator of the transaction could not be asked: {}", code.name());
            AppendError::new(ErrorCode::NotEnoughReplicas, why)
        }
        code => AppendError::bare(code),
    }
}
