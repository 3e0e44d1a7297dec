//! `plimsoll group reset-offsets`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::places::{Named, named_places};
use super::super::seek::{Clamped, Seek, clamp, tell_clamped};
use super::super::table::Table;
use super::found::find;
use super::offsets_csv::{self, Offsets};
use anyhow::{Context, bail, ensure};
use clap::Args;
use client_lite::{Client, Committer, EARLIEST, LATEST, Place};
use model::ErrorCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Move the committed offsets of groups without members. Shows what would change; --execute does it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group reset-offsets billing --to earliest                      everything it has committed
  plimsoll group reset-offsets billing --to @-2h --topic orders --execute
  plimsoll group reset-offsets billing --to 1500 --topic orders:0,3 --execute
  plimsoll group reset-offsets billing --shift -100 --execute             100 back in each partition
  plimsoll group reset-offsets billing --export > billing.csv             what it has committed
  plimsoll group reset-offsets billing --from-file billing.csv --execute  and back to that

Files are those of kafka-consumer-groups: a line for each partition, TOPIC,PARTITION,OFFSET, and with several groups
GROUP,TOPIC,PARTITION,OFFSET.")]
pub(crate) struct ResetOffsetsArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// The new place: earliest, latest, an offset, -N (N before the end), or @TIME.
    #[arg(long, allow_hyphen_values = true, value_name = "PLACE", group = "place")]
    to: Option<Seek>,
    /// Move each committed offset by so many records, forward or back.
    #[arg(long, allow_hyphen_values = true, value_name = "N", group = "place")]
    shift: Option<i64>,
    /// Set the offsets that this file names.
    #[arg(long, value_name = "FILE", group = "place", conflicts_with = "topics")]
    from_file: Option<PathBuf>,
    /// A topic, or TOPIC:PARTITION,PARTITION; otherwise what the group has committed. May be repeated.
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<Named>,
    /// Print the new offsets as such a file; those that are committed, where no new place is given.
    #[arg(long, conflicts_with = "format")]
    export: bool,
    /// Do it.
    #[arg(long)]
    pub(super) execute: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What offsets are moved to.
enum Goal<'a> {
    To(&'a Seek),
    Shift(i64),
    File(Offsets),
    /// They stay.
    Committed,
}

/// What is to be set in one group.
struct Plan<'a> {
    group: &'a str,
    committed: BTreeMap<Place, i64>,
    target: BTreeMap<Place, i64>,
    clamped: Vec<Clamped>,
}

/// Runs the command.
pub(crate) async fn run(args: ResetOffsetsArgs) -> anyhow::Result<()> {
    let goal = goal(&args)?;
    let client = args.connect.client().await?;
    let mut plans = Vec::new();
    for group in &args.names {
        plans.push(plan(&client, &args, &goal, group).await?);
    }
    if args.execute {
        execute(&client, &plans).await?;
    }
    if args.export {
        let rows =
            plans.iter().flat_map(|plan| plan.target.iter().map(|(p, offset)| (plan.group, p, *offset)));
        let text = offsets_csv::write(rows, plans.len() > 1);
        args.format.print_or(&text, &Value::Null)?;
    } else {
        show(&args, &plans)?;
    }
    plans.iter().for_each(|plan| tell_clamped(&plan.clamped));
    if !args.execute && !matches!(goal, Goal::Committed) {
        eprintln!("Nothing was changed; add --execute to do it.");
    }
    Ok(())
}

fn goal(args: &ResetOffsetsArgs) -> anyhow::Result<Goal<'_>> {
    Ok(match (&args.to, args.shift, &args.from_file) {
        (Some(seek), ..) => Goal::To(seek),
        (_, Some(by), _) => Goal::Shift(by),
        (_, _, Some(path)) => {
            let read = std::fs::read_to_string(path).map_err(Into::into);
            let offsets = read.and_then(|text| offsets_csv::read(&text, &args.names));
            Goal::File(offsets.with_context(|| path.display().to_string())?)
        }
        _ if args.export && !args.execute => Goal::Committed,
        _ => bail!(
            "where to? Give --to PLACE, --shift N or --from-file FILE\n  \
             --export alone prints what is committed, for --from-file."
        ),
    })
}

