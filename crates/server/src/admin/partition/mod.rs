//! `plimsoll partition`: where the replicas of partitions are.
mod describe;
mod move_one;
mod recover;

use clap::{Args, Subcommand};

/// `plimsoll partition`.
#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    #[command(subcommand)]
    command: PartitionCommand,
}

#[derive(Debug, Subcommand)]
enum PartitionCommand {
    Move(move_one::MoveOneArgs),
    Describe(describe::DescribeArgs),
    Recover(recover::RecoverArgs),
}

/// Runs one command.
pub(crate) async fn run(args: PartitionArgs) -> anyhow::Result<()> {
    match args.command {
        PartitionCommand::Move(args) => move_one::run(args).await,
        PartitionCommand::Describe(args) => describe::run(args).await,
        PartitionCommand::Recover(args) => recover::run(args).await,
    }
}
