//! `plimsoll topic describe`.
use super::super::connect::{ConnectArgs, advise, patience};
use super::super::format::FormatArgs;
use super::super::table::Table;
use crate::moves::plan::named;
use clap::Args;
use client_lite::{Client, ConfigEntry, EARLIEST, LATEST, OffsetAt, Partition, Place, ResourceKind, Topic};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Show partitions, offsets and configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic describe orders
  plimsoll topic describe orders --configs             every key, defaults too
  plimsoll topic describe orders --format json | jq '.[0].partitions[].endOffset'")]
pub(crate) struct DescribeArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Show every configuration key, not only those that were set.
    #[arg(short, long)]
    configs: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// First and next offset of each partition; empty for a partition without a leader, or whose leader does not tell.
struct Offsets {
    starts: BTreeMap<Place, OffsetAt>,
    ends: BTreeMap<Place, OffsetAt>,
    /// Which leaders did not tell, and what the last one said.
    refused: Option<String>,
}

impl Offsets {
    async fn ask(client: &Client, topic: &Topic, patience: Duration) -> Offsets {
        let led: Vec<Place> = topic
            .partitions
            .iter()
            .filter(|p| p.leader >= 0)
            .map(|p| (topic.name.clone(), p.index))
            .collect();
        let (starts, first) = client.list_offsets_found(&led, EARLIEST, false, patience).await;
        // What was refused is not asked for as long again.
        let told: Vec<Place> = starts.keys().cloned().collect();
        let (ends, second) = client.list_offsets_found(&told, LATEST, false, patience).await;
        let silent = led.iter().filter(|place| !ends.contains_key(*place));
        let refused =
            second.or(first).map(|error| format!("the offsets of {} are not known: {error}", named(silent)));
        Offsets { starts, ends, refused }
    }

    fn of(&self, topic: &str, partition: i32) -> (Option<i64>, Option<i64>) {
        let place = (topic.to_owned(), partition);
        (self.starts.get(&place).map(|at| at.offset), self.ends.get(&place).map(|at| at.offset))
    }
}

/// Runs the command.
pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let mut text = String::new();
    let mut documents = Vec::new();
    for name in &args.names {
        let topic = client.topic(name).await.map_err(advise)?;
        let offsets = Offsets::ask(&client, &topic, patience(args.connect.limit())).await;
        if let Some(why) = &offsets.refused {
            eprintln!("{why}");
        }
        let configs = configs(&client, name, args.configs).await?;
        write!(text, "{}", as_text(&topic, &offsets, &configs))?;
        documents.push(as_json(&topic, &offsets, &configs));
    }
    args.format.print_or(&text, &json!(documents))
}

async fn configs(client: &Client, name: &str, all: bool) -> anyhow::Result<Vec<ConfigEntry>> {
    let entries = client.describe_configs(ResourceKind::Topic, name, None, false).await.map_err(advise)?;
    Ok(entries.into_iter().filter(|e| all || e.source == "DYNAMIC_TOPIC_CONFIG").collect())
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn as_text(topic: &Topic, offsets: &Offsets, configs: &[ConfigEntry]) -> String {
    let mut table = Table::new(&["#PARTITION", "LEADER", "#EPOCH", "REPLICAS", "IN SYNC", "#START", "#END"]);
    for p in &topic.partitions {
        let (start, end) = offsets.of(&topic.name, p.index);
        let show = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let leader = match p.leader {
            ..0 if p.offline.is_empty() => "none".to_owned(),
            ..0 => "offline".to_owned(),
            leader => leader.to_string(),
        };
        table.push([
            p.index.to_string(),
            leader,
            p.epoch.to_string(),
            ids(&p.replicas),
            ids(&p.in_sync),
            show(start),
            show(end),
        ]);
    }
    let internal = if topic.internal { "  internal" } else { "" };
    let mut text = format!("{}  id {}{internal}\n\n{table}\n", topic.name, topic.id);
    if !configs.is_empty() {
        let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
        for entry in configs {
            let value = if entry.sensitive { "(secret)" } else { entry.value.as_deref().unwrap_or("") };
            table.push([entry.name.clone(), value.to_owned(), entry.source.to_owned()]);
        }
        text.push_str(&format!("{table}\n"));
    }
    text
}

fn as_json(topic: &Topic, offsets: &Offsets, configs: &[ConfigEntry]) -> Value {
    let partition = |p: &Partition| {
        let (start, end) = offsets.of(&topic.name, p.index);
        json!({
            "partition": p.index,
            "leader": p.leader,
            "leaderEpoch": p.epoch,
            "replicas": p.replicas,
            "inSync": p.in_sync,
            "offline": p.offline,
            "startOffset": start,
            "endOffset": end,
        })
    };
    let config = |e: &ConfigEntry| json!({ "key": e.name, "value": e.value, "source": e.source, "readOnly": e.read_only, "sensitive": e.sensitive });
    json!({
        "topic": topic.name,
        "topicId": topic.id.to_string(),
        "internal": topic.internal,
        "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "configs": configs.iter().map(config).collect::<Vec<_>>(),
    })
}
