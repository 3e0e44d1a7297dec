//! `cargo xtask`: code generation, style rules, the test runner and the benches.
#![allow(clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
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
mod jepsen_cmd;
mod process;
mod resets;
mod sim_cmd;
mod skips;
mod suites;
mod test_runner;
mod three_nodes;
mod tidy;
mod tidy_source;
mod upgrade;

use anyhow::{Result, anyhow, bail};
use cargo_cmd::none_left;
use std::process::ExitCode;

/// One command.
struct Task {
    name: &'static str,
    /// Its flags.
    flags: &'static str,
    what: &'static str,
    run: fn(&[String]) -> Result<()>,
}

impl Task {
    fn usage(&self) -> String {
        let flags = if self.flags.is_empty() { String::new() } else { format!(" {}", self.flags) };
        format!("usage: cargo xtask {}{flags}", self.name)
    }
}

const TASKS: [Task; 10] = [
    Task {
        name: "test",
        flags: test_runner::FLAGS,
        what: "every suite of a tier, or some",
        run: test_runner::run,
    },
    Task {
        name: "fuzz",
        flags: fuzz_cmd::FLAGS,
        what: "decoders and starts under libFuzzer",
        run: fuzz_cmd::run,
    },
    Task { name: "sim", flags: sim_cmd::FLAGS, what: "the node under a simulated disk", run: sim_cmd::run },
    Task {
        name: "crash",
        flags: crash_cmd::FLAGS,
        what: "a real broker, killed and cut from power",
        run: crash_cmd::run,
    },
    Task {
        name: "jepsen",
        flags: jepsen_cmd::FLAGS,
        what: "real nodes under all kinds of faults, judged by their clients",
        run: jepsen_cmd::run,
    },
    Task {
        name: "bench",
        flags: bench_cmd::FLAGS,
        what: "side by side with Apache Kafka",
        run: bench_cmd::run,
    },
    Task { name: "tidy", flags: "", what: "style rules that no lint knows", run: tidy },
    Task {
        name: "codegen",
        flags: "[--check]",
        what: "code and pages from the schemas of protocol/",
        run: codegen,
    },
    Task { name: "docs", flags: "", what: "every generated page", run: docs_cmd::run },
    Task { name: "golden", flags: "", what: "frames as Kafka's own classes write them", run: golden },
];

fn tidy(args: &[String]) -> Result<()> {
    none_left(args)?;
    tidy::run()
}

fn codegen(args: &[String]) -> Result<()> {
    match args {
        [check] if check == "--check" => codegen_wire_check::run(),
        args => {
            none_left(args)?;
            codegen_proto::run().and_then(|()| codegen_wire::run())
        }
    }
}

fn golden(args: &[String]) -> Result<()> {
    none_left(args)?;
    golden_cmd::run()
}

fn overview() -> String {
    let mut text = "usage: cargo xtask COMMAND; cargo xtask COMMAND --help shows its flags\n".to_owned();
    for task in &TASKS {
        text += &format!("  {:<8} {}\n", task.name, task.what);
    }
    text
}

fn asks_for_help(arg: &str) -> bool {
    matches!(arg, "--help" | "-h" | "help")
}

/// What to print where help is asked for.
fn help(args: &[String]) -> Option<String> {
    let first = args.first()?;
    let task = TASKS.iter().find(|task| task.name == first);
    match task {
        None => asks_for_help(first).then(overview),
        Some(task) if args[1..].iter().any(|arg| asks_for_help(arg)) => {
            Some(format!("{}\n{}\n", task.usage(), task.what))
        }
        Some(_) => None,
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else { bail!("no command\n{}", overview()) };
    match TASKS.iter().find(|task| task.name == name) {
        Some(task) => (task.run)(rest).map_err(|error| match error.is::<cargo_cmd::BadFlags>() {
            true => anyhow!("{error}\n{}", task.usage()),
            false => error,
        }),
        None => bail!("no command {name}\n{}", overview()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(text) = help(&args) {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not its debug form, which has a backtrace that helps nobody with a mistyped flag.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TASKS, help, run};

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_command_prints_its_usage_when_asked() {
        for task in &TASKS {
            for line in [format!("{} --help", task.name), format!("{} -h", task.name)] {
                let text = help(&words(&line)).unwrap();
                assert!(text.starts_with(&format!("usage: cargo xtask {}", task.name)), "{text}");
                assert!(text.contains(task.flags) && text.contains(task.what), "{text}");
            }
            assert!(help(&words("--help")).unwrap().contains(task.name));
        }
        assert_eq!(help(&words("test --fast")), None);
    }

    #[test]
    fn a_mistyped_flag_is_told_with_the_usage() {
        for line in
            ["test --wat", "test --only", "fuzz --wat", "fuzz --seconds x", "tidy --wat", "docs --wat"]
        {
            let said = run(&words(line)).unwrap_err().to_string();
            let (first, usage) = said.split_once('\n').unwrap();
            assert!(first.starts_with("--"), "{line}: {said}");
            assert!(usage.starts_with("usage: cargo xtask "), "{line}: {said}");
        }
        assert!(run(&words("wat")).unwrap_err().to_string().starts_with("no command wat\nusage: "));
        assert!(run(&[]).unwrap_err().to_string().contains("codegen"));
    }
}
