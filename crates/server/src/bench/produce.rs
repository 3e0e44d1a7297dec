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
    /// Connections, each with its own thread.
    #[arg(long, default_value_t = 1)]
    pub(super) connections: usize,
    /// Requests in flight on a connection.
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

/// Requests for one connection that together touch every partition in turn.
pub(super) fn prepare(args: &ProduceArgs, partitions: i32, thread: usize) -> Result<Vec<Prepared>> {
    let shape = BatchShape {
        record_size: args.record_size,
        batch_bytes: args.batch_bytes,
        codec: frames::codec(&args.codec)?,
    };
    let all: Vec<i32> = (0..partitions).map(|p| (p + thread as i32) % partitions).collect();
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

fn count_errors(frame: BytesMut) -> Result<u64> {
    let (_, body) = decode_response(ApiKey::Produce, frames::PRODUCE_VERSION, frame)?;
    let ResponseBody::Produce(answer) = body else { anyhow::bail!("the answer is none to Produce") };
    let errors = answer.responses.iter().flat_map(|t| &t.partition_responses).filter(|p| p.error_code != 0);
    Ok(errors.count() as u64)
}

/// One connection's run.
fn drive(args: &ProduceArgs, prepared: &[Prepared], until: Instant) -> Result<(Figures, Latencies)> {
    let mut socket = FrameSocket::connect(args.topic.broker.address())?;
    let (mut figures, mut latencies) = (Figures::default(), Latencies::default());
    let mut in_flight: VecDeque<Instant> = VecDeque::new();
    let mut answer = BytesMut::new();
    let limit = args.megabytes * 1_000_000 / args.connections.max(1) as u64;
    let rate = args.rate * 1e6 / args.connections.max(1) as f64;
    let start = Instant::now();
    let mut next = 0;
    loop {
        let done = Instant::now() >= until || (limit > 0 && figures.uncompressed_bytes >= limit);
        if !done && in_flight.len() < args.depth.max(1) {
            let request = &prepared[next % prepared.len()];
            next += 1;
            let mut intended = Instant::now();
            if rate > 0.0 {
                intended = start + Duration::from_secs_f64(figures.bytes as f64 / rate);
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
        figures.errors += count_errors(answer.clone())?;
    }
    Ok((figures, latencies))
}

/// Runs all connections and prints their figures.
pub(super) fn run(args: &ProduceArgs) -> Result<()> {
    let partitions = ensure_topic(&args.topic)?;
    let requests: Vec<Vec<Prepared>> =
        (0..args.connections.max(1)).map(|t| prepare(args, partitions, t)).collect::<Result<_>>()?;
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(args.seconds);
    let (mut total, mut latencies) = (Figures::default(), Latencies::default());
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = requests.iter().map(|r| scope.spawn(move || drive(args, r, until))).collect();
        for thread in threads {
            let joined = thread.join().map_err(|_| anyhow::anyhow!("a producer thread panicked"))?;
            let (figures, taken) = joined.context("produce")?;
            total.bytes += figures.bytes;
            total.uncompressed_bytes += figures.uncompressed_bytes;
            total.records += figures.records;
            total.requests += figures.requests;
            total.errors += figures.errors;
            latencies.merge(taken);
        }
        Ok(())
    })?;
    total.print(start.elapsed(), latencies, args.topic.broker.for_scripts())
}
