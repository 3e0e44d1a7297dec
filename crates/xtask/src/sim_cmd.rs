//! `cargo xtask sim`: the simulator, with its planted bugs built in where they are asked for.
use crate::cargo_cmd::cargo;
use crate::process;
use anyhow::Result;

pub(crate) const FLAGS: &str = "[--nodes N] [--seeds N] [--seed S] [--steps N] [--planted]";

/// Hands the flags (`--nodes`, `--seeds`, `--seed`, `--steps`, `--planted`) to the simulator.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--profile", "sim", "-q", "-p", "plimsoll-sim"]);
    if args.iter().any(|arg| arg == "--planted") {
        command.args(["--features", "planted"]);
    }
    process::run(command.arg("--").args(args))
}
