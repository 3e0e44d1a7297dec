//! Transactional producers, and the same producers without transactions.
#![allow(clippy::print_stdout)]
mod coordinator;
mod frames;
mod line;
mod producer;

use super::TopicArgs;
use super::report::{Codes, Figures, Quantiles};
use super::setup::{ensure_topic, finalised_level};
use anyhow::{Context, Result, ensure};
use clap::Args;
use frames::Sending;
use producer::{Producer, Tally, shape};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The version of Produce that says TV2, and the last before it.
const PRODUCE_VERSIONS: [i16; 2] = [11, 12];

/// How to produce, and when to commit.
#[derive(Debug, Clone, Args)]
pub(crate) struct TxnArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    /// Producers, each with a thread, a transactional id, and a connection for every broker.
    #[arg(long, default_value_t = 8)]
    producers: usize,
    /// The same producers without transactions: idempotent only.
    #[arg(long)]
    idempotent: bool,
    /// Age at which a transaction is ended, ms; 0 for no limit.
    #[arg(long, default_value_t = 100)]
    commit_ms: u64,
    /// A transaction is ended after so many batches; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    batches_per_transaction: usize,
    /// Each so many'th transaction is aborted; 0 for none.
    #[arg(long, default_value_t = 0)]
    abort_every: u64,
    /// Which protocol: 2 raises the epoch with each transaction (KIP-890 part 2), 1 adds partitions before they are
    /// written to.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    transaction_version: u8,
    /// The coordinator aborts a transaction after so long, ms.
    #[arg(long, default_value_t = 60_000)]
    timeout_ms: i32,
    /// Wait before something refused is tried again, ms: what Kafka's clients have by default.
    #[arg(long, default_value_t = 100)]
    retry_backoff_ms: u64,
    /// Beginning of the transactional ids.
    #[arg(long, default_value = "bench-txn")]
    prefix: String,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    record_size: usize,
    /// Bytes of a batch before compression; 1 puts one record into a batch.
    #[arg(long, default_value_t = 16_384)]
    batch_bytes: usize,
    /// Batches (each to another partition) in a request.
    #[arg(long, default_value_t = 1)]
    batches_per_request: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 5)]
    depth: usize,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    codec: String,
    /// How long, seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// MB/s of all producers together; 0 for as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
}

impl TxnArgs {
    fn backoff(&self) -> Duration {
        Duration::from_millis(self.retry_backoff_ms)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.idempotent || self.commit_ms > 0 || self.batches_per_transaction > 0,
            "one of --commit-ms and --batches-per-transaction is above 0: transactions must end"
        );
        ensure!(
            self.batches_per_transaction == 0 || self.batches_per_request <= self.batches_per_transaction,
            "--batches-per-request is at most --batches-per-transaction"
        );
        let level = if self.idempotent || self.transaction_version == 1 {
            return Ok(());
        } else {
            finalised_level(&self.topic.broker, "transaction.version")?
        };
        ensure!(level >= 2, "the cluster's transaction.version is {level}: try --transaction-version 1");
        Ok(())
    }
}

/// What a run saw: `p50_ms` and its like are of Produce.
#[derive(Debug, Serialize)]
struct TxnFigures {
    #[serde(flatten)]
    produced: Figures,
    transactions: u64,
    aborted: u64,
    transactions_per_s: f64,
    /// From the moment at which a transaction was to end, what is in flight then included.
    commit_p50_ms: f64,
    commit_p99_ms: f64,
    commit_p999_ms: f64,
    commit_max_ms: f64,
    /// EndTxn alone.
    end_p50_ms: f64,
    end_p99_ms: f64,
    /// What was refused and tried again, by code; `errors` counts what was not.
    retried: Codes,
}

impl TxnFigures {
    fn of(tally: Tally, taken: Duration) -> TxnFigures {
        let Tally { mut figures, produces, commits, ends, aborted, retried } = tally;
        figures.complete(taken, produces);
        let transactions = commits.len() as u64;
        let (commits, ends) = (commits.quantiles(), ends.quantiles());
        TxnFigures {
            transactions,
            aborted,
            transactions_per_s: transactions as f64 / taken.as_secs_f64(),
            produced: figures,
            commit_p50_ms: commits.p50,
            commit_p99_ms: commits.p99,
            commit_p999_ms: commits.p999,
            commit_max_ms: commits.max,
            end_p50_ms: ends.p50,
            end_p99_ms: ends.p99,
            retried,
        }
    }

    fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        self.produced.print_lines();
        if self.transactions > 0 {
            let commits = Quantiles {
                p50: self.commit_p50_ms,
                p99: self.commit_p99_ms,
                p999: self.commit_p999_ms,
                max: self.commit_max_ms,
            };
            println!("{:>12} transactions, {} of them aborted", self.transactions, self.aborted);
            println!("{:>12.1} transactions/s", self.transactions_per_s);
            println!("{:>12} {commits} from the moment a transaction was to end", "");
            println!("{:>12} {:.2} ms p50, {:.2} p99 of EndTxn alone", "", self.end_p50_ms, self.end_p99_ms);
        }
        println!("{:>12} tried again: {}", self.retried.total(), self.retried);
        Ok(())
    }
}

/// Runs all producers and prints what they saw.
pub(super) fn run(args: &TxnArgs) -> Result<()> {
    args.check()?;
    let led = ensure_topic(&args.topic)?;
    let ids: Vec<String> = (0..args.producers.max(1)).map(|n| format!("{}-{n}", args.prefix)).collect();
    let mut producers = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let sending = Sending {
            topic: &args.topic.topic,
            transactional_id: (!args.idempotent).then_some(id.as_str()),
            version: PRODUCE_VERSIONS[usize::from(args.transaction_version >= 2)],
            shape: shape(args)?,
        };
        producers.push(Producer::new(args, &led, sending, number)?);
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(args.seconds);
    let mut total = Tally::default();
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> =
            producers.into_iter().map(|producer| scope.spawn(move || producer.run(until))).collect();
        for thread in threads {
            let joined = thread.join().map_err(|_| anyhow::anyhow!("a producer thread panicked"))?;
            total.add(joined.context("produce")?);
        }
        Ok(())
    })?;
    TxnFigures::of(total, start.elapsed()).print(args.topic.broker.for_scripts())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TxnArgs,
    }

    fn args(flags: &[&str]) -> TxnArgs {
        Line::try_parse_from([&["txn"], flags].concat()).map(|line| line.args).unwrap()
    }

    #[test]
    fn transactions_that_would_never_end_are_refused_before_anybody_is_asked() {
        for flags in
            [&["--commit-ms", "0"][..], &["--batches-per-transaction", "2", "--batches-per-request", "3"]]
        {
            assert!(args(flags).check().is_err(), "{flags:?}");
        }
        assert!(args(&["--commit-ms", "0", "--idempotent"]).check().is_ok());
        assert!(Line::try_parse_from(["txn", "--transaction-version", "3"]).is_err());
    }

    #[test]
    fn figures_for_scripts_are_one_flat_line() {
        let mut tally = Tally::default();
        tally.figures.bytes = 2_000_000;
        tally.retried.count(51);
        tally.commits.push(Duration::from_millis(3));
        let figures = TxnFigures::of(tally, Duration::from_secs(2));
        let line: serde_json::Value = serde_json::to_value(&figures).unwrap();
        assert_eq!(line["mb_per_s"], 1.0);
        assert_eq!((&line["transactions"], &line["commit_p99_ms"]), (&1.into(), &3.0.into()));
        assert_eq!(line["retried"]["CONCURRENT_TRANSACTIONS"], 1);
    }
}
