//! Producers: each thread has a connection, a set of encoded requests and a pipe of fixed depth.
use super::TopicArgs;
use super::frames::{self, BatchShape};
use super::report::{Figures, Latencies};
use super::setup::ensure_topic;
use super::socket::FrameSocket;
use anyhow::{Context, Result};
use bytes::BytesMut;
use clap::Args;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wire::{ApiKey, ResponseBody, decode_response};

/// How to produce.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    pub(super) record_size: usize,
    /// Bytes of a batch before compression; 1 puts one record into a batch.
    #[arg(long, default_value_t = 131_072)]
    pub(super) batch_bytes: usize,
    /// Batches (each to another partition) in a request.
    #[arg(long, default_value_t = 1)]
    pub(super) batches_per_request: usize,
    /// Producers, each with a thread and a connection for every broker that leads something.
    #[arg(long, default_value_t = 1)]
    pub(super) connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 5)]
    pub(super) depth: usize,
    /// 0, 1 or -1 (all).
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub(super) acks: i16,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    pub(super) codec: String,
    /// How long, seconds.
    #[arg(long, default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// Stop after so many MB (before compression), all connections together; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(super) megabytes: u64,
    /// MB/s of all connections together; 0 for as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    pub(super) rate: f64,
}

/// A request ready to be sent.
pub(super) struct Prepared {
    frame: Vec<u8>,
    records: u64,
    uncompressed: u64,
}

/// What one connection does.
struct Part<'a> {
    address: &'a str,
    requests: Vec<Prepared>,
    /// Bytes a second, and bytes in all; 0 for no limit.
    rate: f64,
    limit: u64,
}

/// Requests for one connection that together touch every partition of its broker in turn.
fn prepare(args: &ProduceArgs, partitions: &[i32], thread: usize) -> Result<Vec<Prepared>> {
    let shape = BatchShape {
        record_size: args.record_size,
        batch_bytes: args.batch_bytes,
        codec: frames::codec(&args.codec)?,
    };
    let mut all = partitions.to_vec();
    all.rotate_left(thread % partitions.len().max(1));
    let mut prepared = Vec::new();
    for chunk in all.chunks(args.batches_per_request.max(1)) {
        let (mut batches, mut records, mut uncompressed) = (Vec::new(), 0, 0);
        for partition in chunk {
            let (batch, count, size) = frames::batch(shape, 0, *partition as u64 + 7)?;
            batches.push((*partition, batch));
            records += count as u64;
            uncompressed += size as u64;
        }
        let frame = frames::produce(&args.topic.topic, args.acks, batches, prepared.len() as i32)?;
        prepared.push(Prepared { frame, records, uncompressed });
    }
    Ok(prepared)
}

/// How many batches were refused, and the code of the first.
fn errors(frame: BytesMut) -> Result<(u64, Option<i16>)> {
    let (_, body) = decode_response(ApiKey::Produce, frames::PRODUCE_VERSION, frame)?;
    let ResponseBody::Produce(answer) = body else { anyhow::bail!("the answer is none to Produce") };
    let codes = answer.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code);
    let mut codes = codes.filter(|code| *code != 0);
    let first = codes.next();
    Ok((first.map_or(0, |_| 1 + codes.count() as u64), first))
}

/// One connection's run.
fn drive(args: &ProduceArgs, part: &Part<'_>, until: Instant) -> Result<(Figures, Latencies)> {
    let mut socket = FrameSocket::connect(part.address)?;
    let prepared = &part.requests;
    let (mut figures, mut latencies) = (Figures::default(), Latencies::default());
    let mut in_flight: VecDeque<Instant> = VecDeque::new();
    let mut answer = BytesMut::new();
    let start = Instant::now();
    let mut next = 0;
    loop {
        let done = Instant::now() >= until || (part.limit > 0 && figures.uncompressed_bytes >= part.limit);
        if !done && in_flight.len() < args.depth.max(1) {
            let request = &prepared[next % prepared.len()];
            next += 1;
            let mut intended = Instant::now();
            if part.rate > 0.0 {
                intended = start + Duration::from_secs_f64(figures.bytes as f64 / part.rate);
                std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            }
            socket.send(&request.frame)?;
            figures.bytes += request.frame.len() as u64;
            figures.uncompressed_bytes += request.uncompressed;
            figures.records += request.records;
            figures.requests += 1;
            if args.acks != 0 {
                in_flight.push_back(intended);
            }
            continue;
        }
        let Some(sent) = in_flight.pop_front() else { break };
        socket.receive(&mut answer)?;
        latencies.push(sent.elapsed());
        let (count, first) = errors(answer.clone())?;
        figures.errors += count;
        figures.first_error = figures.first_error.or(first);
    }
    Ok((figures, latencies))
}

/// Runs all connections and prints their figures.
pub(super) fn run(args: &ProduceArgs) -> Result<()> {
    let led = ensure_topic(&args.topic)?;
    let producers = args.connections.max(1);
    let mut parts = Vec::new();
    for (address, partitions) in &led.leaders {
        let share = led.share(partitions) / producers as f64;
        let (rate, limit) = (args.rate * 1e6 * share, (args.megabytes as f64 * 1e6 * share) as u64);
        for thread in 0..producers {
            let requests = prepare(args, partitions, thread)?;
            parts.push(Part { address, requests, rate, limit });
        }
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(args.seconds);
    let (mut total, mut latencies) = (Figures::default(), Latencies::default());
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> =
            parts.iter().map(|part| scope.spawn(move || drive(args, part, until))).collect();
        for thread in threads {
            let joined = thread.join().map_err(|_| anyhow::anyhow!("a producer thread panicked"))?;
            let (figures, taken) = joined.context("produce")?;
            total.bytes += figures.bytes;
            total.uncompressed_bytes += figures.uncompressed_bytes;
            total.records += figures.records;
            total.requests += figures.requests;
            total.errors += figures.errors;
            total.first_error = total.first_error.or(figures.first_error);
            latencies.merge(taken);
        }
        Ok(())
    })?;
    total.print(start.elapsed(), latencies, args.topic.broker.for_scripts())
}
