//! Apache Kafka and Plimsoll side by side on this machine: pairs of runs that alternate, medians of
//! per-pair ratios. `rows.rs` says what is measured, `systems.rs` how the brokers are started.
#![allow(clippy::print_stdout)]
mod cold;
mod coordination_rows;
mod disk;
mod failover;
mod groups;
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
mod txn;
mod usage;

use clap::Parser;
use std::path::PathBuf;

/// Measures rows side by side with Apache Kafka and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
struct Args {
    /// Rows of coordination; without it those of produce, fetch, starts and memory.
    #[arg(value_enum)]
    suite: Option<rows::Suite>,
    /// One row by name; all without it. `list` prints the names.
    #[arg(long)]
    row: Option<String>,
    /// Brokers of each kind, 1 or 3: each has rows of its own. Rows of coordination have as many as they name.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    nodes: u8,
    /// Pairs of runs a row.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds a run: below 10 it is a trial.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Topics of 1,000 partitions in the rows with many, tenths of the groups in those with many groups: fewer is a
    /// trial, of which no page is written.
    #[arg(long, default_value_t = rows::TOPICS)]
    topics: u32,
    /// Only our own side of each row: a trial.
    #[arg(long)]
    alone: bool,
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
    if args.suite.is_some() && args.nodes != 1 {
        anyhow::bail!("rows of coordination have as many nodes as they name: leave --nodes out");
    }
    let rows = rows::of(args.suite, usize::from(args.nodes));
    let mut place = run::Place::new(&args.root, usize::from(args.nodes), args.topics, args.seconds)?;
    place.alone = args.alone;
    place.trial |= args.alone;
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
            match run::measure(&place, row, args.pairs, args.seconds) {
                Err(error) if error.is::<run::Unserved>() => println!("  {error}: the row is passed over"),
                measured => measured?,
            }
        }
    }
    report::write(&place)
}
