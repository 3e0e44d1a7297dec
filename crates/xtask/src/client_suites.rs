//! One suite for each client family: install, start a broker, run the program, judge its lines.
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::brokers::{Broker, Kind};
use crate::client_table::Cell;
use crate::install::{self, JavaProgram, Need};
use crate::process;
use crate::test_runner::{Context, Outcome, Share, Tier};

/// A client program that follows tests/clients/README.md.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The check that covers most: the default tier runs only this one against three nodes.
    widest: &'static str,
    needs: &'static [Need],
    command: fn(&Path) -> Command,
    more: More,
}

/// What a program needs besides.
#[derive(Clone, Copy, Debug)]
struct More {
    /// Three nodes are for the full tier alone, and one after the other is killed there.
    kills: bool,
    /// The check [`LOOP`] in the full tier, while connections are reset.
    resets: bool,
    /// Further brokers to copy from, one of Apache Kafka and one of ours.
    sources: bool,
}

const PLAIN: More = More { kills: false, resets: false, sources: false };
const RESETS: More = More { resets: true, ..PLAIN };
/// A check that is run by its name alone.
const LOOP: &str = "transaction-loop";

macro_rules! program {
    ($id:ident, $name:literal, $widest:literal, [$($need:expr),*], $command:expr) => {
        program!($id, $name, $widest, [$($need),*], $command, PLAIN);
    };
    ($id:ident, $name:literal, $widest:literal, [$($need:expr),*], $command:expr, $more:expr) => {
        pub(crate) mod $id {
            use super::*;
            const PROGRAM: Program =
                Program { name: $name, widest: $widest, needs: &[$($need),*], command: $command, more: $more };
            pub(crate) fn run(context: &Context) -> Result<Outcome> {
                super::run(context, &PROGRAM)
            }
        }
    };
}

/// The request of KIP-848's members.
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

/// From one kill of a node to the next.
const KILL_EVERY: Duration = Duration::from_secs(6);
/// A program whose nodes die writes slowly, so that they do so while it writes.
const PAUSE_MS: &str = "8";

const BUILD: Need =
    Need::Debian(&["cmake", "pkg-config", "libssl-dev", "zlib1g-dev", "libzstd-dev", "libcurl4-openssl-dev"]);

program!(kcat, "kcat", "resume", [Need::Debian(&["kcat"])], |root| script(
    "python3".into(),
    root,
    "kcat/kcat_client.py"
));
program!(
    rdkafka,
    "rdkafka",
    "resume",
    [BUILD, Need::RdKafka],
    |root| Command::new(install::home(root).join("rdkafka/release/rdkafka-client")),
    RESETS
);
program!(
    confluent_kafka,
    "confluent-kafka",
    "resume",
    [Need::Python],
    |root| python(root, "confluent_kafka_client.py"),
    RESETS
);
program!(kafka_python, "kafka-python", "resume", [Need::Python], |root| python(
    root,
    "kafka_python_client.py"
));
program!(aiokafka, "aiokafka", "resume", [Need::Python], |root| python(root, "aiokafka_client.py"), RESETS);
program!(kafkajs, "kafkajs", "resume", [Need::Node], |root| node(root, "kafkajs_client.js"), RESETS);
program!(
    confluent_javascript,
    "confluent-kafka-javascript",
    "resume",
    [BUILD, Need::ConfluentNode],
    |root| node(root, "confluent_client.js")
);
program!(
    franz_go,
    "franz-go",
    "resume",
    [Need::Go],
    |root| Command::new(install::home(root).join("go/franz")),
    RESETS
);
program!(
    sarama,
    "sarama",
    "resume",
    [Need::Go],
    |root| Command::new(install::home(root).join("go/sarama")),
    RESETS
);
program!(java_tools, "kafka-tools", "consumer-groups", [Need::KafkaTools], |root| {
    let mut command = script("python3".into(), root, "java/java_tools.py");
    command.arg("--jars").arg(install::home(root).join(install::KAFKA_TOOLS));
    command
});

const CLIENT: JavaProgram =
    JavaProgram { folder: "client", main: "JavaChecks", jars: install::KAFKA_TOOLS, options: &[] };
program!(kafka_java, "kafka-java", "copy-classic", [Need::KafkaTools, Need::JavaProgram(CLIENT)], |root| {
    install::java_program(root, CLIENT)
});

const STREAMS: JavaProgram =
    JavaProgram { folder: "streams", main: "StreamsChecks", jars: install::KAFKA_STREAMS, options: &[] };
program!(
    kafka_streams,
    "kafka-streams",
    "all",
    [Need::KafkaStreams, Need::JavaProgram(STREAMS)],
    |root| install::java_program(root, STREAMS),
    More { kills: true, ..PLAIN }
);

