//! `plimsoll txn find-hanging`.
use super::super::connect::{ConnectArgs, Does, advise};
use super::super::coordinated::OF_TRANSACTIONS;
use super::super::format::FormatArgs;
use super::super::places::{Named, has_leader, named_places};
use super::super::point::now_ms;
use super::super::table::Table;
use super::span::{parse_span, show_span};
use super::suspects::{Open, hangs, old_at};
use anyhow::ensure;
use clap::Args;
use client_lite::{Cluster, Partition, Place};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

A coordinator that cannot be reached is an error, never a reason to call a transaction hanging. Partitions without
a leader cannot be looked at: how many of each topic is told, and the command ends with an error.")]
pub(crate) struct FindHangingArgs {
    /// Look at a topic, or TOPIC:PARTITION,PARTITION; otherwise at all. May be repeated.
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<Named>,
    /// Look at the replicas on this broker.
    #[arg(long, alias = "broker-id", value_name = "ID")]
    broker: Option<i32>,
    /// Leave alone what is open for less, as in 15m.
    #[arg(long, default_value = "15m", value_name = "SPAN", value_parser = parse_span)]
    max_transaction_timeout: i64,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What there was to look at, and what came of it.
#[derive(Default)]
struct Seen {
    /// Partitions that were to be looked at, and have somebody to ask.
    places: Vec<Place>,
    /// Those that have no leader.
    unseen: Vec<Place>,
    found: Vec<Open>,
}

/// Runs the command. What was found is shown also where not all could be looked at, which is an error.
pub(crate) async fn run(args: FindHangingArgs) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    let looked = look(&args, &mut seen);
    let looked = args.connect.within_leaders_of(&[OF_TRANSACTIONS], Does::Look, looked).await;
    show(&args, &seen, looked.is_ok())?;
    tell_unseen(&seen);
    looked?;
    let (unseen, all) = (seen.unseen.len(), seen.unseen.len() + seen.places.len());
    ensure!(
        unseen == 0,
        "transactions may hang that are not shown: {unseen} of {all} partitions were not looked at\n  \
         `plimsoll cluster status` says why."
    );
    Ok(())
}

async fn look(args: &FindHangingArgs, seen: &mut Seen) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let cluster = client.all_topics().await.map_err(advise)?;
    if let Some(id) = args.broker {
        ensure!(cluster.broker(id).is_some(), "the cluster has no broker {id} that runs");
    }
    let wanted = match args.topics.as_slice() {
        [] => all_places(&cluster, args.broker),
        topics => named_places(&client, topics).await?,
    };
    let can_be_asked = |place: &Place| args.broker.is_some() || has_leader(&cluster, place);
    (seen.places, seen.unseen) = wanted.into_iter().partition(can_be_asked);
    for place in &seen.places {
        for open in old_at(&client, place, args.broker, args.max_transaction_timeout).await? {
            if hangs(&client, &open, args.broker).await? {
                seen.found.push(open);
            }
        }
    }
    Ok(())
}

/// All partitions, or those with a replica on `broker`.
fn all_places(cluster: &Cluster, broker: Option<i32>) -> Vec<Place> {
    let mut places = Vec::new();
    for topic in &cluster.topics {
        let wanted = |p: &&Partition| broker.is_none_or(|id| p.replicas.contains(&id));
        places.extend(topic.partitions.iter().filter(wanted).map(|p| (topic.name.clone(), p.index)));
    }
    places
}

/// Shows what hangs; and that nothing does, where all that could be asked was looked at.
fn show(args: &FindHangingArgs, seen: &Seen, looked: bool) -> anyhow::Result<()> {
    let now = now_ms();
    let rows: Vec<Value> = seen.found.iter().map(|open| document(open, now)).collect();
    let Some(first) = seen.found.first() else {
        let count = seen.places.len();
        let sentence = match (count, seen.unseen.len()) {
            _ if !looked => return Ok(()),
            (_, 0) => format!("No transaction hangs; {count} partitions were looked at."),
            (0, _) => "No partition could be looked at.".to_owned(),
            _ => format!("No transaction hangs in the {count} partitions that were looked at."),
        };
        return args.format.say(&sentence, &json!(rows));
    };
    args.format.print(&table(&seen.found, now), &json!(rows))?;
    let ((topic, partition), offset) = (&first.place, first.producer.open_since_offset);
    let flag = args.connect.flag();
    eprintln!(
        "To end the first: plimsoll txn abort {topic} {partition} --start-offset {offset}{flag} --execute"
    );
    Ok(())
}

/// A line for each topic that has partitions without a leader.
fn tell_unseen(seen: &Seen) {
    let mut topics: BTreeMap<&str, usize> = BTreeMap::new();
    seen.unseen.iter().for_each(|(topic, _)| *topics.entry(topic).or_default() += 1);
    for (topic, unseen) in topics {
        let all = unseen + seen.places.iter().filter(|place| place.0 == topic).count();
        eprintln!("{unseen} of {all} partitions of {topic} have no leader and were not looked at");
    }
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
