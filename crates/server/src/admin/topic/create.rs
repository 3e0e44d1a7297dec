//! `plimsoll topic create`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use super::key_value;
use crate::moves::view::View;
use clap::Args;
use client_lite::{Client, NewTopic};
use model::ErrorCode;
use serde_json::json;

/// Create topics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic create orders
  plimsoll topic create orders payments -p 12 -r 3
  plimsoll topic create users -c cleanup.policy=compact -c max.message.bytes=2097152")]
pub(crate) struct CreateArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Number of partitions; otherwise the broker's num.partitions.
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas of each partition; otherwise the broker's default.replication.factor.
    #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// Configuration, KEY=VALUE; may be repeated.
    #[arg(
        short,
        long = "config",
        visible_alias = "set",
        visible_short_alias = 's',
        value_parser = key_value,
        value_name = "KEY=VALUE"
    )]
    configs: Vec<(String, String)>,
    /// Accept a topic that is there already.
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether it could be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: CreateArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let mut table = Table::new(&["TOPIC", "#PARTITIONS", "#REPLICAS", "RESULT"]);
    let mut rows = Vec::new();
    for name in &args.names {
        let result = create(&client, &args, name).await?;
        let (partitions, replicas) = if args.dry_run { (None, None) } else { size(&client, name).await? };
        let show = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.push([name.clone(), show(partitions), show(replicas), result.to_owned()]);
        rows.push(json!({
            "topic": name, "partitions": partitions, "replicationFactor": replicas, "result": result,
        }));
    }
    args.format.print(&table, &json!(rows))?;
    if rows.iter().any(|row| row["replicationFactor"] == 2 && row["result"] == "created") {
        let view = View::ask(&client).await?;
        let lacking = view.without_witness();
        for name in args.names.iter().filter(|name| lacking.iter().any(|(topic, _)| topic == *name)) {
            eprintln!(
                "{name}: two replicas and no third broker for a witness: the loss of one broker or disk stops it. It \
                 gets a witness when a third broker joins."
            );
        }
    }
    Ok(())
}

async fn create(client: &Client, args: &CreateArgs, name: &str) -> anyhow::Result<&'static str> {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        assignment: Vec::new(),
        configs: args.configs.clone(),
    };
    match client.create_topic(&topic, args.dry_run).await {
        Ok(()) if args.dry_run => Ok("would be created"),
        Ok(()) => Ok("created"),
        Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            Ok("exists")
        }
        Err(error) => Err(advise(error)),
    }
}

/// What the broker made of it, once its partitions have leaders.
async fn size(client: &Client, name: &str) -> anyhow::Result<(Option<usize>, Option<usize>)> {
    let topic = client.topic_created(name).await.map_err(advise)?;
    Ok((Some(topic.partitions.len()), topic.partitions.first().map(|p| p.replicas.len())))
}
