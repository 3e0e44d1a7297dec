//! What only three brokers have: replicas at rest, leaders that are killed, restarts one by one.
use crate::cold::{REST, many, rest, touch, touched};
use crate::rows::{PARTITIONS, Row};
use crate::run::{ClientFigures, Place, Sample};
use crate::systems::{Kind, Setup, System, wall_ms};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long replicas may take to get in sync, and a new leader to be found.
const PATIENCE: Duration = Duration::from_secs(300);
/// Acknowledgements after a gap that show that it is over.
const STEADY: usize = 100;

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Waits until a topic can have a replica on each node.
pub(crate) fn formed(place: &Place, system: &System) -> Result<()> {
    let args = ["--create", "--topics", "1", "--partitions", "3", "--prefix", "formed"];
    touched(touch(place, &system.address(), &strings(&args)).spawn()?)?;
    in_sync(place, system, "formed-0")
}

/// A partition as the CLI describes it.
#[derive(Debug)]
pub(crate) struct Described {
    /// -1 for none.
    pub(crate) leader: i64,
    pub(crate) replicas: Vec<i64>,
    pub(crate) in_sync: usize,
}

/// The partitions of a topic.
pub(crate) fn describe(place: &Place, system: &System, topic: &str) -> Result<Vec<Described>> {
    let mut command = Command::new(&place.plimsoll);
    command.args(["topic", "describe", topic, "--format", "json", "-b", &system.addresses()]);
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let topics: Value = serde_json::from_slice(&output.stdout)?;
    let partitions = topics[0]["partitions"].as_array().context("partitions of a topic")?;
    let row = |p: &Value| Described {
        leader: p["leader"].as_i64().unwrap_or(-1),
        replicas: p["replicas"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect(),
        in_sync: p["inSync"].as_array().map_or(0, Vec::len),
    };
    Ok(partitions.iter().map(row).collect())
}

/// Waits until every replica of a topic is in sync.
pub(crate) fn in_sync(place: &Place, system: &System, topic: &str) -> Result<()> {
    in_sync_where(place, system, topic, |rows| rows)
}

/// The same for some of the partitions: those that nobody writes to may be told of late.
pub(crate) fn in_sync_where(
    place: &Place,
    system: &System,
    topic: &str,
    chosen: impl Fn(&[Described]) -> &[Described],
) -> Result<()> {
    let start = Instant::now();
    loop {
        let rows = describe(place, system, topic);
        let whole = |row: &Described| row.leader > 0 && row.in_sync == system.nodes();
        if rows.as_ref().is_ok_and(|rows| chosen(rows).iter().all(whole)) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("{topic} does not get in sync: {rows:?}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn at_rest(place: &Place, row: &Row, setup: Setup, seconds: f64) -> Result<Sample> {
    let system = setup.start()?;
    formed(place, &system)?;
    let partitions = row.partitions.to_string();
    let args = ["--create", "--topics", "1", "--partitions", &partitions];
    touched(touch(place, &system.address(), &strings(&args)).spawn()?)?;
    in_sync(place, &system, "touch-0")?;
    std::thread::sleep(REST);
    rest(&system, seconds)
}

/// MB/s of a producer for each topic, all at once.
fn produce_to_all(
    place: &Place,
    system: &System,
    prefix: &str,
    partitions: u32,
    seconds: f64,
) -> Result<f64> {
    let one = |topic: u32| -> Result<Child> {
        let mut command = Command::new(&place.plimsoll);
        command.args(["bench", "produce", "-b", &system.address(), "--format", "json"]);
        command.args(["--topic", &format!("{prefix}-{topic}"), "--partitions", &partitions.to_string()]);
        command.args(["--batch-bytes", "16384", "--batches-per-request", "5"]);
        command.args(["--seconds", &seconds.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command.spawn()?)
    };
    let children: Vec<Child> = (0..place.topics).map(one).collect::<Result<_>>()?;
    let mut total = 0.0;
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "a producer of {prefix} failed");
        let figures: ClientFigures = serde_json::from_slice(&output.stdout)?;
        ensure!(figures.errors == 0, "{} requests to {prefix} were refused", figures.errors);
        total += figures.mb_per_s;
    }
    Ok(total)
}

pub(crate) fn many_replicas(place: &Place, setup: Setup, seconds: f64) -> Result<Sample> {
    let system = setup.start()?;
    formed(place, &system)?;
    std::thread::sleep(REST);
    let before = system.usage()?.pss_mb;
    let begun = wall_ms();
    let made = touched(touch(place, &system.address(), &many(place, &["--create"])).spawn()?)?;
    let made_ms = made.all_at_ms - begun;
    println!("  {:?}: made and written to in {:.1} s", system.kind, made_ms / 1e3);
    std::thread::sleep(REST * 2);
    let mut sample = rest(&system, seconds)?;
    sample.made_ms = made_ms;
    let replicas = f64::from(place.topics * PARTITIONS) * system.nodes() as f64;
    sample.replica_kb = (sample.broker.pss_mb - before) * 1e3 / replicas;
    // Once for nothing: files grow, leaders wake.
    produce_to_all(place, &system, "touch", PARTITIONS, seconds / 2.0)?;
    let many = produce_to_all(place, &system, "touch", PARTITIONS, seconds)?;
    produce_to_all(place, &system, "ten", 1, seconds / 2.0)?;
    let ten = produce_to_all(place, &system, "ten", 1, seconds)?;
    println!("  {:?}: {many:.1} MB/s to all, {ten:.1} to ten", system.kind);
    sample.many_to_ten = many / ten;
    Ok(sample)
}

/// What `plimsoll bench pulse` reports at its end.
#[derive(Debug, Deserialize)]
struct Pulsed {
    records: u64,
    errors: u64,
    first_error: Option<String>,
    longest_gap_ms: f64,
}

/// A client that goes on whatever happens to the brokers; it ends with its standard input.
struct Pulse {
    child: Child,
    moments: Arc<Mutex<Vec<f64>>>,
    reading: Option<std::thread::JoinHandle<Option<Pulsed>>>,
}

impl Pulse {
    fn start(place: &Place, system: &System, partitions: usize) -> Result<Pulse> {
        let mut command = Command::new(&place.plimsoll);
        command.args(["bench", "pulse", "-b", &system.addresses(), "--format", "json", "--moments"]);
        command.args(["--topic", "pulse", "--partitions", &partitions.to_string(), "--seconds", "0"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe that was asked for")?);
        let moments = Arc::new(Mutex::new(Vec::new()));
        let seen = moments.clone();
        let reading = std::thread::spawn(move || read_moments(lines, &seen));
        Ok(Pulse { child, moments, reading: Some(reading) })
    }

    fn moments(&self) -> Vec<f64> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(mut self) -> Result<Pulsed> {
        drop(self.child.stdin.take());
        let reading = self.reading.take().context("ended once")?;
        let pulsed = reading.join().map_err(|_| anyhow::anyhow!("reading the pulse panicked"))?;
        pulsed.context("the figures of the pulse")
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_moments(lines: impl BufRead, seen: &Mutex<Vec<f64>>) -> Option<Pulsed> {
    for line in lines.lines() {
        let line = line.ok()?;
        match line.parse() {
            Ok(moment) => seen.lock().unwrap_or_else(PoisonError::into_inner).push(moment),
            Err(_) => return serde_json::from_str(&line).ok(),
        }
    }
    None
}

pub(crate) fn kills(place: &Place, setup: Setup, ours: usize, theirs: usize) -> Result<Sample> {
    let mut system = setup.start()?;
    formed(place, &system)?;
    let pulse = Pulse::start(place, &system, 1)?;
    let count = if system.kind == Kind::Plimsoll { ours } else { theirs };
    let mut sample = Sample::default();
    for kill in 0..if place.trial { count.min(2) } else { count } {
        std::thread::sleep(Duration::from_secs(2));
        in_sync(place, &system, "pulse")?;
        let gap = one_kill(place, &mut system, &pulse)?;
        println!("  {:?} kill {kill}: {gap:.0} ms", system.kind);
        sample.gaps_ms.push(gap);
    }
    let pulsed = pulse.end()?;
    if let Some(error) = &pulsed.first_error {
        println!("  {:?}: {} records were given up, the first: {error}", system.kind, pulsed.errors);
    }
    sample.errors = pulsed.errors;
    Ok(sample)
}

fn one_kill(place: &Place, system: &mut System, pulse: &Pulse) -> Result<f64> {
    let leader = describe(place, system, "pulse")?.first().context("a partition")?.leader;
    let node = usize::try_from(leader - 1).context("a leader")?;
    let at = wall_ms();
    system.kill_node(node)?;
    let gap = loop {
        std::thread::sleep(Duration::from_millis(100));
        let moments = pulse.moments();
        // From the last one before the kill on.
        let from =
            moments.iter().rposition(|moment| *moment < at).context("acknowledgements before a kill")?;
        if moments.len() - from > STEADY {
            break moments[from..].windows(2).map(|two| two[1] - two[0]).fold(0.0, f64::max);
        }
        ensure!(wall_ms() - at < PATIENCE.as_secs_f64() * 1e3, "no acknowledgement since a kill");
    };
    system.start_node(node)?;
    Ok(gap)
}

pub(crate) fn rolling(place: &Place, setup: Setup, rounds: usize) -> Result<Sample> {
    let mut system = setup.start()?;
    formed(place, &system)?;
    let pulse = Pulse::start(place, &system, 10)?;
    std::thread::sleep(Duration::from_secs(2));
    for round in 0..if place.trial { 1 } else { rounds } {
        for node in 0..system.nodes() {
            in_sync(place, &system, "pulse")?;
            system.stop_node(node)?;
            system.start_node(node)?;
        }
        println!("  {:?} round {round}: {} acknowledgements", system.kind, pulse.moments().len());
    }
    in_sync(place, &system, "pulse")?;
    let pulsed = pulse.end()?;
    if let Some(error) = &pulsed.first_error {
        println!("  {:?}: the first error: {error}", system.kind);
    }
    println!("  {:?}: {} records", system.kind, pulsed.records);
    Ok(Sample { errors: pulsed.errors, gaps_ms: vec![pulsed.longest_gap_ms], ..Sample::default() })
}
