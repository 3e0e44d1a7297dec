//! `plimsoll bench`: a load generator over the Kafka protocol, for this broker and for any other.
//!
//! Requests are encoded once and sent again and again, so that the generator costs little beside the
//! broker it measures. Latency counts from the intended send, not from the moment a full pipe let it go.
mod consume;
mod end_to_end;
mod frames;
mod groups;
mod produce;
mod pulse;
mod report;
mod setup;
mod socket;
mod touch;
mod txn;

use crate::admin::format::Format;
use clap::{Args, Subcommand};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Produce as fast as the broker takes it, or at --rate.
    Produce(produce::ProduceArgs),
    /// Read topics from the start (or follow the end with --tail) with one or more readers.
    Consume(consume::ConsumeArgs),
    /// Produce at a fixed rate and time each batch from its intended send to its arrival at a consumer.
    Latency(end_to_end::LatencyArgs),
    /// Write one record to each of many partitions, waiting for the broker to start.
    Touch(touch::TouchArgs),
    /// Produce single records at a fixed rate through whatever happens to the brokers, and tell gaps and errors.
    Pulse(pulse::PulseArgs),
    /// Produce in transactions that are committed at an interval (or, with --idempotent, the same without), as fast as
    /// the broker takes it.
    Txn(txn::TxnArgs),
    /// Group coordinators: many members, many commits, loading, failover.
    #[command(subcommand)]
    Groups(groups::GroupsCommand),
}

/// Which broker, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerArgs {
    /// Address of any broker.
    #[arg(
        short = 'b',
        long = "bootstrap-server",
        visible_alias = "brokers",
        alias = "bootstrap",
        env = "PLIMSOLL_BOOTSTRAP_SERVER",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
    /// Shape of the output; json is one line.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The same as --format json.
    #[arg(long, hide = true, conflicts_with = "format")]
    json: bool,
}

impl BrokerArgs {
    /// The broker to connect to; of several the first.
    pub(crate) fn address(&self) -> &str {
        self.bootstrap.split(',').next().unwrap_or_default().trim()
    }

    /// All that were named, with commas between them.
    pub(crate) fn all_addresses(&self) -> &str {
        &self.bootstrap
    }

    /// Whether scripts read the figures.
    pub(crate) fn for_scripts(&self) -> bool {
        self.json || self.format == Format::Json
    }
}

/// Where and what.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopicArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// Topic; created when missing.
    #[arg(long, default_value = "bench")]
    pub(crate) topic: String,
    /// Partitions of a created topic.
    #[arg(long, default_value_t = 10)]
    pub(crate) partitions: i32,
    /// Configs of a created topic, `name=value`; may be repeated.
    #[arg(long = "topic-config", value_name = "NAME=VALUE")]
    pub(crate) topic_configs: Vec<String>,
}

/// Runs a measurement and prints its figures.
pub(crate) fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Produce(args) => produce::run(&args),
        BenchCommand::Consume(args) => consume::run(&args),
        BenchCommand::Latency(args) => end_to_end::run(&args),
        BenchCommand::Touch(args) => touch::run(&args),
        BenchCommand::Pulse(args) => pulse::run(&args),
        BenchCommand::Txn(args) => txn::run(&args),
        BenchCommand::Groups(command) => groups::run(&command),
    }
}

#[cfg(test)]
mod tests {
    use super::BenchCommand;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: BenchCommand,
    }

    #[test]
    fn flags_are_those_of_the_other_commands_and_old_spellings_go_on_working() {
        let mut commands: Vec<Vec<&str>> =
            ["produce", "consume", "latency", "touch", "pulse", "txn"].map(|one| vec![one]).to_vec();
        commands.extend(["join", "commit", "loaded", "pulse"].map(|one| vec!["groups", one]));
        for command in commands {
            for flags in [
                &["-b", "a:1,b:2", "--format", "json"][..],
                &["--bootstrap-server", "a:1", "--format", "json"],
                &["--bootstrap", "a:1", "--json"],
            ] {
                let line = Line::try_parse_from([&["bench"], &command[..], flags].concat());
                let broker = match line.map(|line| line.command) {
                    Ok(BenchCommand::Produce(args)) => args.topic.broker,
                    Ok(BenchCommand::Consume(args)) => args.topic.broker,
                    Ok(BenchCommand::Latency(args)) => args.topic.broker,
                    Ok(BenchCommand::Touch(args)) => args.broker,
                    Ok(BenchCommand::Pulse(args)) => args.topic.broker,
                    Ok(BenchCommand::Txn(args)) => args.topic.broker,
                    Ok(BenchCommand::Groups(command)) => command.broker().clone(),
                    Err(error) => panic!("{command:?} {flags:?}: {error}"),
                };
                assert_eq!((broker.address(), broker.for_scripts()), ("a:1", true));
            }
        }
    }
}
