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

/// What went out, and what came back.
#[derive(Default)]
struct Tally {
    figures: Figures,
    latencies: Latencies,
}

impl Tally {
    fn sent(&mut self, request: &Prepared) {
        self.figures.bytes += request.frame.len() as u64;
        self.figures.uncompressed_bytes += request.uncompressed;
        self.figures.records += request.records;
        self.figures.requests += 1;
    }

    /// Waits for the answer to what was, or should have been, sent at `sent`.
    fn answer(&mut self, socket: &mut FrameSocket, reuse: &mut BytesMut, sent: Instant) -> Result<()> {
        socket.receive(reuse)?;
        self.latencies.push(sent.elapsed());
        let (count, first) = errors(reuse.clone())?;
        self.figures.errors += count;
        self.figures.first_error = self.figures.first_error.or(first);
        Ok(())
    }

    fn add(&mut self, other: Tally) {
        self.figures.add(&other.figures);
        self.latencies.merge(other.latencies);
    }
}

impl Part<'_> {
    fn is_done(&self, figures: &Figures, until: Instant) -> bool {
        Instant::now() >= until || (self.limit > 0 && figures.uncompressed_bytes >= self.limit)
    }
}

/// One connection's run, as fast as it goes: an answer is read when the pipe is full.
fn drive(args: &ProduceArgs, part: &Part<'_>, until: Instant) -> Result<Tally> {
    let mut socket = FrameSocket::connect(part.address)?;
    let (mut tally, mut answer) = (Tally::default(), BytesMut::new());
    let mut in_flight: VecDeque<Instant> = VecDeque::new();
    let mut requests = part.requests.iter().cycle();
    loop {
        if !part.is_done(&tally.figures, until) && in_flight.len() < args.depth.max(1) {
            let Some(request) = requests.next() else { break };
            let now = Instant::now();
            socket.send(&request.frame)?;
            tally.sent(request);
            if args.acks != 0 {
                in_flight.push_back(now);
            }
            continue;
        }
        let Some(sent) = in_flight.pop_front() else { break };
        tally.answer(&mut socket, &mut answer, sent)?;
    }
    Ok(tally)
}

/// One connection's run at a rate: latencies count from the intended send. Answers are read as they come, by a thread
/// of their own.
fn drive_at_rate(args: &ProduceArgs, part: &Part<'_>, until: Instant) -> Result<Tally> {
    let mut socket = FrameSocket::connect(part.address)?;
    let mut answers = socket.try_clone()?;
    // The reader holds one more.
    let (in_flight, to_be_answered) = std::sync::mpsc::sync_channel::<Instant>(args.depth.max(1) - 1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<Tally> {
            let (mut tally, mut reuse) = (Tally::default(), BytesMut::new());
            for sent in to_be_answered {
                tally.answer(&mut answers, &mut reuse, sent)?;
            }
            Ok(tally)
        });
        let (mut tally, start) = (Tally::default(), Instant::now());
        for request in part.requests.iter().cycle() {
            if part.is_done(&tally.figures, until) {
                break;
            }
            let intended = start + Duration::from_secs_f64(tally.figures.bytes as f64 / part.rate);
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            // A reader that is gone says why below.
            if args.acks != 0 && in_flight.send(intended).is_err() {
                break;
            }
            socket.send(&request.frame)?;
            tally.sent(request);
        }
        drop(in_flight);
        tally.add(reader.join().map_err(|_| anyhow::anyhow!("a thread that reads answers panicked"))??);
        Ok(tally)
    })
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
    let mut total = Tally::default();
    std::thread::scope(|scope| -> Result<()> {
        let run = if args.rate > 0.0 { drive_at_rate } else { drive };
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || run(args, part, until))).collect();
        for thread in threads {
            let joined = thread.join().map_err(|_| anyhow::anyhow!("a producer thread panicked"))?;
            total.add(joined.context("produce")?);
        }
        Ok(())
    })?;
    total.figures.print(start.elapsed(), total.latencies, args.topic.broker.for_scripts())
}
