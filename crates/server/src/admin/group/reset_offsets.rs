//! `plimsoll group reset-offsets`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::places::named_places;
use super::super::seek::{Clamped, Seek, clamp, tell_clamped};
use super::super::table::Table;
use super::found::find;
use anyhow::{bail, ensure};
use clap::Args;
use client_lite::{Client, Committer, EARLIEST, LATEST, Place};
use model::ErrorCode;
use serde_json::json;
use std::collections::BTreeMap;

/// Move the committed offsets of a group without members. Shows what would change; --execute does it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group reset-offsets billing --to earliest                      everything it has committed
  plimsoll group reset-offsets billing --to @-2h --topic orders --execute
  plimsoll group reset-offsets billing --to 1500 --topic orders:0,3 --execute
  plimsoll group reset-offsets billing --shift -100 --execute             100 back in each partition")]
pub(crate) struct ResetOffsetsArgs {
    /// Name.
    name: String,
    /// The new place: earliest, latest, an offset, -N (N before the end), or @TIME.
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "PLACE",
        required_unless_present = "shift",
        conflicts_with = "shift"
    )]
    to: Option<Seek>,
    /// Move each committed offset by so many records, forward or back.
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    shift: Option<i64>,
    /// A topic, or TOPIC:PARTITION,PARTITION; otherwise what the group has committed. May be repeated.
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<String>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ResetOffsetsArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    refuse_members(&client, &args.name).await?;
    let committed = client.committed(&args.name, None).await.map_err(advise)?;
    let committed: BTreeMap<Place, i64> = committed.into_iter().map(|(p, c)| (p, c.offset)).collect();
    let places = if args.topics.is_empty() {
        committed.keys().cloned().collect()
    } else {
        named_places(&client, &args.topics).await?
    };
    if places.is_empty() {
        bail!("group {} has committed nothing; name what to set with --topic", args.name);
    }
    let (target, clamped) = match (&args.to, args.shift) {
        (Some(seek), _) => seek.resolve_and_say(&client, &places).await?,
        (None, Some(by)) => shifted(&client, &places, &committed, by).await?,
        (None, None) => bail!("give --to PLACE or --shift N"),
    };
    if args.execute {
        client.commit(&args.name, Committer::NOBODY, &target).await.map_err(advise)?;
    }
    let mut table = Table::new(&["TOPIC", "#PARTITION", "#BEFORE", "#NEW"]);
    let mut rows = Vec::new();
    for (place, offset) in &target {
        let before = committed.get(place);
        let shown = before.map_or_else(|| "-".to_owned(), ToString::to_string);
        table.push([place.0.clone(), place.1.to_string(), shown, offset.to_string()]);
        rows.push(json!({
            "topic": place.0, "partition": place.1, "before": before, "new": offset, "executed": args.execute,
        }));
    }
    args.format.print(&table, &json!(rows))?;
    tell_clamped(&clamped);
    if !args.execute {
        eprintln!("Nothing was changed; add --execute to do it.");
    }
    Ok(())
}

/// Members would commit their own offsets over ours.
async fn refuse_members(client: &Client, group: &str) -> anyhow::Result<()> {
    match find(client, group).await {
        Ok(described) => ensure!(
            described.member_count() == 0,
            "group {group} has {} members (state {}); stop them first\n  `plimsoll group members {group}` shows them",
            described.member_count(),
            described.state()
        ),
        // A commit makes the group.
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {}
        Err(error) => return Err(advise(error)),
    }
    Ok(())
}

/// Committed offsets moved by `by`, within the log, and where that is less.
async fn shifted(
    client: &Client,
    places: &[Place],
    committed: &BTreeMap<Place, i64>,
    by: i64,
) -> anyhow::Result<(BTreeMap<Place, i64>, Vec<Clamped>)> {
    let starts = client.list_offsets(places, EARLIEST, false).await.map_err(advise)?;
    let ends = client.list_offsets(places, LATEST, false).await.map_err(advise)?;
    let (mut target, mut moved) = (BTreeMap::new(), Vec::new());
    for place in places {
        let Some(offset) = committed.get(place) else {
            bail!("nothing is committed for {}-{}, so it cannot be shifted; use --to", place.0, place.1);
        };
        let (start, end) = (starts[place].offset, ends[place].offset);
        let (to, clamped) = clamp(place, offset.saturating_add(by), (start, end));
        target.insert(place.clone(), to);
        moved.extend(clamped);
    }
    Ok((target, moved))
}
