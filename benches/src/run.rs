//! One row: both brokers started and warmed, then pairs of runs that alternate on fresh topics.
use crate::cold::Cold;
use crate::disk::{Disk, check_room};
use crate::probes::{Ballast, Probes, append, probe};
use crate::rows::{Before, Figure, Load, Row, TOPICS};
use crate::systems::{Kind, Setup, System, wall_ms};
use crate::usage::{Usage, usage};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tests do not go into the binary: a row stays what it is when they change.
const NO_TESTS: &str = ":(exclude)crates/*/tests/*";

/// Runs below so many seconds are a trial.
const SHORTEST: f64 = 10.0;

/// Where things are.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// Images, logs and results.
    pub(crate) dir: PathBuf,
    pub(crate) plimsoll: PathBuf,
    pub(crate) kafka: PathBuf,
    pub(crate) commit: String,
    /// Of 1,000 partitions each, in the rows with many.
    pub(crate) topics: u32,
    /// Short runs or few partitions: kept apart, and no page is written of them.
    pub(crate) trial: bool,
}

impl Place {
    pub(crate) fn new(root: &Path, topics: u32, seconds: f64) -> Result<Place> {
        let root = root.canonicalize()?;
        let dir = root.join("target/bench");
        std::fs::create_dir_all(&dir)?;
        let git = |args: &[&str]| -> Result<String> {
            let output = Command::new("git").args(args).current_dir(&root).output().context("git")?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let mut commit: String =
            git(&["rev-list", "-1", "HEAD", "--", "crates", NO_TESTS])?.chars().take(12).collect();
        if !git(&["status", "--porcelain", "--", "crates", NO_TESTS])?.is_empty() {
            commit.push_str("-changed");
        }
        let plimsoll = root.join("target/release/plimsoll");
        let kafka = root.join("target/clients/kafka-4.4.0");
        let trial = topics != TOPICS || seconds < SHORTEST;
        Ok(Place { root, dir, plimsoll, kafka, commit, topics, trial })
    }

    pub(crate) fn results(&self) -> PathBuf {
        let name = if self.trial { format!("{}-trial", self.commit) } else { self.commit.clone() };
        self.dir.join("results").join(name)
    }
}

/// What the load generator reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ClientFigures {
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) uncompressed_bytes: u64,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) mb_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

/// One run of one broker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) client: ClientFigures,
    pub(crate) broker: Usage,
    #[serde(default)]
    pub(crate) first_ack_ms: f64,
    #[serde(default)]
    pub(crate) all_acks_ms: f64,
    #[serde(default)]
    pub(crate) made_ms: f64,
    #[serde(default)]
    pub(crate) partition_kb: f64,
    #[serde(default)]
    pub(crate) idle_cpu_percent: f64,
}

impl Sample {
    pub(crate) fn gb(&self) -> f64 {
        (self.client.uncompressed_bytes as f64 / 1e9).max(1e-9)
    }

    pub(crate) fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::CpuPerGb => self.broker.cpu_s() / self.gb(),
            Figure::UserCpuPerGb => self.broker.user_s / self.gb(),
            Figure::Throughput => self.client.mb_per_s,
            Figure::RequestsPerCpu => self.client.requests as f64 / self.broker.cpu_s().max(0.01),
            Figure::P99 => self.client.p99_ms,
            Figure::P999 => self.client.p999_ms,
            Figure::Rss => self.broker.rss_mb,
            Figure::PeakRss => self.broker.peak_mb,
            Figure::FirstAck => self.first_ack_ms,
            Figure::AllAcks => self.all_acks_ms,
            Figure::Made => self.made_ms,
            Figure::PartitionKb => self.partition_kb,
            Figure::IdleCpu => self.idle_cpu_percent,
        }
    }
}

