//! The link between two nodes: bytes in, messages out, and what waits to be sent.
//!
//! A connection begins with four bytes that tell a peer from a Kafka client ([`MAGIC`]), then both sides
//! prove that they know the cluster's secret ([`Handshake`]), then frames follow ([`Decoder`], [`Frame`]).
//! What is to be sent waits in a [`SendQueue`]. The bytes are described in docs/replication.md. Must not
//! know: sockets, raft, what a message does.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod check;
mod decoder;
mod error;
mod frame;
mod handshake;
mod preface;
mod queue;
mod refusal;

#[cfg(test)]
mod decoder_tests;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod queue_tests;

pub use decoder::{Decoder, Received};
pub use error::{FrameError, FrameFault, Unsendable};
pub use frame::{Frame, Limits, PREFIX_BYTES};
pub use handshake::{Established, Handshake, Identity, Local, NONCE_BYTES, Secret, Step, VERSIONS, since};
pub use preface::{MAGIC, Preface, preface};
pub use proto::peer::peer_frame::Body;
pub use proto::peer::{Purpose, Reason};
pub use queue::{DEFAULT_QUEUE_BYTES, Kind, MOST_SLEEPING, NotQueued, QueueCounters, SendQueue};
pub use refusal::{HandshakeError, Side};
