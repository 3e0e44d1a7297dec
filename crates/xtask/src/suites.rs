//! The list of suites, in the order in which they run.
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::broker_tests::{self, NEEDS_A_BROKER};
use crate::client_suites as clients;
use crate::install::{self, Need};
use crate::test_runner::{Context, Outcome, Tier};
use crate::{cargo_cmd, jepsen_cmd, process, upgrade};

/// One suite; it runs in its tier and in those above.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) tier: Tier,
    pub(crate) run: fn(&Context) -> Result<Outcome>,
}

const fn fast(name: &'static str, run: fn(&Context) -> Result<Outcome>) -> Suite {
    Suite { name, tier: Tier::Fast, run }
}

const fn slow(name: &'static str, run: fn(&Context) -> Result<Outcome>) -> Suite {
    Suite { name, tier: Tier::Default, run }
}

const fn full(name: &'static str, run: fn(&Context) -> Result<Outcome>) -> Suite {
    Suite { name, tier: Tier::Full, run }
}

pub(crate) const SUITES: &[Suite] = &[
    fast("fmt", |_| cargo(&["fmt", "--all", "--check"])),
    fast("tidy", |_| Ok(judged("tidy", crate::tidy::run()))),
    fast("codegen", |_| Ok(judged("codegen", crate::codegen_wire_check::run()))),
    fast("clippy", |_| cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    fast("unit", unit),
    slow("sim", sim),
    slow("process", process_tests),
    slow("upgrade", upgrade::suite),
    slow("dump-log", dump_log),
    slow("tools-cluster", tools_cluster),
    slow("golden", |context| Ok(judged("golden", crate::golden_cmd::check(&context.root)))),
    slow("crash", crash),
    slow("jepsen", jepsen),
    slow("differential", broker_tests::differential),
    slow("client-lite", broker_tests::client_lite),
    slow("admin-commands", broker_tests::admin_commands),
    slow("kcat", clients::kcat::run),
    slow("rdkafka", clients::rdkafka::run),
    slow("confluent-kafka", clients::confluent_kafka::run),
    slow("kafka-python", clients::kafka_python::run),
    slow("aiokafka", clients::aiokafka::run),
    slow("kafkajs", clients::kafkajs::run),
    slow("confluent-javascript", clients::confluent_javascript::run),
    slow("franz-go", clients::franz_go::run),
    slow("sarama", clients::sarama::run),
    slow("offsets-topic", clients::offsets_topic::run),
    slow("kafka-tools", clients::java_tools::run),
    slow("kafka-java", clients::kafka_java::run),
    slow("kafka-streams", clients::kafka_streams::run),
    full("kafka-connect", clients::kafka_connect::run),
    full("flink", clients::flink::run),
    full("spark", clients::spark::run),
];

fn judged(what: &str, result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::of(true, what),
        Err(error) => Outcome::of(false, &format!("{what}: {error:#}")),
    }
}

fn cargo(args: &[&str]) -> Result<Outcome> {
    let result = process::run(&mut cargo_cmd::cargo(args));
    Ok(judged(&format!("cargo {}", args.join(" ")), result))
}

fn sim(context: &Context) -> Result<Outcome> {
    let full = context.tier == Tier::Full;
    let seeds = if full { "5000" } else { "200" };
    let mut outcome = judged("sim", crate::sim_cmd::run(&["--seeds".to_owned(), seeds.to_owned()]));
    let args = ["--nodes", "3", "--seeds", seeds].map(str::to_owned);
    outcome.add(judged("sim --nodes 3", crate::sim_cmd::run(&args)));
    if full {
        for nodes in ["1", "3"] {
            let args = ["--nodes", nodes, "--planted", "--seeds", "1000"].map(str::to_owned);
            outcome.add(judged(&format!("sim --nodes {nodes} --planted"), crate::sim_cmd::run(&args)));
        }
    }
    Ok(outcome)
}

/// The tests of the real process.
pub(crate) const PROCESS: [&str; 6] = ["test", "--package", "plimsoll-server", "--test", "process", "--"];
/// The test of `process` that needs Kafka's tools.
const DUMP_LOG: &str = "kafka_dump_log";

/// Those that run Kafka's tools against three nodes; the second goes on for minutes.
const TOOLS_CLUSTER: &str = "kafka_tools_cluster";
const KILLS: &str = "verifiable_producer_and_consumer";
/// Starts Kafka's tool for transactions a dozen times.
const TRANSACTIONS_TOOL: &str = "kafkas_transactions_tool";

/// The real process under hostile bytes and failing disks; the disks need loop mounts.
fn process_tests(context: &Context) -> Result<Outcome> {
    let mut command = cargo_cmd::cargo(&PROCESS);
    command.args([
        "--ignored",
        "--format=pretty",
        "--skip",
        DUMP_LOG,
        "--skip",
        TOOLS_CLUSTER,
        "--skip",
        upgrade::TESTS,
    ]);
    if context.tier == Tier::Full {
        command.env("PLIMSOLL_COMMITS", "36000000");
    }
    let mut skipped = Vec::new();
    install::install(&context.root, Need::Debian(&["strace"]))?;
    if let Err(why) = process::run_quietly(Command::new("strace").args(["-c", "true"])) {
        command.args(["--skip", "system_calls"]);
        skipped.push(format!("process/system-calls: no ptrace here: {why:#}"));
    }
    if let Err(why) = loop_mount(context) {
        command.args(["--skip", "on_a_small_disk"]);
        skipped.push(format!("process: no loop mount here: {why:#}"));
    }
    let mut outcome = tests(&mut command)?;
    outcome.skipped.extend(skipped);
    Ok(outcome)
}

