//! `plimsoll topic list`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use clap::Args;
use serde_json::json;

/// List topics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic list
  plimsoll topic list --format json | jq -r '.[].topic'")]
pub(crate) struct ListArgs {
    /// Show the broker's own topics too.
    #[arg(short, long)]
    internal: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let cluster = args.connect.client().await?.all_topics().await.map_err(advise)?;
    let mut table = Table::new(&["TOPIC", "#PARTITIONS", "#REPLICAS"]);
    let mut rows = Vec::new();
    for topic in cluster.topics.iter().filter(|t| args.internal || !t.internal) {
        let replicas = topic.partitions.first().map_or(0, |p| p.replicas.len());
        table.push([topic.name.clone(), topic.partitions.len().to_string(), replicas.to_string()]);
        rows.push(json!({
            "topic": topic.name,
            "topicId": topic.id.to_string(),
            "internal": topic.internal,
            "partitions": topic.partitions.len(),
            "replicationFactor": replicas,
        }));
    }
    if table.len() == 0 {
        return args.format.say("No topics. `plimsoll topic create NAME` makes one.", &json!(rows));
    }
    args.format.print(&table, &json!(rows))
}
