//! Many partitions: one record to each of them, timed from outside by the clock of the machine.
//!
//! Started before the broker is, it measures a start: it asks again every 2 ms until a record is
//! acknowledged, and says at which moment that was.
#![allow(clippy::print_stdout)]
use super::BrokerArgs;
use super::frames::{self, BatchShape};
use super::setup::leaders;
use super::socket::{FrameSocket, join};
use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::create_topics_request::CreatableTopic;
use wire::{ApiKey, CreateTopicsRequest, Request, ResponseBody, Str, decode_response, encode_request};

const TOPIC_ALREADY_EXISTS: i16 = 36;
const NOT_LEADER: i16 = 6;
/// Version of CreateTopics that takes -1 as the replication factor and that every broker since 2.4 knows.
const CREATE_VERSION: i16 = 5;
const AGAIN: Duration = Duration::from_millis(2);
/// Partitions in one Produce request.
const CHUNK: usize = 100;

/// Which partitions.
#[derive(Debug, Clone, Args)]
pub(crate) struct TouchArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// Topics are named PREFIX-0, PREFIX-1 and so on.
    #[arg(long, default_value = "touch")]
    prefix: String,
    /// Number of topics.
    #[arg(long, default_value_t = 10)]
    topics: usize,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// Create the topics first.
    #[arg(long)]
    create: bool,
    /// Stop at the first acknowledged record.
    #[arg(long)]
    first_only: bool,
    /// Which partition of topic 0 gets the first record.
    #[arg(long, default_value_t = 0)]
    first: i32,
    /// How long to try in all, seconds.
    #[arg(long, default_value_t = 300.0)]
    seconds: f64,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    /// When the first record was acknowledged, ms since 1970.
    first_at_ms: f64,
    /// When every partition had acknowledged one.
    all_at_ms: f64,
    records: u64,
}

/// Moments and counts of a run.
pub(super) fn run(args: &TouchArgs) -> Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let mut visit = Visit { args, sockets: BTreeMap::new(), leaders: BTreeMap::new(), until };
    if args.create {
        (0..args.topics).try_for_each(|topic| visit.create(topic))?;
    }
    let mut figures = Figures::default();
    visit.produce(0, vec![args.first])?;
    figures.first_at_ms = wall_ms();
    figures.records = 1;
    if !args.first_only {
        let all: Vec<i32> = (0..args.partitions).collect();
        for topic in 0..args.topics {
            for chunk in all.chunks(CHUNK) {
                visit.produce(topic, chunk.to_vec())?;
                figures.records += chunk.len() as u64;
            }
        }
        figures.all_at_ms = wall_ms();
    }
    if args.broker.for_scripts() {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    println!("{:>16.0} ms since 1970: the first record was acknowledged", figures.first_at_ms);
    if !args.first_only {
        let later = figures.all_at_ms - figures.first_at_ms;
        println!("{later:>16.0} ms later: all of {} records were", figures.records);
    }
    Ok(())
}

fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64() * 1000.0).unwrap_or_default()
}

struct Visit<'a> {
    args: &'a TouchArgs,
    /// By address; that of the first broker is asked for everything but records that others lead.
    sockets: BTreeMap<String, FrameSocket>,
    /// Of a topic of which records were refused because another broker leads: address of each partition's leader.
    leaders: BTreeMap<usize, BTreeMap<i32, String>>,
    until: Instant,
}

