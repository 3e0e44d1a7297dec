//! One request at a time on a connection, of any API whose messages have code, whether this build serves it or not.
use anyhow::{Context, Result};
use bytes::{BufMut, BytesMut};
use client_lite::RawConn;
use wire::{Message, RESPONSE_ITEM_BYTES, Reader};

const CLIENT_ID: &[u8] = b"plimsoll-bench";

/// A request without its length.
pub(super) fn encode<Q: Message>(key: i16, version: i16, request: &Q) -> Result<BytesMut> {
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(CLIENT_ID.len() as i16);
    out.put_slice(CLIENT_ID);
    if version >= Q::FLEXIBLE_FROM {
        out.put_u8(0);
    }
    out.put_slice(&request.encode(version)?);
    Ok(out)
}

/// The body of an answer that came without its length.
pub(super) fn decode<A: Message>(version: i16, frame: BytesMut) -> Result<A> {
    let mut header = Reader::new(frame, "ResponseHeader", RESPONSE_ITEM_BYTES);
    header.i32("correlation_id")?;
    let mut body = header.switch::<A>(version)?;
    if version >= A::FLEXIBLE_FROM {
        body.skip_tags("ResponseHeader")?;
    }
    Ok(A::read(&mut body, A::NAME)?)
}

/// A connection to a coordinator.
pub(super) struct Asking {
    conn: RawConn,
}

impl Asking {
    pub(super) async fn connect(address: &str) -> Result<Asking> {
        let conn = RawConn::connect(address).await.with_context(|| format!("connect to {address}"))?;
        Ok(Asking { conn })
    }

    pub(super) async fn ask<Q: Message, A: Message>(
        &mut self,
        key: i16,
        version: i16,
        request: &Q,
    ) -> Result<A> {
        self.conn.send_frame(&encode(key, version, request)?).await.context("send a request")?;
        let answer = self.conn.receive().await.context("wait for an answer")?;
        decode(version, answer.context("the broker closed the connection")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{
        ApiKey, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse, Request, Str,
        decode_request,
    };

    #[test]
    fn requests_are_framed_as_the_broker_reads_them_in_both_kinds_of_headers() {
        let request = HeartbeatRequest { group_id: Str::from("g"), generation_id: 7, ..Default::default() };
        for version in [3, 4] {
            let frame = encode(ApiKey::Heartbeat.code(), version, &request).unwrap();
            let (header, read) = decode_request(frame).unwrap();
            assert_eq!((header.api_key, header.api_version), (ApiKey::Heartbeat, version));
            assert_eq!(read, Request::Heartbeat(request.clone()));
        }
    }

    #[test]
    fn answers_are_read_with_and_without_tags() {
        let body = HeartbeatResponse { error_code: 27, ..Default::default() };
        for (version, header) in [(3, &[0u8, 0, 0, 1][..]), (4, &[0, 0, 0, 1, 0])] {
            let mut frame = BytesMut::from(header);
            frame.put_slice(&body.encode(version).unwrap());
            assert_eq!(decode::<HeartbeatResponse>(version, frame).unwrap(), body);
        }
        let cut = BytesMut::from(&[0u8, 0, 0, 1, 0, 0][..]);
        assert!(decode::<ConsumerGroupHeartbeatResponse>(1, cut).is_err());
    }
}
