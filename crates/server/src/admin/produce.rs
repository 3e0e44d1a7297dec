//! `plimsoll produce`.
use super::connect::{ConnectArgs, advise, within};
use super::format::FormatArgs;
use super::partitioner::partition_of;
use super::point::now_ms;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use client_lite::{Acks, Client, IdempotentProducer, Topic};
use records::{BatchBuilder, Codec, NewRecord};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Write records to a topic: each line of standard input is one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | plimsoll produce greetings
  plimsoll produce orders -k : < orders.txt            lines like  42:a book
  plimsoll produce orders -k : -Z                      an empty value deletes its key (compacted topics)
  plimsoll produce events -H source=cli -z zstd --acks 1 < events.jsonl")]
pub(crate) struct ProduceArgs {
    /// The topic; created with the broker's defaults if that is allowed there.
    topic: String,
    /// What stands between key and value in each line; without it records have no key.
    #[arg(short = 'k', long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A key for every record.
    #[arg(long, conflicts_with = "key_separator", value_name = "KEY")]
    key: Option<String>,
    /// A header for every record, NAME=VALUE; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Empty values become null: a tombstone in a compacted topic.
    #[arg(short = 'Z', long)]
    null_if_empty: bool,
    /// Partition; otherwise by hash of the key as Kafka's own producer does, or in turn.
    #[arg(short, long)]
    partition: Option<i32>,
    /// How many replicas must have a record: 0 (none), 1 (the leader), all.
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// Compression of each batch.
    #[arg(short = 'z', long, default_value = "none", value_parser = parse_codec, value_name = "none|gzip|snappy|lz4|zstd")]
    compression: Codec,
    /// Timestamp of every record, ms since 1970; otherwise the time of sending.
    #[arg(long, value_name = "MS")]
    timestamp: Option<i64>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

fn parse_codec(name: &str) -> Result<Codec, String> {
    Codec::from_name(name).ok_or_else(|| "one of none, gzip, snappy, lz4, zstd".to_owned())
}

/// A batch is sent when it is this large, or when no more lines wait.
const BATCH_BYTES: usize = 256 << 10;
/// The longest line; beyond it something else than lines is being read.
const LINE_MAX: u64 = 64 << 20;
/// Lines read ahead of the sender.
const LINES_AHEAD: usize = 1024;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Sends with or without an identity, so that acks=all is exactly once.
enum Sender {
    Once(IdempotentProducer),
    Plain(Arc<Client>, Acks),
}

impl Sender {
    async fn send(&mut self, topic: &str, partition: i32, batch: BatchBuilder) -> anyhow::Result<()> {
        match self {
            Sender::Once(producer) => producer.send(topic, partition, batch).await.map_err(advise)?,
            Sender::Plain(client, acks) => {
                let batch = batch.finish()?.freeze();
                client.produce(topic, partition, batch, *acks).await.map_err(advise)?
            }
        };
        Ok(())
    }
}

/// Finds the topic, and a sender for the wanted acknowledgement.
async fn begin(args: &ProduceArgs) -> anyhow::Result<(Arc<Client>, Topic, Sender)> {
    let client = args.connect.client().await?;
    let topic = client.topic_created(&args.topic).await.map_err(advise)?;
    let sender = match args.acks {
        AcksArg::All => Sender::Once(IdempotentProducer::start(client.clone()).await.map_err(advise)?),
        AcksArg::Leader => Sender::Plain(client.clone(), Acks::Leader),
        AcksArg::None => Sender::Plain(client.clone(), Acks::None),
    };
    Ok((client, topic, sender))
}

/// Runs the command.
pub(crate) async fn run(args: ProduceArgs) -> anyhow::Result<()> {
    let headers = parse_headers(&args.headers)?;
    let (client, topic, sender) = within(args.connect.limit(), begin(&args)).await?;
    if let Some(partition) = args.partition
        && !topic.partitions.iter().any(|p| p.index == partition)
    {
        let last = topic.partitions.len() as i32 - 1;
        bail!("topic {} has no partition {partition}: it has 0 to {last}", topic.name);
    }
    if io::stdin().is_terminal() {
        eprintln!("Each line is a record for {}; end with Ctrl-D.", topic.name);
    }
    let (open, progress) = (BTreeMap::new(), Progress::new());
    let mut work = Work { args: &args, headers, topic, sender, open, lines: 0, sent: 0, turn: 0, progress };
    let mut done = work.send_lines(read_lines()).await;
    let records = work.sent;
    if args.acks == AcksArg::None {
        // Only an answered request shows that the broker has read what came before it.
        let heard = async { client.refresh(&[]).await.map_err(advise) };
        done = done.and(within(args.connect.limit(), heard).await.map(|_| ()));
    }
    let plural = if records == 1 { "" } else { "s" };
    let reached = if args.acks == AcksArg::None { "sent" } else { "acknowledged" };
    done.with_context(|| format!("{records} record{plural} {reached}, then"))?;
    args.format.say(
        &format!("{records} record{plural} to {}", args.topic),
        &json!({ "topic": args.topic, "records": records }),
    )
}

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

fn parse_headers(texts: &[String]) -> anyhow::Result<Vec<OwnedHeader>> {
    let one = |text: &String| {
        let (name, value) =
            text.split_once('=').with_context(|| format!("header `{text}` has no `=`: write NAME=VALUE"))?;
        Ok((name.as_bytes().to_vec(), Some(value.as_bytes().to_vec())))
    };
    texts.iter().map(one).collect()
}

/// Reads lines on a thread of its own, because standard input can only be read by blocking.
fn read_lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (tell, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            let item = match read {
                Ok(0) => return,
                Ok(n) if n as u64 == LINE_MAX && line.last() != Some(&b'\n') => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 64 MiB"))
                }
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    Ok(line)
                }
                Err(error) => Err(error),
            };
            let failed = item.is_err();
            if tell.blocking_send(item).is_err() || failed {
                return;
            }
        }
    });
    lines
}

