//! `plimsoll topic add-partitions`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

/// Raise the number of partitions. Keys are spread anew: records of one key may then lie in two partitions.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic add-partitions orders --to 24
  plimsoll topic add-partitions orders --num 6         six more than now")]
pub(crate) struct AddPartitionsArgs {
    /// Name.
    name: String,
    /// The number that there shall be.
    #[arg(long, value_name = "TOTAL", required_unless_present = "num", conflicts_with = "num")]
    to: Option<i32>,
    /// How many to add.
    #[arg(short, long)]
    num: Option<i32>,
    /// Only say whether it could be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: AddPartitionsArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let before = client.topic(&args.name).await.map_err(advise)?.partitions.len() as i32;
    let to = match (args.to, args.num) {
        (Some(to), _) => to,
        (None, Some(num)) => before.checked_add(num).context("too many partitions")?,
        (None, None) => bail!("give --to TOTAL or --num HOW_MANY_MORE"),
    };
    if to <= before {
        bail!(
            "topic {0} has {before} partitions, and their number can only be raised: {to} is not more\n  \
             `plimsoll topic add-partitions {0} --num N` adds N; for fewer, make another topic and copy the \
             records",
            args.name
        );
    }
    client.create_partitions(&args.name, to, args.dry_run).await.map_err(advise)?;
    let verb = if args.dry_run { "could have" } else { "has" };
    args.format.say(
        &format!("{} {verb} {to} partitions (before: {before}).", args.name),
        &json!({ "topic": args.name, "before": before, "partitions": to, "dryRun": args.dry_run }),
    )
}
