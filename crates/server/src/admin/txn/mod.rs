//! `plimsoll txn`.
mod abort;
mod describe;
mod find_hanging;
mod list;
mod producers;
mod span;
mod suspects;

use super::connect::Does;
use super::coordinated::OF_TRANSACTIONS;
use clap::{Args, Subcommand};

/// List and describe transactions, find those that hang and end them.
#[derive(Debug, Args)]
#[command(
    after_help = "A transaction has a coordinator, which decides, and partitions, which hold its records. Readers of committed records stop
at the first open transaction of a partition (its last stable offset). A transaction hangs when a partition has it open
and its coordinator does not: nobody will end it there, and readers wait for ever.

Examples:
  plimsoll txn list --state ongoing --longer-than 10m      who has been at it for long
  plimsoll txn describe payments-1                         its state, its producer, its partitions
  plimsoll txn producers orders 0                          who writes to a partition, and what is open there
  plimsoll txn find-hanging                                asks partitions and coordinators alike
  plimsoll txn abort orders 0 --start-offset 1500          shows what would be ended; --execute does it"
)]
pub(crate) struct TxnArgs {
    #[command(subcommand)]
    command: TxnCommand,
}

#[derive(Debug, Subcommand)]
enum TxnCommand {
    /// List transactional ids, as their coordinators know them.
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show state, producer and partitions of transactional ids.
    Describe(describe::DescribeArgs),
    /// Show the producers of a partition, and which of them have a transaction open there.
    #[command(visible_alias = "describe-producers")]
    Producers(producers::ProducersArgs),
    /// Find transactions that partitions have open and no coordinator knows.
    FindHanging(find_hanging::FindHangingArgs),
    /// End a transaction at one partition, past its coordinator.
    Abort(abort::AbortArgs),
}

/// Runs the command.
pub(crate) async fn run(args: TxnArgs) -> anyhow::Result<()> {
    match args.command {
        TxnCommand::List(args) => {
            let connect = args.connect.clone();
            connect.within_leaders_of(&[OF_TRANSACTIONS], Does::Look, list::run(args)).await
        }
        TxnCommand::Describe(args) => describe::run(args).await,
        TxnCommand::Producers(args) => {
            let (connect, topic) = (args.connect.clone(), args.topic.clone());
            connect.within_leaders_of(&[&topic], Does::Look, producers::run(args)).await
        }
        TxnCommand::FindHanging(args) => find_hanging::run(args).await,
        TxnCommand::Abort(args) => {
            let (connect, topic) = (args.connect.clone(), args.topic.clone());
            let does = Does::change_if(args.execute);
            connect.within_leaders_of(&[&topic, OF_TRANSACTIONS], does, abort::run(args)).await
        }
    }
}
