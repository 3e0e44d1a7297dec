//! The coordinator of a group is killed: how long its member hears nothing.
use crate::groups::{OFFSETS, fill};
use crate::run::{Place, Sample, bench, strings};
use crate::systems::{Kind, Setup, System, wall_ms};
use crate::three::{Described, formed, in_sync_where};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Other groups in the same partition of offsets, with [`OFFSETS`] each.
const GROUPS: u32 = 1000;
const TRIAL_GROUPS: u32 = 50;
const GROUP: &str = "pulse";
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Answers after a gap that show that it is over.
const STEADY: usize = 100;
const PATIENCE_MS: f64 = 300_000.0;

/// What `plimsoll bench groups pulse` reports at its end.
#[derive(Debug, Deserialize)]
struct Pulsed {
    heartbeats: u64,
    commits: u64,
    errors: u64,
    first_error: Option<String>,
    rejoins: u64,
}

/// What it said so far.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    heartbeats: Vec<f64>,
    commits: Vec<f64>,
    coordinator: String,
}

impl Seen {
    /// Takes a line; gives back the last one, which is none of these.
    fn take(&mut self, line: &str) -> Option<String> {
        let moment = |text: &str| text.parse().unwrap_or(f64::NAN);
        match line.split_once(' ') {
            Some(("heartbeat", at)) => self.heartbeats.push(moment(at)),
            Some(("commit", at)) => self.commits.push(moment(at)),
            Some(("coordinator", address)) => self.coordinator = address.to_owned(),
            _ => return Some(line.to_owned()),
        }
        None
    }

    /// The longest time without one or the other around `at`, once both go on steadily.
    fn gap(&self, at: f64) -> Option<f64> {
        let of = |moments: &[f64]| {
            let from = moments.iter().rposition(|moment| *moment < at)?;
            let after = &moments[from..];
            let longest = || after.windows(2).map(|two| two[1] - two[0]).fold(0.0, f64::max);
            (after.len() > STEADY).then(longest)
        };
        Some(of(&self.heartbeats)?.max(of(&self.commits)?))
    }
}

/// A member that goes on whatever happens to the brokers; it ends with its standard input.
struct Pulse {
    child: Child,
    seen: Arc<Mutex<Seen>>,
    reading: Option<std::thread::JoinHandle<Option<String>>>,
}

impl Pulse {
    fn start(place: &Place, system: &System) -> Result<Pulse> {
        let args = strings(&["--group", GROUP, "--moments", "--seconds", "0"], None);
        let mut command = bench(place, system, "groups pulse", "pulse", OFFSETS, &args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe that was asked for")?);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let told = seen.clone();
        let reading = std::thread::spawn(move || {
            let mut lines = lines.lines().map_while(Result::ok);
            lines.find_map(|line| told.lock().unwrap_or_else(PoisonError::into_inner).take(&line))
        });
        Ok(Pulse { child, seen, reading: Some(reading) })
    }

    /// Waits until the member beats and commits: the first rebalance of a group takes seconds.
    fn begun(&self) -> Result<()> {
        let start = wall_ms();
        loop {
            let seen = self.seen();
            if !seen.coordinator.is_empty() && !seen.commits.is_empty() {
                return Ok(());
            }
            ensure!(wall_ms() - start < PATIENCE_MS, "the member does not get into its group");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(mut self) -> Result<Pulsed> {
        drop(self.child.stdin.take());
        let reading = self.reading.take().context("ended once")?;
        let last = reading.join().map_err(|_| anyhow::anyhow!("reading the pulse panicked"))?;
        serde_json::from_str(&last.context("a pulse that ended early")?).context("the figures of the pulse")
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn kills(place: &Place, setup: Setup, ours: usize, theirs: usize) -> Result<Sample> {
    let mut system = setup.start()?;
    formed(place, &system)?;
    let groups = if place.trial { TRIAL_GROUPS } else { GROUPS };
    fill(place, &system, groups, &["--beside", GROUP])?;
    let pulse = Pulse::start(place, &system)?;
    pulse.begun()?;
    let count = if system.kind == Kind::Plimsoll { ours } else { theirs };
    let mut sample = Sample::default();
    for kill in 0..if place.trial { count.min(2) } else { count } {
        std::thread::sleep(Duration::from_secs(2));
        in_sync_where(place, &system, OFFSETS_TOPIC, home)?;
        let gap = one_kill(&mut system, &pulse)?;
        println!("  {:?} kill {kill}: {gap:.0} ms", system.kind);
        sample.gaps_ms.push(gap);
    }
    let pulsed = pulse.end()?;
    println!(
        "  {:?}: {} heartbeats, {} commits, joined again {} times, {} errors",
        system.kind, pulsed.heartbeats, pulsed.commits, pulsed.rejoins, pulsed.errors
    );
    if let Some(error) = &pulsed.first_error {
        println!("  {:?}: the first error: {error}", system.kind);
    }
    sample.errors = pulsed.errors;
    Ok(sample)
}

/// The partition that has the group, of all of the topic's: Java's hash of the id.
fn home(rows: &[Described]) -> &[Described] {
    let hash = GROUP.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    let at = hash.unsigned_abs() as usize % rows.len().max(1);
    rows.get(at..=at).unwrap_or(rows)
}

fn one_kill(system: &mut System, pulse: &Pulse) -> Result<f64> {
    let coordinator = pulse.seen().coordinator;
    let node = system.node_at(&coordinator).with_context(|| format!("a node at '{coordinator}'"))?;
    let at = wall_ms();
    system.kill_node(node)?;
    let gap = loop {
        std::thread::sleep(Duration::from_millis(100));
        if let Some(gap) = pulse.seen().gap(at) {
            break gap;
        }
        ensure!(wall_ms() - at < PATIENCE_MS, "the member hears nothing since a kill");
    };
    system.start_node(node)?;
    Ok(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(heartbeats: impl Iterator<Item = f64>, commits: impl Iterator<Item = f64>) -> Seen {
        Seen { heartbeats: heartbeats.collect(), commits: commits.collect(), ..Seen::default() }
    }

    #[test]
    fn lines_are_told_apart_and_the_last_one_is_given_back() {
        let mut seen = Seen::default();
        for line in ["coordinator 127.0.0.1:1", "heartbeat 5.5", "commit 6.5", "coordinator 127.0.0.1:2"] {
            assert_eq!(seen.take(line), None);
        }
        assert_eq!((seen.heartbeats.as_slice(), seen.commits.as_slice()), (&[5.5][..], &[6.5][..]));
        assert_eq!(seen.coordinator, "127.0.0.1:2");
        assert_eq!(seen.take("{\"heartbeats\":1}"), Some("{\"heartbeats\":1}".to_owned()));
    }

    #[test]
    fn a_gap_is_the_longer_of_both_and_counts_once_both_go_on() {
        let beats = |from: f64| (0..200).map(move |n| from + f64::from(n) * 20.0);
        let before = || [960.0, 980.0].into_iter();
        assert_eq!(seen(before().chain(beats(1300.0)), before()).gap(1000.0), None, "no commit since");
        let both = seen(before().chain(beats(1300.0)), before().chain(beats(1500.0)));
        assert_eq!(both.gap(1000.0), Some(520.0));
        assert_eq!(seen(beats(1300.0), beats(1500.0)).gap(1000.0), None, "nothing before the kill");
    }
}
