//! How long a start takes, by how much there is on the disks (test 28).
use crate::Args;
use crate::probe::Abilities;
use crate::recorder::now;
use crate::report::ms;
use crate::run::{Bench, Load, Outcome};
use crate::setup;
use anyhow::{Context, Result};
use jepsen::machine;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
/// How often each size is measured.
const STARTS: u32 = 3;

/// Fills the disks to each of these sizes (MB for each node), kills all nodes, and starts them again.
pub(crate) fn run(args: &Args, abilities: &Abilities, sizes: &[u64]) -> Result<Outcome> {
    let mut setup = setup(args, abilities)?;
    let most = sizes.iter().copied().max().unwrap_or_default();
    setup.make.disk_bytes = (most * 3 / 2 + 1024) << 20;
    // What is measured is the start alone.
    setup.make.properties.push_str("log.scrub.rate.bytes=0\n");
    setup.load = Load { pause: Duration::from_millis(9), ..Load::default() };
    let mut bench = Bench::start(setup)?;
    let (mut held, mut figures) = (0, Vec::new());
    for size in sizes {
        fill(&bench, size.saturating_sub(held))?;
        held = *size;
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            bench.lab.recorder.fault("kill-all", true);
            bench.lab.kill_all()?;
            let started = now();
            bench.lab.start_all()?;
            bench.lab.recorder.fault("kill-all", false);
            starts.push(bench.wait_until_served(started, PATIENCE)?);
            std::thread::sleep(Duration::from_secs(2));
        }
        starts.sort_unstable();
        let line = format!(
            "{size} MB on each node: all keys served {} after the start, the middle of {STARTS}",
            ms(starts[1])
        );
        println!("scaling: {line}");
        figures.push(line);
    }
    let mut outcome = bench.finish()?;
    outcome.figures.extend(figures);
    Ok(outcome)
}

/// So many MB more on each node, in a topic beside the one that is judged.
fn fill(bench: &Bench, megabytes: u64) -> Result<()> {
    if megabytes == 0 {
        return Ok(());
    }
    let mut command = Command::new(bench.lab.broker());
    command.args(["bench", "produce", "-b", &bench.lab.bootstrap(), "--topic", "bulk", "--partitions", "4"]);
    command.args(["--seconds", "600", "--batch-bytes", "524288", "--megabytes", &megabytes.to_string()]);
    machine::run(&mut command).context("fill the disks")
}
