//! `cargo xtask`: code generation, style rules, the test runner and the benches.
#![allow(clippy::print_stdout)]
mod codegen_proto;
mod codegen_wire;
mod codegen_wire_check;
mod codegen_wire_schema;
mod codegen_wire_structs;
mod codegen_wire_table;
mod tidy;
mod tidy_source;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("codegen") if args.iter().any(|arg| arg == "--check") => codegen_wire_check::run(),
        Some("codegen") => codegen_proto::run().and_then(|()| codegen_wire::run()),
        Some("tidy") => tidy::run(),
        _ => bail!("usage: cargo xtask codegen [--check] | tidy"),
    }
}
