//! What no checksum shows: a replica takes a batch that is not the one its leader sent, with all checksums made right.
//!
//! It stands for whatever makes logs diverge though each is good in itself: bytes that changed where no checksum
//! covered them yet, a fault of our own. Only a comparison of chain values finds it.
use super::network::Dir;
use super::world::World;
use bytes::{Bytes, BytesMut};
use model::GroupKey;
use node::PeerOut;
use proto::peer::EntryType;
use proto::peer::peer_frame::Body;

impl World {
    /// Alters what one replica of three or more is sent, once for each group.
    pub(crate) fn forge(&mut self, (from, to): Dir, said: PeerOut) -> PeerOut {
        let PeerOut::Raft { key, .. } = &said else { return said };
        let key = *key;
        if !self.may_forge(from, key) {
            return said;
        }
        let Some(forged) = altered(said.clone()) else { return said };
        self.forging = false;
        self.forged.insert(key);
        self.counts.forgeries += 1;
        self.trace.add(format_args!("forged {key} from {from} to {to}"));
        forged
    }

    /// One replica differs then, and the others are a majority, however they are counted.
    fn may_forge(&self, from: usize, key: GroupKey) -> bool {
        let Some(image) = self.machines[from].node.as_ref().map(node::Node::image) else { return false };
        let topic = image.topic_by_id(key.topic).filter(|topic| !topic.internal);
        let fits =
            |p: &cluster::Partition| p.replicas.len() % 2 == 1 && p.replicas.len() > 2 && !p.is_moving();
        !self.forged.contains(&key)
            && topic.and_then(|topic| topic.partition(key.partition)).is_some_and(fits)
    }
}

/// The message with its last batch altered, if it has one.
fn altered(said: PeerOut) -> Option<PeerOut> {
    let (Body::Raft(message), mut payloads) = said.into_wire().ok()? else { return None };
    let at = message.entries.iter().rposition(|entry| entry.r#type() == EntryType::Data)?;
    payloads[at] = later(&payloads[at]);
    PeerOut::from_wire(Body::Raft(message), payloads).ok()?
}

/// The last batch of an entry is a millisecond later, which no client of ours looks at.
fn later(payload: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&payload[..]);
    let Some((range, _)) = records::batches(payload).flatten().last() else { return payload.clone() };
    let batch = &mut bytes[range];
    for at in [27, 35] {
        let field: &mut [u8; 8] = (&mut batch[at..at + 8]).try_into().expect("eight bytes");
        *field = (i64::from_be_bytes(*field) + 1).to_be_bytes();
    }
    let crc = records::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}
