//! Judges a history that a run of the rig left: `cargo run --release -p plimsoll-jepsen --example judge history.jsonl`.
use anyhow::{Context, Result, ensure};
use jepsen::checker::check;
use jepsen::history::History;
use std::fs::File;
use std::io::BufReader;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("which history? judge FILE")?;
    let history = History::read(BufReader::new(File::open(&path).context(path)?))?;
    let verdict = check(&history);
    println!("{:#?}", verdict.figures);
    println!("{:#?}", verdict.findings);
    ensure!(verdict.is_clean(), "there are findings");
    Ok(())
}
