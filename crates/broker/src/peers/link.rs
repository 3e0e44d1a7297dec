//! One connection to another node: made or accepted, then frames both ways until it ends.
use super::queues::{Channel, Link, name, reason_name};
use super::shake::{Failed, PATIENCE, Shaking, complain, nonce};
use super::{find, forward, local};
use crate::settings::PeerSettings;
use crate::shared::{Complaint, Shared};
use crate::write_pieces::{GATHER_BYTES, MAX_PIECES, write_pieces};
use bytes::{Bytes, BytesMut};
use node::PeerOut;
use peer::{
    Body, Decoder, Established, Frame, FrameError, Handshake, HandshakeError, Kind, PREFIX_BYTES, Purpose,
    Received, Side, VERSIONS,
};
use proto::peer::Refuse;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Between two attempts to connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// So long the other end's system may leave bytes, or the question whether it is there, without an acknowledgement.
const SILENCE: Duration = Duration::from_secs(5);
/// Handshakes that may go on at one time on the side that accepts.
const MOST_HANDSHAKES: usize = 64;
/// Bytes that are read at once: the least, and the most where frames are large.
const READ_BYTES: (usize, usize) = (64 << 10, (1 << 20) + (64 << 10));
/// With less room than this the next buffer begins.
const LEAST_ROOM: usize = 4 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("closed by the other end")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The side that connects judges last: this one has taken the connection for good by then.
    #[error("{0}")]
    Refused(HandshakeError),
    #[error("another connection took its place, or the other end takes nothing")]
    Replaced,
}

/// What a connection needs to end when the other end is gone without a word. Data that waits in the system's buffer
/// is not seen by the writer; without this a leader whose entries go nowhere would be told after a quarter of an hour,
/// and as long as heartbeats arrive on the other connection nobody takes its place.
fn tune(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, SILENCE.as_millis() as u32)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    Ok(sockopt::set_tcp_keepcnt(stream, SILENCE.as_secs() as u32)?)
}

/// Accepts other nodes until the broker stops.
pub(super) async fn accept(shared: Rc<Shared>, peers: Rc<PeerSettings>, listener: TcpListener) {
    let handshakes = shared.links.handshakes.clone();
    loop {
        match listener.accept().await {
            Ok((_, at)) if handshakes.get() >= MOST_HANDSHAKES => {
                shared.links.count_refused("too_many", "this");
                shared.links.complain((None, "too_many", "this"), shared.core.uptime(), |more| {
                    tracing::warn!(%at, "peer connection closed: {MOST_HANDSHAKES} handshakes go on already{more}");
                });
            }
            Ok(_) if shared.links.stopped() => return,
            Ok((stream, at)) => {
                spawn_local(accepted(shared.clone(), peers.clone(), stream, at, handshakes.clone()));
            }
            Err(error) => {
                shared.complain(Complaint::Accept, || {
                    tracing::warn!(%error, "accept failed on the controller listener");
                });
                tokio::time::sleep(BACKOFF.0).await;
            }
        }
    }
}

/// A connection that begins as those of other nodes do, on a listener of clients.
pub(crate) async fn on_client_listener(shared: Rc<Shared>, stream: TcpStream, at: SocketAddr) {
    let Some(peers) = shared.settings().peers.clone() else { return };
    let handshakes = shared.links.handshakes.clone();
    if handshakes.get() >= MOST_HANDSHAKES {
        return shared.links.count_refused("too_many", "this");
    }
    accepted(shared, Rc::new(peers), stream, at, handshakes).await;
}

async fn accepted(
    shared: Rc<Shared>,
    peers: Rc<PeerSettings>,
    stream: TcpStream,
    at: SocketAddr,
    handshakes: Rc<Cell<usize>>,
) {
    handshakes.set(handshakes.get() + 1);
    let mut shaking = Shaking::new(stream);
    let shaken = tokio::time::timeout(PATIENCE, async {
        tune(&shaking.stream)?;
        shaking.preface().await?;
        let handshake = Handshake::accept(local(&shared, &peers), nonce()?);
        shaking.shake(&shared, &peers, handshake).await
    });
    let shaken = shaken.await.unwrap_or(Err(Failed::Late));
    handshakes.set(handshakes.get() - 1);
    match shaken {
        Ok(established) if established.purpose == Purpose::Find => {
            find::answer(&shared, shaking, established).await;
        }
        Ok(established) => {
            let link = shared.links.link(established.peer.node_id);
            run(&shared, &link, shaking, established).await;
        }
        Err(failed) => complain(&shared, None, at, &failed),
    }
}