/// What `plimsoll log export --kafka` writes, read by Kafka's own tool.
fn dump_log(context: &Context) -> Result<Outcome> {
    install::install(&context.root, Need::KafkaTools)?;
    let jars = install::home(&context.root).join(install::KAFKA_TOOLS);
    let mut command = cargo_cmd::cargo(&PROCESS);
    tests(command.args(["--ignored", "--format=pretty", DUMP_LOG]).env("KAFKA_TOOLS_JARS", jars))
}

/// Kafka's tools against three nodes of which one dies at times; the full tier kills them in a loop besides.
fn tools_cluster(context: &Context) -> Result<Outcome> {
    install::install(&context.root, Need::Debian(&["kcat"]))?;
    install::install(&context.root, Need::KafkaTools)?;
    let jars = install::home(&context.root).join(install::KAFKA_TOOLS);
    let mut command = cargo_cmd::cargo(&PROCESS);
    command.args(["--ignored", "--format=pretty", "--test-threads", "1", TOOLS_CLUSTER]);
    if context.tier == Tier::Full {
        command.env("PLIMSOLL_KILLS", "30");
    } else {
        command.args(["--skip", KILLS, "--skip", TRANSACTIONS_TOOL]);
    }
    tests(command.env("KAFKA_TOOLS_JARS", jars))
}

/// Kills and power cuts need a loop device and the right to mount: without them the suite is skipped.
fn crash(context: &Context) -> Result<Outcome> {
    if let Err(why) = loop_mount(context) {
        let skipped = vec![format!("crash: no loop mount here: {why:#}")];
        return Ok(Outcome { skipped, ..Outcome::default() });
    }
    let (kills, cuts) = if context.tier == Tier::Full { ("50", "20") } else { ("4", "2") };
    let args = ["--kills", kills, "--power-cuts", cuts].map(str::to_owned);
    Ok(judged("crash", crate::crash_cmd::run(&args)))
}

/// Three nodes under every fault for a while, without transactions and with them; in the full tier longer, five nodes
/// too, and every named scenario.
fn jepsen(context: &Context) -> Result<Outcome> {
    if let Err(why) = loop_mount(context) {
        let skipped = vec![format!("jepsen: no loop mount here: {why:#}")];
        return Ok(Outcome { skipped, ..Outcome::default() });
    }
    let smoke = |workload, minutes| {
        let args = ["--workload", workload, "--minutes", minutes, "--period", "4", "--seed", "1"];
        jepsen_cmd::suite(context, &args, Duration::from_secs(300))
    };
    let mut outcome = smoke("queue", "1")?;
    outcome.add(smoke("txn", "0.6")?);
    if context.tier != Tier::Full {
        return Ok(outcome);
    }
    for (workload, minutes) in [("txn", "20"), ("money", "10")] {
        let args = ["--workload", workload, "--minutes", minutes, "--seed", "4"];
        outcome.add(jepsen_cmd::suite(context, &args, Duration::from_secs(1800))?);
    }
    outcome.add(jepsen_cmd::suite(context, &["--minutes", "20", "--seed", "2"], Duration::from_secs(1800))?);
    let five = ["--nodes", "5", "--minutes", "5", "--seed", "3"];
    outcome.add(jepsen_cmd::suite(context, &five, Duration::from_secs(900))?);
    outcome.add(jepsen_cmd::suite(context, &["--scenario", "all"], Duration::from_secs(5400))?);
    Ok(outcome)
}

pub(crate) fn loop_mount(context: &Context) -> Result<()> {
    let dir = context.root.join("target/loop-mount");
    let (image, mount) = (dir.join("image"), dir.join("mount"));
    std::fs::create_dir_all(&mount)?;
    std::fs::File::create(&image)?.set_len(8 << 20)?;
    process::run_quietly(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    process::run_quietly(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
    process::run_quietly(Command::new("umount").arg(&mount))
}

fn unit(_: &Context) -> Result<Outcome> {
    let args = ["test", "--workspace", "--no-fail-fast", "--", "--format=pretty"];
    tests(&mut cargo_cmd::cargo(&args))
}

/// Runs tests and counts them by the lines in which each test binary sums up.
pub(crate) fn tests(command: &mut Command) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let fine = process::lines(command, Duration::from_secs(3600), |line| {
        if let Some(sum) = line.strip_prefix("test result: ") {
            outcome.passed += count(sum, " passed");
        } else if line.starts_with("test ") && line.ends_with("... FAILED") {
            outcome.failures.push(line.to_owned());
        } else if let Some((name, why)) = line.split_once(" ... ignored, ") {
            if why != NEEDS_A_BROKER {
                outcome.skipped.push(format!("{}: {why}", name.trim_start_matches("test ")));
            }
        } else if !line.is_empty() && !line.starts_with("running ") && !line.starts_with("test ") {
            println!("{line}");
        }
    })?;
    if !fine && outcome.failures.is_empty() {
        outcome.failures.push(format!("{command:?} did not end well"));
    }
    Ok(outcome)
}

/// The number before `word` in `ok. 12 passed; 0 failed; ...`.
fn count(sum: &str, word: &str) -> u64 {
    let before = sum.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn the_sum_of_a_test_binary_is_read() {
        assert_eq!(count("ok. 12 passed; 3 failed; 1 ignored", " passed"), 12);
        assert_eq!(count("FAILED", " passed"), 0);
    }
}
