//! `crash`: one real broker on a real ext4 file system, killed and cut from power under load.
//!
//! Start at `run.rs`: it drives the machine (`machine.rs`), the broker (`broker.rs`) and the load
//! (`load.rs`), and hands the history to the checker (`check.rs`).
#![allow(clippy::print_stdout)]
mod broker;
mod check;
mod history;
mod load;

mod run;

use clap::Parser;
use std::path::PathBuf;

/// Kills a broker and cuts its power under load, then checks that nothing acknowledged was lost.
#[derive(Debug, Parser)]
struct Args {
    /// The broker's program.
    #[arg(long, default_value = "target/release/plimsoll")]
    broker: PathBuf,
    /// Where the disk image and the logs go; on a real disk, never tmpfs.
    #[arg(long, default_value = "target/crash")]
    dir: PathBuf,
    /// How often the process is killed (kill -9).
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// How often the power is cut (unsynced data is lost).
    #[arg(long, default_value_t = 3)]
    power_cuts: u32,
    /// Chooses the moments; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map(|d| d.as_nanos() as u64).unwrap_or_default()
    });
    println!("crash: seed {seed}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let plan = run::Plan {
        broker: args.broker,
        dir: args.dir,
        kills: args.kills,
        power_cuts: args.power_cuts,
        seed,
    };
    runtime.block_on(run::run(plan))
}
