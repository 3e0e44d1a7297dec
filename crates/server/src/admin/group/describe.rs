//! `plimsoll group describe`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
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
  plimsoll group describe billing --format json | jq '.[0].totalLag'")]
pub(crate) struct DescribeArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
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

/// Runs the command.
pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let (mut text, mut documents) = (String::new(), Vec::new());
    for name in &args.names {
        let (one, document) = describe(&client, name).await?;
        text.push_str(&one);
        documents.push(document);
    }
    args.format.print_or(&text, &json!(documents))
}

/// Text and document of one group.
async fn describe(client: &Client, name: &str) -> anyhow::Result<(String, Value)> {
    let group = find(client, name).await.map_err(advise)?;
    let members = group.members()?;
    let committed = client.committed(name, None).await.map_err(advise)?;
    let coordinator = client.coordinator(name).await.map_err(advise)?.address().to_owned();
    let rows = rows(client, &members, committed).await?;
    let total: i64 = rows.iter().filter_map(Row::lag).sum();
    let epochs = group.epochs().map_or_else(String::new, |(epoch, assigned)| {
        format!("  epoch        {epoch}, of the assignment {assigned}\n")
    });
    let mut text = format!(
        "{name}  {}\n  coordinator  {coordinator}\n  type         {}\n  protocol     {} {}\n{epochs}  members      {}\n  \
         total lag    {total}\n\n",
        group.state(),
        group.kind(),
        group.protocol_type(),
        group.assignor(),
        members.len(),
    );
    let mut table = Table::new(&["TOPIC", "#PARTITION", "#COMMITTED", "#END", "#LAG", "MEMBER", "HOST"]);
    let show = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for row in &rows {
        let member = row.member.as_ref();
        table.push([
            row.place.0.clone(),
            row.place.1.to_string(),
            show(row.committed.as_ref().map(|c| c.offset)),
            show(row.end),
            show(row.lag()),
            member.map_or_else(|| "-".to_owned(), |m| m.id.clone()),
            member.map_or_else(|| "-".to_owned(), |m| m.host.clone()),
        ]);
    }
    text.push_str(&if rows.is_empty() { "No committed offsets.\n".to_owned() } else { table.to_string() });
    text.push('\n');
    let log = parse_rebalance_log(group.log());
    text.push_str(&show_rebalances(&log));
    let partitions = rows.iter().map(|row| {
        json!({
            "topic": row.place.0,
            "partition": row.place.1,
            "committed": row.committed.as_ref().map(|c| c.offset),
            "metadata": row.committed.as_ref().map(|c| c.metadata.clone()),
            "end": row.end,
            "lag": row.lag(),
            "member": row.member.as_ref().map(|m| m.id.clone()),
        })
    });
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
        "totalLag": total,
        "partitions": partitions.collect::<Vec<_>>(),
        "rebalances": log.iter().map(rebalance_json).collect::<Vec<_>>(),
    });
    Ok((text, document))
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
    let has_leader = |(topic, partition): &&Place| {
        let topic = cluster.topic(topic).filter(|t| t.error_code == 0);
        topic.is_some_and(|t| t.partitions.iter().any(|p| p.index == *partition && p.leader >= 0))
    };
    let live: Vec<Place> = places.iter().filter(has_leader).cloned().collect();
    let ends = client.list_offsets(&live, LATEST, false).await.map_err(advise)?;
    let row = |place: Place| Row {
        committed: committed.remove(&place),
        end: ends.get(&place).map(|at| at.offset),
        member: readers.get(&place).map(|m| (*m).clone()),
        place,
    };
    Ok(places.iter().cloned().map(row).collect())
}
