//! `plimsoll group describe`.
use super::super::connect::{ConnectArgs, advise};
use super::super::coordinated::OF_GROUPS;
use super::super::failures::show_each;
use super::super::format::FormatArgs;
use super::super::places::has_leader;
use super::super::point::show_point;
use super::super::table::Table;
use super::found::{Member, find};
use clap::Args;
use client_lite::{Client, Committed, LATEST, Place, Rebalance, parse_rebalance_log};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Show type, state, committed offsets and lag, and (from a Plimsoll broker) why the group rebalanced.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll group describe billing
  plimsoll group describe billing --format json | jq '.[0].totalLag'

The total is that of the partitions whose lag is known; a partition without a committed offset, or without a leader that
knows its end, has none. Where no lag is known the total is -, and null in JSON.")]
pub(crate) struct DescribeArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// One partition that the group has committed or is reading.
struct Row {
    place: Place,
    committed: Option<Committed>,
    end: Option<i64>,
    member: Option<Member>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed.as_ref()?.offset).max(0))
    }
}

/// Runs the command. The groups that are there are shown before what failed of the others.
pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    show_each((&args.connect, &args.format), OF_GROUPS, &args.names, describe).await
}

/// The lag of all partitions of a group.
#[derive(Debug, PartialEq, Eq)]
struct Total {
    /// Of those whose lag is known; none if it is known of none.
    lag: Option<i64>,
    /// Partitions without a committed offset.
    uncommitted: usize,
    /// Partitions with one, whose end is not known.
    endless: usize,
}

impl Total {
    fn of(rows: &[Row]) -> Total {
        let lags: Vec<i64> = rows.iter().filter_map(Row::lag).collect();
        Total {
            lag: (!lags.is_empty()).then(|| lags.iter().sum()),
            uncommitted: rows.iter().filter(|row| row.committed.is_none()).count(),
            endless: rows.iter().filter(|row| row.committed.is_some() && row.end.is_none()).count(),
        }
    }

    fn show(&self, partitions: usize) -> String {
        let mut notes = Vec::new();
        if self.uncommitted > 0 {
            notes.push(format!("{} of {partitions} partitions have no committed offset", self.uncommitted));
        }
        if self.endless > 0 {
            notes.push(format!("the end of {} of {partitions} partitions is not known", self.endless));
        }
        let lag = show_number(self.lag);
        if notes.is_empty() { lag } else { format!("{lag} ({})", notes.join(", ")) }
    }
}

fn show_number(n: Option<i64>) -> String {
    n.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// Text and document of one group.
async fn describe(client: &Client, name: &str) -> anyhow::Result<(String, Value)> {
    let group = find(client, name).await.map_err(advise)?;
    let members = group.members()?;
    let committed = client.committed(name, None).await.map_err(advise)?;
    let coordinator = client.coordinator(name).await.map_err(advise)?.address().to_owned();
    let rows = rows(client, &members, committed).await?;
    let total = Total::of(&rows);
    let epochs = group.epochs().map_or_else(String::new, |(epoch, assigned)| {
        format!("  epoch        {epoch}, of the assignment {assigned}\n")
    });
    let mut text = format!(
        "{name}  {}\n  coordinator  {coordinator}\n  type         {}\n  protocol     {} {}\n{epochs}  members      {}\n  \
         total lag    {}\n\n",
        group.state(),
        group.kind(),
        group.protocol_type(),
        group.assignor(),
        members.len(),
        total.show(rows.len()),
    );
    text.push_str(&show_rows(&rows));
    let log = parse_rebalance_log(group.log());
    text.push_str(&show_rebalances(&log));
    let document = json!({
        "group": name,
        "state": group.state(),
        "coordinator": coordinator,
        "type": group.kind(),
        "protocolType": group.protocol_type(),
        "protocol": group.assignor(),
        "epoch": group.epochs().map(|(epoch, _)| epoch),
        "assignmentEpoch": group.epochs().map(|(_, assigned)| assigned),
        "members": members.len(),
        "totalLag": total.lag,
        "partitionsWithoutOffset": total.uncommitted,
        "partitions": rows.iter().map(row_json).collect::<Vec<_>>(),
        "rebalances": log.iter().map(rebalance_json).collect::<Vec<_>>(),
    });
    Ok((text, document))
}

fn show_rows(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "No committed offsets.\n\n".to_owned();
    }
    let mut table = Table::new(&["TOPIC", "#PARTITION", "#COMMITTED", "#END", "#LAG", "MEMBER", "HOST"]);
    for row in rows {
        let member = row.member.as_ref();
        table.push([
            row.place.0.clone(),
            row.place.1.to_string(),
            show_number(row.committed.as_ref().map(|c| c.offset)),
            show_number(row.end),
            show_number(row.lag()),
            member.map_or_else(|| "-".to_owned(), |m| m.id.clone()),
            member.map_or_else(|| "-".to_owned(), |m| m.host.clone()),
        ]);
    }
    format!("{table}\n")
}