program!(
    kafka_connect,
    "kafka-connect",
    "all",
    [Need::Debian(&["kcat"]), Need::KafkaTools, Need::KafkaConnect],
    |root| {
        let mut command = script("python3".into(), root, "java/kafka_connect.py");
        command.arg("--jars").arg(install::home(root).join(install::KAFKA_TOOLS));
        command.arg("--connect-jars").arg(install::home(root).join(install::KAFKA_CONNECT));
        command
    },
    More { kills: true, sources: true, ..PLAIN }
);
program!(offsets_topic, "offsets-topic", "offsets", [Need::Go], |root| {
    Command::new(install::home(root).join("go/offsets"))
});

/// Flink reads fields of Java's own classes.
const OPENED: &[&str] = &[
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
];
const FLINK: JavaProgram =
    JavaProgram { folder: "flink", main: "FlinkChecks", jars: install::FLINK, options: OPENED };
program!(
    flink,
    "flink",
    "exactly-once",
    [Need::Flink, Need::JavaProgram(FLINK)],
    |root| install::java_program(root, FLINK),
    More { kills: true, ..PLAIN }
);

program!(
    spark,
    "spark",
    "all",
    [Need::Spark],
    |root| {
        let python = install::home(root).join("venv-spark/bin/python").into_os_string();
        let mut command = script(python, root, "spark/spark_checks.py");
        command.arg("--jars").arg(install::home(root).join(install::SPARK));
        command
    },
    More { kills: true, ..PLAIN }
);

fn script(interpreter: std::ffi::OsString, root: &Path, path: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(root.join("tests/clients").join(path));
    command
}

fn python(root: &Path, name: &str) -> Command {
    let interpreter = install::home(root).join("venv/bin/python");
    script(interpreter.into_os_string(), root, &format!("python/{name}"))
}

fn node(root: &Path, name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(install::home(root).join("node").join(name));
    command
}

fn run(context: &Context, program: &Program) -> Result<Outcome> {
    for need in program.needs {
        install::install(&context.root, *need)?;
    }
    let mut kinds = Vec::new();
    kinds.extend(context.apache.then_some(Kind::Apache));
    kinds.extend(context.ours.then_some(Kind::Plimsoll));
    let three_nodes = if program.more.kills {
        context.three_nodes == Share::All
    } else {
        context.three_nodes != Share::None
    };
    kinds.extend(three_nodes.then_some(Kind::ThreeNodes));
    let only = context.check.as_deref();
    let mut outcome = Outcome::default();
    for kind in kinds {
        if only != Some(LOOP) {
            outcome.add(against(context, program, kind, false)?);
        }
        let asked = only.map_or(context.tier == Tier::Full, |only| only == LOOP);
        if program.more.resets && asked {
            outcome.add(against(context, program, kind, true)?);
        }
    }
    Ok(outcome)
}

/// All checks, or [`LOOP`] by ways on which connections are reset.
fn against(context: &Context, program: &Program, kind: Kind, resets: bool) -> Result<Outcome> {
    let mut broker = Broker::start_behind(context, kind, program.name, resets)?;
    let sources = if program.more.sources { sources(context, program, kind)? } else { Vec::new() };
    let log = install::home(&context.root).join("run").join(format!("{}-{kind:?}.err", program.name));
    let mut command = command(context, program, kind, &broker);
    if resets {
        command.args(["--check", LOOP]);
    }
    for (flag, source) in &sources {
        command.args([*flag, &source.bootstrap()]);
    }
    if broker.serves(CONSUMER_GROUP_HEARTBEAT)? {
        command.env("CONSUMER_PROTOCOL", "yes");
    }
    command.stderr(std::fs::File::create(&log)?);
    let limit = Duration::from_secs(if context.tier == Tier::Full { 3600 } else { 1200 });
    let mut outcome = Outcome::default();
    let mut unread = Vec::new();
    let mut ways = broker.ways.take();
    let each = |line: &str| match Line::parse(line) {
        Ok(Line::Cell(cell)) => judge(context, program, kind, cell, &mut outcome),
        Ok(Line::Skipped(check, why)) => {
            outcome.skipped.push(format!("{}/{check} against {kind:?}: {why}", program.name));
        }
        Ok(Line::Connections(what)) => {
            let done = ways.as_mut().map_or(Ok(()), |ways| ways.tell(&what));
            outcome.failures.extend(done.err().map(|error| format!("{}: {error:#}", program.name)));
        }
        Err(_) => unread.push(line.to_owned()),
    };
    let finished = if kills(program, kind) {
        let binary = context.binary()?;
        broker.while_nodes_die(&binary, KILL_EVERY, || process::lines(&mut command, limit, each))
    } else {
        process::lines(&mut command, limit, each)
    };
    let name = format!("{} against {kind:?}", program.name);
    match finished {
        Ok(true) => {}
        Ok(false) if !outcome.failures.is_empty() => {}
        Ok(false) => {
            outcome.failures.push(format!("{name}: ended badly: {} {}", unread.join(" "), tail(&log)))
        }
        Err(error) => outcome.failures.push(format!("{name}: {error:#}")),
    }
    if outcome.passed == 0 && outcome.failures.is_empty() && outcome.skipped.is_empty() {
        outcome.failures.push(format!("{name}: no check ran"));
    }
    finish(context, program, broker, sources, &name, &mut outcome);
    Ok(outcome)
}

