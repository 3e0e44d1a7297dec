//! One connection: requests go out in order, answers find their caller by correlation id.
use crate::error::ClientError;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use wire::frame::{self, LENGTH_BYTES, Split};
use wire::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, Message, RESPONSE_ITEM_BYTES, Reader, RequestHeader,
    RequestMessage, Str, encode_request,
};

/// How a connection behaves.
#[derive(Clone, Debug)]
pub struct ConnOptions {
    /// What the client calls itself.
    pub client_id: String,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for the first answer of a connection, the one to ApiVersions: a process that is stopped is
    /// still connected to by its system, and says nothing.
    pub handshake_timeout: Duration,
    /// The longest wait for an answer.
    pub request_timeout: Duration,
    /// The largest answer that is read, bytes.
    pub max_response_bytes: usize,
}

impl Default for ConnOptions {
    fn default() -> Self {
        ConnOptions {
            client_id: "plimsoll".to_owned(),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            max_response_bytes: 512 << 20,
        }
    }
}

/// The most memory reserved ahead of bytes that an answer only promises.
const RESERVE_MAX: usize = 4 << 20;
const READ_MIN: usize = 16 << 10;
/// The most requests of one connection that may await their answers.
const MAX_IN_FLIGHT: usize = 4096;

type Waiters = BTreeMap<i32, oneshot::Sender<BytesMut>>;

/// What the reading task and the callers share.
#[derive(Debug)]
struct Shared {
    address: String,
    /// `None` once the connection is gone.
    waiters: Mutex<Option<Waiters>>,
}

impl Shared {
    fn waiters(&self) -> MutexGuard<'_, Option<Waiters>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed { address: self.address.clone() }
    }

    fn expect_answer(&self, id: i32) -> Result<oneshot::Receiver<BytesMut>, ClientError> {
        let mut waiters = self.waiters();
        let waiters = waiters.as_mut().ok_or_else(|| self.closed())?;
        if waiters.len() >= MAX_IN_FLIGHT {
            let what = format!("{MAX_IN_FLIGHT} requests await their answers");
            return Err(ClientError::Protocol { address: self.address.clone(), what });
        }
        let (tell, answer) = oneshot::channel();
        waiters.insert(id, tell);
        Ok(answer)
    }

    /// All callers learn that the connection is gone, and so does who asks [`Conn::is_closed`].
    fn close(&self) {
        *self.waiters() = None;
    }
}

/// A connection to one broker. Cheap to share by `Arc`; dropping it closes the socket.
#[derive(Debug)]
pub struct Conn {
    shared: Arc<Shared>,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    reading: tokio::task::JoinHandle<()>,
    next_id: AtomicI32,
    options: ConnOptions,
    /// What the broker advertises, by API key.
    versions: BTreeMap<i16, (i16, i16)>,
    features: Option<ApiVersionsResponse>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// An answer that is on its way.
#[derive(Debug)]
pub struct Pending<M> {
    answer: oneshot::Receiver<BytesMut>,
    api: ApiKey,
    version: i16,
    shared: Arc<Shared>,
    timeout: Duration,
    kind: PhantomData<fn() -> M>,
}

impl<M: Message> Pending<M> {
    /// Waits for the answer. Without one within the request timeout the whole connection is given up,
    /// because the answers behind it are late too.
    pub async fn wait(self) -> Result<M, ClientError> {
        let (api, version) = (self.api, self.version);
        let shared = self.shared.clone();
        let frame = self.frame().await?;
        decode_answer(api, version, frame)
            .map_err(|error| ClientError::Decode { address: shared.address.clone(), error })
    }

