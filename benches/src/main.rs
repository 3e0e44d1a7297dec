//! Apache Kafka and Plimsoll side by side on this machine: pairs of runs that alternate, medians of
//! per-pair ratios. `rows.rs` says what is measured, `systems.rs` how the brokers are started.
#![allow(clippy::print_stdout)]
mod cold;
mod disk;
mod kafka;
mod moving;
mod probes;
mod report;
mod rows;
mod run;
mod summary;
mod systems;
mod three;
mod three_rows;
mod usage;

use clap::Parser;
use std::path::PathBuf;

/// Measures rows side by side with Apache Kafka and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
struct Args {
    /// One row by name; all without it. `list` prints the names.
    #[arg(long)]
    row: Option<String>,
    /// Brokers of each kind, 1 or 3: each has rows of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    nodes: u8,
    /// Pairs of runs a row.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds a run: below 10 it is a trial.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Topics of 1,000 partitions in the rows with many: fewer is a trial, of which no page is written.
    #[arg(long, default_value_t = rows::TOPICS)]
    topics: u32,
    /// Only write the tables from what is kept of each row.
    #[arg(long)]
    report: bool,
    /// The workspace's root.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.nodes == 2 {
        anyhow::bail!("--nodes is 1 or 3");
    }
    let rows = rows::of(usize::from(args.nodes));
    let place = run::Place::new(&args.root, usize::from(args.nodes), args.topics, args.seconds)?;
    if args.row.as_deref() == Some("list") {
        rows.iter().for_each(|row| println!("{:<24} {}", row.name, row.what));
        return Ok(());
    }
    if let Some(name) = &args.row
        && rows.iter().all(|row| row.name != name)
    {
        anyhow::bail!("there is no row '{name}': --row list prints them");
    }
    if !args.report {
        for row in rows.iter().filter(|r| args.row.as_deref().is_none_or(|n| n == r.name)) {
            run::measure(&place, row, args.pairs, args.seconds)?;
        }
    }
    report::write(&place)
}
