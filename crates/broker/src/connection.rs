//! One connection: reads requests, answers them in order.
//!
//! Reading and writing are two halves of one task. Produce requests overlap: each is handed to the node
//! as it is read and answered when its turn comes. Any other request waits for the answers before it
//! and holds up what follows, as in Apache Kafka.
use crate::budget::Held;
use crate::connections::Handle;
use crate::context::{RequestContext, Software};
use crate::dispatch::{self, Outcome};
use crate::frame_reader::{FrameReader, ReadEnd};
use crate::handlers::produce::ProduceCall;
use crate::metrics::handles::Closed;
use crate::peers;
use crate::shared::{Complaint, Shared};
use crate::write_pieces::{GATHER_BYTES, write_pieces};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// An answer that is due, in the order of the requests.
struct Answer {
    body: AnswerBody,
    /// Request bytes that count until the answer is sent.
    memory: Held,
    bytes: usize,
}

enum AnswerBody {
    Produce(Box<ProduceCall>),
    Frame { pieces: Vec<Bytes>, memory: Option<Held> },
}

/// What the two halves share.
struct Pipeline {
    answers: RefCell<VecDeque<Answer>>,
    /// Request bytes of unsent answers.
    bytes: Cell<usize>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    handle: Rc<Handle>,
}

impl Pipeline {
    fn push(&self, answer: Answer) {
        self.bytes.set(self.bytes.get() + answer.bytes);
        self.handle.unanswered.set(self.handle.unanswered.get() + 1);
        self.answers.borrow_mut().push_back(answer);
        wake(&self.writer);
    }

    fn sent(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.handle.unanswered.set(self.handle.unanswered.get() - 1);
        wake(&self.reader);
    }

