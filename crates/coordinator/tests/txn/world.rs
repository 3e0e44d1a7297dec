//! A coordinator among clients, partitions and a log that do what they like, by a seed.
use crate::bench::{START, tp};
use crate::checks::{Check, History, Written, ensure};
use coordinator::txn::*;
use coordinator::{BatchId, Record, Token};
use model::{ErrorCode, Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub const TIMEOUT_MS: i64 = 20_000;

/// One process that uses a transactional id.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: usize,
    /// A later one of the same id has a larger number.
    pub instance: usize,
    pub producer: Option<(i64, i16)>,
    /// An end that was asked and not answered: it is repeated until it is.
    pub ending: Option<bool>,
    pub waits: bool,
}

/// What a token was asked for.
#[derive(Clone, Debug)]
pub enum Asked {
    Init(usize, Option<(i64, i16)>),
    Add(usize, (i64, i16), TopicPartition, bool),
    End(usize, EndRequest, bool),
}

pub struct World {
    pub rng: Rng,
    pub c: TxnCoordinator,
    pub now_ms: i64,
    epoch: i32,
    pub clients: Vec<Client>,
    tokens: u64,
    pub asked: BTreeMap<Token, Asked>,
    open: Vec<(BatchId, Vec<Record>)>,
    pub log: Vec<Record>,
    checkpoint: Option<(usize, bytes::Bytes)>,
    pub histories: BTreeMap<String, History>,
    written: Written,
    /// Markers on their way, and answers on their way back.
    sent: Vec<(Markers, TopicPartition)>,
    answers: Vec<(Markers, TopicPartition, MarkerOutcome)>,
    needed: usize,
    /// When something was last refused.
    disturbed_ms: i64,
    next_producer: i64,
    /// The newest instance of each id that got a producer, as a new process.
    pub granted: BTreeMap<usize, usize>,
    pub grants: BTreeSet<(i64, i16)>,
    /// Ends with TV2 that are repeated out of the blue.
    pub late: Vec<EndRequest>,
    /// What happened, for a test that wants to know that it did.
    pub seen: BTreeMap<&'static str, usize>,
}

pub fn name(id: usize) -> String {
    format!("tx-{id}")
}

/// Ids with odd numbers speak TV2, and those from 4 on begin near the last epoch.
pub fn version(id: usize) -> TxnVersion {
    if id % 2 == 1 { TxnVersion::V2 } else { TxnVersion::V0 }
}

impl World {
    pub fn new(seed: u64) -> World {
        let rng = Rng::new(seed);
        let config = TxnConfig { id_expiration_ms: 3_000_000, ..TxnConfig::default() };
        let c = TxnCoordinator::new(config, seed);
        let mut world = World {
            rng,
            c,
            now_ms: 0,
            epoch: 1,
            clients: Vec::new(),
            tokens: 0,
            asked: BTreeMap::new(),
            open: Vec::new(),
            log: Vec::new(),
            checkpoint: None,
            histories: BTreeMap::new(),
            written: Written::default(),
            sent: Vec::new(),
            answers: Vec::new(),
            needed: 0,
            disturbed_ms: 0,
            next_producer: 1_000,
            granted: BTreeMap::new(),
            grants: BTreeSet::new(),
            late: Vec::new(),
            seen: BTreeMap::new(),
        };
        for id in 4..8 {
            let mut value = crate::bench::stored(TxnState::Empty, 32_760);
            value.producer_id = 10 + id as i64;
            value.previous_producer_id = value.producer_id;
            let record =
                Record { key: encode_key(&name(id)), value: Some(encode_value(&value, TxnVersion::V2)) };
            world.log.push(record.clone());
            world.note(&record).unwrap();
            world.c.replay(0, record.key, record.value).unwrap();
        }
        for id in 0..8 {
            world.clients.push(Client { id, instance: 0, producer: None, ending: None, waits: false });
        }
        world.c.loaded(world.now(), 1);
        world
    }

