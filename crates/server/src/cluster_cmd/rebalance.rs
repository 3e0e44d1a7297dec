//! `plimsoll cluster rebalance`: every broker gets its share.
use crate::moves::args::MoveArgs;
use crate::moves::plan::rebalance;
use crate::moves::view::View;
use clap::Args;

/// Even out replicas and leaders over the brokers that run, after one was added for example.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster rebalance --dry-run                 which replicas would go where, how much, how long
  plimsoll cluster rebalance                           do it and show how far it is

Brokers get the same number of replicas, up to one, for as little copying as possible. A broker that stores 1.3 times
the mean and 1 GiB more exchanges large replicas for small ones. What brokers lead is evened out where their replicas
allow it, by bytes a second and by number: a lead counts 64 KiB a second more than its partition takes in. Replicas
stay on as many racks (broker.rack) as they are on now. When the copies are made the preferred replicas are asked to lead;
with --no-wait they do so at the next look of leader.imbalance.check.interval.seconds.")]
pub(crate) struct RebalanceArgs {
    #[command(flatten)]
    how: MoveArgs,
}

/// Runs the command.
pub(crate) async fn run(args: RebalanceArgs) -> anyhow::Result<()> {
    let client = args.how.connect.client().await?;
    let plan = rebalance(&View::ask(&client).await?);
    args.how.carry_out(&client, &plan).await
}
