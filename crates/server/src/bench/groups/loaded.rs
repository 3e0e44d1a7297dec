//! When a coordinator that starts knows its offsets again: asked until each of many groups is answered what it committed.
#![allow(clippy::print_stdout)]
use crate::bench::TopicArgs;
use crate::bench::frames::header;
use crate::bench::report::{Codes, name_of};
use crate::bench::socket::{FrameSocket, join};
use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use clap::Args;
use serde::Serialize;
use std::time::{Duration, Instant};
use wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::offset_fetch_response::OffsetFetchResponseGroup;
use wire::{ApiKey, OffsetFetchRequest, ResponseBody, Str, decode_response, encode_request};

/// The first that asks for several groups at once.
const VERSION: i16 = 8;
const AGAIN: Duration = Duration::from_millis(2);

/// Which groups are asked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadedArgs {
    #[command(flatten)]
    pub(in crate::bench) topic: TopicArgs,
    /// How many groups there are, PREFIX-0 and so on.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// How many of them are asked for, evenly spread: enough that every coordinator partition has one.
    #[arg(long, default_value_t = 1000)]
    sample: usize,
    /// Beginning of their ids.
    #[arg(long, default_value = "bench-group")]
    prefix: String,
    /// How long to try in all, seconds.
    #[arg(long, default_value_t = 300.0)]
    seconds: f64,
}

#[derive(Debug, Default, Serialize)]
struct LoadedFigures {
    /// When the first group was answered, ms since 1970.
    first_at_ms: f64,
    /// When the last one was.
    all_at_ms: f64,
    groups: usize,
    /// Groups that were answered without an offset though they have one: an answer given before it was known.
    empty: u64,
    /// What was refused meanwhile, by code, and connections that broke.
    refused: Codes,
}

/// What an answer says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Known,
    Empty,
    Refused(i16),
}

fn said(group: &OffsetFetchResponseGroup) -> Said {
    let rows = || group.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = std::iter::once(group.error_code).chain(rows().map(|row| row.error_code));
    match codes.into_iter().find(|code| *code != 0) {
        Some(code) => Said::Refused(code),
        None if rows().any(|row| row.committed_offset >= 0) => Said::Known,
        None => Said::Empty,
    }
}

fn request(topic: &str, groups: &[String]) -> Result<Vec<u8>> {
    let one = |group: &String| OffsetFetchRequestGroup {
        group_id: Str::from(group),
        member_epoch: -1,
        topics: Some(vec![OffsetFetchRequestTopics {
            name: Str::from(topic),
            partition_indexes: vec![0],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: groups.iter().map(one).collect(), ..Default::default() };
    Ok(join(&encode_request(&header(ApiKey::OffsetFetch, VERSION, 1), &request.into())?))
}

fn exchange(
    socket: &mut Option<FrameSocket>,
    address: &str,
    frame: &[u8],
) -> Result<Vec<OffsetFetchResponseGroup>> {
    let open = match socket {
        Some(open) => open,
        None => socket.insert(FrameSocket::connect(address)?),
    };
    open.send(frame)?;
    let mut answer = BytesMut::new();
    open.receive(&mut answer)?;
    match decode_response(ApiKey::OffsetFetch, VERSION, answer)?.1 {
        ResponseBody::OffsetFetch(answer) => Ok(answer.groups),
        _ => bail!("the answer is none to OffsetFetch"),
    }
}

/// `sample` of `groups` numbers, evenly spread.
fn spread(groups: usize, sample: usize) -> Vec<usize> {
    let sample = sample.clamp(1, groups.max(1));
    (0..sample).map(|at| at * groups / sample).collect()
}

/// Asks until every group is answered, and prints when that was.
pub(super) fn run(args: &LoadedArgs) -> Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let mut left: Vec<String> =
        spread(args.groups, args.sample).into_iter().map(|n| format!("{}-{n}", args.prefix)).collect();
    let mut figures = LoadedFigures { groups: left.len(), ..Default::default() };
    let (mut socket, mut last) = (None, None);
    while !left.is_empty() {
        if Instant::now() >= until {
            bail!("{} groups are not answered after {} s: {}", left.len(), args.seconds, figures.refused);
        }
        let frame = request(&args.topic.topic, &left)?;
        let answered = match exchange(&mut socket, args.topic.broker.address(), &frame) {
            Ok(answered) => answered,
            // The broker may not be there yet.
            Err(_) => {
                socket = None;
                figures.refused.count_as("no connection");
                std::thread::sleep(AGAIN);
                continue;
            }
        };
        for group in answered {
            match said(&group) {
                Said::Refused(code) if !super::route::is_retriable(code) => {
                    bail!("OffsetFetch of '{}' answers {}", &*group.group_id, name_of(code));
                }
                Said::Refused(code) => figures.refused.count(code),
                said => {
                    figures.empty += u64::from(said == Said::Empty);
                    left.retain(|name| *name != *group.group_id);
                    last = Some(crate::bench::pulse::wall_ms());
                    if figures.first_at_ms == 0.0 {
                        figures.first_at_ms = last.unwrap_or_default();
                    }
                }
            }
        }
        std::thread::sleep(if left.is_empty() { Duration::ZERO } else { AGAIN });
    }
    figures.all_at_ms = last.context("an answered group")?;
    if args.topic.broker.for_scripts() {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    println!("{:>16.0} ms since 1970: the first group was answered", figures.first_at_ms);
    let later = figures.all_at_ms - figures.first_at_ms;
    println!("{later:>16.0} ms later: all of {} groups were, {} empty", figures.groups, figures.empty);
    println!("{:>16} refused meanwhile: {}", figures.refused.total(), figures.refused);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::offset_fetch_response::{OffsetFetchResponsePartitions, OffsetFetchResponseTopics};

    #[test]
    fn the_sample_is_spread_over_all_groups() {
        assert_eq!(spread(10, 5), [0, 2, 4, 6, 8]);
        assert_eq!(spread(3, 1000), [0, 1, 2]);
        assert_eq!(spread(0, 7), [0]);
    }

    #[test]
    fn a_refusal_is_no_answer_and_an_answer_without_an_offset_is_seen() {
        let group = |code, offset| {
            let row = OffsetFetchResponsePartitions { committed_offset: offset, ..Default::default() };
            let topic = OffsetFetchResponseTopics { partitions: vec![row], ..Default::default() };
            OffsetFetchResponseGroup { error_code: code, topics: vec![topic], ..Default::default() }
        };
        assert_eq!(said(&group(14, -1)), Said::Refused(14));
        assert_eq!(said(&group(0, -1)), Said::Empty);
        assert_eq!(said(&group(0, 5)), Said::Known);
    }
}
