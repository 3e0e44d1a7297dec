//! The `plimsoll` binary: one command line for the broker and for those who use it.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod admin;
mod bench;
mod cluster_cmd;
mod config;
mod log_tools;
mod moves;
mod serve;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// A Kafka-compatible replicated log.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker.
    Serve(serve::ServeArgs),
    /// Start several nodes on this machine; show the state of a cluster, change which broker holds what.
    #[command(subcommand)]
    Cluster(cluster_cmd::ClusterCommand),
    #[command(flatten)]
    Admin(admin::AdminCommand),
    /// Look at data files while the broker is stopped.
    #[command(subcommand)]
    Log(log_tools::LogCommand),
    /// Measure a broker, this one or any other.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Cluster(command) => cluster_cmd::run(command),
        Command::Admin(command) => run_admin(command),
        Command::Log(command) => log_tools::run(command),
        Command::Bench(command) => bench::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may lie on the disk that failed: the exit code says it all the same.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_admin(command: admin::AdminCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(admin::run(command));
    // A name that is still being looked up must not outlast --timeout.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use crate::config::{ENV_PREFIX, NOT_KEYS};
    use clap::{Command, CommandFactory};

    fn variables(command: &Command, found: &mut Vec<String>) {
        let names = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned));
        found.extend(names);
        command.get_subcommands().for_each(|command| variables(command, found));
    }

    #[test]
    fn a_variable_that_stands_for_a_flag_of_any_command_is_no_unknown_key_to_serve() {
        let mut found = Vec::new();
        variables(&Cli::command(), &mut found);
        assert!(found.len() >= 3, "{found:?}");
        for name in found {
            assert!(NOT_KEYS.contains(&name.strip_prefix(ENV_PREFIX).unwrap()), "{name}");
        }
    }
}
