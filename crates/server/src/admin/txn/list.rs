//! `plimsoll txn list`.
use super::super::connect::{ConnectArgs, advise};
use super::super::coordinated::{OF_TRANSACTIONS, all_were_asked};
use super::super::format::FormatArgs;
use super::super::table::Table;
use super::span::parse_span;
use clap::{Args, ValueEnum};
use client_lite::TxnFilter;
use serde_json::json;

/// List transactional ids, as their coordinators know them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll txn list
  plimsoll txn list --state ongoing --longer-than 10m
  plimsoll txn list --pattern 'payments-.*'               the whole id has to match
  plimsoll txn list --producer-id 4001 --format json

States: empty (a producer, no transaction yet), ongoing (open), prepare-commit and prepare-abort (decided, markers are on
their way to the partitions), complete-commit and complete-abort (over).")]
pub(crate) struct ListArgs {
    /// Only ids in these states, with commas between them; may be repeated.
    #[arg(
        short,
        long = "state",
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        value_name = "STATE"
    )]
    states: Vec<State>,
    /// Only the id of this producer; may be repeated.
    #[arg(long = "producer-id", value_name = "N")]
    producer_ids: Vec<i64>,
    /// Only transactions that began longer ago, as in 10m.
    #[arg(long, alias = "duration-filter", value_name = "SPAN", value_parser = parse_span)]
    longer_than: Option<i64>,
    /// Only ids that match this regular expression as a whole.
    #[arg(long, alias = "transactional-id-pattern", value_name = "REGEX")]
    pattern: Option<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The states of a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// A producer, no transaction yet.
    Empty,
    /// Open.
    Ongoing,
    /// It commits.
    PrepareCommit,
    /// It aborts.
    PrepareAbort,
    /// Committed.
    CompleteCommit,
    /// Aborted.
    CompleteAbort,
}

/// Runs the command.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let filter = TxnFilter {
        // Kafka's names are those of the variants.
        states: args.states.iter().map(|state| format!("{state:?}")).collect(),
        producer_ids: args.producer_ids,
        running_longer_than_ms: args.longer_than,
        pattern: args.pattern,
    };
    let client = args.connect.client().await?;
    let found = client.list_transactions(&filter).await.map_err(advise)?;
    let whole = all_were_asked(&client, OF_TRANSACTIONS, "transactional ids").await;
    let mut table = Table::new(&["TRANSACTIONAL ID", "#COORDINATOR", "#PRODUCER ID", "STATE"]);
    let mut rows = Vec::new();
    for txn in &found {
        table.push([
            txn.transactional_id.clone(),
            txn.coordinator.to_string(),
            txn.producer_id.to_string(),
            txn.state.clone(),
        ]);
        rows.push(json!({
            "transactionalId": txn.transactional_id,
            "coordinator": txn.coordinator,
            "producerId": txn.producer_id,
            "state": txn.state,
        }));
    }
    if rows.is_empty() && whole.is_ok() {
        return args.format.say("No transactional ids.", &json!(rows));
    }
    args.format.print(&table, &json!(rows))?;
    whole
}
