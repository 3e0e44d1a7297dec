//! Our own transactional clients: transactions of several sends and polls with the offsets of what they read, and
//! transfers that pass on what they read. Half of them speak Kafka's old protocol (transaction version 1).
use crate::load::{COUNT_BITS, Phase, Shared};
use crate::recorder::now;
use crate::rng::Rng;
use client_lite::{
    Client, ClientError, ConnOptions, Consumed, Consumer, FetchOptions, GroupMember, MemberOptions, Place,
    Reset, TxnOptions, TxnProducer,
};
use jepsen::history::{Line, Step, Type};
use records::{BatchBuilder, NewRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::describe_producers_request::TopicRequest as DescribeProducersTopic;
use wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use wire::{ApiKey, DescribeProducersRequest, EndTxnRequest, Str, WriteTxnMarkersRequest};

/// The group of all transactional clients.
pub(crate) const GROUP: &str = "rig-transactions";
/// After so long a coordinator aborts.
const TIMEOUT: Duration = Duration::from_secs(6);
/// How long each request of a transaction is tried for, and how long a commit that nobody answers.
const RETRY_FOR: Duration = Duration::from_secs(8);
const GIVE_UP: Duration = Duration::from_secs(30);
/// A client's life: then another one comes, with another transactional id.
const LIFE: Duration = Duration::from_secs(15);
/// What is paid in for each key, where records are passed on.
const PAID_IN: u64 = 6;

/// What clients do, as `--workload` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Sends and polls without transactions.
    #[default]
    Queue,
    /// Sends and polls in transactions, and some without.
    Txn,
    /// Each record that is read is passed on to another key in the transaction that reads it.
    Money,
}

impl Workload {
    pub(crate) const ALL: [Workload; 3] = [Workload::Queue, Workload::Txn, Workload::Money];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Queue => "queue",
            Workload::Txn => "txn",
            Workload::Money => "money",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// Whether readers leave out what is not committed.
    pub(crate) fn has_transactions(self) -> bool {
        self != Workload::Queue
    }
}

/// What became of one transaction, as far as its client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// With another transaction.
    On,
    /// Not at all: another client begins anew.
    Over,
}

/// Why a transaction is not committed.
enum Stop {
    /// It was chosen so, or something went wrong that an abort follows.
    Abort,
    /// Its client cannot go on.
    Over,
}

/// One life of one client.
struct Worker {
    shared: Shared,
    process: u32,
    client: Arc<Client>,
    producer: TxnProducer,
    consumer: Consumer,
    /// Whether its transactions poll.
    polls: bool,
    rng: Rng,
    values: u64,
    txns: u64,
    /// How often it was told its partitions: what it reads begins anew where its group left off then.
    joins: u64,
    /// First offset and the one after the last, of each partition that was polled in this transaction since.
    polled: BTreeMap<Place, (i64, i64)>,
    /// Who ended the transaction before this one, and how.
    earlier: Option<(i64, i16, bool)>,
    earlier_committed: bool,
}

fn patient(shared: &Shared) -> Arc<Client> {
    shared.client_that_retries(RETRY_FOR)
}

async fn producer(shared: &Shared, process: u32, newest: i16) -> Result<TxnProducer, ClientError> {
    let options = TxnOptions { id: format!("rig-{process}"), timeout: TIMEOUT, retry_for: RETRY_FOR, newest };
    TxnProducer::start(shared.client(), options).await
}

