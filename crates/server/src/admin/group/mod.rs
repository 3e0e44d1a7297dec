//! `plimsoll group`.
mod delete;
mod describe;
mod found;
mod list;
mod members;
mod reset_offsets;

use super::connect::within;
use clap::{Args, Subcommand};

/// List and describe consumer groups, move and delete their offsets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group list
  plimsoll group describe billing                          state, offsets, lag
  plimsoll group reset-offsets billing --to earliest       shows what would change")]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups.
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show state, committed offsets and lag.
    Describe(describe::DescribeArgs),
    /// Show members and what each reads.
    Members(members::MembersArgs),
    /// Delete empty groups and their offsets, or only some offsets.
    #[command(visible_alias = "rm")]
    Delete(delete::DeleteArgs),
    /// Move the committed offsets of a group without members.
    ResetOffsets(reset_offsets::ResetOffsetsArgs),
}

/// Runs the command.
pub(crate) async fn run(args: GroupArgs) -> anyhow::Result<()> {
    match args.command {
        GroupCommand::List(args) => within(args.connect.limit(), list::run(args)).await,
        GroupCommand::Describe(args) => within(args.connect.limit(), describe::run(args)).await,
        GroupCommand::Members(args) => within(args.connect.limit(), members::run(args)).await,
        GroupCommand::Delete(args) => within(args.connect.limit(), delete::run(args)).await,
        GroupCommand::ResetOffsets(args) => within(args.connect.limit(), reset_offsets::run(args)).await,
    }
}
