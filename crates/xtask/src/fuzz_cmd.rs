//! `cargo xtask fuzz`: every target under libFuzzer for a while, on the nightly toolchain.
use crate::cargo_cmd::{none_left, take, take_number};
use crate::codegen_proto::root;
use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const FLAGS: &str = "[--seconds N] [--target T]";
const SECONDS: u64 = 60;
/// Most memory of a target; an input that takes more is a finding.
const MEMORY_MIB: u32 = 256;
/// Longest that one input may take, seconds.
const INPUT_SECONDS: u32 = 5;
const INPUT_BYTES: u32 = 64 << 10;

/// Runs all targets, or one, each for the same time; fails with the names of those that found something.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut args = args.to_vec();
    let seconds = take_number(&mut args, "--seconds", SECONDS)?;
    let only = take(&mut args, "--target")?;
    none_left(&args)?;
    let dir = root().join("fuzz");
    let mut targets = targets(&dir)?;
    if let Some(name) = &only {
        targets.retain(|target| target == name);
    }
    if targets.is_empty() {
        bail!("no such target; there are: {}", self::targets(&dir)?.join(", "));
    }
    need_cargo_fuzz()?;
    let mut findings = Vec::new();
    for target in &targets {
        println!("fuzz: {target}, {seconds} s");
        if fuzz(&dir, target, seconds).is_err() {
            findings.push(target.as_str());
        }
    }
    if findings.is_empty() {
        println!("fuzz: {} targets, {seconds} s each, nothing found", targets.len());
        return Ok(());
    }
    bail!("fuzz: findings in {}; the inputs are in fuzz/artifacts", findings.join(", "))
}

fn targets(dir: &Path) -> Result<Vec<String>> {
    let sources = std::fs::read_dir(dir.join("fuzz_targets")).context("fuzz/fuzz_targets")?;
    let paths: Vec<PathBuf> = sources.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    let mut names: Vec<String> =
        paths.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// `RUSTUP_TOOLCHAIN` is set when cargo runs us, and would win over `+nightly`.
fn nightly(dir: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(dir).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").arg("+nightly");
    command
}

fn need_cargo_fuzz() -> Result<()> {
    let there = Command::new("cargo-fuzz").arg("--version").output().is_ok_and(|o| o.status.success());
    if there {
        return Ok(());
    }
    println!("fuzz: installing cargo-fuzz");
    process::run_quietly(Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]))
}

fn fuzz(dir: &Path, target: &str, seconds: u64) -> Result<()> {
    let grown = dir.join("corpus").join(target);
    std::fs::create_dir_all(&grown)?;
    let mut command = nightly(dir);
    // What the address sanitizer holds back of freed memory would count against the limit.
    command.env("ASAN_OPTIONS", "quarantine_size_mb=16:malloc_context_size=4");
    command.args(["fuzz", "run", "--fuzz-dir", ".", target]).arg(&grown);
    command.arg(dir.join("corpus-seed").join(target)).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    command.arg(format!("-timeout={INPUT_SECONDS}"));
    command.arg(format!("-max_len={INPUT_BYTES}"));
    process::run(command.args(["-print_final_stats=1", "-verbosity=0"]))
}
