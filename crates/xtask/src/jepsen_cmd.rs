//! `cargo xtask jepsen`: a cluster of real processes under all kinds of faults, judged by what its clients saw.
use crate::cargo_cmd::{broker, build_broker, cargo, take};
use crate::install::{self, Need};
use crate::test_runner::{Context, Outcome, root};
use crate::{brokers, process};
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub(crate) const FLAGS: &str = "[--workload queue|txn|money] [--minutes N] [--seed S] [--faults LIST] [--nodes N] [--scenario NAME]... \
                                [--times N] [--older PLIMSOLL] [--scaling MB,MB] [--topic NAME=VALUE] [--planted] \
                                [--clients ours|all] [--report PAGE] [--dir DIR]";

/// How its output names what it left out.
const SKIPPED: &str = "skipped: ";

/// Builds, installs what other clients need, and hands the flags to the rig.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut args = args.to_vec();
    if let Some(at) = args.iter().position(|arg| arg == "--planted") {
        args.remove(at);
        return planted(&args);
    }
    let ours = take(&mut args, "--clients")?.is_some_and(|clients| clients == "ours");
    build_broker()?;
    process::run(command(&broker(), ours)?.args(args))
}

/// A broker with bugs built in, each of which the rig must find.
fn planted(args: &[String]) -> Result<()> {
    let build = ["build", "--profile", "sim", "-q", "-p", "plimsoll-server", "--features", "planted"];
    process::run(&mut cargo(&build))?;
    let broker = brokers::target_dir(&root()?).join("sim/plimsoll").display().to_string();
    let all = ["--planted", "all", "--minutes", "0.5", "--period", "4"];
    process::run(command(&broker, true)?.args(all).args(args))
}

/// One run as part of a tier. What the machine cannot do is skipped, and so is all if it can do nothing.
pub(crate) fn suite(context: &Context, args: &[&str], limit: Duration) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut told = Vec::new();
    let mut command = command(&context.binary()?.display().to_string(), false)?;
    let fine = process::lines(command.args(args), limit, |line| {
        println!("   {line}");
        if let Some((_, skipped)) = line.split_once(SKIPPED) {
            let name = if line.starts_with("rig: ") { "jepsen: " } else { "jepsen/" };
            outcome.skipped.push(format!("{name}{skipped}"));
        }
        if ["ANOMALY ", "PROBLEM "].iter().any(|word| line.contains(word)) {
            told.push(line.trim().to_owned());
        }
    });
    let all_skipped = outcome.skipped.iter().any(|skipped| skipped.starts_with("jepsen: "));
    match fine {
        Ok(true) => outcome.passed += 1,
        Ok(false) if all_skipped => {}
        Ok(false) => outcome.failures.push(format!("jepsen {}: {}", args.join(" "), told.join("; "))),
        Err(error) => outcome.failures.push(format!("jepsen {}: {error:#}", args.join(" "))),
    }
    Ok(outcome)
}

fn command(broker: &str, ours: bool) -> Result<Command> {
    process::run(&mut cargo(&["build", "--profile", "sim", "-q", "-p", "plimsoll-jepsen", "--bin", "rig"]))?;
    let root = root()?;
    install::install(&root, Need::Debian(&["iptables", "iproute2", "gcc", "libc6-dev"]))?;
    let mut command = Command::new(rig()?);
    command.current_dir(&root).args(["--broker", broker]);
    if !ours {
        install::install(&root, Need::KafkaTools)?;
        install::install(&root, Need::Python)?;
        let home = install::home(&root);
        command.arg("--java").arg(home.join(install::KAFKA_TOOLS));
        command.arg("--python").arg(home.join("venv/bin/python"));
    }
    Ok(command)
}

fn rig() -> Result<PathBuf> {
    let rig = brokers::target_dir(&root()?).join("sim/rig");
    rig.exists().then_some(rig).context("the rig was built and is not there")
}
