//! `plimsoll topic trim`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::seek::{Seek, tell_clamped};
use super::super::table::Table;
use anyhow::bail;
use clap::Args;
use client_lite::{EARLIEST, Place};
use serde_json::json;
use std::collections::BTreeMap;

/// Delete the oldest records: the log then begins at the given place.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic trim orders --before @-7d             older than 7 days
  plimsoll topic trim orders --before 1000 -p 0        partition 0, offsets 0 to 999
  plimsoll topic trim orders --before latest           everything
  plimsoll topic trim orders --before latest --dry-run")]
pub(crate) struct TrimArgs {
    /// Name.
    name: String,
    /// The new start: latest, an offset, -N (keep the last N), or @TIME.
    #[arg(long, allow_hyphen_values = true, value_name = "PLACE")]
    before: Seek,
    /// Partitions; otherwise all. May be repeated.
    #[arg(short, long = "partition")]
    partitions: Vec<i32>,
    /// Only show what would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: TrimArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let topic = client.topic(&args.name).await.map_err(advise)?;
    let chosen = |p: &i32| args.partitions.is_empty() || args.partitions.contains(p);
    let places: Vec<Place> =
        topic.partitions.iter().map(|p| p.index).filter(chosen).map(|p| (args.name.clone(), p)).collect();
    if let Some(wrong) = args.partitions.iter().find(|p| !topic.partitions.iter().any(|t| t.index == **p)) {
        bail!("topic {} has no partition {wrong}: it has 0 to {}", args.name, topic.partitions.len() - 1);
    }
    let starts = client.list_offsets(&places, EARLIEST, false).await.map_err(advise)?;
    let (until, clamped) = args.before.resolve_and_say(&client, &places).await?;
    let due: BTreeMap<Place, i64> =
        until.into_iter().filter(|(place, offset)| *offset > starts[place].offset).collect();
    let mut after = due.clone();
    if !args.dry_run {
        after = client.delete_records(&due).await.map_err(advise)?;
    }
    let mut table = Table::new(&["TOPIC", "#PARTITION", "#START BEFORE", "#START NOW"]);
    let mut rows = Vec::new();
    for place in &places {
        let before = starts[place].offset;
        let now = after.get(place).copied().unwrap_or(before);
        table.push([place.0.clone(), place.1.to_string(), before.to_string(), now.to_string()]);
        rows.push(json!({
            "topic": place.0, "partition": place.1, "before": before, "now": now, "dryRun": args.dry_run,
        }));
    }
    args.format.print(&table, &json!(rows))?;
    tell_clamped(&clamped);
    if args.dry_run {
        eprintln!("Nothing was deleted: --dry-run.");
    }
    Ok(())
}
