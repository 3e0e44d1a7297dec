//! One run: a cluster, clients, faults, healing, the final read, the checker.
use crate::lab::Lab;
use crate::load::{self, Running};
use crate::node::Make;
use crate::outside::{Outside, Program, Work};
use crate::recorder::{Recorder, acked_since, now};
use crate::replicas;
use crate::scrub;
use crate::txn_load::{self, Workload};
use anyhow::{Context, Result, bail};
use client_lite::{Client, ClientOptions, NewTopic};
use jepsen::checker::{Verdict, check, spared};
use jepsen::history::{History, Line};
use std::time::{Duration, Instant};

pub(crate) const TOPIC: &str = "rig";
/// How long a cluster may take to form, and to be well again when all faults have ended.
const FORMED: Duration = Duration::from_secs(60);
const HEALED: Duration = Duration::from_secs(90);
/// What a log of a broker must not say.
const PANICS: [&str; 2] = ["panicked at", "internal error: entered unreachable code"];

/// How a cluster and its clients are made.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) make: Make,
    pub(crate) keys: u32,
    pub(crate) load: Load,
    pub(crate) outside: Outside,
    /// Configs of the topic.
    pub(crate) topic: Vec<(String, String)>,
    /// What was acknowledged so long before the power of all is lost may be gone.
    pub(crate) takes: Duration,
}

/// What our own clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) pause: Duration,
    pub(crate) batch: u64,
    pub(crate) producers: u32,
    pub(crate) oneshots: u32,
    pub(crate) readers: u32,
    pub(crate) commits: bool,
    pub(crate) workload: Workload,
    /// Transactional clients of ours.
    pub(crate) transactions: u32,
    /// Members of a group that come and go.
    pub(crate) churn: u32,
    /// How long a client waits for an answer.
    pub(crate) timeout: Duration,
}

impl Default for Load {
    fn default() -> Self {
        let pause = Duration::from_millis(50);
        let timeout = Duration::from_millis(1500);
        Load {
            pause,
            batch: 1,
            producers: 1,
            oneshots: 2,
            readers: 1,
            commits: true,
            workload: Workload::Queue,
            transactions: 4,
            churn: 0,
            timeout,
        }
    }
}

impl Load {
    /// The same for this workload: where records are passed on, nobody else writes any.
    pub(crate) fn of(self, workload: Workload) -> Load {
        let load = Load { workload, ..self };
        match workload {
            Workload::Queue => load,
            Workload::Txn => Load { oneshots: 1, ..load },
            Workload::Money => Load { producers: 0, oneshots: 0, commits: false, ..load },
        }
    }
}

/// A cluster with clients at work.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) setup: Setup,
    ours: Running,
    programs: Vec<Program>,
    began: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) verdict: Verdict,
    /// What is wrong and no part of the history.
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
    /// What was measured, in words.
    pub(crate) figures: Vec<String>,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// From the end of the last fault until every key had an acknowledgement again.
    pub(crate) healed_after: Option<Duration>,
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.problems.is_empty()
    }
}

