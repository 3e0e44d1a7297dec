//! Takes frames off a stream of bytes, as they arrive.
use crate::check::check;
use crate::error::{FrameError, FrameFault};
use crate::frame::{Frame, LENGTH_BYTES, Limits, PREFIX_BYTES, head_crc, payload_crc, payload_lengths};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use proto::peer::PeerFrame;
use proto::peer::peer_frame::Body;

/// A frame as it came.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// What it says. Its payloads are slices of the buffer that it was read into and keep all of that alive:
    /// one frame, or as many small ones as were read at once.
    pub frame: Frame,
    /// The bytes of its head: what the proofs of a handshake cover.
    pub head: Bytes,
}

/// Where the next byte belongs.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one for each connection; in a box there would be one for each frame
enum Stage {
    Prefix,
    Head {
        prefix: [u8; PREFIX_BYTES],
        head: usize,
        payload: usize,
    },
    Payload {
        head: Bytes,
        body: Body,
        crc: u32,
        payload: usize,
    },
    /// After an error nothing is read any more.
    Failed(FrameError),
}

/// Reads the frames of one connection. What has been looked at is not looked at again, however the bytes
/// trickle in; lengths are judged before anything waits for their bytes.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    established: bool,
    /// Where the frame that is being read begins, in bytes since the first frame.
    at: u64,
    stage: Stage,
}

impl Decoder {
    /// For a new connection: only frames of the handshake are let through, within [`Limits::HANDSHAKE`].
    pub fn new() -> Decoder {
        Decoder { limits: Limits::HANDSHAKE, established: false, at: 0, stage: Stage::Prefix }
    }

    /// The handshake is over: everything else comes now, within `limits`.
    pub fn establish(&mut self, limits: Limits) {
        (self.limits, self.established) = (limits, true);
    }

    /// The next frame, taken off the front of `buffer`; `None` until more bytes are there. After an error
    /// the connection is to be closed; every further call gives the same error.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        if let Stage::Failed(error) = &self.stage {
            return Err(error.clone());
        }
        let outcome = self.advance(buffer);
        outcome.map_err(|(field, fault)| {
            let error = FrameError { at: self.at, field, fault };
            self.stage = Stage::Failed(error.clone());
            error
        })
    }

    /// Bytes of the frame that has begun and that the caller's buffer still lacks beyond the `buffered` ones;
    /// what to make room for. Never more than the limits allow.
    pub fn missing(&self, buffered: usize) -> usize {
        let needed = match &self.stage {
            Stage::Prefix => PREFIX_BYTES,
            Stage::Head { head, payload, .. } => head + payload,
            Stage::Payload { payload, .. } => *payload,
            Stage::Failed(_) => 0,
        };
        needed.saturating_sub(buffered)
    }

    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Option<Received>, (&'static str, FrameFault)> {
        loop {
            // Put back where more bytes are needed.
            self.stage = match std::mem::replace(&mut self.stage, Stage::Prefix) {
                Stage::Prefix => {
                    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>().copied() else { return Ok(None) };
                    let (head, payload) = self.lengths(&prefix)?;
                    buffer.advance(PREFIX_BYTES);
                    Stage::Head { prefix, head, payload }
                }
                Stage::Head { prefix, head, payload } if buffer.len() >= head => {
                    let head = buffer.split_to(head).freeze();
                    let (body, crc) = self.message(&prefix, &head, payload)?;
                    Stage::Payload { head, body, crc, payload }
                }
                Stage::Payload { head, body, crc, payload } if buffer.len() >= payload => {
                    let payloads = cut(&body, crc, buffer.split_to(payload).freeze())?;
                    self.at += (PREFIX_BYTES + head.len() + payload) as u64;
                    return Ok(Some(Received { frame: Frame { body, payloads }, head }));
                }
                waiting => {
                    self.stage = waiting;
                    return Ok(None);
                }
            };
        }
    }

    /// Bytes of head and payloads. Errors: what the limits forbid.
    fn lengths(&self, prefix: &[u8; PREFIX_BYTES]) -> Result<(usize, usize), (&'static str, FrameFault)> {
        let mut at = &prefix[..];
        let length = at.get_u32() as usize;
        at.advance(4);
        let head = at.get_u32() as usize;
        let Limits { head: head_limit, payload: payload_limit } = self.limits;
        let limit = PREFIX_BYTES - LENGTH_BYTES + head_limit + payload_limit;
        if length > limit {
            return Err(("length", FrameFault::TooLong { length, limit }));
        }
        if head > head_limit {
            return Err(("head length", FrameFault::TooLong { length: head, limit: head_limit }));
        }
        let needed = PREFIX_BYTES - LENGTH_BYTES + head;
        let payload =
            length.checked_sub(needed).ok_or(("length", FrameFault::TooShort { length, needed }))?;
        if payload > payload_limit {
            return Err(("length", FrameFault::TooLong { length: payload, limit: payload_limit }));
        }
        Ok((head, payload))
    }

    /// The message of a head whose bytes are all there.
    fn message(
        &self,
        prefix: &[u8; PREFIX_BYTES],
        head: &Bytes,
        payload: usize,
    ) -> Result<(Body, u32), (&'static str, FrameFault)> {
        let stored = u32::from_be_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        let computed = head_crc(prefix, head);
        if stored != computed {
            return Err(("head", FrameFault::Checksum { stored, computed }));
        }
        let frame =
            PeerFrame::decode(head.clone()).map_err(|error| ("head", FrameFault::Malformed(error)))?;
        let body = frame.body.ok_or(("head", FrameFault::NoMessage))?;
        let of_handshake = matches!(body, Body::Hello(_) | Body::Proof(_));
        let always = matches!(body, Body::Refuse(_));
        if !always && of_handshake == self.established {
            return Err(("head", FrameFault::OutOfPlace { established: self.established }));
        }
        check(&body)?;
        let stated = payload_lengths(&body).map(|(length, _)| u64::from(length)).sum::<u64>();
        if stated != payload as u64 {
            return Err(("payload", FrameFault::Payloads { stated, present: payload }));
        }
        Ok((body, frame.payload_crc))
    }
}

/// The payloads that `body` names; together they are `bytes`.
fn cut(body: &Body, stored: u32, mut bytes: Bytes) -> Result<Vec<Bytes>, (&'static str, FrameFault)> {
    let one = |(length, _)| bytes.split_to(length as usize);
    let payloads: Vec<Bytes> = payload_lengths(body).map(one).collect();
    let computed = payload_crc(body, &payloads);
    if stored == computed {
        Ok(payloads)
    } else {
        Err(("payload", FrameFault::Checksum { stored, computed }))
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}
