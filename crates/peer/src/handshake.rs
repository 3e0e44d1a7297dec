//! Both sides of a new connection say who they are and prove that they know the cluster's secret.
//!
//! ```text
//!  the side that connects              the side that accepts
//!  magic, Hello            -------->
//!                          <--------   Hello
//!  Proof                   -------->   verifies, judges
//!  verifies, judges        <--------   Proof
//! ```
//!
//! A proof is an HMAC over a label of the role and both Hellos as they were sent, so neither a proof of
//! another connection (the nonces differ) nor a side's own proof (the label differs) is of use to anybody.
//! The side that accepts shows its proof only to one that has proven itself; until then it has told no more
//! than ids. The proofs cover the handshake alone: who can alter packets afterwards is the network's matter.
use crate::decoder::Received;
use crate::frame::{Frame, Limits, PREFIX_BYTES};
use crate::preface::MAGIC;
use crate::refusal::{HandshakeError, Side};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use model::NodeId;
use proto::peer::peer_frame::Body;
use proto::peer::{Hello, NodeMessage, Proof, Purpose, Reason, node_message};
use sha2::Sha256;
use std::fmt;
use std::ops::RangeInclusive;

/// Random bytes of each Hello.
pub const NONCE_BYTES: usize = 32;
/// Versions of the peer protocol that this program speaks:
///
/// | version | what is said from it on |
/// |---|---|
/// | 1 | what the first release says |
/// | 2 | `ChainValue` |
pub const VERSIONS: RangeInclusive<u32> = 1..=2;

/// The version from which a message is understood: to a peer of an older one it is not sent.
pub fn since(body: &Body) -> u32 {
    match body {
        Body::Node(NodeMessage { body: Some(node_message::Body::ChainValue(_)) }) => 2,
        _ => 1,
    }
}
/// What the proof of the side that connects begins with.
const CONNECTS: &[u8] = b"plimsoll peer 1: the side that connects";
/// What the proof of the side that accepts begins with.
const ACCEPTS: &[u8] = b"plimsoll peer 1: the side that accepts";

/// The cluster's secret; empty where nodes of one machine need none. Not printed. Whoever pretends to be a
/// node is shown a proof and may try secrets against it at leisure: use 32 random bytes.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What this node says of itself.
#[derive(Clone, Debug)]
pub struct Local {
    /// Versions of the peer protocol that it speaks: [`VERSIONS`].
    pub versions: RangeInclusive<u32>,
    /// The cluster's id, at most 255 bytes; empty while the cluster is forming.
    pub cluster_id: String,
    /// Its `node.id`, not negative.
    pub node_id: NodeId,
    /// A higher number for each start of the process, never 0.
    pub process_start: u64,
    /// The incarnation of its data directory.
    pub directory_id: [u8; 16],
    /// What both sides must know.
    pub secret: Secret,
}

impl Local {
    fn side(&self) -> Side {
        Side {
            node_id: self.node_id,
            cluster_id: self.cluster_id.clone(),
            versions: (*self.versions.start(), *self.versions.end()),
        }
    }
}

/// Who the other side is. What [`Step::Judge`] hands out is proven to know the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its node id, which is not ours.
    pub node_id: NodeId,
    /// Its cluster's id: ours, or anything while one of both has none yet.
    pub cluster_id: String,
    /// The start of its process.
    pub process_start: u64,
    /// The incarnation of its data directory.
    pub directory_id: [u8; 16],
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes; then the other side's next frame comes.
    Send(Bytes),
    /// The other side has proven itself. Does the caller know it, with this directory, and no later start of
    /// it? Then [`Handshake::approve`], else [`Handshake::refuse`].
    Judge(Identity),
}

/// A connection that may be used.
#[derive(Clone, Debug)]
pub struct Established {
    /// The highest version that both sides speak.
    pub version: u32,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The other side.
    pub peer: Identity,
    /// Bytes to send before anything else: the proof of the side that accepts.
    pub send: Option<Bytes>,
}

/// The other side's Hello, read.
#[derive(Debug)]
struct Theirs {
    identity: Identity,
    side: Side,
    version: u32,
    purpose: Purpose,
    /// As it was sent.
    head: Bytes,
}

#[derive(Debug)]
enum State {
    Hello,
    Proof(Theirs),
    Judged(Theirs),
    /// After an error.
    Over,
}

