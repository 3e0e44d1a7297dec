//! `cargo xtask`: code generation, style rules, the test runner and the benches.
#![allow(clippy::print_stdout)]
mod codegen_proto;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("codegen") => codegen_proto::run(),
        _ => bail!("usage: cargo xtask codegen"),
    }
}
