//! The list of suites, in the order in which they run.
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::client_suites as clients;
use crate::process;
use crate::test_runner::{Context, Outcome};

/// One suite; `fast` puts it in the inner loop.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) fast: bool,
    pub(crate) run: fn(&Context) -> Result<Outcome>,
}

const fn fast(name: &'static str, run: fn(&Context) -> Result<Outcome>) -> Suite {
    Suite { name, fast: true, run }
}

const fn slow(name: &'static str, run: fn(&Context) -> Result<Outcome>) -> Suite {
    Suite { name, fast: false, run }
}

pub(crate) const SUITES: &[Suite] = &[
    fast("fmt", |context| cargo(context, &["fmt", "--all", "--check"])),
    fast("tidy", |_| Ok(judged("tidy", crate::tidy::run()))),
    fast("codegen", |_| Ok(judged("codegen", crate::codegen_wire_check::run()))),
    fast("clippy", |context| {
        cargo(context, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    fast("unit", unit),
    slow("kcat", clients::kcat::run),
    slow("rdkafka", clients::rdkafka::run),
    slow("confluent-kafka", clients::confluent_kafka::run),
    slow("kafka-python", clients::kafka_python::run),
    slow("aiokafka", clients::aiokafka::run),
    slow("kafkajs", clients::kafkajs::run),
    slow("confluent-javascript", clients::confluent_javascript::run),
    slow("franz-go", clients::franz_go::run),
    slow("sarama", clients::sarama::run),
    slow("kafka-tools", clients::java_tools::run),
];

fn judged(what: &str, result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::of(true, what),
        Err(error) => Outcome::of(false, &format!("{what}: {error:#}")),
    }
}

fn cargo(context: &Context, args: &[&str]) -> Result<Outcome> {
    let result = process::run(Command::new("cargo").args(args).current_dir(&context.root));
    Ok(judged(&format!("cargo {}", args.join(" ")), result))
}

/// Counts the tests by the lines in which each test binary sums up.
fn unit(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--workspace", "--no-fail-fast", "--", "--format=pretty"]);
    let fine = process::lines(command.current_dir(&context.root), Duration::from_secs(3600), |line| {
        if let Some(sum) = line.strip_prefix("test result: ") {
            outcome.passed += count(sum, " passed");
        } else if line.starts_with("test ") {
            if line.ends_with("... FAILED") {
                outcome.failures.push(line.to_owned());
            } else if let Some(why) = line.split_once("... ignored") {
                outcome.skipped.push(format!("{}: {}", why.0.trim(), why.1.trim_start_matches(", ")));
            }
        } else if !line.is_empty() && !line.starts_with("running ") {
            println!("{line}");
        }
    })?;
    if !fine && outcome.failures.is_empty() {
        outcome.failures.push("cargo test --workspace did not end well".to_owned());
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
