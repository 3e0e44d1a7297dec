//! Readers: each thread fetches every partition, from the start or from the end on.
use super::TopicArgs;
use super::frames;
use super::report::{Figures, Latencies};
use super::setup::ensure_topic;
use super::socket::FrameSocket;
use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use clap::Args;
use records::BatchHeader;
use std::time::{Duration, Instant};
use wire::{ApiKey, FetchResponse, ResponseBody, decode_response};

/// How to consume.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    pub(super) topic: TopicArgs,
    /// Readers, each with a thread and a connection for every broker that leads something; each reads everything.
    #[arg(long, default_value_t = 1)]
    readers: usize,
    /// Begin at the end and follow, instead of reading from the start.
    #[arg(long)]
    tail: bool,
    /// How long at most, seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// A reader that got nothing for so long has read everything and stops, seconds.
    #[arg(long, default_value_t = 2.0)]
    idle: f64,
}

/// Reads an answer: bytes and records per partition, and where to go on.
pub(super) fn advance(
    answer: &FetchResponse,
    positions: &mut [(i32, i64)],
    mut each: impl FnMut(&bytes::Bytes),
) -> Result<(u64, u64)> {
    let (mut bytes, mut records) = (0, 0);
    for part in answer.responses.iter().flat_map(|t| &t.partitions) {
        if part.error_code != 0 {
            bail!("partition {} answers with code {}", part.partition_index, part.error_code);
        }
        let Some(set) = &part.records else { continue };
        let Some(position) = positions.iter_mut().find(|p| p.0 == part.partition_index) else { continue };
        let run = set.to_bytes();
        let mut at = 0;
        while let Ok(header) = BatchHeader::parse(&run[at..]) {
            let size = header.size_in_bytes();
            if at + size > run.len() {
                break;
            }
            each(&run.slice(at..at + size));
            position.1 = header.last_offset() + 1;
            bytes += size as u64;
            records += u64::try_from(header.record_count).unwrap_or_default();
            at += size;
        }
    }
    Ok((bytes, records))
}

/// One round trip.
pub(super) fn fetch_once(
    socket: &mut FrameSocket,
    topic: &str,
    positions: &[(i32, i64)],
    max_wait_ms: i32,
    reuse: &mut BytesMut,
) -> Result<FetchResponse> {
    socket.send(&frames::fetch(topic, positions, max_wait_ms, 1)?)?;
    socket.receive(reuse)?;
    match decode_response(ApiKey::Fetch, frames::FETCH_VERSION, reuse.split())?.1 {
        ResponseBody::Fetch(answer) => Ok(answer),
        _ => bail!("the answer is none to Fetch"),
    }
}

/// The offset after the last record of each partition.
pub(super) fn end_positions(
    socket: &mut FrameSocket,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<(i32, i64)>> {
    let zero: Vec<(i32, i64)> = partitions.iter().map(|p| (*p, 0)).collect();
    let answer = fetch_once(socket, topic, &zero, 0, &mut BytesMut::new())?;
    let mut ends = zero;
    for part in answer.responses.iter().flat_map(|t| &t.partitions) {
        if let Some(end) = ends.iter_mut().find(|e| e.0 == part.partition_index) {
            end.1 = part.high_watermark.max(0);
        }
    }
    Ok(ends)
}

fn read(args: &ConsumeArgs, address: &str, partitions: &[i32]) -> Result<(Figures, Latencies, Duration)> {
    let topic = &args.topic.topic;
    let mut socket = FrameSocket::connect(address)?;
    let mut positions: Vec<(i32, i64)> = if args.tail {
        end_positions(&mut socket, topic, partitions)?
    } else {
        partitions.iter().map(|p| (*p, 0)).collect()
    };
    let (mut figures, mut latencies) = (Figures::default(), Latencies::default());
    let start = Instant::now();
    let (mut last, mut reuse) = (start, BytesMut::new());
    while start.elapsed().as_secs_f64() < args.seconds && last.elapsed().as_secs_f64() < args.idle {
        let asked = Instant::now();
        let answer = fetch_once(&mut socket, topic, &positions, 500, &mut reuse)?;
        let (bytes, records) = advance(&answer, &mut positions, |_| {})?;
        figures.requests += 1;
        figures.bytes += bytes;
        figures.records += records;
        if bytes > 0 {
            latencies.push(asked.elapsed());
            last = Instant::now();
        }
        positions.rotate_left(1);
    }
    Ok((figures, latencies, last.duration_since(start)))
}

/// Runs all readers and prints their figures; the time counts up to the last byte.
pub(super) fn run(args: &ConsumeArgs) -> Result<()> {
    let led = ensure_topic(&args.topic)?;
    let (mut total, mut latencies, mut longest) = (Figures::default(), Latencies::default(), Duration::ZERO);
    std::thread::scope(|scope| -> Result<()> {
        let readers = (0..args.readers.max(1)).flat_map(|_| &led.leaders);
        let threads: Vec<_> = readers
            .map(|(address, partitions)| scope.spawn(move || read(args, address, partitions)))
            .collect();
        for thread in threads {
            let joined = thread.join().map_err(|_| anyhow::anyhow!("a reader thread panicked"))?;
            let (figures, taken, time) = joined.context("consume")?;
            total.bytes += figures.bytes;
            total.uncompressed_bytes += figures.bytes;
            total.records += figures.records;
            total.requests += figures.requests;
            latencies.merge(taken);
            longest = longest.max(time);
        }
        Ok(())
    })?;
    total.print(longest.max(Duration::from_millis(1)), latencies, args.topic.broker.for_scripts())
}