    /// Waits until at most `count` answers with at most `bytes` request bytes are due.
    async fn at_most(&self, count: usize, bytes: usize) {
        poll_fn(|cx| {
            let due = self.handle.unanswered.get();
            if due <= count && (self.bytes.get() <= bytes || due == 0) {
                return Poll::Ready(());
            }
            remember(&self.reader, cx);
            Poll::Pending
        })
        .await;
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    if let Some(waker) = slot.borrow_mut().take() {
        waker.wake();
    }
}

fn remember(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

/// Serves a connection to its end; says why it ended.
pub(crate) async fn serve(shared: Rc<Shared>, mut stream: TcpStream, handle: Rc<Handle>) -> Closed {
    let (mut read, mut write) = stream.split();
    let pipeline = Pipeline {
        answers: RefCell::new(VecDeque::new()),
        bytes: Cell::new(0),
        reader: RefCell::new(None),
        writer: RefCell::new(None),
        handle: handle.clone(),
    };
    let reason = tokio::select! {
        biased;
        reason = handle.closing() => reason,
        reason = write_loop(&shared, &pipeline, &mut write) => reason,
        reason = read_loop(&shared, &pipeline, &mut read) => reason,
    };
    if reason != Closed::Io && reason != Closed::SlowReader {
        // The peer may be gone already; there is nobody left to tell.
        let _ = write.shutdown().await;
    }
    reason
}

/// State of the reading half between requests.
struct Reading {
    frames: FrameReader,
    /// A valid request was seen: the large limit applies.
    trusted: bool,
    software: Rc<Software>,
    client_id: Rc<str>,
}

async fn read_loop(shared: &Rc<Shared>, pipeline: &Pipeline, socket: &mut ReadHalf<'_>) -> Closed {
    let mut reading = Reading {
        frames: FrameReader::new(),
        trusted: false,
        software: Rc::new(Software::default()),
        client_id: "".into(),
    };
    loop {
        let (frame, memory) = match next_frame(shared, pipeline, &mut reading, socket).await {
            Ok(next) => next,
            Err(reason) => return reason,
        };
        let bytes = frame.len();
        if let Err(reason) = take_request(shared, pipeline, &mut reading, frame, memory, bytes).await {
            return reason;
        }
    }
}

/// The next frame and the request memory that it holds.
async fn next_frame(
    shared: &Rc<Shared>,
    pipeline: &Pipeline,
    reading: &mut Reading,
    socket: &mut ReadHalf<'_>,
) -> Result<(BytesMut, Held), Closed> {
    let limit = {
        let settings = shared.settings.borrow();
        if reading.trusted { settings.request_max_bytes } else { settings.first_request_max_bytes }
    };
    let mut early: Option<Held> = None;
    loop {
        match reading.frames.buffered(limit) {
            Ok(Some(frame)) => {
                pipeline.handle.frame_since.set(None);
                let memory = match early.take() {
                    Some(mut held) => {
                        held.arrived();
                        held
                    }
                    None => shared.request_memory.take(frame.len() as u64).await,
                };
                return Ok((frame, memory));
            }
            Ok(None) => {}
            Err(end) => return Err(refused(shared, pipeline, reading.trusted, &end)),
        }
        if let Some(expected) = reading.frames.expected()
            && early.is_none()
        {
            // Whoever waits for memory is not slow.
            pipeline.handle.frame_since.set(None);
            early = Some(shared.request_memory.take_ahead(expected as u64).await);
        }
        if shared.stopping() && !reading.frames.mid_frame() {
            pipeline.at_most(0, 0).await;
            return Err(Closed::Shutdown);
        }
        let begun =
            reading.frames.mid_frame().then(|| (Instant::now(), reading.frames.expected().unwrap_or(0)));
        pipeline.handle.frame_received.set(reading.frames.received());
        if pipeline.handle.frame_since.get().is_none() || begun.is_none() {
            pipeline.handle.frame_since.set(begun);
        }
        tokio::select! {
            biased;
            filled = reading.frames.fill(socket) => match filled {
                Ok(()) => pipeline.handle.touch(shared.core.uptime()),
                Err(end) => return Err(refused(shared, pipeline, reading.trusted, &end)),
            },
            () = shared.stop_in_connection() => {}
        }
    }
}

/// What a peer speaks that is no Kafka client: its first bytes, taken for a length.
fn not_kafka(length: usize) -> Option<&'static str> {
    match u32::try_from(length).ok()?.to_be_bytes() {
        [0x16, 0x03, ..] => Some("the peer speaks TLS, which this listener does not"),
        [b'G', b'E', b'T', b' ']
        | [b'H', b'E', b'A', b'D']
        | [b'P', b'O', b'S', b'T']
        | [b'P', b'U', b'T', b' '] => Some(
            "the peer speaks HTTP, and this is a listener for Kafka clients; http.listener has metrics and health",
        ),
        _ => None,
    }
}

fn refused(shared: &Shared, pipeline: &Pipeline, trusted: bool, end: &ReadEnd) -> Closed {
    let peer = pipeline.handle.info.peer;
    match end {
        ReadEnd::Closed => Closed::Peer,
        ReadEnd::Io(error) => {
            tracing::debug!(%peer, %error, "connection lost");
            Closed::Io
        }
        ReadEnd::TooLarge { length, limit } => {
            let key = if trusted { "socket.request.max.bytes" } else { "socket.first.request.max.bytes" };
            let why = not_kafka(*length).filter(|_| !trusted);
            shared.complain(Complaint::Frame, || match why {
                Some(why) => tracing::warn!(%peer, "connection closed: {why}"),
                None => tracing::warn!(%peer, length, limit, "connection closed: a frame over {key}"),
            });
            Closed::TooLarge
        }
        ReadEnd::Negative(length) => {
            shared.complain(Complaint::Frame, || {
                tracing::warn!(%peer, length, "connection closed: a frame of negative length");
            });
            Closed::TooLarge
        }
    }
}

/// Decodes one frame and sees to its answer.
async fn take_request(
    shared: &Rc<Shared>,
    pipeline: &Pipeline,
    reading: &mut Reading,
    frame: BytesMut,
    memory: Held,
    bytes: usize,
) -> Result<(), Closed> {
    let (received, kept) = (Instant::now(), peers::keep(shared, &frame));
    let request = match dispatch::decode(frame) {
        Ok(request) => request,
        Err(dispatch::Refusal::Answer(pieces)) => {
            pipeline.at_most(0, 0).await;
            let body = AnswerBody::Frame { pieces, memory: None };
            pipeline.push(Answer { body, memory, bytes });
            return Ok(());
        }
        Err(dispatch::Refusal::Close(reason, why)) => {
            let peer = pipeline.handle.info.peer;
            shared.complain(Complaint::Request, || tracing::warn!(%peer, why, "connection closed"));
            return Err(reason);
        }
    };
    reading.trusted = true;
    let (header, request) = request;
    let client_id = header.client_id.as_deref().unwrap_or("");
    if *reading.client_id != *client_id {
        reading.client_id = client_id.into();
    }
    let ctx = RequestContext {
        connection: pipeline.handle.info.clone(),
        client_id: reading.client_id.clone(),
        software: reading.software.clone(),
        api_key: header.api_key.code(),
        api_version: header.api_version,
        correlation_id: header.correlation_id,
        received,
        request_bytes: bytes,
        refused: None,
    };
    let limits = {
        let settings = shared.settings.borrow();
        (settings.connection_requests, settings.connection_request_bytes)
    };
    if !dispatch::overlaps(&request) {
        pipeline.at_most(0, 0).await;
    } else if pipeline.handle.unanswered.get() >= limits.0 || pipeline.bytes.get() > limits.1 {
        shared.metrics.pipeline_full.increment(1);
        pipeline.at_most(limits.0 - 1, limits.1).await;
    }
    match dispatch::begin(shared, ctx, request, kept) {
        Outcome::Produce(call) => {
            let body = AnswerBody::Produce(call);
            pipeline.push(Answer { body, memory, bytes });
        }
        Outcome::Wait(answer) => {
            let mut answer = answer;
            pipeline.handle.in_handler.set(true);
            let done = answer.as_mut().await;
            pipeline.handle.in_handler.set(false);
            let done = done?;
            if let Some(software) = done.software {
                reading.software = software;
            }
            let body = AnswerBody::Frame { pieces: done.pieces, memory: done.memory };
            pipeline.push(Answer { body, memory, bytes });
        }
    }
    Ok(())
}

async fn write_loop(shared: &Rc<Shared>, pipeline: &Pipeline, socket: &mut WriteHalf<'_>) -> Closed {
    let mut pieces: VecDeque<Bytes> = VecDeque::new();
    loop {
        let taken = match poll_fn(|cx| poll_answers(shared, pipeline, &mut pieces, cx)).await {
            Ok(taken) => taken,
            Err(reason) => return reason,
        };
        if !pieces.is_empty()
            && let Err(error) = write_pieces(socket, &mut pieces, &pipeline.handle.writing_since).await
        {
            tracing::debug!(peer = %pipeline.handle.info.peer, %error, "connection lost while answering");
            return Closed::Io;
        }
        for bytes in taken.iter().map(|(bytes, ..)| *bytes) {
            pipeline.sent(bytes);
        }
        pipeline.handle.touch(shared.core.uptime());
    }
}

type Taken = Vec<(usize, Held, Option<Held>)>;

/// Takes the answers at the front that are ready; their memory counts until they are written.
fn poll_answers(
    shared: &Rc<Shared>,
    pipeline: &Pipeline,
    pieces: &mut VecDeque<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<Taken, Closed>> {
    let mut taken: Taken = Vec::new();
    let mut gathered = 0;
    let mut answers = pipeline.answers.borrow_mut();
    while gathered < GATHER_BYTES {
        let Some(front) = answers.front_mut() else { break };
        if let AnswerBody::Produce(call) = &mut front.body {
            if call.poll_done(cx).is_pending() {
                break;
            }
            match call.finish(shared) {
                Ok(frame) => {
                    gathered += frame.iter().map(Bytes::len).sum::<usize>();
                    pieces.extend(frame);
                }
                Err(reason) => return Poll::Ready(Err(reason)),
            }
        }
        let Some(answer) = answers.pop_front() else { break };
        let mut held = None;
        if let AnswerBody::Frame { pieces: frame, memory } = answer.body {
            gathered += frame.iter().map(Bytes::len).sum::<usize>();
            pieces.extend(frame);
            held = memory;
        }
        taken.push((answer.bytes, answer.memory, held));
    }
    if taken.is_empty() {
        drop(answers);
        remember(&pipeline.writer, cx);
        return Poll::Pending;
    }
    Poll::Ready(Ok(taken))
}

#[cfg(test)]
mod tests {
    use super::not_kafka;

    #[test]
    fn who_speaks_something_else_is_told_so() {
        let of = |bytes: &[u8; 4]| not_kafka(u32::from_be_bytes(*bytes) as usize);
        assert!(of(b"GET ").unwrap().contains("HTTP") && of(b"POST").unwrap().contains("HTTP"));
        assert!(of(&[0x16, 3, 1, 2]).unwrap().contains("TLS"));
        assert_eq!(of(&[0x7f, 0xff, 0xff, 0xff]), None);
    }
}
