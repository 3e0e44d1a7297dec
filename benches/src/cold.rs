//! Rows in which each pair starts the brokers: starts, memory at rest, many partitions.
use crate::failover;
use crate::groups;
use crate::moving;
use crate::rows::{Before, Load, PARTITIONS, Row};
use crate::run::{Place, Sample};
use crate::systems::{Setup, System, wall_ms};
use crate::three;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a broker that was just asked much has to come to rest before its memory counts.
pub(crate) const REST: Duration = Duration::from_secs(10);

/// What `plimsoll bench touch` reports.
#[derive(Debug, Deserialize)]
pub(crate) struct Touched {
    first_at_ms: f64,
    pub(crate) all_at_ms: f64,
}

pub(crate) fn touch(place: &Place, address: &str, args: &[String]) -> Command {
    let mut command = Command::new(&place.plimsoll);
    command.args(["bench", "touch", "--format", "json", "--bootstrap-server", address]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

pub(crate) fn touched(command: std::process::Child) -> Result<Touched> {
    let output = command.wait_with_output()?;
    if !output.status.success() {
        bail!("bench touch failed");
    }
    serde_json::from_slice(&output.stdout).context("the moments of the acknowledgements")
}

/// Brokers of a row: their files while they do not run, and whether the many partitions are in them.
pub(crate) struct Cold {
    setup: Option<Setup>,
    filled: bool,
}

impl Cold {
    pub(crate) fn new(setup: Setup) -> Cold {
        Cold { setup: Some(setup), filled: false }
    }

    /// One run; what it leaves on disk is the start of the next where the row wants it so.
    pub(crate) fn run(&mut self, place: &Place, row: &Row, pair: usize, seconds: f64) -> Result<Sample> {
        let setup = self.setup.take().context("files that a run left")?;
        match row.load {
            Load::Idle => rest(&setup.start()?, seconds),
            Load::Many => many_at_rest(place, setup, seconds),
            Load::Start(before) => {
                let setup = self.prepare(place, setup, before)?;
                let (sample, setup) = start(place, setup, before, pair)?;
                self.setup = Some(setup);
                Ok(sample)
            }
            Load::IdleTopic => three::at_rest(place, row, setup, seconds),
            Load::ManyReplicas => three::many_replicas(place, setup, seconds),
            Load::Kills { ours, theirs } => three::kills(place, setup, ours, theirs),
            Load::Rolling { rounds } => three::rolling(place, setup, rounds),
            Load::Move => moving::moves(place, setup, seconds),
            Load::Join(args) => groups::join(place, row, setup, args),
            Load::GroupsAtRest { groups } => groups::at_rest(place, setup, groups, seconds),
            Load::OffsetsLoaded { groups } => {
                let (sample, setup) = groups::load(place, setup, groups, !self.filled)?;
                self.setup = Some(setup);
                self.filled = true;
                Ok(sample)
            }
            Load::CoordinatorKills { ours, theirs } => failover::kills(place, setup, ours, theirs),
            _ => bail!("{} runs on brokers that are there", row.name),
        }
    }

    /// Makes the partitions, once; every later run finds what the one before left, a record more in each.
    fn prepare(&mut self, place: &Place, setup: Setup, before: Before) -> Result<Setup> {
        if before == Before::Empty || self.filled {
            return Ok(setup);
        }
        let begun = wall_ms();
        let system = setup.start()?;
        touched(touch(place, &system.address(), &many(place, &["--create"])).spawn()?)?;
        let seconds = (wall_ms() - begun) / 1e3;
        println!("  {:?}: {} x {PARTITIONS} partitions made in {seconds:.1} s", system.kind, place.topics);
        self.filled = true;
        end(system, before)
    }
}

fn many_at_rest(place: &Place, setup: Setup, seconds: f64) -> Result<Sample> {
    let system = setup.start()?;
    let before = rest(&system, REST.as_secs_f64().min(seconds))?.broker.rss_mb;
    let begun = wall_ms();
    let made = touched(touch(place, &system.address(), &many(place, &["--create"])).spawn()?)?;
    std::thread::sleep(REST);
    let mut sample = rest(&system, seconds)?;
    sample.made_ms = made.all_at_ms - begun;
    let partitions = f64::from(place.topics * PARTITIONS);
    sample.partition_kb = (sample.broker.rss_mb - before) * 1e3 / partitions;
    Ok(sample)
}

/// The client that waits for the broker is there before it.
fn start(place: &Place, setup: Setup, before: Before, pair: usize) -> Result<(Sample, Setup)> {
    let first = (pair as u32 * 37 % PARTITIONS).to_string();
    let args = match before {
        Before::Empty => {
            let one = ["--create", "--topics", "1", "--partitions", "1", "--first-only"];
            one.map(str::to_owned).to_vec()
        }
        Before::Clean | Before::Killed => many(place, &["--first", &first]),
    };
    let client = touch(place, &setup.address(), &args).spawn()?;
    // Its own start is not to be measured.
    std::thread::sleep(Duration::from_millis(200));
    let system = setup.spawn()?;
    let touched = touched(client)?;
    let broker = system.usage()?;
    let since = |at: f64| if at > 0.0 { at - system.started_at_ms } else { 0.0 };
    let (first_ack_ms, all_acks_ms) = (since(touched.first_at_ms), since(touched.all_at_ms));
    let setup = end(system, before)?;
    Ok((Sample { broker, first_ack_ms, all_acks_ms, ..Sample::default() }, setup))
}

/// Stops a broker as the next run is to find it.
fn end(system: System, before: Before) -> Result<Setup> {
    if before == Before::Clean { system.stop() } else { system.kill() }
}

pub(crate) fn many(place: &Place, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = more.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend(["--topics".to_owned(), place.topics.to_string()]);
    args.extend(["--partitions".to_owned(), PARTITIONS.to_string()]);
    args
}

/// Memory and CPU of a broker that nobody asks anything.
pub(crate) fn rest(system: &System, seconds: f64) -> Result<Sample> {
    // What a start still does is not idling.
    std::thread::sleep(Duration::from_secs_f64((seconds / 4.0).min(5.0)));
    let before = system.usage()?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let broker = system.usage()?.since(before);
    let idle_cpu_percent = broker.cpu_s() / seconds * 100.0;
    Ok(Sample { broker, idle_cpu_percent, ..Sample::default() })
}
