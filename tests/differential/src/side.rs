//! One of the two brokers: a connection, and what was learned from its answers.
use bytes::{Bytes, BytesMut};
use client_lite::RawConn;
use model::TopicId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use wire::{ApiKey, EncodeError, Request, RequestHeader, ResponseBody, Str, decode_response, encode_request};

const PATIENCE: Duration = Duration::from_secs(15);
const CORRELATION: i32 = 77;

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    Body(Box<ResponseBody>),
    Closed,
    /// Nothing within 15 seconds.
    Silent,
    /// Bytes that are no answer to what was asked.
    Undecodable(#[allow(dead_code)] String),
    /// Our codec cannot express the request in this version.
    Unsendable,
}

/// A request that was sent, and until when its answer is waited for.
pub(crate) struct Begun {
    conn: RawConn,
    until: Instant,
}

/// One broker.
pub(crate) struct Side {
    pub(crate) address: String,
    /// In every name that the script makes, so that runs do not meet.
    run: String,
    conn: Option<RawConn>,
    /// Values that differ by nature, and what they are called in comparisons.
    symbols: BTreeMap<String, String>,
    ids: BTreeMap<String, TopicId>,
    texts: BTreeMap<String, Str>,
    numbers: BTreeMap<String, i64>,
}

impl Side {
    /// A broker at `address`; `run` is the same for both.
    pub(crate) fn new(address: &str, run: &str) -> Side {
        let (symbols, ids, texts, numbers) = Default::default();
        Side { address: address.to_owned(), run: run.to_owned(), conn: None, symbols, ids, texts, numbers }
    }

    /// A topic or group name of this run.
    pub(crate) fn name(&self, name: &str) -> Str {
        Str::from(format!("{name}-{}", self.run))
    }

    /// What a value is called in comparisons, if it is known to differ by nature.
    pub(crate) fn symbol(&self, field: &str, word: &str) -> Option<String> {
        let scoped = self.symbols.get(&format!("{field}={word}"));
        scoped.or_else(|| self.symbols.get(word)).cloned()
    }

    /// Calls `value` of any field `symbol` from now on.
    pub(crate) fn call(&mut self, value: String, symbol: &str) {
        self.symbols.insert(value, format!("<{symbol}>"));
    }

    /// Calls `value` `symbol` where it is the value of `field`.
    pub(crate) fn call_field(&mut self, field: &str, value: impl ToString, symbol: &str) {
        self.call(format!("{field}={}", value.to_string()), symbol);
    }

    /// Keeps a topic's id.
    fn learn_id(&mut self, name: &str, id: TopicId) {
        self.call(id.to_string(), &format!("id of {name}"));
        self.ids.insert(name.to_owned(), id);
    }

    /// The id of a topic of which an answer told, or zero.
    pub(crate) fn id(&self, name: &str) -> TopicId {
        self.ids.get(name).copied().unwrap_or(TopicId::ZERO)
    }

    /// Keeps a text, for example a member id.
    pub(crate) fn learn_text(&mut self, what: &str, text: &Str) {
        if !text.is_empty() {
            self.call(format!("{text:?}"), what);
        }
        self.texts.insert(what.to_owned(), text.clone());
    }

    /// A text that was learned, or an empty one.
    pub(crate) fn text(&self, what: &str) -> Str {
        self.texts.get(what).cloned().unwrap_or_default()
    }

    /// Keeps a number, for example a leader epoch; in `field` it is called by its name.
    pub(crate) fn learn_number(&mut self, what: &str, field: &str, number: i64) {
        self.call_field(field, number, what);
        self.numbers.insert(what.to_owned(), number);
    }

    /// A number that was learned, or `otherwise`.
    pub(crate) fn number(&self, what: &str, otherwise: i64) -> i64 {
        self.numbers.get(what).copied().unwrap_or(otherwise)
    }

