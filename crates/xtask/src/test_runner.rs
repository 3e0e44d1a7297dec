//! `cargo xtask test`: runs the suites in order and says how long each took.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::cargo_cmd::{self, BadFlags};
use crate::client_table::ClientTable;
use crate::skips::Skips;
use crate::suites::SUITES;

/// How much of everything is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// The inner loop: nothing that starts a broker.
    Fast,
    /// Every suite in small form.
    Default,
    /// Everything at full size, every client against Apache Kafka too.
    Full,
}

/// How many checks of a client suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    None,
    /// The one that covers most.
    One,
    All,
}

/// What every suite is told.
pub(crate) struct Context {
    pub(crate) root: PathBuf,
    pub(crate) tier: Tier,
    /// Brokers that the client suites run against.
    pub(crate) ours: bool,
    pub(crate) apache: bool,
    pub(crate) three_nodes: Share,
    /// Narrows a client suite to one check of its program.
    pub(crate) check: Option<String>,
    /// A broker that was built already; without it the release build is brought up to date.
    pub(crate) binary: Option<PathBuf>,
    pub(crate) table: RefCell<ClientTable>,
}

impl Context {
    /// The broker to start.
    pub(crate) fn binary(&self) -> Result<PathBuf> {
        if let Some(binary) = &self.binary {
            return Ok(binary.clone());
        }
        cargo_cmd::build_broker()?;
        Ok(cargo_cmd::broker().into())
    }

    /// Records of the bulk checks.
    pub(crate) fn records(&self) -> u32 {
        if self.tier == Tier::Full { 100_000 } else { 10_000 }
    }
}

/// What a suite did.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    /// One line each, naming what failed and how.
    pub(crate) failures: Vec<String>,
    /// One line each: what was left out and why.
    pub(crate) skipped: Vec<String>,
}

impl Outcome {
    pub(crate) fn of(passed: bool, what: &str) -> Self {
        let failures = if passed { Vec::new() } else { vec![what.to_owned()] };
        Self { passed: u64::from(passed), failures, skipped: Vec::new() }
    }

    pub(crate) fn add(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.skipped.extend(other.skipped);
    }
}

struct Arguments {
    tier: Tier,
    only: Vec<String>,
    against: Option<String>,
    check: Option<String>,
    binary: Option<PathBuf>,
    write_docs: bool,
    list: bool,
}

pub(crate) const FLAGS: &str = "[--fast | --full] [--only SUITE]... [--check NAME] \
                                [--against plimsoll|apache|both|three-nodes] [--binary PLIMSOLL] [--write-docs] [--list]";

fn parse(args: &[String]) -> Result<Arguments> {
    let mut parsed = Arguments {
        tier: Tier::Default,
        only: Vec::new(),
        against: None,
        check: None,
        binary: None,
        write_docs: false,
        list: false,
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| BadFlags(format!("{arg} needs a value")));
        match arg.as_str() {
            "--fast" => parsed.tier = Tier::Fast,
            "--full" => parsed.tier = Tier::Full,
            "--only" => parsed.only.push(value()?),
            "--against" => parsed.against = Some(value()?),
            "--check" => parsed.check = Some(value()?),
            "--binary" => parsed.binary = Some(std::path::absolute(value()?)?),
            "--write-docs" => parsed.write_docs = true,
            "--list" => parsed.list = true,
            other => return Err(BadFlags(format!("{other}: not known here")).into()),
        }
    }
    for name in &parsed.only {
        if !SUITES.iter().any(|suite| suite.name == name) {
            let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            bail!("no suite {name}; there are: {}", names.join(" "));
        }
    }
    Ok(parsed)
}

/// The brokers that the client suites run against: one node, Apache Kafka, three nodes.
fn against(args: &Arguments) -> Result<(bool, bool, Share)> {
    Ok(match args.against.as_deref() {
        None if args.tier == Tier::Full => (true, true, Share::All),
        None => (true, false, Share::One),
        Some("plimsoll") => (true, false, Share::None),
        Some("apache") => (false, true, Share::None),
        Some("both") => (true, true, Share::None),
        Some("three-nodes") => (false, false, Share::All),
        Some(other) => bail!("--against {other}: plimsoll, apache, both or three-nodes"),
    })
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let args = parse(args)?;
    if args.list {
        for suite in SUITES {
            println!("{}", suite.name);
        }
        return Ok(());
    }
    let (ours, apache, three_nodes) = against(&args)?;
    let root = root()?;
    let table = RefCell::new(ClientTable::default());
    let (check, binary) = (args.check.clone(), args.binary.clone());
    let context = Context { root, tier: args.tier, ours, apache, three_nodes, check, binary, table };
    let wanted = SUITES.iter().filter(|suite| {
        let chosen = args.only.iter().any(|name| name == suite.name);
        chosen || args.only.is_empty() && suite.tier <= args.tier
    });
    let mut total = Outcome::default();
    let mut times = BTreeMap::new();
    let started = Instant::now();
    for (order, suite) in wanted.enumerate() {
        println!("== {}", suite.name);
        let begun = Instant::now();
        let outcome = (suite.run)(&context)
            .unwrap_or_else(|error| Outcome::of(false, &format!("{}: {error:#}", suite.name)));
        let seconds = begun.elapsed().as_secs_f64();
        for failure in &outcome.failures {
            println!("FAILED {failure}");
        }
        println!(
            "== {}: {} passed, {} failed, {} skipped in {seconds:.1} s",
            suite.name,
            outcome.passed,
            outcome.failures.len(),
            outcome.skipped.len()
        );
        times.insert(order, (suite.name, seconds));
        total.add(outcome);
    }
    report(&context, &args, &mut total)?;
    println!("\n{:<24} {:>8}", "suite", "seconds");
    for (name, seconds) in times.values() {
        println!("{name:<24} {seconds:>8.1}");
    }
    println!("{:<24} {:>8.1}", "all", started.elapsed().as_secs_f64());
    for failure in &total.failures {
        println!("FAILED {failure}");
    }
    let failed = total.failures.len();
    println!("{} passed, {failed} failed, {} skipped", total.passed, total.skipped.len());
    if failed > 0 {
        // The sum is the last word, not an error.
        std::process::exit(1);
    }
    Ok(())
}

fn report(context: &Context, args: &Arguments, total: &mut Outcome) -> Result<()> {
    let table = context.table.borrow();
    if !table.is_empty() {
        println!("\n{}", table.render());
    }
    if args.write_docs || args.tier == Tier::Full && args.only.is_empty() {
        table.write(&context.root.join("docs/clients.md"), context.records())?;
    }
    let skips = Skips::read(&context.root.join("tests/skips.txt"))?;
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    for skip in &total.skipped {
        println!("skipped, {skip}");
        if strict && !skips.allow(skip) {
            total.failures.push(format!("skipped without a line in tests/skips.txt: {skip}"));
        }
    }
    Ok(())
}

/// The top of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("the crate lies two levels below the root")?;
    Ok(root.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Share, against, parse};

    fn brokers(line: &str) -> (bool, bool, Share) {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        against(&parse(&args).unwrap()).unwrap()
    }

    #[test]
    fn one_check_of_a_suite_runs_against_three_nodes_and_all_in_the_full_tier() {
        assert_eq!(brokers(""), (true, false, Share::One));
        assert_eq!(brokers("--full"), (true, true, Share::All));
        assert_eq!(brokers("--against three-nodes"), (false, false, Share::All));
        assert_eq!(brokers("--full --against both"), (true, true, Share::None));
        let args = ["--against", "both-of-them"].map(str::to_owned);
        assert!(against(&parse(&args).unwrap()).is_err());
    }
}
