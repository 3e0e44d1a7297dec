//! `plimsoll bench`: a load generator over the Kafka protocol, for this broker and for any other.
//!
//! Requests are encoded once and sent again and again, so that the generator costs little beside the
//! broker it measures. Latency counts from the intended send, not from the moment a full pipe let it go.
mod consume;
mod end_to_end;
mod frames;
mod produce;
mod report;
mod setup;
mod socket;
mod touch;

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
}

/// Where and what.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopicArgs {
    /// Address of any broker.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub(crate) bootstrap: String,
    /// Topic; created when missing.
    #[arg(long, default_value = "bench")]
    pub(crate) topic: String,
    /// Partitions of a created topic.
    #[arg(long, default_value_t = 10)]
    pub(crate) partitions: i32,
    /// Configs of a created topic, `name=value`; may be repeated.
    #[arg(long = "topic-config", value_name = "NAME=VALUE")]
    pub(crate) topic_configs: Vec<String>,
    /// One line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs a measurement and prints its figures.
pub(crate) fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Produce(args) => produce::run(&args),
        BenchCommand::Consume(args) => consume::run(&args),
        BenchCommand::Latency(args) => end_to_end::run(&args),
        BenchCommand::Touch(args) => touch::run(&args),
    }
}
