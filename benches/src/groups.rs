//! Rows of group coordinators in which each run starts its brokers: joins, memory, loading.
use crate::cold::{REST, rest};
use crate::rows::{Row, TOPICS};
use crate::run::{Place, Sample, Unserved, bench, bench_at, figures, strings};
use crate::systems::{Setup, System};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::process::Stdio;
use std::time::Duration;

/// Members of the measured group, and of the one before it.
const MEMBERS: u32 = 1000;
const FIRST_MEMBERS: u32 = 100;
/// Seconds that a group may take.
const PATIENCE: &str = "300";
/// Partitions with an offset in each group.
pub(crate) const OFFSETS: u32 = 10;
const TOPIC: &str = "offsets";

/// What `plimsoll bench groups join` reports.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Joined {
    unserved: bool,
    stable_ms: f64,
    generations: usize,
}

/// What `plimsoll bench groups loaded` reports.
#[derive(Debug, Deserialize)]
struct Loaded {
    all_at_ms: f64,
    empty: u64,
}

fn joined(place: &Place, row: &Row, system: &System, args: &[&str], members: u32) -> Result<Joined> {
    let mut all = strings(args, None);
    all.extend(["--members".to_owned(), members.to_string()]);
    all.extend(["--seconds".to_owned(), PATIENCE.to_owned()]);
    let topic = format!("members-{members}");
    let output = bench(place, system, "groups join", &topic, row.partitions, &all).output()?;
    ensure!(output.status.success(), "bench groups join failed");
    let joined: Joined = serde_json::from_slice(&output.stdout).context("when a group was stable")?;
    if joined.unserved {
        return Err(Unserved("ConsumerGroupHeartbeat").into());
    }
    Ok(joined)
}

pub(crate) fn join(place: &Place, row: &Row, setup: Setup, args: &[&str]) -> Result<Sample> {
    let system = setup.start()?;
    // The first group makes the topic of offsets, and Apache Kafka compiles.
    joined(place, row, &system, args, FIRST_MEMBERS)?;
    let before = system.usage()?;
    let of = joined(place, row, &system, args, MEMBERS)?;
    let broker = system.usage()?.since(before);
    println!("  {:?}: {} generations, {:.2} CPU-s", system.kind, of.generations, broker.cpu_s());
    Ok(Sample { broker, stable_ms: of.stable_ms, ..Sample::default() })
}

/// As many of `groups` as a trial has.
fn scaled(place: &Place, groups: u32) -> u32 {
    (groups / TOPICS * place.topics).max(1)
}

/// One commit of every group.
pub(crate) fn fill(place: &Place, system: &System, groups: u32, more: &[&str]) -> Result<()> {
    let (groups, offsets) = (groups.to_string(), OFFSETS.to_string());
    let mut args = strings(&["--once", "--rate", "0", "--groups", &groups, "--offsets", &offsets], None);
    args.extend(strings(more, None));
    let filled = figures(bench(place, system, "groups commit", TOPIC, OFFSETS, &args))?;
    println!("  {:?}: {} groups filled in {:.1} s", system.kind, groups, filled.seconds);
    Ok(())
}

pub(crate) fn at_rest(place: &Place, setup: Setup, groups: u32, seconds: f64) -> Result<Sample> {
    let system = setup.start()?;
    fill(place, &system, scaled(place, groups), &[])?;
    std::thread::sleep(REST);
    rest(&system, seconds)
}

/// A start on what was there when the brokers were stopped; `first` makes it.
pub(crate) fn load(place: &Place, setup: Setup, groups: u32, first: bool) -> Result<(Sample, Setup)> {
    let groups = scaled(place, groups);
    let setup = if first {
        let system = setup.start()?;
        fill(place, &system, groups, &[])?;
        system.stop()?
    } else {
        setup
    };
    // The client that waits for the broker is there before it.
    let args = strings(&["--groups", &groups.to_string()], None);
    let mut client = bench_at(place, &setup.addresses(), "groups loaded", TOPIC, OFFSETS, &args);
    let client = client.stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(200));
    let system = setup.spawn()?;
    let output = client.wait_with_output()?;
    ensure!(output.status.success(), "bench groups loaded failed");
    let loaded: Loaded = serde_json::from_slice(&output.stdout).context("when offsets were served")?;
    ensure!(loaded.empty == 0, "{} groups were answered as if they had no offset", loaded.empty);
    let broker = system.usage()?;
    let offsets_served_ms = loaded.all_at_ms - system.started_at_ms;
    Ok((Sample { broker, offsets_served_ms, ..Sample::default() }, system.stop()?))
}
