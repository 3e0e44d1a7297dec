//! Why two nodes do not talk to each other, in words for the operator of either.
use crate::frame::{Frame, Limits};
use bytes::Bytes;
use model::NodeId;
use proto::peer::peer_frame::Body;
use proto::peer::{Reason, Refuse};
use std::fmt;

/// One side of a connection, as it names itself; not proven unless said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its `node.id`.
    pub node_id: NodeId,
    /// Its cluster's id; empty while the cluster is forming.
    pub cluster_id: String,
    /// The lowest and the highest version that it speaks.
    pub versions: (u32, u32),
}

impl fmt::Display for Side {
    /// The cluster's id is whatever the other side sent: quoted and escaped, it cannot forge a line of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster_id.as_str() {
            "" => write!(f, "node {} (no cluster yet)", self.node_id),
            id => write!(f, "node {} (cluster {id:?})", self.node_id),
        }
    }
}

/// Why a connection came to nothing. It is to be closed, after [`HandshakeError::farewell`] was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// This side does not want the other one.
    #[error("{we} refuses {peer}: {}", advice(*.reason, we, peer))]
    Refused {
        /// Why.
        reason: Reason,
        /// This side.
        we: Side,
        /// The other one.
        peer: Side,
    },
    /// The other side does not want this one.
    #[error("{peer} refuses {we}: {}", advice(*.reason, peer, we))]
    RefusedByPeer {
        /// Why.
        reason: Reason,
        /// This side.
        we: Side,
        /// The other one, as it says.
        peer: Side,
    },
    /// A frame that does not come next.
    #[error("{we} was sent {got} where {expected} comes next: the other end does not follow the handshake")]
    OutOfTurn {
        /// This side.
        we: Side,
        /// What was sent.
        got: &'static str,
        /// What comes next.
        expected: &'static str,
    },
    /// The other side sent our own nonce, or another purpose than ours.
    #[error(
        "{we} was sent its own nonce, or another purpose, by {peer}: something on the way plays back what it hears"
    )]
    Echo {
        /// This side.
        we: Side,
        /// The other one, as it says.
        peer: Side,
    },
}

impl HandshakeError {
    /// The reason where one of both sides refused the other.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            HandshakeError::Refused { reason, .. } | HandshakeError::RefusedByPeer { reason, .. } => {
                Some(*reason)
            }
            HandshakeError::OutOfTurn { .. } | HandshakeError::Echo { .. } => None,
        }
    }

    /// What to send before the connection is closed: the reason, where this side refuses.
    pub fn farewell(&self) -> Option<Bytes> {
        let HandshakeError::Refused { reason, we, .. } = self else { return None };
        let refuse = Refuse {
            reason: *reason as i32,
            node_id: we.node_id,
            cluster_id: we.cluster_id.clone(),
            lowest_version: we.versions.0,
            highest_version: we.versions.1,
        };
        // Measured before: a cluster id that does not fit was not let into a Hello either.
        Frame::bare(Body::Refuse(refuse)).encode(Limits::HANDSHAKE).ok()?.pop()
    }
}

/// What is the matter, and what to do. `by` refuses `other`.
fn advice(reason: Reason, by: &Side, other: &Side) -> String {
    let (id, other_id) = (by.node_id, other.node_id);
    match reason {
        Reason::WrongCluster => format!(
            "they are of different clusters; correct the address that leads from one to the other, or start \
             one of them with a data directory of the other's cluster ({:?} and {:?})",
            by.cluster_id, other.cluster_id
        ),
        Reason::WrongSecret => {
            "their secrets differ; the file that cluster.secret.file names must hold the same bytes \
             on every node of the cluster"
                .to_owned()
        }
        Reason::DuplicateNodeId => format!(
            "both say that they are node {id}; give one of them another node.id, or correct the address that \
             leads a node to itself"
        ),
        Reason::WrongNode => format!(
            "one of them is not the node that the other meant; correct the addresses of nodes {id} and \
             {other_id} where they are configured (controller.quorum.voters, advertised listeners)"
        ),
        Reason::UnknownPeer => format!(
            "no node {other_id} is known there; correct its node.id or controller.quorum.voters, or let it \
             register first"
        ),
        Reason::NoCommonVersion => format!(
            "they speak versions {} to {} and {} to {} of the peer protocol; upgrade the older node",
            by.versions.0, by.versions.1, other.versions.0, other.versions.1
        ),
        Reason::OlderProcess => format!(
            "a later start of node {other_id} has been seen; two processes run as node {other_id}: stop the \
             one that started first"
        ),
        Reason::WrongDirectory => format!(
            "node {other_id} is known with another data directory; start it with that directory, or have the \
             node replaced"
        ),
        Reason::Itself => format!("the address leads node {id} to itself"),
        Reason::Unknown => {
            "for a reason that this version does not know; see the log of the node that refuses".to_owned()
        }
    }
}
