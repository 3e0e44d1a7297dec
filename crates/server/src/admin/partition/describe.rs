//! `plimsoll partition describe`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use crate::moves::plan::human;
use crate::moves::view::View;
use anyhow::bail;
use clap::Args;
use client_lite::{Partition, Place};
use serde_json::{Value, json};

/// Show each replica of a topic's partitions: where it is, what it does, how large it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll partition describe orders
  plimsoll partition describe orders 0 --format json

A replica is in sync while its broker runs and it has caught up within replica.lag.time.max.ms. One that is being added
votes and serves when it has all; one that is being removed goes when the others are in place.

Two replicas have a witness on a third broker: it votes and holds no records, so that the loss of one of the two stops
nothing. No other client is told of it. Without one there is a note: both brokers are needed.")]
pub(crate) struct DescribeArgs {
    /// Topic.
    topic: String,
    /// Number of one partition; all without it.
    partition: Option<i32>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let look = async {
        let client = args.connect.client().await?;
        let topic = client.topic(&args.topic).await.map_err(advise)?;
        Ok((topic, View::ask(&client).await?))
    };
    let (topic, view) = args.connect.within_leader(look).await?;
    let wanted = |p: &&Partition| args.partition.is_none_or(|index| index == p.index);
    let partitions: Vec<&Partition> = topic.partitions.iter().filter(wanted).collect();
    if partitions.is_empty() {
        bail!("topic {} has {} partitions, numbered from 0 on", args.topic, topic.partitions.len());
    }
    let mut table = Table::new(&["#PARTITION", "#BROKER", "STATE", "LEADS", "#SIZE"]);
    let mut rows: Vec<Value> = Vec::new();
    for partition in partitions {
        let place: Place = (args.topic.clone(), partition.index);
        for broker in &partition.replicas {
            let state = state(&view, &place, partition, *broker);
            let bytes = view.size_on(*broker, &place);
            let leads = partition.leader == *broker;
            table.push([
                partition.index.to_string(),
                broker.to_string(),
                state.to_owned(),
                if leads { "yes" } else { "" }.to_owned(),
                human(bytes),
            ]);
            rows.push(json!({
                "partition": partition.index, "broker": broker, "state": state, "leads": leads, "bytes": bytes,
            }));
        }
        if let Some(broker) = view.witness_of(&place, &partition.replicas) {
            let (state, bytes) = ("witness", view.size_on(broker, &place));
            let (index, id) = (partition.index.to_string(), broker.to_string());
            table.push([index, id, state.to_owned(), String::new(), human(bytes)]);
            rows.push(json!({
                "partition": partition.index, "broker": broker, "state": state, "leads": false, "bytes": bytes,
            }));
        }
    }
    if let Some((topic, index)) = view.without_witness().into_iter().find(|(topic, _)| *topic == args.topic) {
        eprintln!("{topic} {index}: two replicas and no witness: the loss of one broker or disk stops it");
    }
    args.format.print(&table, &json!({ "topic": args.topic, "replicas": rows }))
}

fn state(view: &View, place: &Place, partition: &Partition, broker: i32) -> &'static str {
    let ongoing = view.ongoing.get(place);
    if !view.brokers.contains_key(&broker) || partition.offline.contains(&broker) {
        "offline"
    } else if ongoing.is_some_and(|o| o.adding.contains(&broker)) {
        "being added"
    } else if ongoing.is_some_and(|o| o.removing.contains(&broker)) {
        "being removed"
    } else if partition.in_sync.contains(&broker) {
        "in sync"
    } else {
        "behind"
    }
}
