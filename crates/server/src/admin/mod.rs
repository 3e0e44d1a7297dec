//! The admin commands: topics, groups, transactions, producing and consuming from a terminal.
//!
//! They speak only the Kafka protocol, so they work against any Kafka 4 cluster. Must not know: the
//! broker's own code or files. Every command prints a table for people, or with `--format json` one
//! JSON document (`consume`: one a line) for scripts; problems go to standard error.
pub(crate) mod connect;
mod consume;
mod coordinated;
mod failures;
pub(crate) mod format;
mod group;
mod partition;
mod partitioner;
mod places;
mod point;
mod produce;
mod seek;
pub(crate) mod table;
mod topic;
mod txn;

use clap::Subcommand;

/// The admin commands of `plimsoll`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Create, list, describe, change and delete topics.
    Topic(topic::TopicArgs),
    /// Show where replicas are, and move them.
    Partition(partition::PartitionArgs),
    /// Write records: each line of standard input is one.
    Produce(produce::ProduceArgs),
    /// Read records and print them.
    Consume(consume::ConsumeArgs),
    /// List and describe consumer groups, move and delete their offsets.
    Group(group::GroupArgs),
    /// List and describe transactions, find those that hang and end them.
    Txn(txn::TxnArgs),
}

/// Runs one command. Errors say what failed, where, and what to do about it.
pub(crate) async fn run(command: AdminCommand) -> anyhow::Result<()> {
    let done = match command {
        AdminCommand::Topic(args) => topic::run(args).await,
        AdminCommand::Partition(args) => partition::run(args).await,
        AdminCommand::Produce(args) => produce::run(args).await,
        AdminCommand::Consume(args) => consume::run(args).await,
        AdminCommand::Group(args) => group::run(args).await,
        AdminCommand::Txn(args) => txn::run(args).await,
    };
    match done {
        Err(error) if format::is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}