/// Keeps a connection to a node with a higher id, for ever.
pub(super) async fn connect(shared: Rc<Shared>, peers: Rc<PeerSettings>, link: Rc<Link>, purpose: Purpose) {
    let (mut wait, mut random) = (BACKOFF.0, shared.seed ^ link.node as u64 ^ ((purpose as u64) << 32));
    while !shared.links.stopped() {
        match establish(&shared, &peers, &link, purpose).await {
            Ok((shaking, established)) => {
                link.trouble.borrow_mut().clear();
                run(&shared, &link, shaking, established).await;
                wait = BACKOFF.0;
            }
            Err(why) => *link.trouble.borrow_mut() = why,
        }
        random = next_random(random);
        // Between half of it and all of it: nodes that lost each other do not come back in step.
        let share = (random >> 40) as f64 / (1u64 << 24) as f64;
        tokio::time::sleep(wait.mul_f64(0.5 + share / 2.0)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

fn next_random(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A connection whose handshake is over, or why there is none.
async fn establish(
    shared: &Shared,
    peers: &PeerSettings,
    link: &Link,
    purpose: Purpose,
) -> Result<(Shaking, Established), String> {
    let address = shared.links.address(link.node);
    let (host, port) = address.ok_or_else(|| "its address is not known".to_owned())?;
    let made = tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), port)));
    let stream = match made.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no connection within {PATIENCE:?}")),
    };
    let at = stream.peer_addr().map_err(|e| e.to_string())?;
    let mut shaking = Shaking::new(stream);
    let shaken = tokio::time::timeout(PATIENCE, async {
        tune(&shaking.stream)?;
        let (handshake, hello) = Handshake::connect(local(shared, peers), purpose, Some(link.node), nonce()?);
        tokio::io::AsyncWriteExt::write_all(&mut shaking.stream, &hello).await?;
        shaking.shake(shared, peers, handshake).await
    });
    match shaken.await.unwrap_or(Err(Failed::Late)) {
        Ok(established) => Ok((shaking, established)),
        Err(failed) => {
            complain(shared, Some(link.node), at, &failed);
            Err(failed.to_string())
        }
    }
}

/// Runs a connection to its end.
async fn run(shared: &Rc<Shared>, link: &Rc<Link>, shaking: Shaking, established: Established) {
    let Shaking { mut stream, mut decoder, buffer } = shaking;
    let (node, purpose, start) = (link.node, established.purpose, established.peer.process_start);
    decoder.establish(shared.links.limits());
    link.newest_start.set(link.newest_start.get().max(start));
    if shared.links.stopped() {
        return;
    }
    let (channel, connection) = (link.channel(purpose), shared.links.next_connection());
    channel.begin(connection, established.version, start);
    if purpose == Purpose::Data {
        // Answers to what the connection before had sent do not come any more.
        shared.forwarding.lost(node);
    }
    shared.core.with_node(|n, now| {
        n.heard_cluster_id(&established.peer.cluster_id);
        if purpose == Purpose::Liveness {
            n.on_peer_connected(now, node, start);
        }
    });
    let (mut read, mut write) = stream.split();
    let ended = tokio::select! {
        biased;
        () = channel.over(connection) => Ended::Replaced,
        ended = write_loop(shared, link, channel, &mut write) => ended,
        ended = read_loop(shared, link, purpose, decoder, buffer, &mut read) => ended,
    };
    drop(stream);
    match &ended {
        Ended::Frame(error) => {
            tracing::warn!(node, connection = name(purpose), %error, "peer connection closed");
        }
        Ended::Refused(error) => {
            let reason = error.reason().map_or("unknown", reason_name);
            shared.links.count_refused(reason, "other");
            *link.trouble.borrow_mut() = error.to_string();
            let log = |more: &str| tracing::warn!("peer connection: {error}{more}");
            shared.links.complain((Some(node), reason, "other"), shared.core.uptime(), log);
        }
        _ => {}
    }
    if shared.links.stopped() {
        return;
    }
    if channel.is(connection) || !channel.is_up() {
        let heard = channel.heard();
        channel.end();
        if heard {
            tracing::info!(node, connection = name(purpose), why = %ended, "peer disconnected");
        }
        if purpose == Purpose::Liveness {
            shared.core.with_node(|n, now| n.on_peer_disconnected(now, node));
        } else {
            shared.forwarding.lost(node);
        }
    }
}

async fn write_loop(shared: &Shared, link: &Link, channel: &Channel, socket: &mut WriteHalf<'_>) -> Ended {
    loop {
        let mut pieces: VecDeque<Bytes> = channel.next(GATHER_BYTES, MAX_PIECES).await.into();
        if let Err(error) = write_pieces(socket, &mut pieces, &channel.writing_since).await {
            return error.into();
        }
        if channel.take_missed() {
            shared.core.with_node(|n, now| n.on_peer_missed(now, link.node));
        }
    }
}

