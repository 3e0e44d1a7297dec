//! `plimsoll txn describe`.
use super::super::connect::{ConnectArgs, advise};
use super::super::coordinated::OF_TRANSACTIONS;
use super::super::failures::show_each;
use super::super::format::FormatArgs;
use super::super::point::{now_ms, show_point};
use super::super::table::Table;
use super::span::show_span;
use clap::Args;
use client_lite::{Client, DescribedTransaction};
use serde_json::{Value, json};

/// Show state, producer and partitions of transactional ids.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll txn describe payments-1
  plimsoll txn describe payments-1 payments-2 --format json

Of a transaction that ends (PrepareCommit, PrepareAbort) the partitions are those that have no marker yet: if one stays
there for long, that partition has no leader, or too few replicas in sync. An open one that is older than its timeout is
aborted by its coordinator within moments.")]
pub(crate) struct DescribeArgs {
    /// Transactional ids.
    #[arg(required = true, value_name = "TRANSACTIONAL ID")]
    ids: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command. The ids that are there are shown before what failed of the others.
pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    show_each((&args.connect, &args.format), OF_TRANSACTIONS, &args.ids, describe).await
}

async fn describe(client: &Client, id: &str) -> anyhow::Result<(String, Value)> {
    let txn = client.describe_transaction(id).await.map_err(advise)?;
    Ok((show(&txn, now_ms()), document(&txn)))
}

fn show(txn: &DescribedTransaction, now: i64) -> String {
    let open = txn.is_open() && txn.started >= 0;
    let since = if open { show_span(Some(now - txn.started)) } else { "-".to_owned() };
    let mut text = format!(
        "{}  {}\n  coordinator  {}\n  producer     {} epoch {}\n  timeout      {}\n  began        {}\n  open for     {since}\n\n",
        txn.transactional_id,
        txn.state,
        txn.coordinator,
        txn.producer_id,
        txn.producer_epoch,
        show_span(Some(i64::from(txn.timeout_ms))),
        show_point(txn.started),
    );
    let mut table = Table::new(&["TOPIC", "#PARTITION"]);
    for (topic, partition) in &txn.partitions {
        table.push([topic.clone(), partition.to_string()]);
    }
    text.push_str(&if table.len() == 0 { "No partitions.\n".to_owned() } else { table.to_string() });
    text.push('\n');
    text
}

fn document(txn: &DescribedTransaction) -> Value {
    let partitions = txn.partitions.iter().map(|(t, p)| json!({ "topic": t, "partition": p }));
    json!({
        "transactionalId": txn.transactional_id,
        "state": txn.state,
        "coordinator": txn.coordinator,
        "producerId": txn.producer_id,
        "producerEpoch": txn.producer_epoch,
        "timeoutMs": txn.timeout_ms,
        "began": (txn.started >= 0).then_some(txn.started),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}
