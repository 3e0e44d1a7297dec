//! The differential replayer: one script of requests, two brokers, answers compared field by field.
//!
//! `script.rs` says what a step is, `cases/` hold the steps, `side.rs` is one broker, `leaves.rs` turns an
//! answer into named fields, `allowed.rs` knows which differences are meant (docs/differences.md).
#![allow(clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod allowed;
mod cases;
mod debug_tree;
mod leaves;
mod replay;
mod script;
mod side;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares two brokers' answers to the same requests.
#[derive(Debug, Parser)]
struct Args {
    /// The broker under test, `HOST:PORT`.
    #[arg(long)]
    ours: String,
    /// The broker to compare with, `HOST:PORT`.
    #[arg(long)]
    theirs: String,
    /// Differences that are meant.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/allowed.txt"))]
    allowed: PathBuf,
    /// Both are the same program: nothing is meant to differ.
    #[arg(long)]
    alike: bool,
    /// Shows only steps whose name contains this; all are sent.
    #[arg(long)]
    only: Option<String>,
    /// Also writes every difference, allowed or not, to this file.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let allowed =
        if args.alike { allowed::Allowed::default() } else { allowed::Allowed::read(&args.allowed)? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(replay::run(&args.ours, &args.theirs))?;
    let fine = outcome.print(&allowed, args.only.as_deref(), args.report.as_deref())?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
