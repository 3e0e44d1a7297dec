//! One row: both brokers started and warmed, then pairs of runs that alternate on fresh topics.
use crate::disk::Disk;
use crate::probes::{Probes, probe, warm_memory};
use crate::rows::{Figure, Load, Row};
use crate::systems::{Kind, System};
use crate::usage::{Usage, usage};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where things are.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// Images, logs and results.
    pub(crate) dir: PathBuf,
    pub(crate) plimsoll: PathBuf,
    pub(crate) kafka: PathBuf,
    pub(crate) commit: String,
}

impl Place {
    pub(crate) fn new(root: &Path) -> Result<Place> {
        let root = root.canonicalize()?;
        let dir = root.join("target/bench");
        std::fs::create_dir_all(&dir)?;
        let commit = Command::new("git")
            .args(["rev-list", "-1", "HEAD", "--", "crates"])
            .current_dir(&root)
            .output()?;
        let commit = String::from_utf8_lossy(&commit.stdout).trim().chars().take(12).collect();
        let plimsoll = root.join("target/release/plimsoll");
        let kafka = root.join("target/clients/kafka-4.4.0");
        Ok(Place { root, dir, plimsoll, kafka, commit })
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.dir.join("results").join(&self.commit)
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
}

impl Sample {
    pub(crate) fn figure(&self, figure: Figure) -> f64 {
        let gb = (self.client.uncompressed_bytes as f64 / 1e9).max(1e-9);
        let cpu = self.broker.user_s + self.broker.system_s;
        match figure {
            Figure::CpuPerGb => cpu / gb,
            Figure::UserCpuPerGb => self.broker.user_s / gb,
            Figure::Throughput => self.client.mb_per_s,
            Figure::RequestsPerCpu => self.client.requests as f64 / cpu.max(0.01),
            Figure::P99 => self.client.p99_ms,
            Figure::P999 => self.client.p999_ms,
            Figure::Rss => self.broker.rss_mb,
        }
    }
}

/// All pairs of a row: (ours, Kafka's).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
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
    command.args(["bench", what, "--bootstrap", &system.address(), "--topic", topic, "--json"]);
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
        Ok(Sample { client, broker: usage(system.pid())?.since(before) })
    };
    match row.load {
        Load::Produce(args) => timed(make("produce", &strings(args, Some(seconds)))),
        Load::Latency(args) => timed(make("latency", &strings(args, Some(seconds)))),
        Load::Backlog { fill } => {
            figures(make("produce", &strings(fill, None)))?;
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
            Ok(Sample { client, broker })
        }
    }
}

fn delete_topic(place: &Place, system: &System, topic: &str) {
    let _ = Command::new(&place.plimsoll)
        .args(["topic", "delete", topic, "--bootstrap", &system.address()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Measures a row and keeps its samples by commit.
pub(crate) fn measure(place: &Place, row: &Row, pairs: usize, seconds: f64) -> Result<()> {
    println!("{}: {}", row.name, row.what);
    let disks = (Disk::new(&place.dir, "plimsoll")?, Disk::new(&place.dir, "kafka")?);
    let ours = System::start(place, Kind::Plimsoll, row.durability, &disks.0)?;
    let theirs = System::start(place, Kind::Kafka, row.durability, &disks.1)?;
    println!("  started in {:?} and {:?}", ours.started_in, theirs.started_in);
    for system in [&ours, &theirs] {
        one_run(place, row, system, "warm-up", seconds)?;
        delete_topic(place, system, "warm-up");
    }
    warm_memory(&place.dir)?;
    let mut measured = Measured { probes: probe(&place.dir)?, pairs: Vec::new() };
    for pair in 0..pairs {
        let topic = format!("{}-{pair}", row.name);
        let order = if pair % 2 == 0 { [&ours, &theirs] } else { [&theirs, &ours] };
        let mut samples = [Sample::default(), Sample::default()];
        for system in order {
            let sample = one_run(place, row, system, &topic, seconds)?;
            println!("  pair {pair} {:?}: {}", system.kind, describe(row, &sample));
            samples[usize::from(system.kind == Kind::Kafka)] = sample;
            delete_topic(place, system, &topic);
        }
        let [own, other] = samples;
        measured.pairs.push((own, other));
    }
    let _ = std::fs::remove_file(place.dir.join("ballast"));
    std::fs::create_dir_all(place.results())?;
    let file = place.results().join(format!("{}.json", row.name));
    std::fs::write(&file, serde_json::to_vec_pretty(&measured)?)?;
    Ok(())
}

fn describe(row: &Row, sample: &Sample) -> String {
    let figures = row.goals.iter().map(|(f, _)| format!("{f:?} {:.3}", sample.figure(*f)));
    figures.collect::<Vec<_>>().join(", ")
}
