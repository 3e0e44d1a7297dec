//! What another node sends: frames, the handshake, raft's messages.
use bytes::{Buf, Bytes, BytesMut};
use consensus::PeerMessage;
use peer::{Body, Decoder, Frame, Handshake, Limits, Local, PREFIX_BYTES, Purpose, Secret, Step};
use prost::Message as _;
use proto::peer::PeerFrame;

/// A first byte that says what follows: 0, a chunk size and the stream of a connection that begins; 1, a
/// chunk size and the stream of one whose handshake is over; else a length of two bytes, a head of that
/// length and the payloads behind it.
pub fn peer_link(data: &[u8]) {
    match data {
        [0, chunk, stream @ ..] => {
            for stream in [stream, &fixed(stream)] {
                handshakes(read(stream, *chunk, Decoder::new()));
            }
        }
        [1, chunk, stream @ ..] => {
            for stream in [stream, &fixed(stream)] {
                let frames = read(stream, *chunk, established());
                frames.into_iter().for_each(|received| one_frame(received.frame));
            }
        }
        [_, high, low, rest @ ..] => {
            let (head, payloads) =
                rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
            if let Ok(PeerFrame { body: Some(body), .. }) = PeerFrame::decode(Bytes::copy_from_slice(head)) {
                one_frame(with_payloads(body, Bytes::copy_from_slice(payloads)));
            }
        }
        _ => {}
    }
}

fn established() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.establish(Limits::DEFAULT);
    decoder
}

/// The frames of a stream that arrives in chunks; what is missing is never more than the limits allow.
fn read(stream: &[u8], chunk: u8, mut decoder: Decoder) -> Vec<peer::Received> {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for part in stream.chunks(usize::from(chunk.max(1))) {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(received)) => found.push(received),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buffer).err(), Some(error), "an error stays");
                    return found;
                }
            }
        }
        assert!(decoder.missing(buffer.len()) <= Limits::DEFAULT.head + Limits::DEFAULT.payload);
    }
    found
}

/// The same stream with the checksums of its heads made right.
fn fixed(stream: &[u8]) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let mut at = 0;
    while let Some(prefix) = stream.get(at..at + PREFIX_BYTES) {
        let (mut length, mut head_length) = (&prefix[..4], &prefix[8..]);
        let (length, head_length) = (length.get_u32() as usize, head_length.get_u32() as usize);
        let Some(head) = stream.get(at + PREFIX_BYTES..at + PREFIX_BYTES + head_length) else { break };
        let crc = records::crc32c(&[&prefix[..4], &prefix[8..], head].concat());
        stream[at + 4..at + 8].copy_from_slice(&crc.to_be_bytes());
        at += (4 + length).max(PREFIX_BYTES);
    }
    stream
}

/// Node 1 that connects, with what it sends first, and node 2 that accepts; always the same.
pub fn both_sides() -> ((Handshake, Bytes), Handshake) {
    let local = |node_id: i32| Local {
        versions: peer::VERSIONS,
        cluster_id: "abcdefghijklmnopqrstug".into(),
        node_id,
        process_start: 7,
        directory_id: [node_id as u8; 16],
        secret: Secret::new(b"a secret".to_vec()),
    };
    let connects = Handshake::connect(local(1), Purpose::Data, Some(2), [1; 32]);
    (connects, Handshake::accept(local(2), [2; 32]))
}

fn handshakes(frames: Vec<peer::Received>) {
    let ((connects, _), accepts) = both_sides();
    for (id, mut side) in [(1, connects), (2, accepts)] {
        let mut told = 0;
        for received in frames.iter().cloned() {
            match side.on_frame(received) {
                Ok(Step::Send(bytes)) => assert!(bytes.len() <= 4 << 10),
                Ok(Step::Judge(identity)) => {
                    assert!(identity.node_id >= 0 && identity.node_id != id);
                    told += 1;
                }
                Err(error) => {
                    let _ = (error.to_string(), error.farewell());
                    told = 0;
                }
            }
        }
        assert_eq!(side.approve().is_some(), told == 1, "nothing but a judged side is approved");
    }
}

/// Gives a message the payloads that it names, as far as there are bytes.
fn with_payloads(mut body: Body, mut bytes: Bytes) -> Frame {
    let mut payloads = Vec::new();
    let mut cut = |length: &mut u32| {
        let payload = bytes.split_to((*length as usize).min(bytes.len()));
        *length = payload.len() as u32;
        payloads.push(payload);
    };
    match &mut body {
        Body::Raft(message) => {
            message.entries.iter_mut().for_each(|entry| cut(&mut entry.length));
            message.snapshot.iter_mut().for_each(|snapshot| cut(&mut snapshot.length));
        }
        Body::Forward(forward) => cut(&mut forward.length),
        Body::Forwarded(forwarded) => cut(&mut forwarded.length),
        _ => {}
    }
    Frame { body, payloads }
}

/// What is encoded is read as it was, unless it has no place after the handshake.
fn one_frame(frame: Frame) {
    let size = frame.measure(Limits::DEFAULT).expect("the message names its payloads, and they are few");
    let bytes = frame.clone().encode(Limits::DEFAULT).expect("it was measured").concat();
    assert!((bytes.len()..bytes.len() + 6).contains(&size));
    if let Ok(again) = established().decode(&mut BytesMut::from(&bytes[..])) {
        assert!(again.expect("it is whole").frame == frame, "what we encode, we decode");
    }
    if let Body::Raft(message) = frame.body {
        let sent = (message.clone(), frame.payloads.clone());
        if let Ok((key, raft)) = PeerMessage::from_wire(message, frame.payloads) {
            assert!(raft.into_wire(key) == Ok(sent), "a message that is taken can be sent");
        }
    }
}
