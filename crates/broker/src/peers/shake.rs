//! A new connection up to the end of its handshake: who is let in.
use super::queues::reason_name;
use crate::settings::PeerSettings;
use crate::shared::Shared;
use bytes::BytesMut;
use model::NodeId;
use peer::{
    Decoder, Established, FrameError, Handshake, HandshakeError, Identity, NONCE_BYTES, Preface, Purpose,
    Reason, Received, Step, preface,
};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a handshake may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a handshake that are read at once.
const READ_BYTES: usize = 4 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed by the other end before the handshake was over")]
    Closed,
    #[error("no node of a cluster speaks there: the first bytes are not those of a peer")]
    NoPeer,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Refused(#[from] HandshakeError),
    #[error("the handshake took longer than {PATIENCE:?}")]
    Late,
}

impl Failed {
    /// As a metric's labels: why, and which side said so.
    fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Failed::Io(_) => ("io", "neither"),
            Failed::Closed => ("closed", "other"),
            Failed::NoPeer => ("no_peer", "this"),
            Failed::Frame(_) => ("frame", "this"),
            Failed::Late => ("late", "this"),
            Failed::Refused(error @ HandshakeError::RefusedByPeer { .. }) => {
                (error.reason().map_or("unknown", reason_name), "other")
            }
            Failed::Refused(error) => (error.reason().map_or("out_of_turn", reason_name), "this"),
        }
    }
}

/// A connection whose handshake goes on.
pub(super) struct Shaking {
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    pub(super) buffer: BytesMut,
}

impl Shaking {
    pub(super) fn new(stream: TcpStream) -> Shaking {
        Shaking { stream, decoder: Decoder::new(), buffer: BytesMut::new() }
    }

    async fn read(&mut self) -> Result<(), Failed> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Failed::Closed),
            _ => Ok(()),
        }
    }

    pub(super) async fn frame(&mut self) -> Result<Received, Failed> {
        loop {
            if let Some(received) = self.decoder.decode(&mut self.buffer)? {
                return Ok(received);
            }
            self.read().await?;
        }
    }

    /// Takes the magic off, on the side that accepts.
    pub(super) async fn preface(&mut self) -> Result<(), Failed> {
        loop {
            match preface(&self.buffer) {
                Preface::Peer => {
                    bytes::Buf::advance(&mut self.buffer, peer::MAGIC.len());
                    return Ok(());
                }
                Preface::Other => return Err(Failed::NoPeer),
                Preface::NeedMore => self.read().await?,
            }
        }
    }

    /// Speaks until both sides know each other.
    pub(super) async fn shake(
        &mut self,
        shared: &Shared,
        peers: &PeerSettings,
        mut handshake: Handshake,
    ) -> Result<Established, Failed> {
        loop {
            let received = self.frame().await?;
            let step = match handshake.on_frame(received) {
                Ok(step) => step,
                Err(error) => return Err(self.part(error).await),
            };
            match step {
                Step::Send(bytes) => self.stream.write_all(&bytes).await?,
                Step::Judge(identity) => {
                    let Some(reason) = objection(shared, peers, &identity, handshake.purpose()) else {
                        let mut established = handshake.approve().expect("there was somebody to judge");
                        if let Some(bytes) = established.send.take() {
                            self.stream.write_all(&bytes).await?;
                        }
                        return Ok(established);
                    };
                    let error = handshake.refuse(reason).expect("there was somebody to judge");
                    return Err(self.part(error).await);
                }
            }
        }
    }

    /// Tells the other side why.
    async fn part(&mut self, error: HandshakeError) -> Failed {
        if let Some(bytes) = error.farewell() {
            // It may be gone already; what matters is in this side's log.
            let _ = self.stream.write_all(&bytes).await;
            let _ = self.stream.shutdown().await;
        }
        error.into()
    }
}

/// What can be said against a node that has proven to know the secret.
fn objection(shared: &Shared, peers: &PeerSettings, identity: &Identity, purpose: Purpose) -> Option<Reason> {
    let image = shared.core.image();
    let Identity { node_id, process_start, directory_id, .. } = identity;
    let registered = image.nodes.get(node_id);
    let met = || shared.core.look(|node| node.is_met(*node_id));
    let listed = || peers.voters.iter().any(|voter| voter.node == *node_id);
    if purpose != Purpose::Find && registered.is_none() && !listed() && !met() {
        return Some(Reason::UnknownPeer);
    }
    let directories = registered.map(|node| &node.directories[..]).unwrap_or_default();
    if !directories.is_empty() && !directories.contains(directory_id) {
        return Some(Reason::WrongDirectory);
    }
    let newest = shared.links.link(*node_id).newest_start.get();
    let newest = newest.max(registered.map_or(0, |node| node.incarnation));
    (*process_start < newest).then_some(Reason::OlderProcess)
}

/// Random bytes of one handshake.
pub(super) fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut bytes = [0; NONCE_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Counts a connection that came to nothing and says so; `node` where it is known which one was meant.
pub(super) fn complain(shared: &Shared, node: Option<NodeId>, at: SocketAddr, failed: &Failed) {
    let (reason, by) = failed.labels();
    shared.links.count_refused(reason, by);
    let known = match failed {
        Failed::Refused(
            HandshakeError::Refused { peer, .. } | HandshakeError::RefusedByPeer { peer, .. },
        ) => Some(peer.node_id),
        _ => node,
    };
    if matches!(failed, Failed::Refused(error) if error.reason() == Some(Reason::Itself)) {
        // A founder asks every address of the configuration, its own among them.
        return tracing::debug!(%at, "peer connection: {failed}");
    }
    let log = |more: &str| tracing::warn!(%at, "peer connection: {failed}{more}");
    shared.links.complain((known, reason, by), shared.core.uptime(), log);
}