/// All pairs of a row: (ours, Kafka's).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Seconds a run.
    #[serde(default)]
    pub(crate) seconds: f64,
    /// When the row ended, ms since 1970.
    #[serde(default)]
    pub(crate) at_ms: f64,
    /// Whether each broker had a file system of its own.
    #[serde(default)]
    pub(crate) own_file_systems: bool,
    pub(crate) probes: Probes,
    pub(crate) pairs: Vec<(Sample, Sample)>,
}

fn bench(
    place: &Place,
    system: &System,
    what: &str,
    topic: &str,
    partitions: u32,
    args: &[String],
) -> Command {
    let mut command = Command::new(&place.plimsoll);
    command.args(["bench", what, "--bootstrap-server", &system.address(), "--topic", topic]);
    command.args(["--format", "json"]);
    command.args(["--partitions", &partitions.to_string()]).args(args);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

fn figures(mut command: Command) -> Result<ClientFigures> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed");
    }
    let client: ClientFigures = serde_json::from_slice(&output.stdout).context("the figures of the load")?;
    if client.errors > 0 {
        bail!("{command:?}: {} requests were refused", client.errors);
    }
    Ok(client)
}

fn strings(args: &[&str], seconds: Option<f64>) -> Vec<String> {
    let mut all: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    if let Some(seconds) = seconds {
        all.extend(["--seconds".to_owned(), seconds.to_string()]);
    }
    all
}

fn one_run(place: &Place, row: &Row, system: &System, topic: &str, seconds: f64) -> Result<Sample> {
    let make = |what: &str, args: &[String]| bench(place, system, what, topic, row.partitions, args);
    let timed = |command: Command| -> Result<Sample> {
        let before = usage(system.pid())?;
        let client = figures(command)?;
        Ok(Sample { client, broker: usage(system.pid())?.since(before), ..Sample::default() })
    };
    match row.load {
        Load::Produce(args) => timed(make("produce", &strings(args, Some(seconds)))),
        Load::Latency(args) => timed(make("latency", &strings(args, Some(seconds)))),
        Load::Backlog { fill } => {
            let patience = if place.trial { seconds } else { 60.0 };
            figures(make("produce", &strings(fill, Some(patience))))?;
            timed(make("consume", &strings(&["--seconds", "120"], None)))
        }
        Load::Tail { produce, readers } => {
            let alone = timed(make("produce", &strings(produce, Some(seconds))))?;
            let readers = readers.to_string();
            let limit = (seconds + 4.0).to_string();
            let mut consumer = make(
                "consume",
                &strings(&["--tail", "--readers", &readers, "--seconds", &limit, "--idle", "3"], None),
            );
            let before = usage(system.pid())?;
            let child = consumer.stdout(Stdio::piped()).spawn()?;
            std::thread::sleep(std::time::Duration::from_millis(500));
            figures(make("produce", &strings(produce, Some(seconds))))?;
            let output = child.wait_with_output()?;
            let client: ClientFigures =
                serde_json::from_slice(&output.stdout).context("the readers' figures")?;
            let mut broker = usage(system.pid())?.since(before);
            broker.user_s -= alone.broker.user_s;
            broker.system_s -= alone.broker.system_s;
            broker.background_s -= alone.broker.background_s;
            Ok(Sample { client, broker, ..Sample::default() })
        }
        Load::Idle | Load::Start(_) | Load::Many => bail!("{} starts its brokers itself", row.name),
    }
}

