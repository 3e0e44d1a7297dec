//! A message between replicas of one group, opaque outside this crate.
use crate::context::EntryContext;
use crate::group::DataHead;
use bytes::Bytes;
use raft::eraftpb::MessageType;
use storage::EntryKind;

/// A message from one replica to another. Its wire form: [`PeerMessage::into_wire`].
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

    /// Its term.
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// Whether it says no more than that a leader leads, or that it is heard.
    pub fn is_heartbeat(&self) -> bool {
        matches!(self.0.get_msg_type(), MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse)
    }

    /// The data entries in it with their terms, for a check of their batches before it is stepped.
    pub fn data(&self) -> impl Iterator<Item = (u64, DataHead, &Bytes)> {
        self.0.entries.iter().filter_map(|entry| {
            let context = EntryContext::decode(&entry.context).filter(|c| c.kind == EntryKind::Data)?;
            let EntryContext { flags, offset_count, base_offset, append_time, .. } = context;
            let head = DataHead { flags, offset_count, base_offset, append_time };
            Some((entry.term, head, &entry.data))
        })
    }
}

#[cfg(any(test, feature = "test-util"))]
impl PeerMessage {
    /// The same message with a flipped bit at the end of its first data entry.
    pub fn with_damaged_payload(&self) -> PeerMessage {
        let mut message = self.0.clone();
        if let Some(entry) = message.mut_entries().iter_mut().find(|e| !e.data.is_empty()) {
            let mut bytes = entry.data.to_vec();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            entry.data = bytes.into();
        }
        PeerMessage(message)
    }
}
