//! A message between replicas of one group, opaque outside this crate.

/// A message from one replica to another. In memory only: its wire form belongs to the peer transport.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage(pub(crate) raft::eraftpb::Message);

impl PeerMessage {
    /// The replica that sent it.
    pub fn from(&self) -> u64 {
        self.0.from
    }

    /// The replica that it is for.
    pub fn to(&self) -> u64 {
        self.0.to
    }
}
