//! Where all clients write what they did: a file of JSON lines, and memory for the checker.
use anyhow::Result;
use client_lite::Partition;
use jepsen::history::{Builder, History, Line};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first number of a process that is not of our own clients.
pub(crate) const OTHERS: u32 = 1_000_000;

/// Nanoseconds of the machine's monotonic clock.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    builder: Builder,
    /// When a key last had an acknowledgement, and how many there were.
    acks: BTreeMap<u32, (u64, u64)>,
    /// What cannot be part of a history, in words.
    nonsense: Vec<String>,
    /// Who leads each key, by Metadata.
    leaders: BTreeMap<u32, i32>,
    /// How many replicas are, and when that was told.
    in_sync: BTreeMap<u32, (u64, usize)>,
    /// The leader epoch of each key.
    epochs: BTreeMap<u32, i32>,
    replicas: BTreeMap<u32, Vec<i32>>,
    /// Who was last said to coordinate transactions.
    coordinator: Option<u32>,
    /// Sends of other clients that ended with an error which an application would see.
    told: Vec<String>,
}

/// Shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

impl Recorder {
    pub(crate) fn new(path: &Path) -> Result<Recorder> {
        let inner = Inner {
            file: BufWriter::new(File::create(path)?),
            builder: Builder::default(),
            acks: BTreeMap::new(),
            nonsense: Vec::new(),
            leaders: BTreeMap::new(),
            in_sync: BTreeMap::new(),
            epochs: BTreeMap::new(),
            replicas: BTreeMap::new(),
            coordinator: None,
            told: Vec::new(),
        };
        Ok(Recorder(Arc::new(Mutex::new(inner))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, line: Line) {
        let mut inner = self.lock();
        if let Line::Send { kind: jepsen::history::Type::Ok, key, time, .. } = line {
            let (last, count) = inner.acks.entry(key).or_default();
            (*last, *count) = ((*last).max(time), *count + 1);
        }
        if let Line::Send { process: OTHERS.., error: Some(error), value, .. } = &line {
            inner.told.push(format!("{value}: {error}"));
        }
        let written = serde_json::to_writer(&mut inner.file, &line).map_err(anyhow::Error::from);
        let written = written.and_then(|()| Ok(inner.file.write_all(b"\n")?));
        let taken = written.and_then(|()| inner.builder.push(line));
        if let Err(error) = taken {
            inner.nonsense.push(format!("{error:#}"));
        }
    }

    /// A line that another program wrote.
    pub(crate) fn push_text(&self, who: &str, text: &str) {
        match serde_json::from_str(text) {
            Ok(line) => self.push(line),
            Err(error) => self.lock().nonsense.push(format!("{who} wrote {text}: {error}")),
        }
    }

    pub(crate) fn fault(&self, what: &str, begins: bool) {
        self.push(Line::Fault { time: now(), what: what.to_owned(), begins });
    }

    /// How many acknowledgements each key has had, and when the last one came.
    pub(crate) fn acks(&self) -> BTreeMap<u32, (u64, u64)> {
        self.lock().acks.clone()
    }

    /// What Metadata says of a key.
    pub(crate) fn set_partition(&self, row: &Partition) {
        let (key, leader, in_sync) = (row.index as u32, row.leader, row.in_sync.len());
        let mut inner = self.lock();
        inner.epochs.insert(key, row.epoch);
        inner.replicas.insert(key, row.replicas.clone());
        inner.leaders.insert(key, leader);
        inner.in_sync.insert(key, (now(), in_sync));
    }

    pub(crate) fn leader(&self, key: u32) -> Option<u32> {
        let leader = self.lock().leaders.get(&key).copied()?;
        u32::try_from(leader).ok()
    }

    pub(crate) fn set_coordinator(&self, node: u32) {
        self.lock().coordinator = Some(node);
    }

    /// A node that coordinates transactions of a client.
    pub(crate) fn coordinator(&self) -> Option<u32> {
        self.lock().coordinator
    }

    /// Who has replicas of a key.
    pub(crate) fn has_replica(&self, key: u32, node: u32) -> bool {
        let wanted = i32::try_from(node).unwrap_or(-1);
        self.lock().replicas.get(&key).is_some_and(|nodes| nodes.contains(&wanted))
    }

    /// All leader epochs together: how many elections there were shows in their difference.
    pub(crate) fn epochs(&self) -> i64 {
        self.lock().epochs.values().map(|epoch| i64::from(*epoch)).sum()
    }

    /// Errors that applications with other clients were told.
    pub(crate) fn told(&self) -> Vec<String> {
        self.lock().told.clone()
    }

    /// How many keys there are, as far as Metadata was asked.
    pub(crate) fn keys(&self) -> u32 {
        self.lock().replicas.len().max(1) as u32
    }

    /// Whether each key has so many replicas, no more, and all of them in sync, as was told after `since`.
    pub(crate) fn are_in_sync(&self, wanted: usize, since: u64) -> bool {
        let inner = self.lock();
        let told = |key| inner.in_sync.get(key).is_some_and(|(at, count)| *at > since && *count == wanted);
        let all = inner.replicas.iter().all(|(key, nodes)| nodes.len() == wanted && told(key));
        all && !inner.replicas.is_empty()
    }

    /// The history, and what could not become part of it. The recorder is empty afterwards.
    pub(crate) fn finish(&self) -> Result<(History, Vec<String>)> {
        let mut inner = self.lock();
        inner.file.flush()?;
        let builder = std::mem::take(&mut inner.builder);
        Ok((builder.finish(), std::mem::take(&mut inner.nonsense)))
    }
}

/// Waits until every key of `keys` has had an acknowledgement after `since`; how long the slowest took.
pub(crate) fn acked_since(
    recorder: &Recorder,
    keys: u32,
    since: u64,
    patience: Duration,
) -> Option<Duration> {
    let end = now() + patience.as_nanos() as u64;
    loop {
        let acks = recorder.acks();
        if (0..keys).all(|key| acks.get(&key).is_some_and(|(last, _)| *last > since)) {
            return Some(Duration::from_nanos(now() - since));
        }
        if now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