fn delete_topic(place: &Place, system: &System, topic: &str) {
    let _ = Command::new(&place.plimsoll)
        .args(["topic", "delete", topic, "--bootstrap-server", &system.address()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Measures a row and keeps its samples by commit.
pub(crate) fn measure(place: &Place, row: &Row, pairs: usize, seconds: f64) -> Result<()> {
    println!("{}: {}", row.name, row.what);
    check_room(&place.dir)?;
    let disks = (Disk::new(&place.dir, "plimsoll")?, Disk::new(&place.dir, "kafka")?);
    let mut measured =
        Measured { seconds, own_file_systems: disks.0.own && disks.1.own, ..Measured::default() };
    let pairs = pairs.min(row.most_pairs);
    if row.load.starts_anew() {
        measured.probes = probe(disks.0.root())?;
        measured.pairs = anew(place, row, &disks, pairs, seconds)?;
    } else {
        running(place, row, &disks, pairs, &mut measured)?;
    }
    measured.at_ms = wall_ms();
    std::fs::create_dir_all(place.results())?;
    let file = place.results().join(format!("{}.json", row.name));
    std::fs::write(&file, serde_json::to_vec_pretty(&measured)?)?;
    Ok(())
}

/// Who goes first alternates.
fn order(pair: usize) -> [usize; 2] {
    if pair.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

/// Both brokers are started and warmed once; each run has a topic of its own.
fn running(
    place: &Place,
    row: &Row,
    disks: &(Disk, Disk),
    pairs: usize,
    measured: &mut Measured,
) -> Result<()> {
    let start = |kind, disk| Setup::new(place, kind, row.durability, disk)?.start();
    let systems = [start(Kind::Plimsoll, &disks.0)?, start(Kind::Kafka, &disks.1)?];
    for system in &systems {
        one_run(place, row, system, "warm-up", measured.seconds)
            .with_context(|| format!("warm {:?}", system.kind))?;
        delete_topic(place, system, "warm-up");
    }
    // A trial is not worth the time that this takes.
    let mut ballast = if place.trial { None } else { Some(Ballast::new(&place.dir)?) };
    let mut refill = || ballast.as_mut().map_or(Ok(()), Ballast::refill);
    refill()?;
    measured.probes = probe(disks.0.root())?;
    let appends = &mut measured.probes.append_cpu_s_per_gb;
    appends.clear();
    for pair in 0..pairs {
        let topic = format!("{}-{pair}", row.name);
        let mut samples = [Sample::default(), Sample::default()];
        let mut settle = || {
            disks.0.settle();
            disks.1.settle();
            refill()
        };
        for at in order(pair) {
            // Before each, so that it is the same for whoever goes first.
            appends.push(append(disks.0.root())?);
            settle()?;
            let sample = one_run(place, row, &systems[at], &topic, measured.seconds)
                .with_context(|| format!("pair {pair}, {:?}", systems[at].kind))?;
            println!("  pair {pair} {:?}: {}", systems[at].kind, describe(row, &sample));
            samples[at] = sample;
            delete_topic(place, &systems[at], &topic);
        }
        let [own, other] = samples;
        measured.pairs.push((own, other));
    }
    Ok(())
}

/// Each run starts its broker: on new files, or on those that the run before left.
fn anew(
    place: &Place,
    row: &Row,
    disks: &(Disk, Disk),
    pairs: usize,
    seconds: f64,
) -> Result<Vec<(Sample, Sample)>> {
    let keeps = matches!(row.load, Load::Start(Before::Clean | Before::Killed));
    let mut kept: [Option<Cold>; 2] = [None, None];
    let mut all = Vec::new();
    for pair in 0..pairs {
        let mut samples = [Sample::default(), Sample::default()];
        for at in order(pair) {
            let (kind, disk) = [(Kind::Plimsoll, &disks.0), (Kind::Kafka, &disks.1)][at];
            let mut cold = match kept[at].take() {
                Some(cold) => cold,
                None => Cold::new(Setup::new(place, kind, row.durability, disk)?),
            };
            disk.settle();
            let sample = cold.run(place, row, pair, seconds)?;
            println!("  pair {pair} {kind:?}: {}", describe(row, &sample));
            samples[at] = sample;
            kept[at] = Some(cold).filter(|_| keeps);
        }
        let [own, other] = samples;
        all.push((own, other));
    }
    Ok(all)
}

fn describe(row: &Row, sample: &Sample) -> String {
    let figures = row.goals.iter().map(|(f, _)| format!("{} {:.3}", f.name(), sample.figure(*f)));
    figures.collect::<Vec<_>>().join(", ")
}
