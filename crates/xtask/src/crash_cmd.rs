//! `cargo xtask crash`: a real broker on a real file system, killed and cut from power under load.
use crate::cargo_cmd::{broker, build_broker, cargo};
use crate::process;
use anyhow::Result;

pub(crate) const FLAGS: &str = "[--kills N] [--power-cuts M] [--seed S] [--dir DIR]";

/// Hands the flags (`--kills`, `--power-cuts`, `--seed`, `--dir`) to the fault rig.
pub(crate) fn run(args: &[String]) -> Result<()> {
    build_broker()?;
    let mut command = cargo(&["run", "--release", "-q", "-p", "plimsoll-jepsen", "--bin", "crash", "--"]);
    process::run(command.args(["--broker", &broker()]).args(args))
}
