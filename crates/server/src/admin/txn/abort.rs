//! `plimsoll txn abort`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::point::now_ms;
use super::find_hanging::{document, table};
use super::suspects::{Open, known_to_coordinator, open_at};
use anyhow::{Context, bail, ensure};
use clap::Args;
use client_lite::{AbortMarker, Client};
use serde_json::{Value, json};

/// End a transaction at one partition, past its coordinator. Shows what would be ended; --execute does it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll txn abort orders 0 --start-offset 1500        what `plimsoll txn find-hanging` has shown
  plimsoll txn abort orders 0 --start-offset 1500 --execute
  plimsoll txn abort orders 0 --producer-id 4001 --producer-epoch 7 --execute

An abort marker is written to the partition: readers of committed records skip the transaction's records there, and go on.
What the transaction wrote to other partitions, and whether it committed there, stays as it is. So this is for a
transaction that hangs. One that its coordinator has open is refused: its client ends it, or its timeout; --force ends it
here all the same, and what it commits later is torn.")]
pub(crate) struct AbortArgs {
    /// Topic.
    pub(super) topic: String,
    /// Number of the partition.
    partition: i32,
    /// The offset where the transaction begins; or give --producer-id and --producer-epoch.
    #[arg(long, value_name = "OFFSET", conflicts_with = "producer_id")]
    start_offset: Option<i64>,
    /// The id of its producer.
    #[arg(long, value_name = "N", requires = "producer_epoch")]
    producer_id: Option<i64>,
    /// The epoch of its producer.
    #[arg(long, value_name = "N", requires = "producer_id")]
    producer_epoch: Option<i16>,
    /// The marker's coordinator epoch; otherwise that of the producer's last marker.
    #[arg(long, value_name = "N")]
    coordinator_epoch: Option<i32>,
    /// Also where its coordinator has the transaction open.
    #[arg(long)]
    force: bool,
    /// Do it.
    #[arg(long)]
    pub(super) execute: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: AbortArgs) -> anyhow::Result<()> {
    ensure!(
        args.start_offset.is_some() || args.producer_id.is_some(),
        "which transaction? Give --start-offset OFFSET, or --producer-id N --producer-epoch N\n  \
         `plimsoll txn producers {} {}{}` shows what is open there",
        args.topic,
        args.partition,
        args.connect.flag()
    );
    let client = args.connect.client().await?;
    let open = chosen(&client, &args).await?;
    let producer = &open.producer;
    if !args.force
        && let Some(txn) = known_to_coordinator(&client, &open).await?
    {
        bail!(
            "the coordinator of {} (broker {}) has this transaction open too ({}): it does not hang\n  Its client ends it, \
             or its timeout. --force ends it at this partition all the same.",
            txn.transactional_id,
            txn.coordinator,
            txn.state
        );
    }
    let marker = AbortMarker {
        producer_id: producer.producer_id,
        producer_epoch: i16::try_from(producer.epoch).context("a producer epoch fits 16 bits")?,
        // A producer without any marker takes one of every epoch.
        coordinator_epoch: args.coordinator_epoch.unwrap_or(producer.coordinator_epoch.max(0)),
    };
    if args.execute {
        client.abort_transaction(&open.place, marker).await.map_err(advise)?;
    }
    let now = now_ms();
    let mut row = document(&open, now);
    if let Value::Object(row) = &mut row {
        row.insert("coordinatorEpoch".to_owned(), json!(marker.coordinator_epoch));
        row.insert("executed".to_owned(), json!(args.execute));
    }
    args.format.print(&table(std::slice::from_ref(&open), now), &row)?;
    eprintln!("{}", what_was_done(&args, &open));
    Ok(())
}

fn what_was_done(args: &AbortArgs, open: &Open) -> String {
    let (topic, partition) = &open.place;
    let (producer, start) = (open.producer.producer_id, open.producer.open_since_offset);
    let torn = "if its coordinator has it open too, it is torn: what it commits later is missing here";
    match (args.execute, args.force) {
        (true, forced) => {
            let done = format!(
                "Aborted at {topic}-{partition}: the transaction of producer {producer} from offset {start} on."
            );
            if forced { format!("{done}\n--force: {torn}.") } else { done }
        }
        (false, true) => {
            format!("Nothing was changed; add --execute to do it. --force asks no coordinator: {torn}.")
        }
        (false, false) => "Nothing was changed; add --execute to do it.".to_owned(),
    }
}

/// The open transaction that the arguments name.
async fn chosen(client: &Client, args: &AbortArgs) -> anyhow::Result<Open> {
    let place = (args.topic.clone(), args.partition);
    let open = open_at(client, &place, None).await?;
    let named = |open: &&Open| match (args.start_offset, args.producer_id, args.producer_epoch) {
        (Some(offset), ..) => open.producer.open_since_offset == offset,
        (None, id, epoch) => {
            id == Some(open.producer.producer_id) && epoch.map(i32::from) == Some(open.producer.epoch)
        }
    };
    if let Some(found) = open.iter().find(named) {
        return Ok(found.clone());
    }
    let starts: Vec<String> = open.iter().map(|open| open.producer.open_since_offset.to_string()).collect();
    let there = match starts.as_slice() {
        [] => "none is open there".to_owned(),
        starts => format!("those that are open there begin at {}", starts.join(", ")),
    };
    bail!(
        "{}-{} has no such open transaction: {there}\n  `plimsoll txn producers {} {}{}` shows them",
        place.0,
        place.1,
        place.0,
        place.1,
        args.connect.flag()
    );
}
