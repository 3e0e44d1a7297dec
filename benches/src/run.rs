//! One row: both brokers started and warmed, then pairs of runs that alternate on fresh topics.
use crate::cold::Cold;
use crate::disk::{Disk, LITTLE_ROOM, ROOM, check_room};
use crate::probes::{Ballast, Probes, append, probe};
use crate::rows::{Figure, Load, Row, TOPICS};
use crate::summary::{Summary, median};
use crate::systems::{Durability, Kind, Setup, System};
use crate::three;
use crate::txn;
use crate::usage::Usage;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Tests do not go into the binary: a row stays what it is when they change.
const NO_TESTS: &str = ":(exclude)crates/*/tests/*";

/// Runs below so many seconds are a trial.
const SHORTEST: f64 = 10.0;

/// Seconds of load before the runs of three of Apache Kafka's brokers count: at least, and at most.
const WARM_UP: (f64, f64) = (90.0, 300.0);
/// Runs that may be refused something before the row is given up.
pub(crate) const TRIES: usize = 3;

/// What a row is about is nothing that the broker has: it is passed over.
#[derive(Debug)]
pub(crate) struct Unserved(pub(crate) &'static str);

impl std::fmt::Display for Unserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not served", self.0)
    }
}

impl std::error::Error for Unserved {}

/// Where things are.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// Images, logs and results.
    pub(crate) dir: PathBuf,
    pub(crate) plimsoll: PathBuf,
    pub(crate) kafka: PathBuf,
    pub(crate) commit: String,
    /// Of 1,000 partitions each, in the rows with many.
    pub(crate) topics: u32,
    /// Brokers of each kind: 1 or 3.
    pub(crate) nodes: usize,
    /// Apache Kafka is left out.
    pub(crate) alone: bool,
    /// Short runs, few partitions, or ours alone: kept apart, and no page is written of them.
    pub(crate) trial: bool,
}

impl Place {
    pub(crate) fn new(root: &Path, nodes: usize, topics: u32, seconds: f64) -> Result<Place> {
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
        let plimsoll = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => PathBuf::from(target).join("release/plimsoll"),
            None => root.join("target/release/plimsoll"),
        };
        let kafka = root.join("target/clients/kafka-4.4.0");
        let trial = topics != TOPICS || seconds < SHORTEST;
        Ok(Place { root, dir, plimsoll, kafka, commit, topics, nodes, alone: false, trial })
    }

    /// What was measured, in a file for each row: committed, so that a row that is measured anew leaves the
    /// others as they are.
    pub(crate) fn results(&self) -> PathBuf {
        if self.trial { self.dir.join("trial") } else { self.root.join("benches/results") }
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
    #[serde(default)]
    pub(crate) first_error: Option<i16>,
    pub(crate) mb_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// Of transactional producers.
    #[serde(default)]
    pub(crate) transactions: u64,
    #[serde(default)]
    pub(crate) commit_p99_ms: f64,
}

impl ClientFigures {
    /// Counts of one more run.
    pub(crate) fn add(&mut self, other: &ClientFigures) {
        self.seconds += other.seconds;
        self.bytes += other.bytes;
        self.uncompressed_bytes += other.uncompressed_bytes;
        self.requests += other.requests;
        self.transactions += other.transactions;
    }
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
    #[serde(default)]
    pub(crate) replica_kb: f64,
    #[serde(default)]
    pub(crate) many_to_ten: f64,
    #[serde(default)]
    pub(crate) move_gb_per_s: f64,
    #[serde(default)]
    pub(crate) live_p99_ratio: f64,
    /// Records that a client had to give up.
    #[serde(default)]
    pub(crate) errors: u64,
    /// Without an acknowledgement after each kill.
    #[serde(default)]
    pub(crate) gaps_ms: Vec<f64>,
    #[serde(default)]
    pub(crate) to_idempotent: f64,
    #[serde(default)]
    pub(crate) stable_ms: f64,
    #[serde(default)]
    pub(crate) offsets_served_ms: f64,
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
            Figure::Pss => self.broker.pss_mb,
            Figure::ReplicaKb => self.replica_kb,
            Figure::LongestGap => self.gaps_ms.iter().copied().fold(0.0, f64::max),
            Figure::MedianGap => median(self.gaps_ms.clone()).0,
            Figure::ManyToTen => self.many_to_ten,
            Figure::Errors => self.errors as f64,
            Figure::Moved => self.move_gb_per_s,
            Figure::LiveP99 => self.live_p99_ratio,
            Figure::ToIdempotent => self.to_idempotent,
            Figure::CommitP99 => self.client.commit_p99_ms,
            Figure::CpuPerKiloTxn => self.broker.cpu_s() * 1e3 / (self.client.transactions as f64).max(1.0),
            Figure::CpuPerKiloCommit => self.broker.cpu_s() * 1e3 / (self.client.requests as f64).max(1.0),
            Figure::Stable => self.stable_ms,
            Figure::OffsetsServed => self.offsets_served_ms,
        }
    }
}