async fn plan<'a>(
    client: &Client,
    args: &ResetOffsetsArgs,
    goal: &Goal<'_>,
    group: &'a str,
) -> anyhow::Result<Plan<'a>> {
    if !matches!(goal, Goal::Committed) {
        refuse_members(client, group).await?;
    }
    let committed = client.committed(group, None).await.map_err(advise)?;
    let committed: BTreeMap<Place, i64> = committed.into_iter().map(|(p, c)| (p, c.offset)).collect();
    let places: Vec<Place> = match (goal, args.topics.as_slice()) {
        (Goal::File(offsets), _) => {
            offsets.get(group).into_iter().flatten().map(|(p, _)| p.clone()).collect()
        }
        (_, []) => committed.keys().cloned().collect(),
        (_, topics) => named_places(client, topics).await?,
    };
    if places.is_empty() {
        match goal {
            Goal::File(_) => bail!("the file names no offset of group {group}"),
            Goal::Committed => bail!("group {group} has committed nothing"),
            _ => bail!("group {group} has committed nothing; name what to set with --topic"),
        }
    }
    let (target, clamped) = match goal {
        Goal::To(seek) => seek.resolve_and_say(client, &places).await?,
        Goal::Shift(by) => within_logs(client, shifted(&places, &committed, *by)?).await?,
        Goal::File(offsets) => within_logs(client, offsets[group].clone()).await?,
        Goal::Committed => {
            (committed.clone().into_iter().filter(|(p, _)| places.contains(p)).collect(), Vec::new())
        }
    };
    Ok(Plan { group, committed, target, clamped })
}

/// Sets what is planned, group by group.
async fn execute(client: &Client, plans: &[Plan<'_>]) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for plan in plans {
        if let Err(error) = client.commit(plan.group, Committer::NOBODY, &plan.target).await {
            let error = advise(error);
            return Err(match done.as_slice() {
                [] => error,
                done => error.context(format!("set the offsets of {}, then failed", done.join(", "))),
            });
        }
        done.push(plan.group);
    }
    Ok(())
}

fn show(args: &ResetOffsetsArgs, plans: &[Plan<'_>]) -> anyhow::Result<()> {
    let several = plans.len() > 1;
    let mut table = match several {
        true => Table::new(&["GROUP", "TOPIC", "#PARTITION", "#BEFORE", "#NEW"]),
        false => Table::new(&["TOPIC", "#PARTITION", "#BEFORE", "#NEW"]),
    };
    let mut rows = Vec::new();
    for plan in plans {
        for (place, offset) in &plan.target {
            let before = plan.committed.get(place);
            let shown = before.map_or_else(|| "-".to_owned(), ToString::to_string);
            let cells = [place.0.clone(), place.1.to_string(), shown, offset.to_string()];
            if several {
                let [topic, partition, before, new] = cells;
                table.push([plan.group.to_owned(), topic, partition, before, new]);
            } else {
                table.push(cells);
            }
            rows.push(json!({
                "group": plan.group, "topic": place.0, "partition": place.1, "before": before, "new": offset,
                "executed": args.execute,
            }));
        }
    }
    args.format.print(&table, &json!(rows))
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

/// Committed offsets moved by `by`.
fn shifted(
    places: &[Place],
    committed: &BTreeMap<Place, i64>,
    by: i64,
) -> anyhow::Result<BTreeMap<Place, i64>> {
    let mut asked = BTreeMap::new();
    for place in places {
        let Some(offset) = committed.get(place) else {
            bail!("nothing is committed for {}-{}, so it cannot be shifted; use --to", place.0, place.1);
        };
        asked.insert(place.clone(), offset.saturating_add(by));
    }
    Ok(asked)
}

/// What is asked for, within the logs, and where that is another offset.
async fn within_logs(
    client: &Client,
    asked: BTreeMap<Place, i64>,
) -> anyhow::Result<(BTreeMap<Place, i64>, Vec<Clamped>)> {
    let places: Vec<Place> = asked.keys().cloned().collect();
    let starts = client.list_offsets(&places, EARLIEST, false).await.map_err(advise)?;
    let ends = client.list_offsets(&places, LATEST, false).await.map_err(advise)?;
    let (mut target, mut moved) = (BTreeMap::new(), Vec::new());
    for (place, offset) in asked {
        let (to, clamped) = clamp(&place, offset, (starts[&place].offset, ends[&place].offset));
        target.insert(place, to);
        moved.extend(clamped);
    }
    Ok((target, moved))
}
