//! Our own clients (client-lite): producers that send until they are told, producers that try once, readers, a
//! committer. They run on a thread of their own, so that nothing the nemesis does holds them up.
use crate::churn::{self, Churn};
use crate::codes::{init_producer, is_definite};
use crate::readers;
use crate::recorder::{Recorder, now};
use crate::txn_load::{self, Workload};
use anyhow::Result;
use client_lite::{Acks, Client, ClientError, ClientOptions, ConnOptions, Produced};
use jepsen::history::{Line, Type};
use records::{BatchBuilder, NewRecord, next_sequence};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bits of a value that count; the ones above are the process.
pub(crate) const COUNT_BITS: u32 = 20;
/// The longest that a batch is tried for.
const GIVE_UP: Duration = Duration::from_secs(30);
/// A producer's life: then another one comes in its place.
const LIFE: Duration = Duration::from_secs(12);

/// What our clients do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) keys: u32,
    /// Between two sends of one producer.
    pub(crate) pause: Duration,
    /// Records in a batch.
    pub(crate) batch: u64,
    /// Producers for each key that send until they are told.
    pub(crate) producers: u32,
    /// Producers, each for all keys, that try once.
    pub(crate) oneshots: u32,
    pub(crate) readers: u32,
    /// Whether a group's offsets are committed too.
    pub(crate) commits: bool,
    pub(crate) workload: Workload,
    /// Transactional clients, where the workload has them.
    pub(crate) transactions: u32,
    /// Members of a group that come and go.
    pub(crate) churn: u32,
    /// How long an answer is waited for.
    pub(crate) timeout: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Work,
    /// Producers end; readers read everything from the start.
    Final,
    Stop,
}

/// Shared by all tasks.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) recorder: Recorder,
    phase: Arc<AtomicU8>,
    processes: Arc<AtomicU32>,
    /// Transactional clients at work.
    transactions: Arc<AtomicU32>,
}

