//! `plimsoll topic`.
mod add_partitions;
mod alter_config;
mod create;
mod delete;
mod describe;
mod list;
mod trim;

use super::connect::within;
use clap::{Args, Subcommand};

/// Create, list, describe, change and delete topics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic create orders -p 12
  plimsoll topic describe orders
  plimsoll topic alter-config orders --set retention.ms=86400000")]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create topics.
    Create(create::CreateArgs),
    /// List topics.
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show partitions, offsets and configuration.
    Describe(describe::DescribeArgs),
    /// Delete topics with all their records.
    #[command(visible_alias = "rm")]
    Delete(delete::DeleteArgs),
    /// Change configuration.
    AlterConfig(alter_config::AlterConfigArgs),
    /// Raise the number of partitions.
    AddPartitions(add_partitions::AddPartitionsArgs),
    /// Delete the oldest records.
    Trim(trim::TrimArgs),
}

/// Runs the command.
pub(crate) async fn run(args: TopicArgs) -> anyhow::Result<()> {
    match args.command {
        TopicCommand::Create(args) => {
            let connect = args.connect.clone();
            connect.within_leader(create::run(args)).await
        }
        TopicCommand::List(args) => within(args.connect.limit(), list::run(args)).await,
        TopicCommand::Describe(args) => within(args.connect.limit(), describe::run(args)).await,
        TopicCommand::Delete(args) => {
            let connect = args.connect.clone();
            connect.within_leader(delete::run(args)).await
        }
        TopicCommand::AlterConfig(args) => {
            let connect = args.connect.clone();
            connect.within_leader(alter_config::run(args)).await
        }
        TopicCommand::AddPartitions(args) => {
            let connect = args.connect.clone();
            connect.within_leader(add_partitions::run(args)).await
        }
        TopicCommand::Trim(args) => within(args.connect.limit(), trim::run(args)).await,
    }
}

/// Splits `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}