    /// Another limit than the connection's, for answers that take their time by design.
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn frame(self) -> Result<BytesMut, ClientError> {
        match tokio::time::timeout(self.timeout, self.answer).await {
            Err(_) => {
                self.shared.close();
                let address = self.shared.address.clone();
                Err(ClientError::Timeout { what: self.api.name(), address, after: self.timeout })
            }
            Ok(Err(_)) => Err(self.shared.closed()),
            Ok(Ok(frame)) => Ok(frame),
        }
    }
}

/// Decodes an answer's frame, without its length, to the type that the request names.
fn decode_answer<M: Message>(api: ApiKey, version: i16, frame: BytesMut) -> Result<M, wire::DecodeError> {
    let mut reader = Reader::new(frame, "ResponseHeader", RESPONSE_ITEM_BYTES);
    reader.i32("correlation_id")?;
    let flexible = api.response_header_version(version) >= 1;
    let mut body = reader.switch::<M>(version)?;
    if flexible {
        body.skip_tags("ResponseHeader")?;
    }
    M::read(&mut body, M::NAME)
}

impl Conn {
    /// Connects to `address` (`host:port`) and asks the broker what it speaks.
    pub async fn connect(address: &str, options: ConnOptions) -> Result<Conn, ClientError> {
        let mut conn = Conn::connect_unasked(address, options).await?;
        let answer = conn.ask_versions().await?;
        conn.versions = answer.api_keys.iter().map(|v| (v.api_key, (v.min_version, v.max_version))).collect();
        conn.features = Some(answer);
        Ok(conn)
    }

    /// Connects without asking for versions; only [`Conn::request_at`] and its like work.
    pub async fn connect_unasked(address: &str, options: ConnOptions) -> Result<Conn, ClientError> {
        let failed = |source| ClientError::Connect { address: address.to_owned(), source };
        let connecting = TcpStream::connect(address);
        let stream = match tokio::time::timeout(options.connect_timeout, connecting).await {
            Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
            Ok(stream) => stream.map_err(failed)?,
        };
        stream.set_nodelay(true).map_err(failed)?;
        let (read, write) = stream.into_split();
        let shared =
            Arc::new(Shared { address: address.to_owned(), waiters: Mutex::new(Some(BTreeMap::new())) });
        let reading = tokio::spawn(read_answers(read, shared.clone(), options.max_response_bytes));
        let writer = tokio::sync::Mutex::new(write);
        let (next_id, versions) = (AtomicI32::new(0), BTreeMap::new());
        Ok(Conn { shared, writer, reading, next_id, options, versions, features: None })
    }

    /// The newest version first; a broker that lacks it answers version 0 with an error.
    async fn ask_versions(&self) -> Result<ApiVersionsResponse, ClientError> {
        let ask = || ApiVersionsRequest {
            client_software_name: Str::from_static("plimsoll"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let newest = ApiKey::ApiVersions.api().max;
        let limit = self.options.handshake_timeout.min(self.options.request_timeout);
        let pending = self.begin_at(ask(), newest).await?.within(limit);
        let answer = self.versions_answer(pending, newest).await?;
        if answer.error_code == model::ErrorCode::UnsupportedVersion.code() {
            let known = answer.api_keys.iter().find(|v| v.api_key == ApiKey::ApiVersions.code());
            let version = known.map_or(0, |v| v.max_version.clamp(0, newest));
            let answer = self.begin_at(ask(), version).await?.within(limit).wait().await?;
            crate::error::check(|| "ApiVersions".to_owned(), answer.error_code, None)?;
            return Ok(answer);
        }
        crate::error::check(|| "ApiVersions".to_owned(), answer.error_code, None)?;
        Ok(answer)
    }

    /// An ApiVersions answer has the asked version, or 0 when the broker lacks that.
    async fn versions_answer(
        &self,
        pending: Pending<ApiVersionsResponse>,
        asked: i16,
    ) -> Result<ApiVersionsResponse, ClientError> {
        let frame = pending.frame().await?;
        let unsupported = model::ErrorCode::UnsupportedVersion.code().to_be_bytes();
        let version = if frame.get(4..6) == Some(&unsupported[..]) { 0 } else { asked };
        let address = self.address().to_owned();
        decode_answer(ApiKey::ApiVersions, version, frame)
            .map_err(|error| ClientError::Decode { address, error })
    }

    /// `host:port`, as it was connected to.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// The broker's whole answer to ApiVersions, if it was asked.
    pub fn features(&self) -> Option<&ApiVersionsResponse> {
        self.features.as_ref()
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.waiters().is_none()
    }

    /// The newest version of an API that both sides speak, at most `ceiling`.
    pub fn version_up_to(&self, api: ApiKey, ceiling: i16) -> Result<i16, ClientError> {
        let ours = api.api();
        let theirs = self.versions.get(&api.code()).copied();
        let best = theirs.map(|(min, max)| (min.max(ours.min), max.min(ours.max).min(ceiling)));
        match best {
            Some((min, max)) if min <= max => Ok(max),
            _ => Err(ClientError::NoCommonVersion {
                address: self.address().to_owned(),
                api: api.name(),
                ours: format!("{} to {}", ours.min, ours.max.min(ceiling)),
                theirs: theirs.map_or_else(|| "none".to_owned(), |(min, max)| format!("{min} to {max}")),
            }),
        }
    }

    /// The newest version of an API that both sides speak.
    pub fn version(&self, api: ApiKey) -> Result<i16, ClientError> {
        self.version_up_to(api, i16::MAX)
    }

    /// Sends a request in the newest common version and waits for its answer.
    pub async fn request<R: RequestMessage>(&self, request: R) -> Result<R::Response, ClientError> {
        let version = self.version(R::KEY)?;
        self.request_at(request, version).await
    }

    /// Sends a request in `version` and waits for its answer.
    pub async fn request_at<R: RequestMessage>(
        &self,
        request: R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        self.begin_at(request, version).await?.wait().await
    }

    /// Sends a request in `version`; the answer is waited for apart, so that more can follow at once.
    pub async fn begin_at<R: RequestMessage>(
        &self,
        request: R,
        version: i16,
    ) -> Result<Pending<R::Response>, ClientError> {
        let (id, frame) = self.encode(request, version)?;
        let answer = self.shared.expect_answer(id)?;
        self.write(frame).await?;
        let (shared, timeout) = (self.shared.clone(), self.options.request_timeout);
        Ok(Pending { answer, api: R::KEY, version, shared, timeout, kind: PhantomData })
    }

    /// Sends a request that is never answered: Produce with acks=0.
    pub async fn send_at<R: RequestMessage>(&self, request: R, version: i16) -> Result<(), ClientError> {
        let (_, frame) = self.encode(request, version)?;
        self.write(frame).await
    }

    fn encode<R: RequestMessage>(&self, request: R, version: i16) -> Result<(i32, Vec<Bytes>), ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: id,
            client_id: Some(Str::from(&self.options.client_id)),
        };
        Ok((id, encode_request(&header, &request.into())?))
    }