fn kills(program: &Program, kind: Kind) -> bool {
    program.more.kills && kind == Kind::ThreeNodes
}

/// The program with what it is told of the brokers and of what is asked of it.
fn command(context: &Context, program: &Program, kind: Kind, broker: &Broker) -> Command {
    let mut command = (program.command)(&context.root);
    command.args(["--bootstrap", &broker.bootstrap(), "--topic-prefix", program.name]);
    command.args(["--records", &context.records().to_string()]);
    command.args(["--replicas", &kind.replicas().to_string()]);
    let all =
        if kind == Kind::ThreeNodes && context.three_nodes == Share::One { program.widest } else { "all" };
    command.args(["--check", context.check.as_deref().unwrap_or(all)]);
    if program.more.sources {
        command.args(["--source-replicas", &kind.replicas().to_string()]);
    }
    if kills(program, kind) {
        command.args(["--pause-ms", PAUSE_MS]);
    }
    command
}

/// What must hold of the brokers afterwards; then they are stopped.
fn finish(
    context: &Context,
    program: &Program,
    broker: Broker,
    sources: Vec<(&str, Broker)>,
    name: &str,
    outcome: &mut Outcome,
) {
    // Where all was skipped there are no topics.
    if outcome.passed > 0
        && let Err(error) = broker.judge_replicas(context, program.name)
    {
        outcome.failures.push(format!("{name}: {error:#}"));
    }
    if !outcome.failures.is_empty() {
        println!("{}", broker.log_tails());
    }
    for broker in std::iter::once(broker).chain(sources.into_iter().map(|(_, source)| source)) {
        if let Err(error) = broker.stop() {
            outcome.failures.push(format!("{name}: {error:#}"));
        }
    }
}

/// Brokers to copy from, and the flags that name them; ours has as many nodes as the one that is copied to.
fn sources(context: &Context, program: &Program, kind: Kind) -> Result<Vec<(&'static str, Broker)>> {
    let start = |kind, name| Broker::start(context, kind, &format!("{}-{name}", program.name));
    let ours = if kind == Kind::ThreeNodes { Kind::ThreeNodes } else { Kind::Plimsoll };
    Ok(vec![("--source", start(Kind::Apache, "source")?), ("--source-ours", start(ours, "source-ours")?)])
}

fn judge(context: &Context, program: &Program, kind: Kind, cell: Cell, outcome: &mut Outcome) {
    let mut table = context.table.borrow_mut();
    if cell.check == "version" {
        table.version(program.name, &cell.detail);
        return;
    }
    let what = format!("{} {} against {kind:?}", program.name, cell.name());
    match cell.ok {
        Some(true) => outcome.passed += 1,
        // What the client itself cannot do is a mark in the table, not a test left out.
        None => println!("   {what}: not offered by the client: {}", cell.detail),
        // A check that Apache Kafka fails too is the check's or the client's fault, and known by the table.
        Some(false) if kind != Kind::Apache && table.fails(program.name, &cell.name(), Kind::Apache) => {
            println!("   {what}: fails as with Apache Kafka: {}", cell.detail);
        }
        Some(false) => outcome.failures.push(format!("{what}: {}", cell.detail)),
    }
    println!("   {what}: {} {:.1} s", mark(cell.ok), cell.seconds);
    table.set(program.name, kind, cell);
}

fn mark(ok: Option<bool>) -> &'static str {
    match ok {
        Some(true) => "ok",
        Some(false) => "FAILED",
        None => "not offered",
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// A line of the contract.
enum Line {
    Cell(Cell),
    /// A check that these nodes cannot be put to, and why.
    Skipped(String, String),
    /// What is to happen to its connections from now on.
    Connections(String),
}

impl Line {
    fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let check = text("check").context("check")?;
        if let Some(why) = text("skipped") {
            return Ok(Line::Skipped(check, why));
        }
        if let Some(what) = text("connections") {
            return Ok(Line::Connections(what));
        }
        Ok(Line::Cell(Cell {
            check,
            codec: text("codec"),
            ok: value.get("ok").and_then(Value::as_bool),
            detail: text("detail").unwrap_or_default(),
            seconds: value.get("seconds").and_then(Value::as_f64).unwrap_or_default(),
        }))
    }
}
