//! A partition that moves to another node: how fast, and what clients of other partitions notice of it.
use crate::run::{ClientFigures, Place, Sample, TRIES};
use crate::systems::{Setup, System};
use crate::three::{Described, describe, formed, in_sync};
use anyhow::{Context, Result, ensure};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// MB of the partition that moves: several times what stays in the raft log, so that most of it goes as files.
const MEGABYTES: u64 = 3_000;
/// So many moves, of which the last counts.
const MOVES: u32 = 3;
const TRIAL_MEGABYTES: u64 = 300;
/// MB/s to the ten partitions whose clients are watched.
const LIVE_RATE: &str = "10";

fn plimsoll(place: &Place, system: &System, args: &[&str]) -> Command {
    let mut command = Command::new(&place.plimsoll);
    command.args(args).args(["-b", &system.addresses()]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn ends_well(mut command: Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stdout).trim());
    Ok(output.stdout)
}

fn fill(place: &Place, system: &System) -> Result<f64> {
    ends_well(plimsoll(place, system, &["topic", "create", "moves", "-p", "1", "-r", "2"]))?;
    let megabytes = if place.trial { TRIAL_MEGABYTES } else { MEGABYTES }.to_string();
    let mut command = plimsoll(place, system, &["bench", "produce", "--topic", "moves", "--format", "json"]);
    command.args(["--partitions", "1", "--depth", "16", "--megabytes", &megabytes, "--seconds", "600"]);
    let filled: ClientFigures = serde_json::from_slice(&ends_well(command)?)?;
    ensure!(filled.errors == 0, "{} batches were refused", filled.errors);
    Ok(filled.bytes as f64 / 1e9)
}

fn live(place: &Place, system: &System, seconds: f64) -> Result<Child> {
    let mut command = plimsoll(place, system, &["bench", "produce", "--topic", "live", "--format", "json"]);
    command.args(["--partitions", "10", "--batch-bytes", "16384", "--rate", LIVE_RATE]);
    Ok(command.args(["--seconds", &seconds.to_string()]).spawn()?)
}

fn figures(child: Child) -> Result<ClientFigures> {
    let output = child.wait_with_output()?;
    let figures: ClientFigures = serde_json::from_slice(&output.stdout).context("the figures of the load")?;
    ensure!(
        figures.errors == 0,
        "{} batches beside the move were refused, the first with code {:?}",
        figures.errors,
        figures.first_error
    );
    Ok(figures)
}

/// The replica that follows goes to the node that has none; how long that took.
fn one_move(place: &Place, system: &System) -> Result<Duration> {
    let rows = describe(place, system, "moves")?;
    let Described { leader, replicas, .. } = rows.first().context("a partition")?;
    let other = (1..=system.nodes() as i64).find(|node| !replicas.contains(node)).context("a free node")?;
    let begun = Instant::now();
    ends_well(plimsoll(
        place,
        system,
        &["partition", "move", "moves", "0", "--to", &format!("{leader},{other}"), "--timeout", "300"],
    ))?;
    Ok(begun.elapsed())
}

/// The load generator does not follow leaders: where one moves, the run is made again.
fn tried<T>(run: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match run() {
            Err(error) => println!("  once more: {error:#}"),
            done => return done,
        }
    }
    run()
}

/// p99 of the clients, ms, while nothing moves.
fn alone(place: &Place, system: &System, seconds: f64) -> Result<f64> {
    // Once for nothing: files grow.
    figures(live(place, system, seconds / 2.0)?)?;
    in_sync(place, system, "live")?;
    Ok(figures(live(place, system, seconds)?)?.p99_ms)
}

/// p99 of the clients, ms, while the partition moves again and again, and how often it did.
fn beside(place: &Place, system: &System, seconds: f64) -> Result<(f64, u32)> {
    let mut child = live(place, system, seconds)?;
    let mut moves = 0;
    while child.try_wait()?.is_none() {
        one_move(place, system)?;
        moves += 1;
    }
    Ok((figures(child)?.p99_ms, moves))
}

pub(crate) fn moves(place: &Place, setup: Setup, seconds: f64) -> Result<Sample> {
    let system = setup.start()?;
    formed(place, &system)?;
    let gb = fill(place, &system)?;
    std::thread::sleep(Duration::from_secs(3));
    // The first lets the image of the file system grow, which a disk does not: each node has it once after three.
    let mut took = Duration::ZERO;
    for _ in 0..MOVES {
        took = one_move(place, &system)?;
        println!("  {:?}: {gb:.2} GB moved in {:.1} s", system.kind, took.as_secs_f64());
    }
    let mut sample = Sample { move_gb_per_s: gb / took.as_secs_f64(), ..Sample::default() };
    let alone = tried(|| alone(place, &system, seconds))?;
    let (beside, moves) = tried(|| beside(place, &system, seconds))?;
    println!("  {:?}: p99 {alone:.1} ms alone, {beside:.1} ms beside {moves} moves", system.kind);
    sample.live_p99_ratio = beside / alone.max(0.001);
    Ok(sample)
}
