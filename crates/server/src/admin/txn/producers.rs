//! `plimsoll txn producers`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::point::{now_ms, show_point};
use super::super::table::Table;
use super::span::show_span;
use clap::Args;
use client_lite::ActiveProducer;
use serde_json::{Value, json};

/// Show the producers of a partition, and which of them have a transaction open there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll txn producers orders 0
  plimsoll txn producers orders 0 --broker 2             what the replica on broker 2 knows

MARKER EPOCH is the epoch of the coordinator that wrote the producer's last marker. OPEN SINCE is the offset where its
open transaction begins: readers of committed records see no further than the lowest of these. Whose transaction it is
only a Plimsoll broker tells.")]
pub(crate) struct ProducersArgs {
    /// Topic.
    pub(super) topic: String,
    /// Number of the partition.
    partition: i32,
    /// Ask the replica on this broker; otherwise the leader.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ProducersArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let place = (args.topic, args.partition);
    let producers = client.describe_producers(&place, args.broker).await.map_err(advise)?;
    let mut table = Table::new(&[
        "#PRODUCER ID",
        "#EPOCH",
        "#LAST SEQUENCE",
        "LAST TIMESTAMP",
        "#MARKER EPOCH",
        "#OPEN SINCE",
        "OPEN FOR",
        "TRANSACTIONAL ID",
        "PRINCIPAL",
        "CLIENT ID",
    ]);
    let number = |n: i64| if n < 0 { "-".to_owned() } else { n.to_string() };
    let now = now_ms();
    for p in &producers {
        let owner = p.owner.as_ref();
        let named = |name: Option<&String>| name.map_or_else(|| "-".to_owned(), String::clone);
        table.push([
            p.producer_id.to_string(),
            p.epoch.to_string(),
            number(i64::from(p.last_sequence)),
            show_point(p.last_timestamp),
            number(i64::from(p.coordinator_epoch)),
            number(p.open_since_offset),
            show_span(owner.map(|owner| now - owner.began)),
            named(owner.map(|owner| &owner.transactional_id)),
            named(owner.map(|owner| &owner.principal)),
            named(owner.map(|owner| &owner.client_id)),
        ]);
    }
    let rows: Vec<Value> = producers.iter().map(document).collect();
    if rows.is_empty() {
        let sentence = "No producers with an id: none wrote for producer.id.expiration.ms.";
        return args.format.say(sentence, &json!(rows));
    }
    args.format.print(&table, &json!(rows))
}

fn document(p: &ActiveProducer) -> Value {
    let known = |n: i64| (n >= 0).then_some(n);
    json!({
        "producerId": p.producer_id,
        "producerEpoch": p.epoch,
        "lastSequence": known(i64::from(p.last_sequence)),
        "lastTimestamp": known(p.last_timestamp),
        "coordinatorEpoch": known(i64::from(p.coordinator_epoch)),
        "openSinceOffset": known(p.open_since_offset),
        "began": p.owner.as_ref().map(|owner| owner.began),
        "transactionalId": p.owner.as_ref().map(|owner| owner.transactional_id.clone()),
        "principal": p.owner.as_ref().map(|owner| owner.principal.clone()),
        "clientId": p.owner.as_ref().map(|owner| owner.client_id.clone()),
    })
}
