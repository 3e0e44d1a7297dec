//! `rig`: a cluster of real processes under all kinds of faults, and a checker over what its clients saw.
//!
//! Each node has a network and an ext4 file system of its own (`net.rs`, `jepsen::machine`). `run.rs` is one run from
//! the first start to the verdict; `nemesis.rs` and `faults.rs` say what goes wrong, `load.rs`, `readers.rs` and
//! `outside.rs` who works meanwhile, `scenarios.rs` has the named tests of `docs/reliability.md`.
#![allow(clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod churn;
mod codes;
mod faults;
mod lab;
mod load;
mod nemesis;
mod net;
mod node;
mod outside;
mod planted;
mod play;
mod probe;
mod proxy;
mod readers;
mod recorder;
mod replicas;
mod report;
mod rng;
mod run;
mod scaling;
mod scenarios;
mod scrub;
mod txn_load;

use anyhow::{Context, Result, bail};
use clap::Parser;
use faults::Fault;
use nemesis::{Nemesis, Settings};
use node::Make;
use outside::Outside;
use probe::Abilities;
use report::About;
use run::{Bench, Load, Setup};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use txn_load::Workload;

/// Set inside the rig's own namespaces.
const INSIDE: &str = "RIG_INSIDE";
/// What the exit code says when the machine cannot run the rig at all.
const CANNOT: u8 = 3;

/// Fewer partitions of coordinators than Kafka has: they are there sooner.
const COORDINATORS: &str = "transaction.state.log.num.partitions=4\noffsets.topic.num.partitions=4\n";

