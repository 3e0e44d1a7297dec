//! Records at a fixed rate to single partitions, by a client that follows their leaders: what an application
//! sees while brokers go away.
#![allow(clippy::print_stdout)]
use super::TopicArgs;
use super::frames::{self, BatchShape};
use super::setup::ensure_topic;
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use client_lite::{Acks, Client, ClientOptions, ConnOptions};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How to produce.
#[derive(Debug, Clone, Args)]
pub(crate) struct PulseArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    record_size: usize,
    /// Records a second and partition; the next one waits for the acknowledgement of the one before.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long, seconds; 0 for as long as standard input is open.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long a record is tried before it counts as an error, seconds.
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
    /// Only to this partition; without it to each.
    #[arg(long)]
    partition: Option<i32>,
    /// Print the moment of each acknowledgement, ms since 1970, a line each.
    #[arg(long)]
    moments: bool,
}

/// What a run saw.
#[derive(Debug, Default, Serialize)]
struct Figures {
    records: u64,
    /// Records that were given up, and why the first was.
    errors: u64,
    first_error: Option<String>,
    /// The longest time between two acknowledgements of one partition.
    longest_gap_ms: f64,
}

/// The machine's clock, ms since 1970.
pub(super) fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64() * 1000.0).unwrap_or_default()
}

fn options(args: &PulseArgs) -> ClientOptions {
    // A broker that does not answer at all must not hold up the search for the next.
    let conn = ConnOptions {
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(30),
        ..ConnOptions::default()
    };
    ClientOptions {
        conn,
        retry_for: Duration::from_secs_f64(args.patience),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
    }
}

/// Says when it is time to end.
#[derive(Clone)]
pub(super) struct Until {
    end: Option<tokio::time::Instant>,
    input_ended: Arc<AtomicBool>,
}

impl Until {
    /// After so many seconds; 0 for as long as standard input is open.
    pub(super) fn new(seconds: f64) -> Until {
        let input_ended = Arc::new(AtomicBool::new(false));
        if seconds > 0.0 {
            let end = tokio::time::Instant::now() + Duration::from_secs_f64(seconds);
            return Until { end: Some(end), input_ended };
        }
        let ended = input_ended.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ended.store(true, Ordering::Relaxed);
        });
        Until { end: None, input_ended }
    }

    pub(super) fn over(&self) -> bool {
        self.end.is_some_and(|end| tokio::time::Instant::now() >= end)
            || self.input_ended.load(Ordering::Relaxed)
    }
}

async fn drive(args: PulseArgs, client: Arc<Client>, partition: i32, until: Until) -> Result<Figures> {
    let shape = BatchShape { record_size: args.record_size, batch_bytes: 1, codec: frames::codec("none")? };
    let batch: Bytes = frames::batch(shape, 0, partition as u64)?.0.freeze();
    let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate.max(0.01)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut figures = Figures::default();
    let mut last = None;
    while !until.over() {
        beat.tick().await;
        if let Err(error) = client.produce(&args.topic.topic, partition, batch.clone(), Acks::All).await {
            figures.errors += 1;
            figures.first_error.get_or_insert_with(|| error.to_string());
            continue;
        }
        figures.records += 1;
        let now = wall_ms();
        if let Some(last) = last.replace(now) {
            figures.longest_gap_ms = figures.longest_gap_ms.max(now - last);
        }
        if args.moments {
            println!("{now:.3}");
        }
    }
    Ok(figures)
}

/// Runs a client for each partition and prints what they saw together.
pub(super) fn run(args: &PulseArgs) -> Result<()> {
    let led = ensure_topic(&args.topic)?;
    let partitions = args.partition.map_or_else(|| (0..led.partitions).collect(), |one| vec![one]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let total = runtime.block_on(async {
        let (mut tasks, until) = (Vec::new(), Until::new(args.seconds));
        for partition in partitions {
            let client = Client::connect(args.topic.broker.all_addresses(), options(args)).await?;
            tasks.push(tokio::spawn(drive(args.clone(), Arc::new(client), partition, until.clone())));
        }
        let mut total = Figures::default();
        for task in tasks {
            let figures = task.await.context("a producer panicked")??;
            total.records += figures.records;
            total.errors += figures.errors;
            total.longest_gap_ms = total.longest_gap_ms.max(figures.longest_gap_ms);
            total.first_error = total.first_error.or(figures.first_error);
        }
        anyhow::Ok(total)
    })?;
    if args.topic.broker.for_scripts() {
        println!("{}", serde_json::to_string(&total)?);
        return Ok(());
    }
    println!("{:>12} records, {} errors", total.records, total.errors);
    if let Some(error) = &total.first_error {
        println!("{:>12} first error: {error}", "");
    }
    println!("{:>12.1} ms was the longest gap between acknowledgements", total.longest_gap_ms);
    Ok(())
}