impl Visit<'_> {
    fn name(&self, topic: usize) -> String {
        format!("{}-{topic}", self.args.prefix)
    }

    /// Sends a frame until some answer comes: the broker may not be there yet, or go away again.
    fn ask(&mut self, address: &str, api: ApiKey, version: i16, frame: &[u8]) -> Result<ResponseBody> {
        loop {
            let mut answer = BytesMut::new();
            match self.exchange(address, frame, &mut answer) {
                Ok(()) => return Ok(decode_response(api, version, answer)?.1),
                Err(error) => {
                    self.sockets.remove(address);
                    self.pause().context(error)?;
                }
            }
        }
    }

    fn exchange(&mut self, address: &str, frame: &[u8], answer: &mut BytesMut) -> Result<()> {
        if !self.sockets.contains_key(address) {
            self.sockets.insert(address.to_owned(), FrameSocket::connect(address)?);
        }
        let socket = self.sockets.get_mut(address).context("a connection just made")?;
        socket.send(frame)?;
        socket.receive(answer)
    }

    /// The broker that a record goes to; the first of all until one refuses.
    fn leader(&self, topic: usize, partition: i32) -> String {
        let known = self.leaders.get(&topic).and_then(|led| led.get(&partition));
        known.map_or_else(|| self.args.broker.address().to_owned(), String::clone)
    }

    fn find_leaders(&mut self, topic: usize) -> Result<()> {
        let led = leaders(&self.args.broker, &self.name(topic), self.until)?;
        let each = led.leaders.iter().flat_map(|(at, parts)| parts.iter().map(move |p| (*p, at.clone())));
        self.leaders.insert(topic, each.collect());
        Ok(())
    }

    fn pause(&self) -> Result<()> {
        if Instant::now() >= self.until {
            bail!("not done after {} s", self.args.seconds);
        }
        std::thread::sleep(AGAIN);
        Ok(())
    }

    fn create(&mut self, topic: usize) -> Result<()> {
        let topic = CreatableTopic {
            name: Str::from_utf8(self.name(topic).into())?,
            num_partitions: self.args.partitions,
            replication_factor: -1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        let header = frames::header(ApiKey::CreateTopics, CREATE_VERSION, 0);
        let frame = join(&encode_request(&header, &Request::CreateTopics(request))?);
        loop {
            let ResponseBody::CreateTopics(answer) =
                self.ask(self.args.broker.address(), ApiKey::CreateTopics, CREATE_VERSION, &frame)?
            else {
                bail!("the answer is none to CreateTopics");
            };
            match answer.topics.first().map(|t| t.error_code) {
                Some(0 | TOPIC_ALREADY_EXISTS) => return Ok(()),
                code => self.pause().with_context(|| format!("creating a topic answers {code:?}"))?,
            }
        }
    }

    /// One record to each of `partitions`; those that refuse are asked again.
    fn produce(&mut self, topic: usize, mut partitions: Vec<i32>) -> Result<()> {
        while !partitions.is_empty() {
            let mut codes = Vec::new();
            let mut by_leader: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for partition in partitions.drain(..) {
                by_leader.entry(self.leader(topic, partition)).or_default().push(partition);
            }
            for (address, asked) in by_leader {
                let answers = self.produce_once(topic, &address, &asked)?;
                let accepted = |p: &i32| answers.iter().any(|(index, code)| index == p && *code == 0);
                partitions.extend(asked.iter().filter(|p| !accepted(p)));
                codes.extend(answers.into_iter().map(|(_, code)| code).filter(|code| *code != 0));
            }
            if codes.contains(&NOT_LEADER) {
                self.find_leaders(topic)?;
            }
            if let Some(code) = codes.first() {
                let name = self.name(topic);
                self.pause().with_context(|| format!("producing to {name} answers {code:?}"))?;
            }
        }
        Ok(())
    }

    /// Partitions and error codes of the answer to one request.
    fn produce_once(&mut self, topic: usize, address: &str, partitions: &[i32]) -> Result<Vec<(i32, i16)>> {
        let shape = BatchShape { record_size: 100, batch_bytes: 1, codec: frames::codec("none")? };
        let batches = partitions
            .iter()
            .map(|p| Ok((*p, frames::batch(shape, 0, *p as u64)?.0)))
            .collect::<Result<Vec<_>>>()?;
        let frame = frames::produce(&self.name(topic), -1, batches, 0)?;
        let body = self.ask(address, ApiKey::Produce, frames::PRODUCE_VERSION, &frame)?;
        let ResponseBody::Produce(answer) = body else { bail!("the answer is none to Produce") };
        let answers = answer.responses.iter().flat_map(|t| &t.partition_responses);
        Ok(answers.map(|a| (a.index, a.error_code)).collect())
    }
}
