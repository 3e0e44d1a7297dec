//! Runs seeds and reports; `--planted` shows that every planted bug is caught.
#![allow(clippy::print_stdout)]
mod cluster_cmd;

use clap::Parser;
use sim::{Outcome, run_seed};
use std::time::Instant;

/// Simulates nodes under disks and a network that fail, seed by seed.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed; alone with `--seeds 1` it replays one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps a seed.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// How many nodes; with more than one they replicate over a network that fails, too.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Failed seeds after which a run of several nodes stops.
    #[arg(long, default_value_t = 3)]
    failures: u64,
    /// Plants every known bug in turn and requires a checker to catch it.
    #[arg(long)]
    planted: bool,
    /// With `--planted` and several nodes: only the bugs whose names contain this.
    #[arg(long, default_value = "")]
    bug: String,
}

fn report(outcome: &Outcome) {
    println!("seed {} failed after {} steps:", outcome.seed, outcome.steps);
    for violation in &outcome.violations {
        println!("  {}: {}", violation.checker, violation.detail);
    }
    println!("  the last of its trace:");
    for line in &outcome.recent {
        let short: String = line.chars().take(160).collect();
        println!("    {short}");
    }
    println!("  again: cargo xtask sim --seeds 1 --seed {}", outcome.seed);
}

fn run(args: &Args) -> anyhow::Result<()> {
    let first = run_seed(args.seed, args.steps);
    let again = run_seed(args.seed, args.steps);
    anyhow::ensure!(first.trace == again.trace, "seed {} gave two different traces", args.seed);
    let start = Instant::now();
    let (mut failed, mut steps, mut acked, mut reads, mut restarts) = (0, 0, 0, 0, 0);
    let mut given_up = 0;
    let mut faults = sim::disk::DiskFaults::default();
    for seed in args.seed..args.seed + args.seeds {
        let outcome = run_seed(seed, args.steps);
        steps += outcome.steps;
        acked += outcome.acked_batches;
        reads += outcome.reads;
        restarts += outcome.restarts;
        faults.crashes += outcome.faults.crashes;
        faults.lost += outcome.faults.lost;
        faults.torn += outcome.faults.torn;
        faults.failed_syncs += outcome.faults.failed_syncs;
        faults.full += outcome.faults.full;
        faults.cuts += outcome.faults.cuts;
        given_up += outcome.given_up;
        faults.flips += outcome.faults.flips;
        if !outcome.violations.is_empty() {
            failed += 1;
            report(&outcome);
            anyhow::ensure!(failed < 3, "stopped after {failed} failed seeds");
        }
    }
    let taken = start.elapsed().as_secs_f64();
    println!(
        "{} seeds, {steps} steps, {acked} batches acknowledged, {reads} reads, {restarts} restarts, \
         {given_up} partitions given up",
        args.seeds
    );
    println!("{faults:?}");
    println!(
        "{:.0} steps/s, {:.1} seeds/s; same seed, same trace",
        steps as f64 / taken,
        args.seeds as f64 / taken
    );
    println!("{} passed, {failed} failed", args.seeds - failed);
    anyhow::ensure!(failed == 0, "{failed} seeds failed");
    Ok(())
}

#[cfg(feature = "planted")]
fn plant(args: &Args) -> anyhow::Result<()> {
    use model::planted::Bug;
    let mut missed = Vec::new();
    for bug in Bug::ALL.into_iter().filter(|bug| !bug.needs_peers()) {
        model::planted::plant(Some(bug));
        let caught = (args.seed..args.seed + args.seeds)
            .map(|seed| run_seed(seed, args.steps))
            .find(|outcome| !outcome.violations.is_empty());
        model::planted::plant(None);
        match caught {
            Some(outcome) => {
                let checker = outcome.violations.first().map(|v| v.checker).unwrap_or_default();
                println!("{bug:?}: caught by {checker} with seed {}", outcome.seed);
            }
            None => missed.push(bug),
        }
    }
    anyhow::ensure!(missed.is_empty(), "not caught within {} seeds: {missed:?}", args.seeds);
    Ok(())
}

#[cfg(not(feature = "planted"))]
fn plant(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("build with --features planted")
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match (args.nodes, args.planted) {
        (0 | 1, true) => plant(&args),
        (0 | 1, false) => run(&args),
        (_, true) => cluster_cmd::plant(&args),
        (_, false) => cluster_cmd::run(&args),
    }
}
