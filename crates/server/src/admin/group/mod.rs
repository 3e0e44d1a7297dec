//! `plimsoll group`.
mod delete;
mod describe;
mod found;
mod list;
mod members;
mod offsets_csv;
mod reset_offsets;

use super::connect::Does;
use super::coordinated::OF_GROUPS;
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
        GroupCommand::List(args) => {
            let connect = args.connect.clone();
            connect.within_leaders_of(&[OF_GROUPS], Does::Look, list::run(args)).await
        }
        GroupCommand::Describe(args) => describe::run(args).await,
        GroupCommand::Members(args) => {
            let connect = args.connect.clone();
            connect.within_leaders_of(&[OF_GROUPS], Does::Look, members::run(args)).await
        }
        GroupCommand::Delete(args) => delete::run(args).await,
        GroupCommand::ResetOffsets(args) => {
            let (connect, does) = (args.connect.clone(), Does::change_if(args.execute));
            connect.within_leaders_of(&[OF_GROUPS], does, reset_offsets::run(args)).await
        }
    }
}
