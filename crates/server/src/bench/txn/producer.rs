//! One producer: a pipe to each leader, and a coordinator that is asked between them, as Kafka's own does it. Nothing
//! is sent between EndTxn and its answer.
use super::TxnArgs;
use super::coordinator::{self, Refusal};
use super::frames::{Identity, Prepared, Sending};
use super::line::{Line, Verdict};
use crate::bench::frames;
use crate::bench::report::{Codes, Figures, Latencies};
use crate::bench::setup::Led;
use crate::bench::socket::FrameSocket;
use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use wire::{ApiKey, ResponseBody, decode_response};

/// How long a batch is tried before the producer gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What Kafka's client waits before it asks again for the first partitions of a transaction while the one before ends.
const BEGIN_BACKOFF: Duration = Duration::from_millis(20);

/// What a producer did, and what it heard.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) figures: Figures,
    /// Of Produce requests that were not refused.
    pub(super) produces: Latencies,
    /// From the moment at which a transaction was to end to EndTxn's answer: what is in flight is waited for first.
    pub(super) commits: Latencies,
    /// EndTxn alone, with what had to be asked again.
    pub(super) ends: Latencies,
    pub(super) aborted: u64,
    pub(super) retried: Codes,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.figures.add(&other.figures);
        self.produces.merge(other.produces);
        self.commits.merge(other.commits);
        self.ends.merge(other.ends);
        self.aborted += other.aborted;
        self.retried.merge(other.retried);
    }

    fn refused(&mut self, code: i16) {
        self.figures.errors += 1;
        self.figures.first_error.get_or_insert(code);
    }
}

#[derive(Debug)]
struct InFlight {
    sent: Instant,
    /// Partitions with the first sequence of their batches.
    parts: Vec<(i32, i32)>,
}

struct Pipe {
    address: String,
    socket: FrameSocket,
    in_flight: VecDeque<InFlight>,
}

/// A transaction that is not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    begun: Instant,
    batches: usize,
    /// When it had as many as it may have.
    full_since: Option<Instant>,
}

/// A producer with everything that it will send.
pub(super) struct Producer<'a> {
    args: &'a TxnArgs,
    sending: Sending<'a>,
    who: Identity,
    pipes: Vec<Pipe>,
    /// Where the coordinator is: one of the pipes.
    coordinator: usize,
    lines: BTreeMap<i32, Line>,
    requests: Vec<(usize, Prepared)>,
    /// One batch alone, to be sent again.
    single: BTreeMap<i32, Prepared>,
    cursor: usize,
    open: Option<Open>,
    /// Not before this is anything sent again.
    again_at: Instant,
    /// Bytes a second; 0 for no limit.
    rate: f64,
    tally: Tally,
    answer: BytesMut,
}

