//! `--nodes`: seeds of several nodes, and the bugs that only they can show.
use crate::Args;
use sim::cluster::{ClusterOutcome, FaultCounts, Sometimes, run_seed};
use sim::disk::DiskFaults;
use std::time::Instant;

fn report(outcome: &ClusterOutcome, nodes: usize) {
    println!("seed {} failed after {} steps, {} ms:", outcome.seed, outcome.steps, outcome.simulated_ms);
    for violation in &outcome.violations {
        println!("  {}: {}", violation.checker, violation.detail);
    }
    println!("  {:?}", outcome.faults);
    println!("  the last of its trace:");
    for line in &outcome.recent {
        let short: String = line.chars().take(160).collect();
        println!("    {short}");
    }
    println!("  again: cargo xtask sim --nodes {nodes} --seeds 1 --seed {}", outcome.seed);
}

/// What many seeds showed.
#[derive(Debug, Default)]
struct Sum {
    steps: u64,
    acked: u64,
    reads: u64,
    strong_reads: u64,
    simulated_ms: u64,
    slowest_heal_ms: u64,
    faults: FaultCounts,
    disks: DiskFaults,
    sometimes: Sometimes,
}

impl Sum {
    fn add(&mut self, outcome: &ClusterOutcome) {
        self.steps += outcome.steps;
        self.acked += outcome.acked_batches;
        self.reads += outcome.reads;
        self.strong_reads += outcome.strong_reads;
        self.simulated_ms += outcome.simulated_ms;
        self.slowest_heal_ms = self.slowest_heal_ms.max(outcome.healed_after_ms);
        self.faults.add(&outcome.faults);
        self.disks.add(&outcome.disks);
        self.sometimes.add(&outcome.sometimes);
    }
}

/// Runs seeds, prints what they showed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let first = run_seed(args.seed, args.steps, args.nodes);
    let again = run_seed(args.seed, args.steps, args.nodes);
    anyhow::ensure!(first.trace == again.trace, "seed {} gave two different traces", args.seed);
    let start = Instant::now();
    let (mut failed, mut sum) = (0, Sum::default());
    for seed in args.seed..args.seed + args.seeds {
        let outcome = run_seed(seed, args.steps, args.nodes);
        sum.add(&outcome);
        if !outcome.violations.is_empty() {
            failed += 1;
            report(&outcome, args.nodes);
            anyhow::ensure!(failed < args.failures, "stopped after {failed} failed seeds");
        }
    }
    let taken = start.elapsed().as_secs_f64();
    println!(
        "{} seeds of {} nodes, {} steps, {} s simulated, {} batches acknowledged, {} reads, {} strong",
        args.seeds,
        args.nodes,
        sum.steps,
        sum.simulated_ms / 1_000,
        sum.acked,
        sum.reads,
        sum.strong_reads
    );
    println!("{:?}\n{:?}\n{:?}", sum.faults, sum.disks, sum.sometimes);
    println!("the slowest healing took {} ms of simulated time", sum.slowest_heal_ms);
    println!(
        "{:.0} steps/s, {:.1} seeds/s; same seed, same trace",
        sum.steps as f64 / taken,
        args.seeds as f64 / taken
    );
    println!("{} passed, {failed} failed", args.seeds - failed);
    anyhow::ensure!(failed == 0, "{failed} seeds failed");
    Ok(())
}

/// Plants every bug that only peers can show, and requires a checker to catch it.
#[cfg(feature = "planted")]
pub(crate) fn plant(args: &Args) -> anyhow::Result<()> {
    use model::planted::Bug;
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in Bug::ALL.into_iter().filter(|bug| bug.needs_peers()) {
        if !format!("{bug:?}").contains(&args.bug) {
            continue;
        }
        model::planted::plant(Some(bug));
        let caught = (args.seed..args.seed + args.seeds)
            .map(|seed| run_seed(seed, args.steps, args.nodes))
            .find(|outcome| !outcome.violations.is_empty());
        model::planted::plant(None);
        match caught {
            Some(outcome) => {
                let checker = outcome.violations.first().map(|v| v.checker).unwrap_or_default();
                let detail = outcome.violations.first().map(|v| v.detail.as_str()).unwrap_or_default();
                let detail: String = detail.chars().take(120).collect();
                println!("{bug:?}: caught by {checker} with seed {} ({detail})", outcome.seed);
            }
            None => missed.push(bug),
        }
    }
    anyhow::ensure!(missed.is_empty(), "not caught within {} seeds: {missed:?}", args.seeds);
    Ok(())
}

/// Plants every bug that only peers can show.
#[cfg(not(feature = "planted"))]
pub(crate) fn plant(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("build with --features planted")
}
