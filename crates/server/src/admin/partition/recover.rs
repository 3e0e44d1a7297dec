//! `plimsoll partition recover`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use anyhow::bail;
use clap::Args;
use client_lite::{ClientError, Place};
use model::ErrorCode;
use serde_json::json;

/// Go on with the replica that is left, when a majority never comes back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll partition recover orders 0                         what is left of it, and what would be given up
  plimsoll partition recover orders 0 --accept-loss           give that up

A partition whose leader is lost elects another one by itself as soon as a majority of its replicas is back: nothing is
lost then. This is for replicas that are lost for good, and for those that lost power with write.caching and of which one
never comes back. Of the replicas on live brokers the one with the longest log leads, alone; the others begin anew as
copies of it. What the lost ones acknowledged and it does not have is gone. The log, the metadata, a line in the broker's
log and plimsoll_losses_accepted_total say so.

Stop the brokers that are given up, or be sure that they are lost: one that lives, cut off from the others, goes on
taking records until it hears of this.")]
pub(crate) struct RecoverArgs {
    /// Topic.
    topic: String,
    /// Number of the partition.
    partition: i32,
    /// Only show what is left and what would be given up; the same as without --accept-loss.
    #[arg(long, conflicts_with = "accept_loss")]
    dry_run: bool,
    /// Give up what the plan names.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: RecoverArgs) -> anyhow::Result<()> {
    let place: Place = (args.topic, args.partition);
    let name = format!("{}-{}", place.0, place.1);
    let work = async {
        let client = args.connect.client().await?;
        let plan = match client.accept_loss(&place, false).await {
            Ok(plan) => plan,
            Err(ClientError::Broker { code, message, .. }) if is_verdict(code) => {
                bail!("{name}: {}", message.unwrap_or_else(|| code.to_string()))
            }
            Err(error) => bail!(advise(error)),
        };
        let json = |accepted: bool| {
            let (plan, gone) = plan.rsplit_once('\n').unwrap_or(("", &plan));
            let replicas: Vec<&str> = plan.lines().collect();
            json!({
                "topic": place.0, "partition": place.1, "replicas": replicas, "loss": gone, "accepted": accepted,
            })
        };
        if !args.accept_loss {
            let text = format!("{plan}\n--accept-loss does so.\n");
            return args.format.print_or(&text, &json(false));
        }
        eprintln!("{plan}");
        client.accept_loss(&place, true).await.map_err(advise)?;
        let sentence = format!("{name} has a leader again; the other replicas are being copied from it.");
        args.format.say(&sentence, &json(true))
    };
    args.connect.within_leader(work).await
}

/// Whether the error is the answer: nothing is to be given up, or nothing can be.
fn is_verdict(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ElectionNotNeeded | ErrorCode::EligibleLeadersNotAvailable)
}
