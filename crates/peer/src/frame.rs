//! One frame: a prefix of 12 bytes, the head, the payloads as they are.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length of all that follows, u32 |
//! | 4 | 4 | CRC-32C of bytes 0..4, bytes 8..12 and the head |
//! | 8 | 4 | length of the head, u32 |
//! | 12 | | the head: `PeerFrame` of `protocol/internal/v1/peer.proto` |
//! | | | the payloads, one after the other |
//!
//! Numbers are big-endian, as Kafka's own in front of requests.
use crate::error::Unsendable;
use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use prost::Message as _;
use proto::peer::peer_frame::Body;
use proto::peer::{EntryType, Forward, Forwarded, Install, PeerFrame, RaftMessage, install};

/// Bytes in front of a head: both lengths and the checksum.
pub const PREFIX_BYTES: usize = 12;
/// What the length field does not count: itself.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Most bytes of a frame before the handshake is over.
const HANDSHAKE_FRAME: usize = 4 << 10;
/// A head's `payload_crc`, where there is one: tag and number.
const PAYLOAD_CRC_BYTES: usize = 5;

/// How large a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head.
    pub head: usize,
    /// Bytes of all payloads of a frame. An entry that is larger than this can never be replicated, so it
    /// must not be below the largest `max.message.bytes` of a topic.
    pub payload: usize,
}

impl Limits {
    /// After the handshake: 4 MiB of head, 64 MiB of payloads.
    pub const DEFAULT: Limits = Limits { head: 4 << 20, payload: 64 << 20 };
    /// Until the other side is known: 4 KiB in all.
    pub const HANDSHAKE: Limits = Limits { head: HANDSHAKE_FRAME - PREFIX_BYTES, payload: 0 };
}

/// A message and the payloads that follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The message; it names its payloads' lengths.
    pub body: Body,
    /// One for each length that the message names, the empty ones too.
    pub payloads: Vec<Bytes>,
}

impl Frame {
    /// A message that has no payload.
    pub fn bare(body: Body) -> Frame {
        Frame { body, payloads: Vec::new() }
    }

    /// A message between replicas, with the payloads of its entries and then that of its snapshot, as
    /// `consensus::PeerMessage::to_wire` gives them.
    pub fn raft(message: RaftMessage, payloads: Vec<Bytes>) -> Frame {
        Frame { body: Body::Raft(message), payloads }
    }

    /// A client's request for another node, its frame as it came.
    pub fn forward(head: Forward, request: Bytes) -> Frame {
        let body = Body::Forward(Forward { length: stated(&request), ..head });
        Frame { body, payloads: vec![request] }
    }

    /// The answer to a forwarded request: an error code, or the response frame.
    pub fn forwarded(head: Forwarded, response: Bytes) -> Frame {
        let body = Body::Forwarded(Forwarded { length: stated(&response), ..head });
        Frame { body, payloads: vec![response] }
    }

    /// Bytes of the whole frame, a few more at most. Errors: what `limits` or the payloads' lengths forbid.
    pub fn measure(&self, limits: Limits) -> Result<usize, Unsendable> {
        let head = PAYLOAD_CRC_BYTES + self.body.encoded_len();
        if head > limits.head {
            return Err(Unsendable::Head { length: head, limit: limits.head });
        }
        let mut lengths = payload_lengths(&self.body);
        let named =
            |payload: &Bytes| lengths.next().is_some_and(|(length, _)| payload.len() == length as usize);
        if !self.payloads.iter().all(named) || lengths.next().is_some() {
            return Err(Unsendable::Lengths);
        }
        let payload = self.payloads.iter().map(Bytes::len).sum();
        if payload > limits.payload {
            return Err(Unsendable::Payload { length: payload, limit: limits.payload });
        }
        Ok(PREFIX_BYTES + head + payload)
    }

    /// Appends prefix and head to `out` and returns the payloads, which follow them uncopied.
    /// The frame was measured before.
    pub(crate) fn encode_head(self, out: &mut BytesMut) -> Vec<Bytes> {
        let Frame { body, payloads } = self;
        let head = PeerFrame { payload_crc: payload_crc(&body, &payloads), body: Some(body) };
        let head_len = head.encoded_len();
        let length = PREFIX_BYTES - LENGTH_BYTES + head_len + payloads.iter().map(Bytes::len).sum::<usize>();
        out.reserve(PREFIX_BYTES + head_len);
        let start = out.len();
        out.put_u32(u32::try_from(length).expect("frames are measured against limits below 4 GiB"));
        out.put_u32(0);
        out.put_u32(u32::try_from(head_len).expect("as above"));
        head.encode(out).expect("room was made");
        let (prefix, head) = out[start..].split_at_mut(PREFIX_BYTES);
        let crc = head_crc(prefix, head);
        prefix[4..8].copy_from_slice(&crc.to_be_bytes());
        payloads
    }

    /// The frame as bytes, in one piece for the head and one for each payload that is not empty.
    /// Errors: what `limits` or the payloads' lengths forbid.
    pub fn encode(self, limits: Limits) -> Result<Vec<Bytes>, Unsendable> {
        self.measure(limits)?;
        let mut head = BytesMut::new();
        let payloads = self.encode_head(&mut head);
        let payloads = payloads.into_iter().filter(|payload| !payload.is_empty());
        Ok(std::iter::once(head.freeze()).chain(payloads).collect())
    }
}

/// A length that does not fit is refused when the frame is measured.
fn stated(payload: &Bytes) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}

/// The lengths that a message names, in the order of its payloads, and whether the payload has checksums of
/// its own.
pub(crate) fn payload_lengths(body: &Body) -> impl Iterator<Item = (u32, bool)> + '_ {
    let (entries, one) = match body {
        Body::Raft(message) => {
            (message.entries.as_slice(), message.snapshot.as_ref().map(|snapshot| snapshot.length))
        }
        Body::Forward(forward) => (&[][..], Some(forward.length)),
        Body::Forwarded(forwarded) => (&[][..], Some(forwarded.length)),
        Body::Install(Install { body: Some(install::Body::Piece(piece)), .. }) => {
            (&[][..], Some(piece.length))
        }
        _ => (&[][..], None),
    };
    let entries = entries.iter().map(|entry| (entry.length, entry.r#type == EntryType::Data as i32));
    entries.chain(one.map(|length| (length, false)))
}

/// CRC-32C over the payloads that have none of their own. Those of data entries are Kafka batches: a follower
/// checks each batch's CRC-32C before it appends, and what that leaves out (the first 21 bytes) against the
/// entry's head, so a pass over them here would be the second one over the same bytes.
pub(crate) fn payload_crc(body: &Body, payloads: &[Bytes]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for ((_, checked), payload) in payload_lengths(body).zip(payloads) {
        if !checked {
            digest.update(payload);
        }
    }
    finish(&digest)
}

/// CRC-32C of a prefix, its own place left out, and the head: so that a flipped bit of a length is found as
/// soon as the head is there.
pub(crate) fn head_crc(prefix: &[u8], head: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&prefix[..4]);
    digest.update(&prefix[8..PREFIX_BYTES]);
    digest.update(head);
    finish(&digest)
}

fn finish(digest: &Digest) -> u32 {
    u32::try_from(digest.finalize()).expect("a CRC of 32 bits")
}