    /// Frames never mix: a caller that stops waiting here has left half a frame, so the rest is given up.
    async fn write(&self, frame: Vec<Bytes>) -> Result<(), ClientError> {
        let mut writer = self.writer.lock().await;
        if self.is_closed() {
            return Err(self.shared.closed());
        }
        let unfinished = CloseOnDrop(Some(&self.shared));
        for piece in frame {
            let written = writer.write_all(&piece).await;
            written.map_err(|source| ClientError::Io { address: self.address().to_owned(), source })?;
        }
        unfinished.disarm();
        Ok(())
    }
}

/// Closes the connection unless it is disarmed.
struct CloseOnDrop<'a>(Option<&'a Shared>);

impl CloseOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.close();
        }
    }
}

/// Hands every answer to its caller; at the end of the connection all callers learn of it.
async fn read_answers(mut socket: OwnedReadHalf, shared: Arc<Shared>, limit: usize) {
    let mut buffer = BytesMut::with_capacity(READ_MIN);
    while let Ok(Some(answer)) = read_frame(&mut socket, &mut buffer, limit).await {
        let Some(id) = wire::correlation_id(&answer) else { break };
        let waiter = shared.waiters().as_mut().and_then(|waiters| waiters.remove(&id));
        if let Some(waiter) = waiter {
            // A caller that gave up no longer listens.
            let _ = waiter.send(answer);
        }
    }
    shared.close();
}

/// The next frame without its length; `None` at the end of the stream. `buffer` keeps what follows it.
pub(crate) async fn read_frame(
    socket: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
    limit: usize,
) -> io::Result<Option<BytesMut>> {
    loop {
        match frame::split(buffer, limit) {
            Split::Frame(length) => {
                let mut whole = buffer.split_to(LENGTH_BYTES + length);
                return Ok(Some(whole.split_off(LENGTH_BYTES)));
            }
            Split::NeedMore(missing) => {
                buffer.reserve(missing.clamp(READ_MIN, RESERVE_MAX));
                if socket.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            Split::TooLarge(length) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes")));
            }
            Split::Negative(length) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame length {length}")));
            }
        }
    }
}