/// All pairs of a row: (ours, Kafka's, if it is measured beside).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Seconds a run.
    #[serde(default)]
    pub(crate) seconds: f64,
    /// Whether each broker had a file system of its own.
    #[serde(default)]
    pub(crate) own_file_systems: bool,
    pub(crate) probes: Probes,
    pub(crate) pairs: Vec<(Sample, Option<Sample>)>,
}

/// `plimsoll bench WHAT` for a system.
pub(crate) fn bench(
    place: &Place,
    system: &System,
    what: &str,
    topic: &str,
    partitions: u32,
    args: &[String],
) -> Command {
    bench_at(place, &system.addresses(), what, topic, partitions, args)
}

/// The same for a system that may not run yet.
pub(crate) fn bench_at(
    place: &Place,
    addresses: &str,
    what: &str,
    topic: &str,
    partitions: u32,
    args: &[String],
) -> Command {
    let mut command = Command::new(&place.plimsoll);
    command.arg("bench").args(what.split(' '));
    command.args(["--bootstrap-server", addresses, "--topic", topic]);
    command.args(["--format", "json"]);
    command.args(["--partitions", &partitions.to_string()]).args(args);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

pub(crate) fn figures(mut command: Command) -> Result<ClientFigures> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed");
    }
    let client: ClientFigures = serde_json::from_slice(&output.stdout).context("the figures of the load")?;
    if client.errors > 0 {
        let (count, first) = (client.errors, client.first_error);
        bail!("{command:?}: {count} batches were refused, the first with code {first:?}");
    }
    Ok(client)
}

pub(crate) fn strings(args: &[&str], seconds: Option<f64>) -> Vec<String> {
    let mut all: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    if let Some(seconds) = seconds {
        all.extend(["--seconds".to_owned(), seconds.to_string()]);
    }
    all
}

fn one_run(place: &Place, row: &Row, system: &System, topic: &str, seconds: f64) -> Result<Sample> {
    let make = |what: &str, args: &[String]| bench(place, system, what, topic, row.partitions, args);
    let timed = |command: Command| -> Result<Sample> {
        let before = system.usage()?;
        let client = figures(command)?;
        Ok(Sample { client, broker: system.usage()?.since(before), ..Sample::default() })
    };
    match row.load {
        Load::Produce(args) => timed(make("produce", &strings(args, Some(seconds)))),
        Load::Latency(args) => timed(make("latency", &strings(args, Some(seconds)))),
        Load::Txn(args) => timed(make("txn", &strings(args, Some(seconds)))),
        Load::TxnToIdempotent(args) => txn::to_idempotent(place, row, system, topic, args, seconds),
        Load::Commits(args) => timed(make("groups commit", &strings(args, Some(seconds)))),
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
            let before = system.usage()?;
            let child = consumer.stdout(Stdio::piped()).spawn()?;
            std::thread::sleep(std::time::Duration::from_millis(500));
            figures(make("produce", &strings(produce, Some(seconds))))?;
            let output = child.wait_with_output()?;
            let client: ClientFigures =
                serde_json::from_slice(&output.stdout).context("the readers' figures")?;
            let mut broker = system.usage()?.since(before);
            broker.user_s -= alone.broker.user_s;
            broker.system_s -= alone.broker.system_s;
            broker.background_s -= alone.broker.background_s;
            Ok(Sample { client, broker, ..Sample::default() })
        }
        _ => bail!("{} starts its brokers itself", row.name),
    }
}

