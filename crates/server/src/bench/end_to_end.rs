//! From the intended send to the arrival at a consumer, at a fixed rate.
use super::TopicArgs;
use super::consume::{advance, end_positions, fetch_once};
use super::frames::{self, BatchShape};
use super::report::{Figures, Latencies};
use super::setup::{Led, ensure_topic};
use super::socket::FrameSocket;
use anyhow::{Context, Result};
use bytes::BytesMut;
use clap::Args;
use records::{Codec, records};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How to measure latency.
#[derive(Debug, Clone, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    record_size: usize,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 16_384)]
    batch_bytes: usize,
    /// MB/s.
    #[arg(long, default_value_t = 60.0)]
    rate: f64,
    /// How long, seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// A connection whose answers are read and thrown away by a thread of its own.
fn sender(address: &str) -> Result<FrameSocket> {
    let socket = FrameSocket::connect(address)?;
    let mut answers = socket.try_clone()?;
    std::thread::spawn(move || {
        let mut reuse = BytesMut::new();
        while answers.receive(&mut reuse).is_ok() {}
    });
    Ok(socket)
}

fn produce(args: &LatencyArgs, led: &Led, epoch: Instant, figures: &mut Figures) -> Result<()> {
    let mut sockets = Vec::new();
    let mut turns: Vec<(i32, usize)> = Vec::new();
    for (at, (address, partitions)) in led.leaders.iter().enumerate() {
        sockets.push(sender(address)?);
        turns.extend(partitions.iter().map(|partition| (*partition, at)));
    }
    turns.sort_unstable();
    let shape =
        BatchShape { record_size: args.record_size, batch_bytes: args.batch_bytes, codec: Codec::None };
    let rate = args.rate * 1e6;
    let start = Instant::now();
    let mut turns = turns.iter().cycle();
    while start.elapsed().as_secs_f64() < args.seconds {
        let Some((partition, socket)) = turns.next() else { break };
        let intended = start + Duration::from_secs_f64(figures.bytes as f64 / rate);
        std::thread::sleep(intended.saturating_duration_since(Instant::now()));
        let stamp = intended.duration_since(epoch).as_nanos() as u64;
        let (batch, records, size) = frames::batch(shape, stamp, figures.requests + 1)?;
        let frame = frames::produce(&args.topic.topic, -1, vec![(*partition, batch)], 1)?;
        sockets[*socket].send(&frame)?;
        figures.bytes += size as u64;
        figures.records += records as u64;
        figures.requests += 1;
    }
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

fn consume(
    args: &LatencyArgs,
    mut socket: FrameSocket,
    mut positions: Vec<(i32, i64)>,
    epoch: Instant,
    stop: &AtomicBool,
) -> Result<Latencies> {
    let (mut latencies, mut reuse) = (Latencies::default(), BytesMut::new());
    while !stop.load(Ordering::Relaxed) {
        let answer = fetch_once(&mut socket, &args.topic.topic, &positions, 200, &mut reuse)?;
        let now = epoch.elapsed();
        advance(&answer, &mut positions, |batch| {
            let first = records(batch, 64 << 20).ok().and_then(|mut r| r.next());
            let stamp =
                first.and_then(|r| r.ok()).and_then(|r| r.value).and_then(|v| v.first_chunk().copied());
            if let Some(stamp) = stamp {
                latencies.push(now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(stamp))));
            }
        })?;
    }
    Ok(latencies)
}

/// Runs a producer and a consumer and prints the latencies of batches.
pub(super) fn run(args: &LatencyArgs) -> Result<()> {
    let led = ensure_topic(&args.topic)?;
    let mut readers = Vec::new();
    for (address, partitions) in &led.leaders {
        let mut socket = FrameSocket::connect(address)?;
        let positions = end_positions(&mut socket, &args.topic.topic, partitions)?;
        readers.push((socket, positions));
    }
    let (epoch, stop) = (Instant::now(), AtomicBool::new(false));
    let mut figures = Figures::default();
    let latencies = std::thread::scope(|scope| -> Result<Latencies> {
        let stop = &stop;
        let readers: Vec<_> = readers
            .into_iter()
            .map(|(socket, positions)| scope.spawn(move || consume(args, socket, positions, epoch, stop)))
            .collect();
        let produced = produce(args, &led, epoch, &mut figures);
        stop.store(true, Ordering::Relaxed);
        produced.context("produce")?;
        let mut all = Latencies::default();
        for reader in readers {
            all.merge(reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?.context("consume")?);
        }
        Ok(all)
    })?;
    figures.uncompressed_bytes = figures.bytes;
    figures.print(epoch.elapsed(), latencies, args.topic.broker.for_scripts())
}