/// One client after the other, until the work is over.
pub(crate) async fn work(shared: Shared, number: u32) {
    let newest = 2 - (number % 2) as i16;
    shared.transactional(true);
    while shared.phase() == Phase::Work {
        let process = shared.process();
        if let Ok(producer) = producer(&shared, process, newest).await {
            // Of four one in each protocol only sends: rebalances do not hold it up.
            let polls = shared.plan.workload == Workload::Money || number % 4 < 2;
            live(&shared, process, producer, polls).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.transactional(false);
}

async fn live(shared: &Shared, process: u32, producer: TxnProducer, polls: bool) {
    let client = patient(shared);
    let member = GroupMember::new(
        client.clone(),
        MemberOptions {
            session_timeout: Duration::from_secs(8),
            rebalance_timeout: Duration::from_secs(10),
            ..MemberOptions::new(GROUP, &[&shared.plan.topic])
        },
    );
    let fetch = FetchOptions {
        max_wait: Duration::from_millis(100),
        read_committed: true,
        ..FetchOptions::default()
    };
    let consumer = Consumer::in_group(client.clone(), member, Reset::Earliest, fetch);
    let mut worker = Worker {
        shared: shared.clone(),
        process,
        client,
        producer,
        consumer,
        polls,
        rng: Rng::new(u64::from(process)),
        values: 0,
        txns: 0,
        joins: 0,
        polled: BTreeMap::new(),
        earlier: None,
        earlier_committed: false,
    };
    let born = Instant::now();
    let lives = || shared.phase() == Phase::Work && born.elapsed() < LIFE;
    // A transaction that waits for its client to come into the group would mostly time out.
    while polls && worker.joins == 0 && lives() {
        if let Ok((_, found)) = worker.poll_raw().await {
            worker.rewind(&found);
        }
    }
    while lives() {
        if worker.transaction().await == Next::Over {
            break;
        }
        worker.tell_coordinator().await;
        tokio::time::sleep(shared.plan.pause).await;
    }
    let _ = worker.consumer.close().await;
}

/// Pays in what is passed on afterwards, until it is known that some of it was.
pub(crate) async fn pay_in(shared: Shared) {
    while shared.phase() == Phase::Work {
        let process = shared.process();
        let Ok(mut producer) = producer(&shared, process, 2).await else { continue };
        let txn = u64::from(process) << COUNT_BITS;
        say(&shared, process, txn, Step::Begin, None);
        let mut values = 0;
        let paid = async {
            producer.begin()?;
            for key in 0..shared.plan.keys {
                let rows: Vec<_> = (values..values + PAID_IN).map(|n| (txn + n, None)).collect();
                values += PAID_IN;
                send(&shared, process, &mut producer, txn, key, &rows).await?;
            }
            say(&shared, process, txn, Step::Commit, None);
            producer.commit().await
        };
        match paid.await {
            Ok(()) => return say(&shared, process, txn, Step::Committed, None),
            Err(error) => say(&shared, process, txn, Step::Unknown, Some(&error)),
        }
    }
}

fn say(shared: &Shared, process: u32, txn: u64, step: Step, error: Option<&ClientError>) {
    let error = error.map(ToString::to_string);
    shared.recorder.push(Line::Txn { time: now(), process, txn, step, error });
}

/// Sends values, each with the one that it passes on, to a key in one batch.
async fn send(
    shared: &Shared,
    process: u32,
    producer: &mut TxnProducer,
    txn: u64,
    key: u32,
    rows: &[(u64, Option<u64>)],
) -> Result<(), ClientError> {
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let stamp = stamp.map(|d| d.as_millis() as i64).unwrap_or_default();
    let mut batch = BatchBuilder::new();
    let line = |value: u64, from: Option<u64>, kind: Type, offset: Option<i64>, error: Option<String>| {
        let (time, txn) = (now(), Some(txn));
        Line::Send { time, process, kind, key, value, offset, error, txn, from }
    };
    for (value, from) in rows {
        batch.push(NewRecord::new(stamp, None, Some(value.to_string().as_bytes())));
        shared.recorder.push(line(*value, *from, Type::Invoke, None, None));
    }
    let sent = producer.send(&shared.plan.topic, key as i32, batch).await;
    for (at, (value, from)) in rows.iter().enumerate() {
        shared.recorder.push(match &sent {
            Ok(produced) => {
                let offset = Some(produced.base_offset).filter(|o| *o >= 0).map(|o| o + at as i64);
                line(*value, *from, Type::Ok, offset, None)
            }
            Err(error) => line(*value, *from, Type::Info, None, Some(error.to_string())),
        });
    }
    sent.map(drop)
}

impl Worker {
    fn chance(&mut self, one_in: u64) -> bool {
        self.rng.below(one_in) == 0
    }

    fn value(&mut self) -> u64 {
        self.values += 1;
        (u64::from(self.process) << COUNT_BITS) + self.values
    }

    /// Tells the nemesis now and then who coordinates.
    async fn tell_coordinator(&mut self) {
        if !self.txns.is_multiple_of(8) {
            return;
        }
        if let Ok(conn) = self.client.txn_coordinator(&format!("rig-{}", self.process)).await {
            let host = conn.address().rsplit_once(':').map_or("", |(host, _)| host);
            if let Some(node) = host.rsplit_once('.').and_then(|(_, node)| node.parse().ok()) {
                self.shared.recorder.set_coordinator(node);
            }
        }
    }

    async fn transaction(&mut self) -> Next {
        let id = (u64::from(self.process) << COUNT_BITS) + self.txns;
        self.txns += 1;
        self.polled.clear();
        let begun = if self.shared.plan.workload == Workload::Money {
            self.transfer(id).await
        } else {
            self.several(id).await
        };
        let done = match begun {
            Ok(false) => return Next::On,
            Ok(true) if self.chance(20) => Err(Stop::Abort),
            Ok(true) => self.commit(id).await,
            Err(stop) => Err(stop),
        };
        match done {
            Ok(()) => Next::On,
            Err(Stop::Over) => Next::Over,
            Err(Stop::Abort) => self.abort(id).await,
        }
    }

    /// Sends to several keys and polls, in any order; whether there is something to commit.
    async fn several(&mut self, id: u64) -> Result<bool, Stop> {
        say(&self.shared, self.process, id, Step::Begin, None);
        self.producer.begin().map_err(|_| Stop::Over)?;
        let slow = self.chance(2);
        let operations = 1 + self.rng.below(4);
        for at in 0..operations {
            // One in ten transactions is aborted, before one of these or at the end.
            if self.chance(40) {
                return Err(Stop::Abort);
            }
            if !self.polls || self.chance(2) {
                let key = self.rng.below(u64::from(self.shared.plan.keys)) as u32;
                let rows: Vec<_> = (0..1 + self.rng.below(3)).map(|_| (self.value(), None)).collect();
                self.send(id, key, &rows).await?;
                if self.chance(6) {
                    self.send_late_marker(key).await;
                }
            } else {
                let found = self.poll(id).await?;
                self.note(id, &found);
            }
            if at == 0 {
                self.send_late_end().await;
            }
            if slow {
                let pause = Duration::from_millis(self.rng.below(60));
                tokio::time::sleep(pause).await;
            }
        }
        if self.chance(80) {
            // About as long as the coordinator waits.
            let pause = TIMEOUT - Duration::from_millis(500) + Duration::from_millis(self.rng.below(1500));
            tokio::time::sleep(pause).await;
        }
        Ok(true)
    }

    /// Passes on what a poll brings; whether it brought something.
    async fn transfer(&mut self, id: u64) -> Result<bool, Stop> {
        let found = self.poll_raw().await.map_err(|_| Stop::Over)?;
        if found.1.is_empty() {
            return Ok(false);
        }
        say(&self.shared, self.process, id, Step::Begin, None);
        self.producer.begin().map_err(|_| Stop::Over)?;
        self.note(id, &found);
        let mut by_key: BTreeMap<u32, Vec<(u64, Option<u64>)>> = BTreeMap::new();
        for record in &found.1 {
            let key = self.rng.below(u64::from(self.shared.plan.keys)) as u32;
            let value = self.value();
            by_key.entry(key).or_default().push((value, Some(read_value(record))));
        }
        for (key, rows) in by_key {
            if self.chance(40) {
                return Err(Stop::Abort);
            }
            self.send(id, key, &rows).await?;
            self.send_late_end().await;
        }
        Ok(true)
    }

    async fn send(&mut self, id: u64, key: u32, rows: &[(u64, Option<u64>)]) -> Result<(), Stop> {
        let sent = send(&self.shared, self.process, &mut self.producer, id, key, rows).await;
        sent.map_err(|_| if self.producer.is_dead() { Stop::Over } else { Stop::Abort })
    }

    /// Polls; a poll that finds other partitions than the one before it in this transaction ends it.
    async fn poll(&mut self, _id: u64) -> Result<(u64, Vec<Consumed>), Stop> {
        let had = !self.polled.is_empty();
        let before = self.joins;
        let found = self.poll_raw().await.map_err(|_| Stop::Abort)?;
        if had && before != self.joins {
            // What was read before may be another one's now, and what was read now is read again.
            self.rewind(&found.1);
            return Err(Stop::Abort);
        }
        Ok(found)
    }

    async fn poll_raw(&mut self) -> Result<(u64, Vec<Consumed>), ClientError> {
        let start = now();
        let found = self.consumer.poll().await;
        let joins = self.consumer.member().map_or(0, GroupMember::joins);
        if joins != self.joins {
            self.joins = joins;
            self.polled.clear();
            self.shared.recorder.push(Line::Assign { time: now(), process: self.process });
        }
        found.map(|found| (start, found))
    }

    /// Writes a poll down, and remembers how far it went.
    fn note(&mut self, id: u64, (start, found): &(u64, Vec<Consumed>)) {
        if found.is_empty() {
            return;
        }
        let mut records = Vec::with_capacity(found.len());
        for record in found {
            let offset = record.record.offset;
            let place = (record.topic.clone(), record.partition);
            let (_, next) = self.polled.entry(place).or_insert((offset, offset));
            *next = offset + 1;
            records.push((record.partition as u32, offset, read_value(record)));
        }
        let (time, process) = (now(), self.process);
        self.shared.recorder.push(Line::Poll { start: *start, time, process, records, txn: Some(id) });
    }

    /// The consumer goes back to where this transaction began to read: what it read does not count.
    fn rewind(&mut self, also: &[Consumed]) {
        for record in also.iter().rev() {
            let place = (record.topic.clone(), record.partition);
            self.polled.entry(place).or_insert((record.record.offset, 0)).0 = record.record.offset;
        }
        for (place, (first, _)) in std::mem::take(&mut self.polled) {
            self.consumer.seek(&place, first);
        }
        self.shared.recorder.push(Line::Assign { time: now(), process: self.process });
    }

    async fn commit(&mut self, id: u64) -> Result<(), Stop> {
        if !self.polled.is_empty() {
            let offsets: BTreeMap<Place, i64> =
                self.polled.iter().map(|(place, (_, next))| (place.clone(), *next)).collect();
            let Some(member) = self.consumer.member() else { return Err(Stop::Over) };
            let sent = self.producer.send_offsets(GROUP, member.committer(), &offsets).await;
            sent.map_err(|_| if self.producer.is_dead() { Stop::Over } else { Stop::Abort })?;
        }
        let (by, begun) = (self.producer.identity(), Instant::now());
        say(&self.shared, self.process, id, Step::Commit, None);
        loop {
            let Err(error) = self.producer.commit().await else { break };
            if self.producer.must_abort() {
                return Err(Stop::Abort);
            }
            if self.producer.is_dead() || begun.elapsed() > GIVE_UP || self.shared.phase() == Phase::Stop {
                let step = if is_refusal(&error) { Step::Aborted } else { Step::Unknown };
                say(&self.shared, self.process, id, step, Some(&error));
                return Err(Stop::Over);
            }
        }
        self.ended(by, true);
        say(&self.shared, self.process, id, Step::Committed, None);
        Ok(())
    }

    /// A transaction of the producer that it was then has ended. One in which nothing happened ends without a request, and
    /// leaves the epoch as it is: to repeat its end would be to end the next one.
    fn ended(&mut self, by: (i64, i16), commit: bool) {
        let asked = self.producer.identity() != by;
        (self.earlier, self.earlier_committed) = (asked.then_some((by.0, by.1, commit)), commit);
    }

    async fn abort(&mut self, id: u64) -> Next {
        let by = self.producer.identity();
        match self.producer.abort().await {
            Ok(()) => {
                self.ended(by, false);
                say(&self.shared, self.process, id, Step::Aborted, None);
                self.rewind(&[]);
                Next::On
            }
            Err(error) => {
                say(&self.shared, self.process, id, Step::Unknown, Some(&error));
                Next::Over
            }
        }
    }

    /// The end of the transaction before this one arrives once more, as a network may deliver it (KAFKA-17754). Whoever
    /// speaks the old protocol cannot be told apart by it, so that one does not do this.
    async fn send_late_end(&mut self) {
        let Some((id, epoch, committed)) = self.earlier.take() else { return };
        if self.producer.version() < 2 || !self.chance(3) {
            return;
        }
        let request = EndTxnRequest {
            transactional_id: Str::from(format!("rig-{}", self.process)),
            producer_id: id,
            producer_epoch: epoch,
            committed,
        };
        if let Ok(conn) = self.client.txn_coordinator(&format!("rig-{}", self.process)).await
            && let Ok(version) = conn.version(ApiKey::EndTxn)
        {
            // Whatever it is answered: what becomes of the transaction that is open now is judged.
            let _ = conn.request_at(request, version).await;
        }
    }
}

impl Worker {
    /// The marker of the transaction before this one arrives once more at the leader of a key, as from a coordinator
    /// that was told nothing of the first. Its epoch is that of the transaction which is open now: it does not follow.
    async fn send_late_marker(&mut self, key: u32) {
        if self.producer.version() < 2 {
            return;
        }
        let ((producer_id, producer_epoch), topic) = (self.producer.identity(), &self.shared.plan.topic);
        let Ok((conn, _)) = self.client.leader(topic, key as i32).await else { return };
        let of_key = |name: &str| DescribeProducersTopic {
            name: Str::from(name),
            partition_indexes: vec![key as i32],
        };
        let Ok(told) = conn.request(DescribeProducersRequest { topics: vec![of_key(topic)] }).await else {
            return;
        };
        let rows =
            told.topics.iter().flat_map(|topic| &topic.partitions).flat_map(|row| &row.active_producers);
        let known = rows.filter(|row| row.producer_id == producer_id && row.coordinator_epoch >= 0).last();
        let Some(known) = known else { return };
        let marker = WritableTxnMarker {
            producer_id,
            producer_epoch,
            transaction_result: self.earlier_committed,
            topics: vec![WritableTxnMarkerTopic {
                name: Str::from(topic),
                partition_indexes: vec![key as i32],
            }],
            coordinator_epoch: known.coordinator_epoch,
            transaction_version: 2,
        };
        let _ = conn.request(WriteTxnMarkersRequest { markers: vec![marker] }).await;
    }
}

/// Whether a commit that was answered so surely did not happen. The id is this client's alone: it can only have been
/// fenced by its coordinator, which aborts what takes too long.
fn is_refusal(error: &ClientError) -> bool {
    const REFUSALS: [i16; 3] = [
        47, // INVALID_PRODUCER_EPOCH
        48, // INVALID_TXN_STATE
        90, // PRODUCER_FENCED
    ];
    error.code().is_some_and(|code| REFUSALS.contains(&code.code()))
}

fn read_value(record: &Consumed) -> u64 {
    let text = String::from_utf8_lossy(record.record.value.as_deref().unwrap_or_default()).into_owned();
    // What is no number was written by nobody here: the checker calls it a phantom.
    text.parse().unwrap_or(u64::MAX)
}

/// Where the group is when all is over; waits for transactions whose client is gone.
pub(crate) fn positions(bootstrap: &str, topic: &str, keys: u32) -> anyhow::Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = client_lite::ClientOptions {
        conn: ConnOptions { request_timeout: Duration::from_secs(3), ..ConnOptions::default() },
        retry_for: Duration::from_secs(60),
        ..client_lite::ClientOptions::default()
    };
    let client = Client::new(bootstrap, options);
    let places: Vec<Place> = (0..keys).map(|key| (topic.to_owned(), key as i32)).collect();
    let found = runtime.block_on(client.committed_stable(GROUP, Some(&places)))?;
    let line = |(key, place): (u32, &Place)| {
        let offset = found.get(place).map_or(0, |committed| committed.offset);
        Line::Position { time: now(), key, offset }
    };
    Ok((0..).zip(&places).map(line).collect())
}