/// Runs a cluster under faults and judges what its clients saw.
#[derive(Clone, Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// The broker's program.
    #[arg(long, default_value = "target/release/plimsoll")]
    broker: PathBuf,
    /// Where disk images, logs and histories go; on a real disk, never tmpfs.
    #[arg(long, default_value = "target/jepsen")]
    dir: PathBuf,
    /// How many minutes faults go on.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Chooses faults and moments; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults, with commas between them; all that this machine can do unless named.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// How many partitions.
    #[arg(long, default_value_t = 4)]
    keys: u32,
    /// Seconds of a period of faults.
    #[arg(long, default_value_t = 8.0)]
    period: f64,
    /// What clients do: `queue` (no transactions), `txn` (sends and polls in transactions), `money` (what is read is
    /// passed on in the transaction that reads it).
    #[arg(long, default_value = "queue")]
    workload: String,
    /// The jars of Apache Kafka's Java client; without it that client is left out.
    #[arg(long)]
    java: Option<PathBuf>,
    /// A python with confluent-kafka (librdkafka); without it that client is left out.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Another version of the broker: nodes begin with it, and `upgrade` changes to and fro.
    #[arg(long)]
    older: Option<PathBuf>,
    /// Topic config, NAME=VALUE.
    #[arg(long, value_delimiter = ',')]
    topic: Vec<String>,
    /// Named tests instead of chance, with commas between them; `all` of them, or `list` to print their names.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// How often a named test does what it does; its own number otherwise.
    #[arg(long)]
    times: Option<u32>,
    /// Starts after kill -9 with so many MB on each node, with commas between them, instead of faults.
    #[arg(long, value_delimiter = ',')]
    scaling: Vec<u64>,
    /// A broker with planted bugs (feature `planted`): each must be caught. `all`, or names with commas between them.
    #[arg(long, value_delimiter = ',')]
    planted: Vec<String>,
    /// Judges a history.jsonl of an earlier run again, and runs nothing.
    #[arg(long)]
    judge: Option<PathBuf>,
    /// Where the page with the timeline is written besides --dir.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(history) = &args.judge {
        return judged(history);
    }
    if std::env::var_os(INSIDE).is_none() {
        let error = enter();
        println!("rig: skipped: no namespaces of its own (needs root and unshare): {error}");
        return ExitCode::from(CANNOT);
    }
    match absolute(&mut args).and_then(|()| inside(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn judged(file: &Path) -> ExitCode {
    let history = std::fs::File::open(file)
        .with_context(|| file.display().to_string())
        .and_then(|file| jepsen::history::History::read(std::io::BufReader::new(file)));
    match history.map(|history| jepsen::checker::check(&history)) {
        Ok(verdict) => {
            println!("{verdict:#?}");
            if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the same program in namespaces of its own: what it mounts, plugs and starts is gone when it ends,
/// however it ends. Comes back only with an error.
fn enter() -> std::io::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    command.exec()
}

fn absolute(args: &mut Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    args.dir = std::path::absolute(&args.dir)?;
    args.broker = std::path::absolute(&args.broker)?;
    for path in [&mut args.java, &mut args.python, &mut args.older].into_iter().flatten() {
        *path = std::path::absolute(&path)?;
    }
    if !args.broker.exists() {
        bail!("{} is missing: cargo build --release -p plimsoll-server", args.broker.display());
    }
    Ok(())
}

fn inside(args: &Args) -> Result<bool> {
    // Two in one directory would take each other's disks away.
    let dir = std::fs::File::open(&args.dir)?;
    let lock = rustix::fs::flock(&dir, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    lock.with_context(|| format!("{}: another rig works there", args.dir.display()))?;
    // What the rig mounts must reach its nodes' namespaces, and no further.
    jepsen::machine::run(Command::new("mount").args(["--make-rprivate", "/"]))?;
    jepsen::machine::run(Command::new("mount").args(["--make-rshared", "/"]))?;
    net::make_bridge().context("a bridge")?;
    let seed = args.seed.unwrap_or_else(|| recorder::now() % 1_000_000);
    println!("rig: seed {seed}");
    let abilities = probe::probe(args, args.nodes);
    if !args.planted.is_empty() {
        return planted::run(args, &abilities, seed);
    }
    if !args.scaling.is_empty() {
        let outcome = scaling::run(args, &abilities, &args.scaling)?;
        let about = About { title: "starts by size".to_owned(), clients: clients(args), skipped: Vec::new() };
        return told(args, &args.dir, &about, &outcome);
    }
    if !args.scenario.is_empty() {
        return scenarios(args, seed);
    }
    let (faults, skipped) = chosen(args, &abilities)?;
    let names: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
    println!(
        "rig: {} nodes, workload {}, {} minutes of {}",
        args.nodes,
        args.workload,
        args.minutes,
        names.join(" ")
    );
    let bench = Bench::start(setup(args, &abilities)?)?;
    let settings = settings(args, faults);
    let outcome = random(bench, seed, settings, Duration::from_secs_f64(args.minutes * 60.0))?;
    let about = About {
        title: format!("rig, {}, {} nodes, seed {seed}", args.workload, args.nodes),
        clients: clients(args),
        skipped,
    };
    told(args, &args.dir, &about, &outcome)
}

/// Prints what came of a run, and writes its page; whether all is well.
fn told(args: &Args, dir: &Path, about: &About, outcome: &run::Outcome) -> Result<bool> {
    print!("{}", report::text(about, outcome));
    let page = report::page(about, outcome);
    std::fs::write(dir.join("report.html"), &page)?;
    if let Some(path) = &args.report {
        std::fs::write(path, &page)?;
    }
    Ok(outcome.is_clean())
}

fn settings(args: &Args, faults: Vec<Fault>) -> Settings {
    let period = Duration::from_secs_f64(args.period);
    Settings { faults, period, calm: period / 4 }
}

/// Named tests, one after the other; whether all are well.
fn scenarios(args: &Args, seed: u64) -> Result<bool> {
    let mut wanted = Vec::new();
    for name in &args.scenario {
        match name.as_str() {
            "all" => wanted.extend(scenarios::ALL),
            "list" => scenarios::ALL
                .iter()
                .for_each(|scenario| println!("{:>2} {}", scenario.number, scenario.name)),
            name => {
                wanted.push(scenarios::named(name).with_context(|| format!("no scenario {name}; try list"))?)
            }
        }
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for scenario in wanted {
        let abilities = probe::probe(args, scenario.nodes);
        let title = format!("scenario {} ({})", scenario.name, scenario.number);
        let missing = scenario.steps.iter().find_map(|step| abilities.missing.get(&step.fault));
        if let Some(why) = missing {
            println!("{title}: skipped: {}: {why}", scenario.name);
            skipped += 1;
            continue;
        }
        let mut setup = setup(args, &abilities)?;
        setup.make.dir = args.dir.join(scenario.name);
        // A test that has transactions of its own has them; else they come with `--workload`.
        let workload = Some(scenario.workload).filter(|workload| workload.has_transactions());
        let load = scenario.load.load().of(workload.unwrap_or(setup.load.workload));
        (setup.make.nodes, setup.keys, setup.load) = (scenario.nodes, scenario.keys, load);
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        setup.load.churn = scenario.churn;
        setup.topic = scenario.topic.iter().map(pair).collect();
        setup.takes = scenario.takes;
        if scenario.steps.iter().all(|step| step.fault != Fault::Upgrade) {
            setup.make.older = None;
        }
        if !scenario.outside {
            setup.outside = Outside::default();
        }
        let (dir, clients) = (
            setup.make.dir.clone(),
            if scenario.outside { clients(args) } else { vec!["client-lite".to_owned()] },
        );
        let times = args.times.unwrap_or(scenario.times);
        let well = play::play(scenario, setup, times, seed).and_then(|outcome| {
            told(args, &dir, &About { title: title.clone(), clients, skipped: Vec::new() }, &outcome)
        });
        match well {
            Ok(true) => passed += 1,
            Ok(false) => failed += 1,
            Err(error) => {
                println!("{title}: PROBLEM {error:#}");
                failed += 1;
            }
        }
    }
    println!("scenarios: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

fn random(mut bench: Bench, seed: u64, settings: Settings, until: Duration) -> Result<run::Outcome> {
    std::thread::sleep(Duration::from_secs(2));
    let mut nemesis = Nemesis::new(seed, settings);
    println!("rig: {} periods", nemesis.run(&mut bench.lab, until)?);
    bench.finish()
}

/// The faults of this run, and what is left out with the reason.
fn chosen(args: &Args, abilities: &Abilities) -> Result<(Vec<Fault>, Vec<String>)> {
    let mut wanted = Vec::new();
    for name in &args.faults {
        wanted.push(Fault::named(name).with_context(|| {
            let all: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
            format!("no fault {name}; there are {}", all.join(", "))
        })?);
    }
    if wanted.is_empty() {
        // A ring of three is whole, three replicas on three nodes have nowhere to go, one version is no upgrade:
        // nothing is left out without these.
        let makes_sense = |fault: &Fault| match fault {
            Fault::Ring => args.nodes >= 5,
            Fault::Membership => args.nodes >= 4,
            Fault::Upgrade => args.older.is_some(),
            _ => true,
        };
        wanted.extend(Fault::ALL.into_iter().filter(makes_sense));
    }
    let skipped = wanted.iter().filter_map(|fault| {
        let why = abilities.missing.get(fault)?;
        Some(format!("{}: {why}", fault.name()))
    });
    let skipped: Vec<_> = skipped.collect();
    wanted.retain(|fault| !abilities.missing.contains_key(fault));
    Ok((wanted, skipped))
}

fn clients(args: &Args) -> Vec<String> {
    let mut all = vec!["client-lite".to_owned()];
    all.extend(args.java.is_some().then(|| "Java (Apache Kafka)".to_owned()));
    all.extend(args.python.is_some().then(|| "librdkafka (confluent-kafka)".to_owned()));
    all
}

fn setup(args: &Args, abilities: &Abilities) -> Result<Setup> {
    let make = Make {
        broker: args.broker.clone(),
        older: args.older.clone(),
        dir: args.dir.clone(),
        nodes: args.nodes,
        disk_bytes: 1 << 30,
        preload: abilities.preload.clone(),
        properties: format!("log.pool.bytes=33554432\n{}{COORDINATORS}", scrub::PROPERTIES),
        environment: Vec::new(),
    };
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').with_context(|| format!("{text}: not NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let topic = args.topic.iter().map(pair).collect::<Result<Vec<_>>>()?;
    let outside = Outside { java: args.java.clone(), python: args.python.clone() };
    let workload = Workload::named(&args.workload).with_context(|| {
        let all: Vec<_> = Workload::ALL.iter().map(|workload| workload.name()).collect();
        format!("no workload {}; there are {}", args.workload, all.join(", "))
    })?;
    let load = Load::default().of(workload);
    Ok(Setup { make, keys: args.keys, load, outside, topic, takes: Duration::ZERO })
}
