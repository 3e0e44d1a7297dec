//! Apache Kafka and Plimsoll side by side on this machine: pairs of runs that alternate, medians of
//! per-pair ratios. `rows.rs` says what is measured, `systems.rs` how the brokers are started.
#![allow(clippy::print_stdout)]
mod cold;
mod disk;
mod probes;
mod report;
mod rows;
mod run;
mod systems;
mod usage;

use clap::Parser;
use std::path::PathBuf;

/// Measures rows side by side with Apache Kafka and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
struct Args {
    /// One row by name; all without it. `list` prints the names.
    #[arg(long)]
    row: Option<String>,
    /// Pairs of runs a row.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds a run: below 10 it is a trial.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Topics of 1,000 partitions in the rows with many: fewer is a trial, of which no page is written.
    #[arg(long, default_value_t = rows::TOPICS)]
    topics: u32,
    /// Only write the tables from the rows measured on this commit so far.
    #[arg(long)]
    report: bool,
    /// The workspace's root.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let place = run::Place::new(&args.root, args.topics, args.seconds)?;
    if args.row.as_deref() == Some("list") {
        rows::ROWS.iter().for_each(|row| println!("{:<24} {}", row.name, row.what));
        return Ok(());
    }
    if let Some(name) = &args.row
        && rows::ROWS.iter().all(|row| row.name != name)
    {
        anyhow::bail!("there is no row '{name}': --row list prints them");
    }
    if !args.report {
        for row in rows::ROWS.iter().filter(|r| args.row.as_deref().is_none_or(|n| n == r.name)) {
            run::measure(&place, row, args.pairs, args.seconds)?;
        }
    }
    report::write(&place)
}