/// One side of one handshake. How long it may take is the caller's to bound.
#[derive(Debug)]
pub struct Handshake {
    local: Local,
    /// Purpose and, if known, node of the side that connects; the other side learns them.
    connects: Option<(Purpose, Option<NodeId>)>,
    nonce: [u8; NONCE_BYTES],
    /// The head of our own Hello, once it is sent.
    ours: Bytes,
    state: State,
}

impl Handshake {
    /// The side that connects, to `node` if that is known; also the bytes to send. `nonce` is random and of
    /// this connection alone.
    pub fn connect(
        local: Local,
        purpose: Purpose,
        node: Option<NodeId>,
        nonce: [u8; NONCE_BYTES],
    ) -> (Handshake, Bytes) {
        let connects = Some((purpose, node));
        let mut handshake = Handshake { local, connects, nonce, ours: Bytes::new(), state: State::Hello };
        let hello = handshake.hello(purpose, node);
        (handshake, [&MAGIC[..], &hello].concat().into())
    }

    /// The side that accepts; [`MAGIC`] was read. `nonce` as for [`Handshake::connect`].
    pub fn accept(local: Local, nonce: [u8; NONCE_BYTES]) -> Handshake {
        Handshake { local, connects: None, nonce, ours: Bytes::new(), state: State::Hello }
    }

    /// Takes the next frame of the other side. Errors: the connection is to be closed.
    pub fn on_frame(&mut self, received: Received) -> Result<Step, HandshakeError> {
        let body = received.frame.body;
        if let Body::Refuse(refuse) = &body {
            let peer = Side {
                node_id: refuse.node_id,
                cluster_id: refuse.cluster_id.clone(),
                versions: (refuse.lowest_version, refuse.highest_version),
            };
            return Err(HandshakeError::RefusedByPeer {
                reason: refuse.reason(),
                we: self.local.side(),
                peer,
            });
        }
        match (std::mem::replace(&mut self.state, State::Over), body) {
            (State::Hello, Body::Hello(hello)) => self.on_hello(hello, received.head),
            (State::Proof(theirs), Body::Proof(proof)) => self.on_proof(theirs, &proof),
            (state, body) => {
                let expected = match state {
                    State::Hello => "Hello",
                    State::Proof(_) => "Proof",
                    State::Judged(_) | State::Over => "nothing",
                };
                Err(HandshakeError::OutOfTurn { we: self.local.side(), got: name(&body), expected })
            }
        }
    }

    /// What the connection is for, once the other side's Hello is there.
    pub fn purpose(&self) -> Purpose {
        match (&self.connects, &self.state) {
            (Some((purpose, _)), _) => *purpose,
            (None, State::Proof(theirs) | State::Judged(theirs)) => theirs.purpose,
            (None, State::Hello | State::Over) => Purpose::Unknown,
        }
    }

    /// The caller knows the node of [`Step::Judge`] and wants it. `None` if nothing was there to judge.
    pub fn approve(self) -> Option<Established> {
        let State::Judged(theirs) = self.state else { return None };
        let proof = || self.local.proof(ACCEPTS, &theirs.head, &self.ours);
        let send = self.connects.is_none().then(proof);
        let Theirs { identity: peer, version, purpose, .. } = theirs;
        Some(Established { version, purpose, peer, send })
    }

    /// The caller does not want the node of [`Step::Judge`]. `None` if nothing was there to judge.
    pub fn refuse(self, reason: Reason) -> Option<HandshakeError> {
        let State::Judged(theirs) = self.state else { return None };
        Some(HandshakeError::Refused { reason, we: self.local.side(), peer: theirs.side })
    }

    fn on_hello(&mut self, hello: Hello, head: Bytes) -> Result<Step, HandshakeError> {
        let (we, peer) = (self.local.side(), side_of(&hello));
        let purpose = hello.purpose();
        if let Some(reason) = self.objection(&hello) {
            return Err(HandshakeError::Refused { reason, we, peer });
        }
        let played_back = hello.nonce[..] == self.nonce[..];
        if played_back || self.connects.is_some_and(|(ours, _)| ours != purpose) {
            return Err(HandshakeError::Echo { we, peer });
        }
        let identity = Identity {
            node_id: hello.node_id,
            cluster_id: hello.cluster_id,
            process_start: hello.process_start,
            directory_id: array(&hello.directory_id),
        };
        let version = hello.highest_version.min(*self.local.versions.end());
        let send = match self.connects {
            Some(_) => self.local.proof(CONNECTS, &self.ours, &head),
            None => self.hello(purpose, Some(identity.node_id)),
        };
        self.state = State::Proof(Theirs { identity, side: peer, version, purpose, head });
        Ok(Step::Send(send))
    }