impl<'a> Producer<'a> {
    /// Finds the coordinator, gets an id and builds all requests.
    pub(super) fn new(
        args: &'a TxnArgs,
        led: &Led,
        sending: Sending<'a>,
        number: usize,
    ) -> Result<Producer<'a>> {
        let mut producer = Producer {
            args,
            sending,
            who: Identity { id: -1, epoch: -1 },
            pipes: Vec::new(),
            coordinator: 0,
            lines: BTreeMap::new(),
            requests: Vec::new(),
            single: BTreeMap::new(),
            cursor: 0,
            open: None,
            again_at: Instant::now(),
            rate: args.rate * 1e6 / args.producers.max(1) as f64,
            tally: Tally::default(),
            answer: BytesMut::new(),
        };
        for (address, partitions) in &led.leaders {
            let pipe = producer.pipe(address)?;
            let mut all = partitions.clone();
            all.rotate_left(number % partitions.len().max(1));
            for chunk in all.chunks(args.batches_per_request.max(1)) {
                producer.requests.push((pipe, Prepared::new(sending, chunk)?));
            }
            for partition in partitions {
                producer.lines.insert(*partition, Line::new(pipe));
            }
        }
        producer.initialise()?;
        Ok(producer)
    }

    /// The number of the connection to `address`.
    fn pipe(&mut self, address: &str) -> Result<usize> {
        if let Some(at) = self.pipes.iter().position(|pipe| pipe.address == address) {
            return Ok(at);
        }
        let socket = FrameSocket::connect(address)?;
        self.pipes.push(Pipe { address: address.to_owned(), socket, in_flight: VecDeque::new() });
        Ok(self.pipes.len() - 1)
    }

    fn find_coordinator(&mut self) -> Result<()> {
        let Some(id) = self.sending.transactional_id else { return Ok(()) };
        let address = coordinator::find(&mut self.pipes[0].socket, id, PATIENCE)?;
        self.coordinator = self.pipe(&address)?;
        Ok(())
    }

    fn initialise(&mut self) -> Result<()> {
        self.find_coordinator()?;
        let until = Instant::now() + PATIENCE;
        loop {
            let socket = &mut self.pipes[self.coordinator].socket;
            let asked = coordinator::initialise(socket, self.sending.transactional_id, self.args.timeout_ms)?;
            match asked {
                Ok(who) => {
                    self.who = who;
                    return Ok(());
                }
                Err(refusal) if refusal.is_final() || Instant::now() > until => {
                    bail!("InitProducerId answers {refusal}");
                }
                Err(refusal) => self.again(refusal)?,
            }
        }
    }

    /// Counts a refusal that is asked again, and waits.
    fn again(&mut self, refusal: Refusal) -> Result<()> {
        self.tally.retried.count(refusal.code());
        std::thread::sleep(self.args.backoff());
        if refusal.coordinator_moved() { self.find_coordinator() } else { Ok(()) }
    }

    /// Produces until `until`; the last transaction is ended too.
    pub(super) fn run(mut self, until: Instant) -> Result<Tally> {
        let start = Instant::now();
        loop {
            let now = Instant::now();
            let due = self.due().filter(|due| *due <= now || now >= until);
            if let Some(due) = due {
                self.drain()?;
                self.end(due.min(now))?;
            } else if now >= until {
                self.drain()?;
            }
            if now >= until || self.tally.figures.errors > 0 {
                return Ok(self.tally);
            }
            if due.is_none() {
                self.advance(start)?;
            }
        }
    }

    /// When the open transaction is to end.
    fn due(&self) -> Option<Instant> {
        let open = self.open?;
        self.sending.transactional_id?;
        match self.args.commit_ms {
            _ if open.full_since.is_some() => open.full_since,
            // The end of the run ends it.
            0 => Some(open.begun + Duration::from_secs(86_400)),
            ms => Some(open.begun + Duration::from_millis(ms)),
        }
    }

    /// Sends something, or else waits for something.
    fn advance(&mut self, start: Instant) -> Result<()> {
        if self.send_again()? {
            return Ok(());
        }
        let sent = self.tally.figures.bytes as f64;
        let intended =
            if self.rate > 0.0 { start + Duration::from_secs_f64(sent / self.rate) } else { start };
        if Instant::now() >= intended
            && let Some(at) = self.next_request()
        {
            return self.send(at);
        }
        if !self.receive_oldest()? {
            let next = if self.waits() { self.again_at.max(intended) } else { intended };
            let next = self.due().map_or(next, |due| due.min(next));
            let pause = next.saturating_duration_since(Instant::now());
            std::thread::sleep(pause.min(Duration::from_millis(5)));
        }
        Ok(())
    }

    fn waits(&self) -> bool {
        self.lines.values().any(|line| line.first_again().is_some())
    }

    /// The next request in turn that has room in its pipe and no batch before it that is to be sent again.
    fn next_request(&self) -> Option<usize> {
        let all = self.requests.len();
        (0..all).map(|step| (self.cursor + step) % all).find(|at| {
            let (pipe, request) = &self.requests[*at];
            self.pipes[*pipe].in_flight.len() < self.args.depth.max(1)
                && request.partitions().all(|p| self.lines[&p].first_again().is_none())
        })
    }

    fn send(&mut self, at: usize) -> Result<()> {
        if self.open.is_none() {
            self.open = Some(Open { begun: Instant::now(), batches: 0, full_since: None });
            if self.sending.transactional_id.is_some() && self.args.transaction_version == 1 {
                self.add_partitions(at)?;
            }
            if self.tally.figures.errors > 0 {
                return Ok(());
            }
        }
        self.cursor = at + 1;
        let (pipe, request) = &mut self.requests[at];
        let lines = &self.lines;
        let (frame, next) = request.patch(self.who, |partition| lines[&partition].next());
        let pipe = &mut self.pipes[*pipe];
        pipe.socket.send(frame)?;
        let figures = &mut self.tally.figures;
        figures.bytes += frame.len() as u64;
        figures.uncompressed_bytes += request.uncompressed;
        figures.records += request.records;
        figures.requests += 1;
        let mut parts = Vec::with_capacity(next.len());
        for (partition, following) in next {
            let line = self.lines.get_mut(&partition).context("a partition of the request")?;
            parts.push((partition, line.sent(following)));
        }
        if let Some(open) = &mut self.open {
            open.batches += parts.len();
            let limit = self.args.batches_per_transaction;
            open.full_since = (limit > 0 && open.batches >= limit).then(Instant::now);
        }
        pipe.in_flight.push_back(InFlight { sent: Instant::now(), parts });
        Ok(())
    }

    /// Sends one refused batch again, the earliest of its partition; `false` if there is none, or it is too early.
    fn send_again(&mut self) -> Result<bool> {
        if Instant::now() < self.again_at {
            return Ok(false);
        }
        let depth = self.args.depth.max(1);
        let refused = self.lines.iter().find_map(|(partition, line)| {
            let room = self.pipes[line.pipe].in_flight.len() < depth;
            line.first_again().filter(|_| room).map(|sequence| (*partition, sequence))
        });
        let Some((partition, sequence)) = refused else { return Ok(false) };
        if !self.single.contains_key(&partition) {
            self.single.insert(partition, Prepared::new(self.sending, &[partition])?);
        }
        let line = self.lines.get_mut(&partition).context("a partition that is known")?;
        let request = self.single.get_mut(&partition).context("a request just built")?;
        let (frame, _) = request.patch(self.who, |_| sequence);
        let pipe = &mut self.pipes[line.pipe];
        pipe.socket.send(frame)?;
        line.sent_again(sequence);
        pipe.in_flight.push_back(InFlight { sent: Instant::now(), parts: vec![(partition, sequence)] });
        Ok(true)
    }

    /// Waits for the answer that is outstanding for longest; `false` where there is none.
    fn receive_oldest(&mut self) -> Result<bool> {
        let outstanding =
            self.pipes.iter().enumerate().filter_map(|(at, p)| Some((p.in_flight.front()?.sent, at)));
        let Some((_, at)) = outstanding.min() else { return Ok(false) };
        let pipe = &mut self.pipes[at];
        let Some(request) = pipe.in_flight.pop_front() else { return Ok(false) };
        pipe.socket.receive(&mut self.answer)?;
        let (_, body) = decode_response(ApiKey::Produce, self.sending.version, self.answer.split())?;
        let ResponseBody::Produce(answer) = body else { bail!("the answer is none to Produce") };
        let codes = answer.responses.iter().flat_map(|t| &t.partition_responses);
        let codes: BTreeMap<i32, i16> = codes.map(|p| (p.index, p.error_code)).collect();
        let mut all_done = true;
        for (partition, sequence) in request.parts {
            let code = *codes.get(&partition).context("an answer that lacks a partition")?;
            let line = self.lines.get_mut(&partition).context("a partition that was written to")?;
            match line.answered(sequence, code, Instant::now(), PATIENCE) {
                Verdict::Done => continue,
                Verdict::Again => {
                    self.tally.retried.count(code);
                    self.again_at = Instant::now() + self.args.backoff();
                }
                Verdict::Refused => self.tally.refused(code),
            }
            all_done = false;
        }
        if all_done {
            self.tally.produces.push(request.sent.elapsed());
        }
        Ok(true)
    }

    /// Until everything that was sent is acknowledged.
    fn drain(&mut self) -> Result<()> {
        while self.tally.figures.errors == 0 {
            if !self.send_again()? && !self.receive_oldest()? {
                if !self.waits() {
                    break;
                }
                std::thread::sleep(self.again_at.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }

    /// Before 4.0 the coordinator learns of partitions from the client, before anything is sent there. All that the
    /// transaction will use are named at once.
    fn add_partitions(&mut self, first: usize) -> Result<()> {
        let (all, limit) = (self.requests.len(), self.args.batches_per_transaction);
        let mut partitions: Vec<i32> = Vec::new();
        for step in 0..all {
            if limit > 0 && partitions.len() >= limit {
                break;
            }
            partitions.extend(self.requests[(first + step) % all].1.partitions());
        }
        let until = Instant::now() + PATIENCE;
        let id = self.sending.transactional_id.unwrap_or_default();
        loop {
            let socket = &mut self.pipes[self.coordinator].socket;
            match coordinator::add_partitions(socket, id, self.who, self.sending.topic, &partitions)? {
                Ok(()) => return Ok(()),
                Err(refusal) if refusal.is_final() || Instant::now() > until => {
                    self.tally.refused(refusal.code());
                    return Ok(());
                }
                Err(refusal) if refusal.is_concurrent() => {
                    self.tally.retried.count(refusal.code());
                    std::thread::sleep(BEGIN_BACKOFF.min(self.args.backoff()));
                }
                Err(refusal) => self.again(refusal)?,
            }
        }
    }

    /// Ends the open transaction, which was to end at `due`.
    fn end(&mut self, due: Instant) -> Result<()> {
        let (Some(id), None) = (self.sending.transactional_id, self.tally.figures.first_error) else {
            return Ok(());
        };
        let ended = self.tally.ends.len() as u64 + 1;
        let commit = self.args.abort_every == 0 || !ended.is_multiple_of(self.args.abort_every);
        let (asked, until) = (Instant::now(), Instant::now() + PATIENCE);
        let next = loop {
            let socket = &mut self.pipes[self.coordinator].socket;
            match coordinator::end(socket, id, self.who, commit, self.args.transaction_version)? {
                Ok(next) => break next,
                Err(refusal) if refusal.is_final() || Instant::now() > until => {
                    self.tally.refused(refusal.code());
                    return Ok(());
                }
                Err(refusal) => self.again(refusal)?,
            }
        };
        self.tally.ends.push(asked.elapsed());
        self.tally.commits.push(due.elapsed());
        self.tally.aborted += u64::from(!commit);
        if next != self.who {
            self.who = next;
            self.lines.values_mut().for_each(Line::begin_anew);
        }
        self.open = None;
        Ok(())
    }
}

/// The batches of a producer.
pub(super) fn shape(args: &TxnArgs) -> Result<frames::BatchShape> {
    Ok(frames::BatchShape {
        record_size: args.record_size,
        batch_bytes: args.batch_bytes,
        codec: frames::codec(&args.codec)?,
    })
}