fn row_json(row: &Row) -> Value {
    json!({
        "topic": row.place.0,
        "partition": row.place.1,
        "committed": row.committed.as_ref().map(|c| c.offset),
        "metadata": row.committed.as_ref().map(|c| c.metadata.clone()),
        "end": row.end,
        "lag": row.lag(),
        "member": row.member.as_ref().map(|m| m.id.clone()),
    })
}

fn show_rebalances(log: &[Rebalance]) -> String {
    if log.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["REBALANCED AT", "#GENERATION", "WHY", "MEMBER", "REASON"]);
    for event in log {
        let member = event.member.clone().unwrap_or_else(|| "-".to_owned());
        let (at, generation) = (show_point(event.at), event.generation.to_string());
        table.push([at, generation, event.kind.clone(), member, event.reason.clone()]);
    }
    format!("{table}\n")
}

fn rebalance_json(event: &Rebalance) -> Value {
    json!({
        "at": event.at,
        "generation": event.generation,
        "kind": event.kind,
        "member": event.member,
        "reason": event.reason,
    })
}

async fn rows(
    client: &Client,
    members: &[Member],
    mut committed: BTreeMap<Place, Committed>,
) -> anyhow::Result<Vec<Row>> {
    let mut readers: BTreeMap<&Place, &Member> = BTreeMap::new();
    for member in members {
        readers.extend(member.partitions.iter().map(|place| (place, member)));
    }
    let places: BTreeSet<Place> = committed.keys().chain(readers.keys().copied()).cloned().collect();
    // Offsets outlive their topic until they expire: such a partition has no end to ask for.
    let names: BTreeSet<&str> = places.iter().map(|(topic, _)| topic.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let cluster = client.refresh(&names).await.map_err(advise)?;
    let live: Vec<Place> = places.iter().filter(|place| has_leader(&cluster, place)).cloned().collect();
    let ends = client.list_offsets(&live, LATEST, false).await.map_err(advise)?;
    let row = |place: Place| Row {
        committed: committed.remove(&place),
        end: ends.get(&place).map(|at| at.offset),
        member: readers.get(&place).map(|m| (*m).clone()),
        place,
    };
    Ok(places.iter().cloned().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(committed: Option<i64>, end: Option<i64>) -> Row {
        let committed =
            committed.map(|offset| Committed { offset, leader_epoch: -1, metadata: String::new() });
        Row { place: ("t".to_owned(), 0), committed, end, member: None }
    }

    #[test]
    fn a_total_is_of_the_lags_that_are_known_and_names_what_is_not() {
        let shown = |rows: &[Row]| Total::of(rows).show(rows.len());
        assert_eq!(shown(&[]), "-");
        assert_eq!(shown(&[row(Some(3), Some(5)), row(Some(5), Some(5))]), "2");
        let none = [row(None, Some(5)), row(None, Some(0))];
        assert_eq!(shown(&none), "- (2 of 2 partitions have no committed offset)");
        let some = [row(Some(3), Some(5)), row(None, Some(5)), row(Some(3), None)];
        let told =
            "2 (1 of 3 partitions have no committed offset, the end of 1 of 3 partitions is not known)";
        assert_eq!(shown(&some), told);
    }
}