    /// Keeps the ids of the topics that an answer tells.
    pub(crate) fn observe(&mut self, body: &ResponseBody) {
        let ids: Vec<(Str, TopicId)> = match body {
            ResponseBody::Metadata(answer) => {
                let named = |topic: &wire::metadata_response::MetadataResponseTopic| {
                    // A refusal may echo a name beside the id of another topic.
                    Some((topic.name.clone()?, topic.topic_id)).filter(|_| topic.error_code == 0)
                };
                answer.topics.iter().filter_map(named).collect()
            }
            ResponseBody::CreateTopics(answer) => {
                answer.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id)).collect()
            }
            _ => return,
        };
        for (name, id) in ids.into_iter().filter(|(_, id)| !id.is_zero()) {
            let short = name.strip_suffix(&self.run).unwrap_or(&name);
            self.learn_id(short.trim_end_matches('-'), id);
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&mut self, request: &Request, version: i16) -> Answer {
        let Ok(frame) = frame(request, version) else { return Answer::Unsendable };
        self.answer(request.api_key(), version, &frame).await
    }

    /// Sends a good header with any bytes behind it.
    pub(crate) async fn ask_with(&mut self, key: ApiKey, version: i16, body: &[u8]) -> Answer {
        let mut header = [key.code(), version, 0].map(i16::to_be_bytes).concat();
        header.extend(i16::try_from(CORRELATION).unwrap_or_default().to_be_bytes());
        // No client id, and in flexible versions no tagged fields.
        header.extend((-1i16).to_be_bytes());
        if key.request_header_version(version) >= 2 {
            header.push(0);
        }
        let length = (header.len() + body.len()) as u32;
        self.answer(key, version, &[&length.to_be_bytes()[..], &header, body].concat()).await
    }

    async fn answer(&mut self, key: ApiKey, version: i16, frame: &[u8]) -> Answer {
        match self.exchange(frame).await {
            Ok(Some(answer)) => read(key, version, answer),
            Ok(None) => Answer::Closed,
            Err(answer) => answer,
        }
    }

    /// Sends bytes as they are; the frame that came back, without its length.
    pub(crate) async fn exchange(&mut self, frame: &[u8]) -> Result<Option<BytesMut>, Answer> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        if conn.send(frame).await.is_err() {
            // An idle connection that the broker had closed: once more on a new one.
            conn = self.connect().await?;
            if conn.send(frame).await.is_err() {
                return Ok(None);
            }
        }
        match tokio::time::timeout(PATIENCE, conn.receive()).await {
            Err(_) => Err(Answer::Silent),
            Ok(Ok(Some(answer))) => {
                self.conn = Some(conn);
                Ok(Some(answer))
            }
            Ok(Ok(None) | Err(_)) => Ok(None),
        }
    }

    /// A request whose answer will come later, on a connection of its own.
    pub(crate) async fn begin(&self, request: &Request, version: i16) -> Option<Begun> {
        let frame = frame(request, version).ok()?;
        let mut conn = self.connect().await.ok()?;
        conn.send(&frame).await.ok()?;
        Some(Begun { conn, until: Instant::now() + PATIENCE })
    }

    /// The answer to what [`Side::begin`] sent.
    pub(crate) async fn finish(begun: Option<Begun>, key: ApiKey, version: i16) -> Answer {
        let Some(Begun { mut conn, until }) = begun else { return Answer::Closed };
        match tokio::time::timeout_at(until, conn.receive()).await {
            Err(_) => Answer::Silent,
            Ok(Ok(Some(answer))) => read(key, version, answer),
            Ok(Ok(None) | Err(_)) => Answer::Closed,
        }
    }

    async fn connect(&self) -> Result<RawConn, Answer> {
        RawConn::connect(&self.address).await.map_err(|error| Answer::Undecodable(error.to_string()))
    }
}

/// The bytes of a request with its length in front.
pub(crate) fn frame(request: &Request, version: i16) -> Result<Vec<u8>, EncodeError> {
    let header = RequestHeader {
        api_key: request.api_key(),
        api_version: version,
        correlation_id: CORRELATION,
        client_id: Some(Str::from("differential")),
    };
    let pieces: Vec<Bytes> = encode_request(&header, request)?;
    Ok(pieces.concat())
}

fn read(key: ApiKey, version: i16, answer: BytesMut) -> Answer {
    match decode_response(key, version, answer) {
        Ok((CORRELATION, body)) => Answer::Body(Box::new(body)),
        Ok((other, _)) => Answer::Undecodable(format!("correlation id {other}")),
        Err(error) => Answer::Undecodable(error.to_string()),
    }
}
