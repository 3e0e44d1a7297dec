//! `cargo xtask bench`: side by side with Apache Kafka, which is installed first.
use crate::cargo_cmd::{build_broker, cargo};
use crate::codegen_proto::root;
use crate::install::{Need, install};
use crate::process;
use anyhow::Result;

pub(crate) const FLAGS: &str = "[txn|groups] [--nodes 1|3] [--row NAME|list] [--pairs N] [--seconds S] [--topics N] [--alone] [--report]";

/// Hands the suite (`txn`, `groups`; without one the other rows) and the flags (`--nodes`, `--row`, `--pairs`, `--seconds`, `--report`) to the comparison.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let measures = !args.iter().any(|arg| arg == "--report" || arg == "list");
    if measures {
        install(&root(), Need::KafkaBroker)?;
        build_broker()?;
    }
    let mut command = cargo(&["run", "--release", "-q", "-p", "plimsoll-benches", "--bin", "compare", "--"]);
    process::run(command.args(args))
}