struct Work<'a> {
    args: &'a ProduceArgs,
    headers: Vec<OwnedHeader>,
    topic: Topic,
    sender: Sender,
    /// Batches that are being filled, by partition.
    open: BTreeMap<i32, BatchBuilder>,
    /// Lines taken from the input.
    lines: u64,
    sent: u64,
    /// Where the next batch without keys goes.
    turn: usize,
    progress: Progress,
}

impl Work<'_> {
    async fn send_lines(&mut self, mut lines: mpsc::Receiver<io::Result<Vec<u8>>>) -> anyhow::Result<()> {
        let mut done = Ok(());
        while done.is_ok()
            && let Some(line) = lines.recv().await
        {
            done = self.take(line).await;
            while done.is_ok()
                && let Ok(line) = lines.try_recv()
            {
                done = self.take(line).await;
            }
            if done.is_ok() {
                done = self.flush().await;
            }
        }
        self.progress.end();
        done
    }

    async fn take(&mut self, line: io::Result<Vec<u8>>) -> anyhow::Result<()> {
        self.lines += 1;
        let args = self.args;
        let line = match line.context("cannot read standard input") {
            Ok(line) => line,
            Err(error) => return self.refuse(error).await,
        };
        let (key, value) = match split_line(&line, args) {
            Ok(split) => split,
            Err(error) => return self.refuse(error).await,
        };
        let partition = self.partition_for(key);
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            self.headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
        let codec = self.args.compression;
        let batch = self.open.entry(partition).or_insert_with(|| BatchBuilder::new().codec(codec, None));
        let timestamp = self.args.timestamp.unwrap_or_else(now_ms);
        batch.push(NewRecord { timestamp, key, value, headers: &headers });
        if batch.size_in_bytes() >= BATCH_BYTES {
            self.flush_one(partition).await?;
        }
        Ok(())
    }

    /// What stands before a bad line is sent all the same.
    async fn refuse(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        self.flush().await?;
        Err(error.context(format!("line {}", self.lines)))
    }

    fn partition_for(&self, key: Option<&[u8]>) -> i32 {
        let at = match (self.args.partition, key) {
            (Some(partition), _) => return partition,
            (None, Some(key)) => partition_of(key, self.topic.partitions.len()),
            (None, None) => self.turn % self.topic.partitions.len(),
        };
        self.topic.partitions[at].index
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let partitions: Vec<i32> = self.open.keys().copied().collect();
        for partition in partitions {
            self.flush_one(partition).await?;
        }
        Ok(())
    }

    async fn flush_one(&mut self, partition: i32) -> anyhow::Result<()> {
        let Some(batch) = self.open.remove(&partition) else { return Ok(()) };
        let count = batch.len() as u64;
        let limit = self.args.connect.limit();
        within(limit, self.sender.send(&self.topic.name, partition, batch)).await?;
        self.sent += count;
        self.turn += 1;
        self.progress.show(self.sent);
        Ok(())
    }
}

/// Key and value; either may be null.
type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Key and value of a line.
fn split_line<'a>(line: &'a [u8], args: &'a ProduceArgs) -> anyhow::Result<KeyValue<'a>> {
    let (key, value) = match &args.key_separator {
        None => (args.key.as_deref().map(str::as_bytes), line),
        Some(separator) => {
            let separator = separator.as_bytes();
            let at = line.windows(separator.len().max(1)).position(|w| w == separator);
            let at = at.with_context(|| {
                let line = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                let separator = String::from_utf8_lossy(separator);
                format!("`{line}` has no key: `{separator}` is not in it")
            })?;
            (Some(&line[..at]), &line[at + separator.len()..])
        }
    };
    let value = if value.is_empty() && args.null_if_empty { None } else { Some(value) };
    Ok((key, value))
}

/// A count on standard error, for people who wait.
struct Progress {
    shown: Instant,
    any: bool,
    enabled: bool,
}

impl Progress {
    fn new() -> Progress {
        let enabled = io::stderr().is_terminal() && !io::stdin().is_terminal();
        Progress { shown: Instant::now(), any: false, enabled }
    }

    fn show(&mut self, sent: u64) {
        if self.enabled && self.shown.elapsed() >= PROGRESS_EVERY {
            eprint!("\r{sent} records sent");
            self.shown = Instant::now();
            self.any = true;
        }
    }

    fn end(&self) {
        if self.any {
            eprintln!();
        }
    }
}
