//! A coordinator with a log, a clock, producer ids and partitions that take markers.
use coordinator::txn::*;
use coordinator::{BatchId, Record, Token};
use model::{ErrorCode, Mono, Now};
use std::collections::BTreeMap;

pub const START: i64 = 1_700_000_000_000;
pub const ID: &str = "tx";

pub fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub fn producer(reply: &Reply) -> (ErrorCode, i64, i16) {
    match reply {
        Reply::Init(r) | Reply::End(r) => (r.error, r.producer_id, r.producer_epoch),
        other => panic!("{other:?}"),
    }
}

pub struct Bench {
    pub c: TxnCoordinator,
    pub now_ms: i64,
    /// The coordinator's epoch.
    pub epoch: i32,
    pub next_token: u64,
    pub replies: BTreeMap<Token, (Reply, bool)>,
    pub events: Vec<TxnEvent>,
    /// Appends not decided yet.
    pub open: Vec<(BatchId, Vec<Record>)>,
    /// Committed records in log order.
    pub log: Vec<Record>,
    /// Markers that were sent and not answered.
    pub sent: Vec<Markers>,
    pub next_id: i64,
    /// Producer ids that are asked for and not given.
    pub asked_ids: usize,
    /// Commit every append at once.
    pub auto: bool,
    /// Give producer ids at once.
    pub auto_ids: bool,
    /// Every marker is done at once.
    pub auto_markers: bool,
    /// By which the next EndTxn comes.
    pub connection: u64,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(TxnConfig::default())
    }

    pub fn with(config: TxnConfig) -> Bench {
        let mut bench = Bench::loading(config);
        bench.c.loaded(bench.now(), 7);
        bench
    }

    pub fn loading(config: TxnConfig) -> Bench {
        Bench {
            c: TxnCoordinator::new(config, 42),
            now_ms: 0,
            epoch: 7,
            next_token: 0,
            replies: BTreeMap::new(),
            events: Vec::new(),
            open: Vec::new(),
            log: Vec::new(),
            sent: Vec::new(),
            next_id: 1000,
            asked_ids: 0,
            auto: true,
            auto_ids: true,
            auto_markers: false,
            connection: 1,
        }
    }

    /// A coordinator whose log holds this value of [`ID`].
    pub fn holding(config: TxnConfig, value: &TxnValue) -> Bench {
        let mut bench = Bench::loading(config);
        let (key, value) = (encode_key(ID), encode_value(value, TxnVersion::V2));
        bench.log.push(Record { key: key.clone(), value: Some(value.clone()) });
        bench.c.replay(0, key, Some(value)).unwrap();
        bench.c.loaded(bench.now(), 7);
        bench
    }

    pub fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms as u64 * 1_000_000), wall: START + self.now_ms }
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn take(&mut self, fx: Effects) {
        for effect in fx {
            match effect {
                Effect::Reply { token, reply, confirm } => {
                    assert!(self.replies.insert(token, (reply, confirm)).is_none(), "{token:?} twice");
                }
                Effect::Append { batch, records } => {
                    assert!(!records.is_empty());
                    self.open.push((batch, records));
                }
                Effect::SendMarkers(markers) => self.sent.push(markers),
                Effect::NeedProducerIds { count } => self.asked_ids = count,
                Effect::Event(event) => self.events.push(event),
            }
        }
        if self.auto_ids && self.asked_ids > 0 {
            self.give_ids();
        }
        if self.auto {
            self.commit_all();
        }
        if self.auto_markers {
            self.finish_markers();
        }
    }

    pub fn step(&mut self, f: impl FnOnce(&mut TxnCoordinator, Now, &mut Effects)) {
        let (now, mut fx) = (self.now(), Vec::new());
        f(&mut self.c, now, &mut fx);
        self.take(fx);
    }

    pub fn give_ids(&mut self) {
        let (first, count) = (self.next_id, std::mem::take(&mut self.asked_ids));
        self.next_id += 1000;
        self.step(|c, now, fx| c.supply_producer_ids(now, first, count, fx));
    }

    pub fn commit_all(&mut self) {
        while !self.open.is_empty() {
            self.commit_one();
        }
    }

    pub fn commit_one(&mut self) {
        let (batch, records) = self.open.remove(0);
        self.log.extend(records);
        self.step(|c, now, fx| c.on_committed(now, batch, fx));
    }

    pub fn fail_one(&mut self, code: ErrorCode) {
        let (batch, _) = self.open.remove(0);
        self.step(|c, now, fx| c.on_append_failed(now, batch, code, fx));
    }

    pub fn marker(&mut self, markers: &Markers, partition: &TopicPartition, outcome: MarkerOutcome) {
        let id = markers.transactional_id.clone();
        self.step(|c, now, fx| c.on_marker_result(now, markers.id, &id, partition, outcome, fx));
    }

    pub fn finish_markers(&mut self) {
        for markers in std::mem::take(&mut self.sent) {
            for partition in &markers.partitions {
                self.marker(&markers, partition, MarkerOutcome::Done);
            }
        }
    }

    /// Time goes by, with all that is due on the way.
    pub fn wait(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        while let Some(at) = self.c.next_deadline().map(|at| (at.0 / 1_000_000) as i64)
            && at <= until
        {
            self.now_ms = self.now_ms.max(at);
            self.step(|c, now, fx| c.tick(now, fx));
        }
        self.now_ms = until;
    }

    /// A new leader reads the log.
    pub fn fail_over(&mut self) {
        self.step(|c, now, fx| c.unload(now, fx));
        self.open.clear();
        self.sent.clear();
        self.asked_ids = 0;
        self.c.reset();
        for record in self.log.clone() {
            self.c.replay(0, record.key, record.value).unwrap();
        }
        self.epoch += 1;
        self.c.loaded(self.now(), self.epoch);
        self.step(|c, now, fx| c.tick(now, fx));
    }

    pub fn reply(&mut self, token: Token) -> Reply {
        self.replies.remove(&token).unwrap_or_else(|| panic!("{token:?} has no answer")).0
    }

    pub fn ask_init(&mut self, request: InitRequest) -> Token {
        let token = self.token();
        self.step(|c, now, fx| c.init_producer_id(now, token, request, fx));
        token
    }

    pub fn init_with(&mut self, expected: Option<(i64, i16)>) -> (ErrorCode, i64, i16) {
        let token = self.ask_init(init_request(expected));
        producer(&self.reply(token))
    }

    /// InitProducerId that must succeed.
    pub fn init(&mut self) -> (i64, i16) {
        let (error, id, epoch) = self.init_with(None);
        assert_eq!(error, ErrorCode::None);
        (id, epoch)
    }

    pub fn ask_add(&mut self, who: (i64, i16), partitions: &[TopicPartition], verify_only: bool) -> Token {
        let token = self.token();
        let request = AddPartitionsRequest {
            transactional_id: ID.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            verify_only,
            version: TxnVersion::V2,
            partitions: partitions.to_vec(),
        };
        self.step(|c, now, fx| c.add_partitions(now, token, request, fx));
        token
    }

    pub fn add(&mut self, who: (i64, i16), partition: i32) -> ErrorCode {
        let token = self.ask_add(who, &[tp("t", partition)], false);
        self.reply(token).error()
    }

    pub fn verify(&mut self, who: (i64, i16), partition: i32) -> ErrorCode {
        let token = self.ask_add(who, &[tp("t", partition)], true);
        self.reply(token).error()
    }

    pub fn add_offsets(&mut self, who: (i64, i16)) -> ErrorCode {
        let token = self.token();
        let request = AddOffsetsRequest {
            transactional_id: ID.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            offsets_partition: tp("__consumer_offsets", 3),
        };
        self.step(|c, now, fx| c.add_offsets(now, token, request, fx));
        self.reply(token).error()
    }

    pub fn ask_end(&mut self, who: (i64, i16), commit: bool, version: TxnVersion) -> Token {
        let token = self.token();
        let request = EndRequest {
            transactional_id: ID.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            commit,
            version,
            connection: self.connection,
        };
        self.step(|c, now, fx| c.end_transaction(now, token, request, fx));
        token
    }

    pub fn end1(&mut self, who: (i64, i16), commit: bool) -> (ErrorCode, i64, i16) {
        let token = self.ask_end(who, commit, TxnVersion::V0);
        producer(&self.reply(token))
    }

    pub fn end2(&mut self, who: (i64, i16), commit: bool) -> (ErrorCode, i64, i16) {
        let token = self.ask_end(who, commit, TxnVersion::V2);
        producer(&self.reply(token))
    }

    pub fn state(&self) -> TxnState {
        self.value().state
    }

    pub fn value(&self) -> &TxnValue {
        self.c.get(ID).unwrap()
    }
}

pub fn init_request(expected: Option<(i64, i16)>) -> InitRequest {
    InitRequest { transactional_id: ID.into(), timeout_ms: 60_000, expected, ..InitRequest::default() }
}

/// What the log might hold of a producer `(1, epoch)`.
pub fn stored(state: TxnState, epoch: i16) -> TxnValue {
    let ended = matches!(state, TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort);
    TxnValue {
        producer_id: 1,
        previous_producer_id: 1,
        next_producer_id: -1,
        producer_epoch: epoch,
        next_producer_epoch: -1,
        timeout_ms: 60_000,
        state,
        partitions: if ended { [].into() } else { [tp("t", 0)].into() },
        last_update: START,
        start: if state == TxnState::Empty { -1 } else { START },
        client_version: TxnVersion::V2,
    }
}