pub(crate) fn delete_topic(place: &Place, system: &System, topic: &str) {
    let _ = Command::new(&place.plimsoll)
        .args(["topic", "delete", topic, "--bootstrap-server", &system.address()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// In rows of the page cache the coordinators' topics are there, too, as Kafka's are. They never follow the broker's
/// `write.caching`, but for somebody who sets it on them.
fn alike(place: &Place, row: &Row, system: &System) -> Result<()> {
    let Some(topic) = row.load.coordinators() else { return Ok(()) };
    if row.durability != Durability::PageCache || system.kind == Kind::Kafka {
        return Ok(());
    }
    let mut command = Command::new(&place.plimsoll);
    command.args(["topic", "alter-config", topic, "--set", "write.caching=true"]);
    let set = command.args(["--bootstrap-server", &system.address()]).stdout(Stdio::null()).status()?;
    ensure!(set.success(), "write.caching=true cannot be set on {topic}");
    Ok(())
}

/// Disks of both kinds, one for each node.
struct Disks([Vec<Disk>; 2]);

const KINDS: [Kind; 2] = [Kind::Plimsoll, Kind::Kafka];

impl Disks {
    fn new(place: &Place) -> Result<Disks> {
        let of = |name: &str| -> Result<Vec<Disk>> {
            (1..=place.nodes).map(|node| Disk::new(&place.dir, &format!("{name}-{node}"))).collect()
        };
        Ok(Disks([of("plimsoll")?, of("kafka")?]))
    }

    fn own(&self) -> bool {
        self.0.iter().flatten().all(|disk| disk.own)
    }

    /// Where the machine is probed.
    fn first(&self) -> &Path {
        self.0[0][0].root()
    }

    fn settle(&self) {
        self.0.iter().flatten().for_each(Disk::settle);
    }
}

/// Measures a row and keeps what came out.
pub(crate) fn measure(place: &Place, row: &Row, pairs: usize, seconds: f64) -> Result<()> {
    println!("{}: {}", row.name, row.what);
    let place = &Place { nodes: row.load.nodes().unwrap_or(place.nodes), ..place.clone() };
    let room = match place.nodes {
        _ if row.load.starts_anew() || place.trial => LITTLE_ROOM,
        1 => ROOM,
        // What three replicas of a run hold at the most that was ever seen, for each kind.
        _ => LITTLE_ROOM.max((seconds * 1.2e9) as u64),
    };
    check_room(&place.dir, room)?;
    let disks = Disks::new(place)?;
    let mut measured = Measured { seconds, own_file_systems: disks.own(), ..Measured::default() };
    let pairs = pairs.min(row.most_pairs);
    if row.load.starts_anew() {
        measured.probes = probe(disks.first())?;
        measured.pairs = anew(place, row, &disks, pairs, seconds)?;
    } else {
        running(place, row, &disks, pairs, &mut measured)?;
    }
    let raw = place.dir.join("raw");
    std::fs::create_dir_all(&raw)?;
    let commit = if place.trial { "trial" } else { place.commit.as_str() };
    let file = raw.join(format!("{}-{commit}.json", row.name));
    std::fs::write(&file, serde_json::to_vec_pretty(&measured)?)?;
    Summary::of(place, row, &measured).keep(place, row)
}

/// What keeps memory warm; a trial is not worth the time that this takes.
fn ballast(place: &Place) -> Result<Option<Ballast>> {
    if place.trial { Ok(None) } else { Ballast::new(&place.dir).map(Some) }
}

/// Who goes first alternates.
fn order(place: &Place, row: &Row, pair: usize) -> &'static [usize] {
    match (row.beside_kafka && !place.alone, pair.is_multiple_of(2)) {
        (false, _) => &[0],
        (true, true) => &[0, 1],
        (true, false) => &[1, 0],
    }
}

fn pair_of(mut samples: [Option<Sample>; 2]) -> (Sample, Option<Sample>) {
    (samples[0].take().unwrap_or_default(), samples[1].take())
}

/// Both kinds have removed a deleted topic's files after this: Apache Kafka waits 60 s by default, here 1 s.
pub(crate) const AFTER_DELETION: std::time::Duration = std::time::Duration::from_secs(3);

/// One run of load, or of three of Apache Kafka's processes as many as they take until a GB costs no less than
/// before: on two busy cores they are long in being compiled.
fn warm(place: &Place, row: &Row, system: &System, disks: &Disks, seconds: f64) -> Result<()> {
    // The files of each run go, and their room with them: minutes of load would fill the disk.
    let load = |seconds| {
        disks.settle();
        let sample = one_run(place, row, system, "warm-up", seconds);
        alike(place, row, system)?;
        delete_topic(place, system, "warm-up");
        std::thread::sleep(AFTER_DELETION);
        sample
    };
    if place.trial || place.nodes == 1 || system.kind == Kind::Plimsoll {
        return load(seconds).map(|_| ());
    }
    let (begun, mut before) = (Instant::now(), f64::INFINITY);
    loop {
        let cost = load(WARM_UP.0 / 3.0)?.figure(Figure::CpuPerGb);
        let warmed = begun.elapsed().as_secs_f64();
        println!("  {:?} after {warmed:.0} s of load: {cost:.2} CPU-s/GB", system.kind);
        if warmed > WARM_UP.1 || warmed > WARM_UP.0 && cost > 0.93 * before {
            return Ok(());
        }
        before = cost;
    }
}

/// The load generator does not follow leaders: where one moves, the run is made again.
fn tried(place: &Place, row: &Row, system: &System, topic: &str, seconds: f64) -> Result<Sample> {
    for attempt in 1..TRIES {
        let topic = format!("{topic}-{attempt}");
        let tried = one_run(place, row, system, &topic, seconds);
        delete_topic(place, system, &topic);
        match tried {
            Err(error) if place.nodes > 1 => println!("  {:?}, once more: {error:#}", system.kind),
            done => return done,
        }
    }
    let last = one_run(place, row, system, topic, seconds);
    delete_topic(place, system, topic);
    last
}

/// Both kinds are started and warmed once; each run has a topic of its own.
fn running(place: &Place, row: &Row, disks: &Disks, pairs: usize, measured: &mut Measured) -> Result<()> {
    let mut systems = Vec::new();
    for at in order(place, row, 0) {
        let system = Setup::new(place, KINDS[*at], row, &disks.0[*at])?.start()?;
        if place.nodes > 1 {
            three::formed(place, &system)?;
        }
        warm(place, row, &system, disks, measured.seconds)
            .with_context(|| format!("warm {:?}", system.kind))?;
        systems.push(system);
    }
    let mut ballast = ballast(place)?;
    let mut refill = || ballast.as_mut().map_or(Ok(()), Ballast::refill);
    refill()?;
    measured.probes = probe(disks.first())?;
    let appends = &mut measured.probes.append_cpu_s_per_gb;
    appends.clear();
    for pair in 0..pairs {
        let topic = format!("{}-{pair}", row.name);
        let mut samples = [None, None];
        for at in order(place, row, pair) {
            // Before each, so that it is the same for whoever goes first.
            appends.push(append(disks.first())?);
            disks.settle();
            refill()?;
            let sample = tried(place, row, &systems[*at], &topic, measured.seconds)
                .with_context(|| format!("pair {pair}, {:?}", KINDS[*at]))?;
            println!("  pair {pair} {:?}: {}", KINDS[*at], describe(row, &sample));
            samples[*at] = Some(sample);
        }
        measured.pairs.push(pair_of(samples));
    }
    Ok(())
}

/// Each run starts its brokers: on new files, or on those that the run before left.
fn anew(
    place: &Place,
    row: &Row,
    disks: &Disks,
    pairs: usize,
    seconds: f64,
) -> Result<Vec<(Sample, Option<Sample>)>> {
    let keeps = row.load.keeps_files();
    let mut kept: [Option<Cold>; 2] = [None, None];
    let mut ballast = ballast(place)?;
    let mut all = Vec::new();
    for pair in 0..pairs {
        let mut samples = [None, None];
        for at in order(place, row, pair).iter().copied() {
            let mut cold = match kept[at].take() {
                Some(cold) => cold,
                None => Cold::new(Setup::new(place, KINDS[at], row, &disks.0[at])?),
            };
            disks.settle();
            ballast.as_mut().map_or(Ok(()), Ballast::refill)?;
            let sample = cold.run(place, row, pair, seconds)?;
            println!("  pair {pair} {:?}: {}", KINDS[at], describe(row, &sample));
            samples[at] = Some(sample);
            kept[at] = Some(cold).filter(|_| keeps);
        }
        all.push(pair_of(samples));
    }
    Ok(all)
}

fn describe(row: &Row, sample: &Sample) -> String {
    let figures = row.goals.iter().map(|(f, _)| format!("{} {:.3}", f.name(), sample.figure(*f)));
    figures.collect::<Vec<_>>().join(", ")
}