fn create_topic(lab: &Lab, setup: &Setup) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let replicas = setup.make.nodes.min(3) as i16;
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partitions: Some(setup.keys as i32),
        replication_factor: Some(replicas),
        configs: setup.topic.clone(),
        ..NewTopic::default()
    };
    runtime.block_on(async {
        let end = Instant::now() + FORMED;
        loop {
            let client = Client::new(&lab.bootstrap(), ClientOptions::default());
            let tried = async {
                let cluster = client.refresh(&[]).await?;
                if cluster.brokers.len() < setup.make.nodes as usize {
                    bail!("{} of {} nodes are there", cluster.brokers.len(), setup.make.nodes);
                }
                Ok(client.create_topic(&topic, false).await?)
            };
            match tokio::time::timeout(Duration::from_secs(10), tried).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if Instant::now() > end => return Err(error),
                Err(_) if Instant::now() > end => bail!("no answer"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
}

impl Bench {
    /// Starts the cluster and the clients, and waits until every key is served.
    pub(crate) fn start(setup: Setup) -> Result<Bench> {
        std::fs::create_dir_all(&setup.make.dir)?;
        let recorder = Recorder::new(&setup.make.dir.join("history.jsonl"))?;
        let mut lab = Lab::new(setup.make.clone(), recorder.clone())?;
        if let Err(error) = create_topic(&lab, &setup) {
            lab.note_ends("while the cluster was to form")?;
            return Err(error.context(format!("the cluster did not form; {}", lab.ended.join("; "))));
        }
        let (bootstrap, topic, keys) = (lab.bootstrap(), TOPIC.to_owned(), setup.keys);
        let load = setup.load;
        let plan = load::Plan {
            bootstrap: bootstrap.clone(),
            topic: topic.clone(),
            keys,
            pause: load.pause,
            batch: load.batch,
            producers: load.producers,
            oneshots: load.oneshots,
            readers: load.readers,
            commits: load.commits,
            workload: load.workload,
            transactions: load.transactions,
            churn: load.churn,
            timeout: load.timeout,
        };
        let began = now();
        let ours = load::start(plan, recorder.clone(), 1);
        let workload = load.workload.name();
        let work = Work { bootstrap, topic, keys, workers: 1, pause_ms: 40, workload };
        let programs = setup.outside.start(&setup.make.dir, &work, &recorder)?;
        let bench = Bench { lab, setup, ours, programs, began };
        bench.wait_until_served(began, FORMED).context("not every partition was served")?;
        Ok(bench)
    }

    /// Waits until every key has had an acknowledgement after `since`.
    pub(crate) fn wait_until_served(&self, since: u64, patience: Duration) -> Result<Duration> {
        acked_since(&self.lab.recorder, self.setup.keys, since, patience)
            .with_context(|| format!("a key had no acknowledgement for {} s", patience.as_secs()))
    }

    /// Waits until all replicas of all keys are in sync.
    pub(crate) fn wait_until_in_sync(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let wanted = self.setup.make.nodes.min(3) as usize;
        let since = now();
        while !self.lab.recorder.are_in_sync(wanted, since) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        true
    }

    /// Heals everything, reads everything, stops, compares and judges.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        let mut problems = Vec::new();
        self.lab.heal()?;
        let healed = now();
        let healed_after = acked_since(&self.lab.recorder, self.setup.keys, healed, HEALED);
        if healed_after.is_none() {
            problems.push(format!(
                "liveness: a key had no acknowledgement for {} s after healing",
                HEALED.as_secs()
            ));
        }
        if !self.wait_until_in_sync(HEALED) {
            problems.push(format!("liveness: not all replicas in sync {} s after healing", HEALED.as_secs()));
        }
        let flipped: Vec<_> = self.lab.flipped.iter().copied().collect();
        if !scrub::wait(&flipped, HEALED)? {
            problems.push(format!("liveness: damage is left {} s after healing", HEALED.as_secs()));
        }
        self.programs.iter_mut().for_each(Program::begin_final);
        self.ours.begin_final();
        let churn = self.ours.churn.clone();
        self.ours.finish()?;
        for program in self.programs {
            problems.extend(program.finish()?);
        }
        if self.setup.load.workload.has_transactions() {
            match txn_load::positions(&self.lab.bootstrap(), TOPIC, self.setup.keys) {
                Ok(lines) => lines.into_iter().for_each(|line| self.lab.recorder.push(line)),
                Err(error) => problems.push(format!("liveness: the group's offsets: {error:#}")),
            }
        }
        let ended = now();
        self.lab.wrong = "nothing".to_owned();
        self.lab.note_ends("after healing")?;
        let badly = self.lab.stop_all()?;
        problems.extend(badly.iter().map(|id| format!("node {id} did not stop in good order")));
        let (broker, data) = (self.lab.broker().to_owned(), self.lab.data());
        let recorder = self.lab.recorder.clone();
        let has = |key, node| recorder.has_replica(key, node);
        for line in replicas::compare(&broker, &data, TOPIC, self.setup.keys, has)? {
            self.lab.recorder.push(line);
        }
        problems.extend(panics(&self.lab)?);
        let (history, nonsense) = self.lab.recorder.finish()?;
        problems.extend(nonsense);
        let (expected, not): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lab.ended).into_iter().partition(|text| may_end(text));
        problems.extend(not);
        let (restless, mut figures) = churn.judge(&history);
        problems.extend(restless);
        let verdict = if self.setup.takes.is_zero() {
            check(&history)
        } else {
            let (judged, kept) = spared(history.clone(), self.setup.takes);
            let takes = self.setup.takes.as_secs();
            figures
                .push(format!("{kept} sends had been acknowledged {takes} s before each loss of all power"));
            if kept == 0 {
                problems.push("nothing had been acknowledged long enough before".to_owned());
            }
            check(&judged)
        };
        if !verdict.is_clean() {
            // Disks go with the run: what is on them tells terms and producers.
            replicas::keep(&broker, &data, TOPIC, &self.setup.make.dir)?;
        }
        let (notes, began) = (expected, self.began);
        Ok(Outcome { history, verdict, problems, notes, figures, began, ended, healed_after })
    }
}

/// A broker whose sync failed, or that cannot write at all, may end: it says so in its log.
fn may_end(told: &str) -> bool {
    told.contains("sync-error") || told.contains("disk-full")
}

fn panics(lab: &Lab) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (id, log) in lab.logs() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = text.lines().filter(|line| PANICS.iter().any(|panic| line.contains(panic)));
        found.extend(lines.map(|line| format!("node {id} said: {line}")));
    }
    Ok(found)
}

/// The longest time without an acknowledgement of any one key that a window touches, and the key.
pub(crate) fn longest_gap(history: &History, from: u64, to: u64) -> (Duration, u32) {
    let mut acks: std::collections::BTreeMap<u32, Vec<u64>> = std::collections::BTreeMap::new();
    for send in &history.sends {
        if matches!(send.outcome, jepsen::history::Outcome::Ok(_)) {
            acks.entry(send.key).or_default().push(send.end);
        }
    }
    let mut longest = (0, 0);
    for (key, mut times) in acks {
        times.sort_unstable();
        for pair in times.windows(2) {
            if pair[1] > from && pair[0] < to {
                longest = longest.max((pair[1] - pair[0], key));
            }
        }
    }
    (Duration::from_nanos(longest.0), longest.1)
}

/// Faults with their beginnings and ends.
pub(crate) fn windows(history: &History) -> Vec<(String, u64, u64)> {
    let mut open: Vec<(String, u64)> = Vec::new();
    let mut found = Vec::new();
    for line in &history.rest {
        let Line::Fault { time, what, begins } = line else { continue };
        if *begins {
            open.push((what.clone(), *time));
        } else if let Some(at) = open.iter().position(|(name, _)| name == what) {
            let (name, began) = open.swap_remove(at);
            found.push((name, began, *time));
        }
    }
    found.sort_by_key(|(_, began, _)| *began);
    found
}
