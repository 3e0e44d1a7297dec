//! Rows in which each pair starts the brokers: starts, memory at rest, many partitions.
use crate::rows::{Before, Load, PARTITIONS, Row};
use crate::run::{Place, Sample};
use crate::systems::{Setup, System, wall_ms};
use crate::usage::usage;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a broker that was just asked much has to come to rest before its memory counts.
const REST: Duration = Duration::from_secs(10);

/// What `plimsoll bench touch` reports.
#[derive(Debug, Deserialize)]
struct Touched {
    first_at_ms: f64,
    all_at_ms: f64,
}

fn touch(place: &Place, setup: &Setup, args: &[String]) -> Command {
    let mut command = Command::new(&place.plimsoll);
    command.args(["bench", "touch", "--format", "json", "--bootstrap-server", &setup.address()]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

fn touched(command: std::process::Child) -> Result<Touched> {
    let output = command.wait_with_output()?;
    if !output.status.success() {
        bail!("bench touch failed");
    }
    serde_json::from_slice(&output.stdout).context("the moments of the acknowledgements")
}

/// A broker of a row: its files, and whether the many partitions are in them.
pub(crate) struct Cold {
    setup: Setup,
    filled: bool,
}

impl Cold {
    pub(crate) fn new(setup: Setup) -> Cold {
        Cold { setup, filled: false }
    }

    /// One run; what it leaves on disk is the start of the next where the row wants it so.
    pub(crate) fn run(&mut self, place: &Place, row: &Row, pair: usize, seconds: f64) -> Result<Sample> {
        match row.load {
            Load::Idle => self.idle(seconds),
            Load::Many => self.many(place, seconds),
            Load::Start(before) => self.start(place, before, pair),
            Load::Produce(_) | Load::Tail { .. } | Load::Backlog { .. } | Load::Latency(_) => {
                bail!("{} runs on brokers that are there", row.name)
            }
        }
    }

    fn idle(&self, seconds: f64) -> Result<Sample> {
        let system = self.setup.start()?;
        rest(&system, seconds)
    }

    fn many(&self, place: &Place, seconds: f64) -> Result<Sample> {
        let system = self.setup.start()?;
        let before = rest(&system, REST.as_secs_f64().min(seconds))?.broker.rss_mb;
        let begun = wall_ms();
        let made = touched(touch(place, &self.setup, &many(place, &["--create"])).spawn()?)?;
        std::thread::sleep(REST);
        let mut sample = rest(&system, seconds)?;
        sample.made_ms = made.all_at_ms - begun;
        let partitions = f64::from(place.topics * PARTITIONS);
        sample.partition_kb = (sample.broker.rss_mb - before) * 1e3 / partitions;
        Ok(sample)
    }

    /// The client that waits for the broker is there before it.
    fn start(&mut self, place: &Place, before: Before, pair: usize) -> Result<Sample> {
        self.prepare(place, before)?;
        let first = (pair as u32 * 37 % PARTITIONS).to_string();
        let args = match before {
            Before::Empty => {
                let one = ["--create", "--topics", "1", "--partitions", "1", "--first-only"];
                one.map(str::to_owned).to_vec()
            }
            Before::Clean | Before::Killed => many(place, &["--first", &first]),
        };
        let client = touch(place, &self.setup, &args).spawn()?;
        // Its own start is not to be measured.
        std::thread::sleep(Duration::from_millis(200));
        let system = self.setup.spawn()?;
        let touched = touched(client)?;
        let broker = usage(system.pid())?;
        let since = |at: f64| if at > 0.0 { at - system.started_at_ms } else { 0.0 };
        let (first_ack_ms, all_acks_ms) = (since(touched.first_at_ms), since(touched.all_at_ms));
        end(system, before)?;
        Ok(Sample { broker, first_ack_ms, all_acks_ms, ..Sample::default() })
    }

    /// Makes the partitions, once; every later run finds what the one before left, a record more in each.
    fn prepare(&mut self, place: &Place, before: Before) -> Result<()> {
        if before == Before::Empty || self.filled {
            return Ok(());
        }
        let begun = wall_ms();
        let system = self.setup.start()?;
        touched(touch(place, &self.setup, &many(place, &["--create"])).spawn()?)?;
        let seconds = (wall_ms() - begun) / 1e3;
        println!(
            "  {:?}: {} x {PARTITIONS} partitions made in {seconds:.1} s",
            self.setup.kind, place.topics
        );
        self.filled = true;
        end(system, before)
    }
}

/// Stops a broker as the next run is to find it; dropping it is kill -9.
fn end(system: System, before: Before) -> Result<()> {
    if before == Before::Clean { system.stop() } else { Ok(()) }
}

fn many(place: &Place, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = more.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend(["--topics".to_owned(), place.topics.to_string()]);
    args.extend(["--partitions".to_owned(), PARTITIONS.to_string()]);
    args
}

/// Memory and CPU of a broker that nobody asks anything.
fn rest(system: &System, seconds: f64) -> Result<Sample> {
    // What a start still does is not idling.
    std::thread::sleep(Duration::from_secs_f64((seconds / 4.0).min(5.0)));
    let before = usage(system.pid())?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let broker = usage(system.pid())?.since(before);
    let idle_cpu_percent = broker.cpu_s() / seconds * 100.0;
    Ok(Sample { broker, idle_cpu_percent, ..Sample::default() })
}