    /// What can be said against the other side before it has proven anything.
    fn objection(&self, hello: &Hello) -> Option<Reason> {
        let Local { cluster_id, node_id, versions, .. } = &self.local;
        let forming = cluster_id.is_empty() || hello.cluster_id.is_empty();
        let meant = self.connects.and_then(|(_, node)| node);
        if !forming && *cluster_id != hello.cluster_id {
            Some(Reason::WrongCluster)
        } else if hello.node_id == *node_id {
            // Whoever looks for its cluster may try its own address, which others are told as well.
            let ours = (self.local.process_start, &self.local.directory_id[..]);
            let itself = (hello.process_start, &hello.directory_id[..]) == ours;
            let finds = hello.purpose() == Purpose::Find;
            Some(if itself && finds { Reason::Itself } else { Reason::DuplicateNodeId })
        } else if hello.to.is_some_and(|to| to != *node_id) || meant.is_some_and(|node| node != hello.node_id)
        {
            Some(Reason::WrongNode)
        } else if hello.highest_version < *versions.start() || hello.lowest_version > *versions.end() {
            Some(Reason::NoCommonVersion)
        } else {
            None
        }
    }

    fn on_proof(&mut self, theirs: Theirs, proof: &Proof) -> Result<Step, HandshakeError> {
        let mac = match self.connects {
            Some(_) => self.local.mac(ACCEPTS, &self.ours, &theirs.head),
            None => self.local.mac(CONNECTS, &theirs.head, &self.ours),
        };
        if mac.verify_slice(&proof.mac).is_err() {
            let reason = Reason::WrongSecret;
            return Err(HandshakeError::Refused { reason, we: self.local.side(), peer: theirs.side });
        }
        let identity = theirs.identity.clone();
        self.state = State::Judged(theirs);
        Ok(Step::Judge(identity))
    }

    /// Our Hello as a frame; its head is kept for the proofs.
    fn hello(&mut self, purpose: Purpose, to: Option<NodeId>) -> Bytes {
        let local = &self.local;
        let hello = Hello {
            lowest_version: *local.versions.start(),
            highest_version: *local.versions.end(),
            cluster_id: local.cluster_id.clone(),
            node_id: local.node_id,
            process_start: local.process_start,
            directory_id: Bytes::copy_from_slice(&local.directory_id),
            nonce: Bytes::copy_from_slice(&self.nonce),
            purpose: purpose as i32,
            to,
        };
        let frame = small_frame(Body::Hello(hello));
        self.ours = frame.slice(PREFIX_BYTES..);
        frame
    }
}

impl Local {
    /// Over the Hello of the side that connects and that of the side that accepts.
    fn mac(&self, role: &[u8], connects: &[u8], accepts: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret.0).expect("HMAC takes keys of any length");
        for part in [role, connects, accepts] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    fn proof(&self, role: &[u8], connects: &[u8], accepts: &[u8]) -> Bytes {
        let mac = self.mac(role, connects, accepts).finalize().into_bytes();
        small_frame(Body::Proof(Proof { mac: Bytes::copy_from_slice(&mac) }))
    }
}

fn side_of(hello: &Hello) -> Side {
    Side {
        node_id: hello.node_id,
        cluster_id: hello.cluster_id.clone(),
        versions: (hello.lowest_version, hello.highest_version),
    }
}

/// A frame of the handshake that this side made.
fn small_frame(body: Body) -> Bytes {
    let mut pieces = Frame::bare(body).encode(Limits::HANDSHAKE).expect("a cluster id of at most 255 bytes");
    pieces.pop().expect("a frame has a head")
}

/// The decoder has looked at the length.
fn array(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().expect("ids of 16 bytes are checked when they are decoded")
}

fn name(body: &Body) -> &'static str {
    match body {
        Body::Hello(_) => "Hello",
        Body::Proof(_) => "Proof",
        Body::Refuse(_) => "Refuse",
        _ => "a message",
    }
}
