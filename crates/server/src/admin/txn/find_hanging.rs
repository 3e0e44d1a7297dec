//! `plimsoll txn find-hanging`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::places::named_places;
use super::super::point::now_ms;
use super::super::table::Table;
use super::span::{parse_span, show_span};
use super::suspects::{Open, hangs, old_at};
use anyhow::ensure;
use clap::Args;
use client_lite::{Client, Place};
use serde_json::{Value, json};

/// Find transactions that partitions have open and no coordinator knows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll txn find-hanging                              every partition of the cluster
  plimsoll txn find-hanging --broker 2                   those with a replica on broker 2, as it knows them
  plimsoll txn find-hanging --topic orders --topic payments:0,3
  plimsoll txn find-hanging --max-transaction-timeout 0s whatever its age

Looks at transactions that have been open for longer than --max-transaction-timeout; give what the brokers have as
transaction.max.timeout.ms, 15 minutes by default. Of each of them its coordinator is asked. One that the coordinator has
open as well is left alone: its client ends it, or its timeout does. One that the coordinator does not know is shown:
nobody will end it, and readers of committed records wait at its first offset. `plimsoll txn abort` ends it.

A coordinator that cannot be reached is an error, never a reason to call a transaction hanging.")]
pub(crate) struct FindHangingArgs {
    /// Look at a topic, or TOPIC:PARTITION,PARTITION; otherwise at all. May be repeated.
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<String>,
    /// Look at the replicas on this broker.
    #[arg(long, alias = "broker-id", value_name = "ID")]
    broker: Option<i32>,
    /// Leave alone what is open for less, as in 15m.
    #[arg(long, default_value = "15m", value_name = "SPAN", value_parser = parse_span)]
    max_transaction_timeout: i64,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: FindHangingArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let places = match args.topics.as_slice() {
        [] => all_places(&client, args.broker).await?,
        topics => named_places(&client, topics).await?,
    };
    let mut found = Vec::new();
    for place in &places {
        for open in old_at(&client, place, args.broker, args.max_transaction_timeout).await? {
            if hangs(&client, &open, args.broker).await? {
                found.push(open);
            }
        }
    }
    let now = now_ms();
    let rows: Vec<Value> = found.iter().map(|open| document(open, now)).collect();
    if found.is_empty() {
        let sentence = format!("No transaction hangs; {} partitions were looked at.", places.len());
        return args.format.say(&sentence, &json!(rows));
    }
    args.format.print(&table(&found, now), &json!(rows))?;
    let (topic, partition) = &found[0].place;
    let offset = found[0].producer.open_since_offset;
    eprintln!("To end the first: plimsoll txn abort {topic} {partition} --start-offset {offset} --execute");
    Ok(())
}

/// All partitions that have a leader, or those with a replica on `broker`.
async fn all_places(client: &Client, broker: Option<i32>) -> anyhow::Result<Vec<Place>> {
    let cluster = client.all_topics().await.map_err(advise)?;
    if let Some(id) = broker {
        ensure!(cluster.broker(id).is_some(), "the cluster has no broker {id} that runs");
    }
    let mut places = Vec::new();
    for topic in &cluster.topics {
        for partition in &topic.partitions {
            let wanted = broker.is_none_or(|id| partition.replicas.contains(&id));
            if wanted && broker.is_none() && partition.leader < 0 {
                eprintln!("{}-{} has no leader and is left out", topic.name, partition.index);
            } else if wanted {
                places.push((topic.name.clone(), partition.index));
            }
        }
    }
    Ok(places)
}

pub(super) fn table(found: &[Open], now: i64) -> Table {
    let mut table = Table::new(&[
        "TOPIC",
        "#PARTITION",
        "#PRODUCER ID",
        "#EPOCH",
        "#START OFFSET",
        "OPEN FOR",
        "TRANSACTIONAL ID",
        "PRINCIPAL",
        "CLIENT ID",
    ]);
    for open in found {
        let owner = open.producer.owner.as_ref();
        let named = |name: Option<&String>| name.map_or_else(|| "-".to_owned(), String::clone);
        table.push([
            open.place.0.clone(),
            open.place.1.to_string(),
            open.producer.producer_id.to_string(),
            open.producer.epoch.to_string(),
            open.producer.open_since_offset.to_string(),
            show_span(open.age(now)),
            named(owner.map(|owner| &owner.transactional_id)),
            named(owner.map(|owner| &owner.principal)),
            named(owner.map(|owner| &owner.client_id)),
        ]);
    }
    table
}

pub(super) fn document(open: &Open, now: i64) -> Value {
    let owner = open.producer.owner.as_ref();
    json!({
        "topic": open.place.0,
        "partition": open.place.1,
        "producerId": open.producer.producer_id,
        "producerEpoch": open.producer.epoch,
        "coordinatorEpoch": open.producer.coordinator_epoch,
        "startOffset": open.producer.open_since_offset,
        "openForMs": open.age(now),
        "transactionalId": owner.map(|owner| owner.transactional_id.clone()),
        "principal": owner.map(|owner| owner.principal.clone()),
        "clientId": owner.map(|owner| owner.client_id.clone()),
    })
}