impl Shared {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Work,
            1 => Phase::Final,
            _ => Phase::Stop,
        }
    }

    pub(crate) fn in_transactions(&self) -> bool {
        self.transactions.load(Ordering::Relaxed) > 0
    }

    /// One more transactional client is at work, or one less.
    pub(crate) fn transactional(&self, begins: bool) {
        if begins {
            self.transactions.fetch_add(1, Ordering::Relaxed);
        } else {
            self.transactions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn process(&self) -> u32 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// A client that tries nothing again: what is tried again, and when, is part of the history.
    pub(crate) fn client(&self) -> Arc<Client> {
        self.client_that_retries(Duration::ZERO)
    }

    pub(crate) fn client_that_retries(&self, retry_for: Duration) -> Arc<Client> {
        // Brokers in another order each time: one that is silent must not be asked first for ever.
        let mut all: Vec<&str> = self.plan.bootstrap.split(',').collect();
        let by = self.processes.fetch_add(1, Ordering::Relaxed) as usize % all.len().max(1);
        all.rotate_left(by);
        Arc::new(Client::new(&all.join(","), ClientOptions { retry_for, ..options(self.plan.timeout) }))
    }
}

fn options(timeout: Duration) -> ClientOptions {
    ClientOptions {
        conn: ConnOptions {
            client_id: "rig".to_owned(),
            connect_timeout: timeout.min(Duration::from_millis(500)),
            request_timeout: timeout,
            ..ConnOptions::default()
        },
        retry_for: Duration::ZERO,
        backoff: Duration::from_millis(10),
        backoff_max: Duration::from_millis(50),
    }
}

/// The thread on which they run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) churn: Churn,
    phase: Arc<AtomicU8>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever goes on would write into the next cluster, which has the same addresses.
        self.phase.store(2, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Running {
    /// Producers end, and readers begin their final read.
    pub(crate) fn begin_final(&self) {
        self.phase.store(1, Ordering::Relaxed);
    }

    /// Waits for the end of the final read.
    pub(crate) fn finish(mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

/// Starts the clients. Processes are numbered from `first_process`.
pub(crate) fn start(plan: Plan, recorder: Recorder, first_process: u32) -> Running {
    let phase = Arc::new(AtomicU8::new(0));
    let shared = Shared {
        plan: Arc::new(plan),
        recorder,
        phase: phase.clone(),
        processes: Arc::new(AtomicU32::new(first_process)),
        transactions: Arc::default(),
    };
    let churn = Churn::default();
    let members = churn.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = tokio::task::LocalSet::new();
        for key in 0..shared.plan.keys {
            for _ in 0..shared.plan.producers {
                tasks.spawn_local(produce(shared.clone(), key));
            }
            tasks.spawn_local(readers::final_read(shared.clone(), key));
        }
        for _ in 0..shared.plan.oneshots {
            tasks.spawn_local(try_once(shared.clone()));
        }
        for _ in 0..shared.plan.readers {
            tasks.spawn_local(readers::read(shared.clone()));
        }
        if shared.plan.commits {
            tasks.spawn_local(readers::commit(shared.clone()));
        }
        if shared.plan.workload.has_transactions() {
            for number in 0..shared.plan.transactions {
                tasks.spawn_local(txn_load::work(shared.clone(), number));
            }
        }
        if shared.plan.workload == Workload::Money {
            tasks.spawn_local(txn_load::pay_in(shared.clone()));
        }
        for number in 0..shared.plan.churn {
            tasks.spawn_local(churn::member(shared.clone(), members.clone(), number));
        }
        if shared.plan.churn > 0 {
            tasks.spawn_local(readers::follow(shared.clone(), churn::GROUP, churn::PROCESS));
        }
        tasks.spawn_local(readers::watch(shared));
        runtime.block_on(tasks);
        Ok(())
    });
    Running { churn, phase, thread: Some(thread) }
}

/// A batch of values.
fn batch(process: u32, first: u64, count: u64) -> BatchBuilder {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map(|d| d.as_millis() as i64).unwrap_or_default();
    let mut builder = BatchBuilder::new();
    for n in first..first + count {
        builder.push(NewRecord::new(now, None, Some(value(process, n).to_string().as_bytes())));
    }
    builder
}

fn value(process: u32, n: u64) -> u64 {
    (u64::from(process) << COUNT_BITS) + n
}

/// One batch in the history.
struct Sent {
    process: u32,
    key: u32,
    first: u64,
    count: u64,
}

impl Sent {
    fn line(&self, kind: Type, at: u64, offset: Option<i64>, error: Option<&str>) -> Line {
        let (process, key, value) = (self.process, self.key, value(self.process, self.first + at));
        let error = error.map(str::to_owned);
        Line::Send { time: now(), process, kind, key, value, offset, error, txn: None, from: None }
    }

    fn begin(&self, recorder: &Recorder) {
        (0..self.count).for_each(|at| recorder.push(self.line(Type::Invoke, at, None, None)));
    }

    fn end(&self, recorder: &Recorder, result: &Result<Produced, (Type, String)>) {
        for at in 0..self.count {
            recorder.push(match result {
                Ok(produced) => {
                    let offset = Some(produced.base_offset).filter(|o| *o >= 0).map(|o| o + at as i64);
                    self.line(Type::Ok, at, offset, None)
                }
                Err((kind, error)) => self.line(*kind, at, None, Some(error)),
            });
        }
    }
}

/// A producer with an id and a sequence, which sends each batch until it is told of it.
async fn produce(shared: Shared, key: u32) {
    while shared.phase() == Phase::Work {
        let process = shared.process();
        let mut client = shared.client();
        let Ok((id, epoch)) = init_producer(&client).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (mut sequence, mut first, born) = (0, 0, Instant::now());
        while shared.phase() == Phase::Work && born.elapsed() < LIFE {
            let count = shared.plan.batch;
            let sent = Sent { process, key, first, count };
            sent.begin(&shared.recorder);
            let stamped = batch(process, first, count).producer(id, epoch, sequence).finish();
            let Ok(bytes) = stamped else { return };
            let result = until_told(&shared, &mut client, key, bytes.freeze()).await;
            let told = result.is_ok();
            sent.end(&shared.recorder, &result);
            if !told {
                // Whether the sequence was used is not known: only another producer can go on.
                break;
            }
            sequence = next_sequence(sequence, count as i32);
            first += count;
            tokio::time::sleep(shared.plan.pause).await;
        }
    }
}

async fn until_told(
    shared: &Shared,
    client: &mut Arc<Client>,
    key: u32,
    bytes: bytes::Bytes,
) -> Result<Produced, (Type, String)> {
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match client.produce_once(&shared.plan.topic, key as i32, bytes.clone(), Acks::All).await
        {
            Ok(produced) => return Ok(produced),
            Err(error) => error,
        };
        client.forget_topic(&shared.plan.topic);
        if !error.is_retriable() && error.code().is_some() {
            let (time, text) = (now(), format!("key {key}, try {tries}: {error}"));
            shared.recorder.push(Line::Broken { time, process: 0, error: text.clone() });
            return Err((Type::Info, text));
        }
        if begun.elapsed() > GIVE_UP || shared.phase() == Phase::Stop {
            return Err((Type::Info, error.to_string()));
        }
        if matches!(error, ClientError::Timeout { .. }) {
            *client = shared.client();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A producer without an id that tries each batch once, and believes a refusal.
async fn try_once(shared: Shared) {
    let (mut process, mut client, mut first) = (shared.process(), shared.client(), 0);
    while shared.phase() == Phase::Work {
        let key = (first % u64::from(shared.plan.keys)) as u32;
        let sent = Sent { process, key, first, count: 1 };
        let Ok(bytes) = batch(process, first, 1).finish() else { return };
        let topic = &shared.plan.topic;
        // Without a leader nothing is sent, and nothing is part of the history.
        if client.leader(topic, key as i32).await.is_ok() {
            sent.begin(&shared.recorder);
            let result = client.produce_once(topic, key as i32, bytes.freeze(), Acks::All).await;
            let result = result.map_err(|error| {
                let kind = if is_definite(&error) { Type::Fail } else { Type::Info };
                (kind, error.to_string())
            });
            sent.end(&shared.recorder, &result);
            if result.is_err() {
                // What nobody knows of may land after what is sent next: no order is promised without an id.
                process = shared.process();
                client = shared.client();
            }
        } else {
            client = shared.client();
        }
        first += 1;
        tokio::time::sleep(shared.plan.pause).await;
    }
}