    pub fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms as u64 * 1_000_000), wall: START + self.now_ms }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn last(&self, id: &str) -> Option<&TxnValue> {
        self.histories.get(id)?.last()
    }

    /// A record is committed.
    fn note(&mut self, record: &Record) -> Check {
        let id = decode_key(&record.key).unwrap();
        let value = record.value.as_ref().map(|v| decode_value(v).unwrap());
        self.histories.entry(id.clone()).or_default().push(&id, value)
    }

    pub fn ask(
        &mut self,
        asked: Asked,
        f: impl FnOnce(&mut TxnCoordinator, Now, Token, &mut Effects),
    ) -> Check {
        self.tokens += 1;
        let token = Token(self.tokens);
        let client = match &asked {
            Asked::Init(client, _) | Asked::Add(client, ..) => Some(*client),
            Asked::End(client, _, late) => (!late).then_some(*client),
        };
        if let Some(client) = client {
            self.clients[client].waits = true;
        }
        self.asked.insert(token, asked.clone());
        let (now, mut fx) = (self.now(), Vec::new());
        f(&mut self.c, now, token, &mut fx);
        if let Asked::End(_, request, _) = &asked {
            self.ended_by_its_own(request, &fx)?;
        }
        self.take(fx)
    }

    /// With TV2 an EndTxn decides only a transaction of its own producer and epoch (KAFKA-17754).
    fn ended_by_its_own(&self, request: &EndRequest, fx: &Effects) -> Check {
        let appends = fx.iter().any(|effect| matches!(effect, Effect::Append { .. }));
        if !appends || request.version != TxnVersion::V2 {
            return Ok(());
        }
        let value = self.last(&request.transactional_id);
        let own = value.is_some_and(|v| {
            (v.producer_id, v.producer_epoch) == (request.producer_id, request.producer_epoch)
        });
        ensure(own, || format!("a late end was accepted: {request:?} in {value:?}"))
    }

    fn step(&mut self, f: impl FnOnce(&mut TxnCoordinator, Now, &mut Effects)) -> Check {
        let (now, mut fx) = (self.now(), Vec::new());
        f(&mut self.c, now, &mut fx);
        self.take(fx)
    }

    fn take(&mut self, fx: Effects) -> Check {
        for effect in fx {
            match effect {
                Effect::Reply { token, reply, .. } => {
                    let asked = self.asked.remove(&token);
                    let asked = asked.ok_or_else(|| format!("{token:?} is answered twice"))?;
                    self.answered(asked, reply)?;
                }
                Effect::Append { batch, records } => {
                    for record in &records {
                        self.appended(record)?;
                    }
                    self.open.push((batch, records));
                }
                Effect::SendMarkers(markers) => {
                    let history = self.histories.entry(markers.transactional_id.to_string()).or_default();
                    self.written.sent(&markers, history)?;
                    for partition in markers.partitions.clone() {
                        self.sent.push((markers.clone(), partition));
                    }
                }
                Effect::NeedProducerIds { count } => self.needed = count,
                Effect::Event(TxnEvent::TimedOut { .. }) => self.count("timed out"),
                Effect::Event(TxnEvent::Fenced { .. }) => self.count("fenced"),
                Effect::Event(TxnEvent::Ended { .. }) => self.count("ended"),
                Effect::Event(TxnEvent::Expired { .. }) => self.count("expired"),
                Effect::Event(_) => {}
            }
        }
        Ok(())
    }

    fn appended(&mut self, record: &Record) -> Check {
        let id = decode_key(&record.key).unwrap();
        let value = record.value.as_ref().map(|v| decode_value(v).unwrap());
        let state = value.as_ref().map(|v| v.state);
        if matches!(state, Some(TxnState::CompleteCommit | TxnState::CompleteAbort)) {
            let history = self.histories.entry(id.clone()).or_default();
            self.written.completes(&id, history)?;
            if value.is_some_and(|v| v.producer_id != v.previous_producer_id) {
                self.count("new producer id by an end");
            }
        }
        Ok(())
    }

    pub fn commit_one(&mut self) -> Check {
        if self.open.is_empty() {
            return Ok(());
        }
        let (batch, records) = self.open.remove(0);
        for record in records {
            self.note(&record)?;
            self.log.push(record);
        }
        self.step(|c, now, fx| c.on_committed(now, batch, fx))
    }

    pub fn fail_one(&mut self) -> Check {
        if self.open.is_empty() {
            return Ok(());
        }
        self.count("append failed");
        self.disturbed_ms = self.now_ms;
        let (batch, _) = self.open.remove(0);
        self.step(|c, now, fx| c.on_append_failed(now, batch, ErrorCode::MessageTooLarge, fx))
    }

    /// The lead is lost; some of what was appended is in the log all the same. Then it is loaded anew.
    pub fn fail_over(&mut self) -> Check {
        self.count("change of the leader");
        self.step(|c, now, fx| c.unload(now, fx))?;
        let kept = self.rng.below(self.open.len() + 1);
        for (_, records) in std::mem::take(&mut self.open).into_iter().take(kept) {
            for record in records {
                self.note(&record)?;
                self.log.push(record);
            }
        }
        self.needed = 0;
        self.c.reset();
        let mut from = 0;
        if let Some((at, bytes)) = self.checkpoint.clone().filter(|_| self.rng.chance(50)) {
            self.c.restore(&bytes).map_err(|e| e.to_string())?;
            from = at;
        }
        for record in self.log[from..].iter().cloned() {
            self.c.replay(0, record.key, record.value).map_err(|e| e.to_string())?;
        }
        self.now_ms += self.rng.below(2_000) as i64;
        self.epoch += 1;
        self.c.loaded(self.now(), self.epoch);
        for (id, history) in &self.histories {
            ensure(self.c.get(id) == history.last(), || format!("{id} is not as the log has it"))?;
        }
        Ok(())
    }

    pub fn take_checkpoint(&mut self) {
        if self.open.is_empty() {
            self.checkpoint = Some((self.log.len(), self.c.snapshot()));
        }
    }

    pub fn producer_ids(&mut self, refuse: bool) -> Check {
        let count = std::mem::take(&mut self.needed);
        if count == 0 {
            return Ok(());
        }
        if refuse {
            self.disturbed_ms = self.now_ms;
            return self.step(|c, _, fx| c.refuse_producer_ids(fx));
        }
        let first = self.next_producer;
        self.next_producer += count as i64;
        self.step(|c, now, fx| c.supply_producer_ids(now, first, count, fx))
    }

    /// A marker arrives, or is lost; markers of older coordinators are refused.
    pub fn deliver_marker(&mut self, honest: bool) -> Check {
        if self.sent.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.sent.len());
        let (markers, partition) = match !honest && self.rng.chance(20) {
            true => self.sent[at].clone(),
            false => self.sent.swap_remove(at),
        };
        if !honest && self.rng.chance(15) {
            return Ok(());
        }
        let newest = self.written.coordinators.entry(partition.clone()).or_insert(0);
        let outcome = if self.written.gone.contains(&partition) {
            MarkerOutcome::Gone
        } else if markers.coordinator_epoch < *newest {
            MarkerOutcome::CoordinatorFenced
        } else if !honest && self.rng.chance(20) {
            MarkerOutcome::AskAgain
        } else {
            *newest = markers.coordinator_epoch;
            self.written.write(&markers, &partition);
            // Committed there, though the answer may say nothing of it.
            if !honest && self.rng.chance(15) { MarkerOutcome::AskAgain } else { MarkerOutcome::Done }
        };
        self.answers.push((markers, partition, outcome));
        Ok(())
    }

    pub fn deliver_answer(&mut self, honest: bool) -> Check {
        if self.answers.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.answers.len());
        let (markers, partition, outcome) = match !honest && self.rng.chance(20) {
            true => self.answers[at].clone(),
            false => self.answers.swap_remove(at),
        };
        let id = markers.transactional_id.clone();
        self.step(|c, now, fx| c.on_marker_result(now, markers.id, &id, &partition, outcome, fx))
    }

    pub fn delete_partition(&mut self) {
        let partition = tp("t", self.rng.below(5) as i32);
        self.written.gone.insert(partition);
    }

    /// Time goes by. What is due and can be done is done.
    pub fn wait(&mut self, ms: i64) -> Check {
        self.now_ms += ms;
        self.step(|c, now, fx| c.tick(now, fx))?;
        let pending: BTreeSet<String> =
            self.open.iter().flat_map(|(_, r)| r).map(|r| decode_key(&r.key).unwrap()).collect();
        for (id, history) in &self.histories {
            let Some(value) = history.last().filter(|v| v.state == TxnState::Ongoing) else { continue };
            // What failed is tried again after five seconds at the latest.
            let from = (value.start + i64::from(value.timeout_ms)).max(START + self.disturbed_ms);
            let late = START + self.now_ms > from + 5_000;
            ensure(!late || pending.contains(id) || self.needed > 0, || {
                format!("{id} outlives its timeout")
            })?;
        }
        Ok(())
    }

    /// Everything goes well from here on, for long: nothing stays open or unanswered.
    pub fn settle(&mut self) -> Check {
        for _ in 0..400 {
            self.producer_ids(false)?;
            while !self.open.is_empty() {
                self.commit_one()?;
            }
            while !self.sent.is_empty() || !self.answers.is_empty() {
                self.deliver_marker(true)?;
                self.deliver_answer(true)?;
            }
            self.wait(500)?;
        }
        ensure(self.asked.is_empty(), || format!("never answered: {:?}", self.asked))?;
        let open = self.histories.iter().find(|(_, h)| h.last().is_some_and(|v| v.state.is_open()));
        ensure(open.is_none(), || format!("{:?} stays open", open.map(|(id, h)| (id, h.last()))))?;
        ensure(self.c.open_count() == 0 && self.c.open_batches() == 0, || "counts are wrong".into())
    }
}
