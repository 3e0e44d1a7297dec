//! `cargo xtask`: code generation, style rules, the test runner and the benches.
#![allow(clippy::print_stdout)]
mod bench_cmd;
mod broker_tests;
mod brokers;
mod cargo_cmd;
mod client_suites;
mod client_table;
mod codegen_proto;
mod codegen_wire;
mod codegen_wire_check;
mod codegen_wire_schema;
mod codegen_wire_structs;
mod codegen_wire_table;
mod crash_cmd;
mod docs_cmd;
mod fuzz_cmd;
mod golden_cmd;
mod install;
mod process;
mod sim_cmd;
mod skips;
mod suites;
mod test_runner;
mod tidy;
mod tidy_source;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("codegen") if args.iter().any(|arg| arg == "--check") => codegen_wire_check::run(),
        Some("codegen") => codegen_proto::run().and_then(|()| codegen_wire::run()),
        Some("tidy") => tidy::run(),
        Some("test") => test_runner::run(&args[1..]),
        Some("fuzz") => fuzz_cmd::run(&args[1..]),
        Some("sim") => sim_cmd::run(&args[1..]),
        Some("crash") => crash_cmd::run(&args[1..]),
        Some("bench") => bench_cmd::run(&args[1..]),
        Some("golden") => golden_cmd::run(),
        Some("docs") => docs_cmd::run(&args[1..]),
        _ => bail!(
            "usage: cargo xtask codegen [--check] | tidy | test | fuzz | sim | crash | bench | golden | docs"
        ),
    }
}