async fn read_loop(
    shared: &Rc<Shared>,
    link: &Link,
    purpose: Purpose,
    mut decoder: Decoder,
    mut buffer: BytesMut,
    socket: &mut ReadHalf<'_>,
) -> Ended {
    let mut heard: Vec<PeerOut> = Vec::new();
    let mut reading = Reading::default();
    loop {
        let decoded = decode(shared, link, purpose, &mut decoder, &mut buffer, &mut heard, &mut reading);
        if !heard.is_empty() {
            shared.core.with_node(|node, now| {
                heard.drain(..).for_each(|said| node.on_peer(now, link.node, said));
            });
        }
        if let Err(ended) = decoded {
            return ended;
        }
        let missing = decoder.missing(buffer.len());
        reading.make_room(&mut buffer, missing);
        match socket.read_buf(&mut buffer).await {
            Ok(0) => return Ended::Closed,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

/// How much is read at once: what lies behind the end of a buffer when its frame turns out to be larger is copied
/// to the next one, so a buffer is made for a frame as large as those before it.
#[derive(Default)]
struct Reading {
    /// About what the largest of the latest frames took.
    frame: usize,
}

impl Reading {
    fn took(&mut self, frame: usize) {
        // Acknowledgements come between appends: one small frame says little.
        self.frame = frame.max(self.frame - self.frame / 8);
    }

    fn make_room(&self, buffer: &mut BytesMut, missing: usize) {
        let whole = self.frame.clamp(READ_BYTES.0, READ_BYTES.1);
        let room = buffer.capacity() - buffer.len();
        // Not for a little that is missing: small frames before it keep the whole buffer alive.
        let begins = buffer.is_empty() && self.frame > READ_BYTES.0;
        if room < missing.max(LEAST_ROOM) || begins && room < whole / 2 {
            buffer.reserve(missing.max(whole + LEAST_ROOM));
        }
    }
}

/// Takes every whole frame off the buffer.
fn decode(
    shared: &Rc<Shared>,
    link: &Link,
    purpose: Purpose,
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
    heard: &mut Vec<PeerOut>,
    reading: &mut Reading,
) -> Result<(), Ended> {
    while let Some(Received { frame, head, .. }) = decoder.decode(buffer)? {
        let Frame { body, mut payloads } = frame;
        let kind = Kind::of(&body);
        let bytes = PREFIX_BYTES + head.len() + payloads.iter().map(Bytes::len).sum::<usize>();
        shared.links.received.add(kind, bytes as u64);
        reading.took(bytes);
        if let Body::Refuse(refuse) = &body {
            return Err(Ended::Refused(refused_late(shared, refuse)));
        }
        if link.channel(purpose).first_heard() {
            tracing::info!(node = link.node, connection = name(purpose), "peer connected");
        }
        match body {
            Body::Forward(ask) => {
                forward::asked(shared, link.node, ask, payloads.pop().unwrap_or_default());
            }
            Body::Forwarded(answer) => {
                shared.forwarding.answered(answer, payloads.pop().unwrap_or_default());
            }
            body => match PeerOut::from_wire(body, payloads) {
                Ok(Some(said)) => heard.push(said),
                Ok(None) => shared.links.dropped.add(kind, bytes as u64),
                Err(error) => {
                    shared.links.dropped.add(kind, bytes as u64);
                    let log = |more: &str| {
                        tracing::warn!(node = link.node, %error, "a message of a peer was dropped{more}");
                    };
                    shared.links.complain((Some(link.node), "message", "this"), shared.core.uptime(), log);
                }
            },
        }
    }
    Ok(())
}

/// What the other side says of this one after all.
fn refused_late(shared: &Shared, refuse: &Refuse) -> HandshakeError {
    let image = shared.core.image();
    let we = Side {
        node_id: image.node_id,
        cluster_id: image.cluster_id.to_string(),
        versions: (*VERSIONS.start(), *VERSIONS.end()),
    };
    let peer = Side {
        node_id: refuse.node_id,
        cluster_id: refuse.cluster_id.clone(),
        versions: (refuse.lowest_version, refuse.highest_version),
    };
    HandshakeError::RefusedByPeer { reason: refuse.reason(), we, peer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_buffer_has_room_for_a_frame_like_the_last_ones() {
        let (mut reading, mut buffer) = (Reading::default(), BytesMut::new());
        reading.make_room(&mut buffer, PREFIX_BYTES);
        assert!((READ_BYTES.0..2 * READ_BYTES.0).contains(&buffer.capacity()), "nothing is known yet");
        reading.took(200_000);
        reading.make_room(&mut buffer, PREFIX_BYTES);
        assert!(buffer.capacity() >= 200_000);
        let before = buffer.as_ptr();
        buffer.extend_from_slice(&[0; 90]);
        let answer = buffer.split();
        reading.took(90);
        reading.make_room(&mut buffer, PREFIX_BYTES);
        assert_eq!(
            buffer.as_ptr() as usize,
            before as usize + 90,
            "a small one between them needs no new buffer"
        );
        drop(answer);
        (0..20).for_each(|_| reading.took(90));
        assert!(reading.frame < READ_BYTES.0, "large ones are forgotten");
        reading.took(usize::MAX / 2);
        let mut buffer = BytesMut::new();
        reading.make_room(&mut buffer, PREFIX_BYTES);
        assert!(buffer.capacity() < 2 * READ_BYTES.1, "however large it was");
    }

    #[tokio::test]
    async fn an_end_that_is_gone_without_a_word_is_noticed_by_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream).unwrap();
        assert_eq!(u128::from(rustix::net::sockopt::tcp_user_timeout(&stream).unwrap()), SILENCE.as_millis());
        assert!(rustix::net::sockopt::socket_keepalive(&stream).unwrap() && stream.nodelay().unwrap());
    }
}
