//! Frames come out as they went in, however they arrive; what is damaged or out of place is named.
use crate::frame::head_crc;
use crate::{
    Body, Decoder, Frame, FrameError, FrameFault, Limits, PREFIX_BYTES, Purpose, Received, Unsendable,
};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use proto::peer::{
    EntryHead, EntryType, Forward, Forwarded, Found, Heartbeat, Hello, LeaderRow, LeaderRows, NodeAddress,
    NodeMessage, Proof, Propose, Proposed, RaftMessage, RaftType, Refuse, SleepingGroup, Snapshot,
    node_message,
};

const SMALL: Limits = Limits { head: 400, payload: 2000 };

fn id(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 16])
}

fn raft(entries: &[(EntryType, &[u8])]) -> Frame {
    let heads = entries.iter().map(|(kind, payload)| EntryHead {
        term: 3,
        r#type: *kind as i32,
        length: payload.len() as u32,
        ..EntryHead::default()
    });
    let message = RaftMessage {
        topic_id: id(7),
        r#type: RaftType::Append as i32,
        entries: heads.collect(),
        ..RaftMessage::default()
    };
    Frame::raft(message, entries.iter().map(|(_, payload)| Bytes::copy_from_slice(payload)).collect())
}

fn row(partition: i32) -> LeaderRow {
    LeaderRow { topic_id: id(1), partition, epoch: 4, leader: -1, number: 9, in_sync: vec![1, 2, 3] }
}

fn heartbeat() -> Heartbeat {
    let asleep = SleepingGroup { topic_id: id(2), partition: 1, term: 5, last_index: 70, last_term: 4 };
    Heartbeat {
        process_start: 11,
        oldest_io_ms: 5,
        sequence: 3,
        sleeping: vec![asleep],
        ..Heartbeat::default()
    }
}

fn node(body: node_message::Body) -> Frame {
    Frame::bare(Body::Node(NodeMessage { body: Some(body) }))
}

fn hello() -> Hello {
    Hello {
        lowest_version: 1,
        highest_version: 1,
        cluster_id: "c".into(),
        node_id: 1,
        process_start: 1,
        directory_id: id(1),
        nonce: vec![1; 32].into(),
        purpose: Purpose::Data as i32,
        to: Some(2),
    }
}

/// One frame of each kind that may come after the handshake.
fn one_of_each() -> Vec<Frame> {
    let snapshot = Snapshot { index: 8, term: 2, voters: vec![1, 2], length: 4, ..Snapshot::default() };
    let snapshot = RaftMessage { topic_id: id(7), snapshot: Some(snapshot), ..RaftMessage::default() };
    vec![
        raft(&[(EntryType::NoOp, b""), (EntryType::Data, b"batch"), (EntryType::Command, b"command")]),
        Frame::raft(snapshot, vec![Bytes::from_static(b"data")]),
        Frame::bare(Body::Heartbeat(heartbeat())),
        Frame::bare(Body::LeaderRows(LeaderRows { whole: true, rows: vec![row(1), row(2)] })),
        Frame::forward(
            Forward { correlation: 1, principal: "User:a".into(), ..Forward::default() },
            Bytes::from_static(b"request"),
        ),
        Frame::forwarded(Forwarded { correlation: 1, error_code: 41, ..Forwarded::default() }, Bytes::new()),
        node(node_message::Body::Propose(Propose { token: 5, command: Bytes::from_static(b"command") })),
        node(node_message::Body::Proposed(Proposed { token: 5, error_code: -1 })),
        Frame::bare(Body::Refuse(Refuse::default())),
    ]
}

fn bytes_of(frame: Frame) -> Vec<u8> {
    frame.encode(Limits::DEFAULT).unwrap().concat()
}

fn established(limits: Limits) -> Decoder {
    let mut decoder = Decoder::new();
    decoder.establish(limits);
    decoder
}

fn first(decoder: &mut Decoder, bytes: &[u8]) -> Result<Option<Received>, FrameError> {
    decoder.decode(&mut BytesMut::from(bytes))
}

/// Field and fault of the error that `bytes` are.
fn error(bytes: &[u8]) -> (&'static str, FrameFault) {
    let error = first(&mut established(SMALL), bytes).expect_err("not a frame");
    (error.field, error.fault)
}

/// A prefix and a head with the right checksum.
fn with_head(head: &[u8], payload: usize) -> Vec<u8> {
    let length = ((PREFIX_BYTES - 4 + head.len() + payload) as u32).to_be_bytes();
    let mut prefix = [&length[..], &[0; 4], &(head.len() as u32).to_be_bytes()].concat();
    let crc = head_crc(&prefix, head);
    prefix[4..8].copy_from_slice(&crc.to_be_bytes());
    [&prefix[..], head].concat()
}

#[test]
fn frames_of_every_kind_come_out_as_they_went_in() {
    let mut stream = BytesMut::new();
    for frame in one_of_each() {
        stream.extend_from_slice(&bytes_of(frame));
    }
    let mut decoder = established(Limits::DEFAULT);
    for frame in one_of_each() {
        assert_eq!(decoder.decode(&mut stream).unwrap().unwrap().frame, frame);
    }
    assert!(decoder.decode(&mut stream).unwrap().is_none() && stream.is_empty());
}

#[test]
fn payloads_are_copied_neither_out_nor_in() {
    let frame = raft(&[(EntryType::Data, &[1; 3000]), (EntryType::NoOp, b""), (EntryType::Data, &[2; 5000])]);
    let before: Vec<_> = frame.payloads.iter().map(|payload| payload.as_ptr()).collect();
    let pieces = frame.encode(Limits::DEFAULT).unwrap();
    assert_eq!(pieces.len(), 3, "the head and the payloads that are not empty");
    assert_eq!([pieces[1].as_ptr(), pieces[2].as_ptr()], [before[0], before[2]]);

    let mut buffer = BytesMut::from(&pieces.concat()[..]);
    let read = buffer.as_ptr_range();
    let received = established(Limits::DEFAULT).decode(&mut buffer).unwrap().unwrap();
    for payload in received.frame.payloads.iter().filter(|payload| !payload.is_empty()) {
        assert!(read.contains(&payload.as_ptr()), "a slice of what was read");
    }
}

#[test]
fn a_frame_cut_anywhere_waits_for_the_rest() {
    let whole = bytes_of(raft(&[(EntryType::Data, b"batch"), (EntryType::Command, b"command")]));
    for cut in 0..whole.len() {
        let mut decoder = established(Limits::DEFAULT);
        let mut buffer = BytesMut::from(&whole[..cut]);
        assert!(decoder.decode(&mut buffer).unwrap().is_none(), "{cut} bytes");
        let missing = decoder.missing(buffer.len());
        assert!(missing > 0 && missing <= whole.len() - cut, "{cut} bytes, {missing} missing");
        if cut >= PREFIX_BYTES {
            assert_eq!(missing, whole.len() - cut);
        }
        buffer.extend_from_slice(&whole[cut..]);
        assert!(decoder.decode(&mut buffer).unwrap().is_some(), "{cut} bytes and the rest");
    }
}

#[test]
fn a_length_over_its_limit_is_refused_before_anything_waits_for_it() {
    let prefix = |length: u32, head: u32| [&length.to_be_bytes()[..], &[0; 4], &head.to_be_bytes()].concat();
    let too_long = |length, limit| FrameFault::TooLong { length, limit };
    assert_eq!(error(&prefix(2409, 10)), ("length", too_long(2409, 2408)));
    assert_eq!(error(&prefix(u32::MAX, 0)), ("length", too_long(u32::MAX as usize, 2408)));
    assert_eq!(error(&prefix(2000, 401)), ("head length", too_long(401, 400)));
    assert_eq!(error(&prefix(2400, 10)), ("length", too_long(2382, 2000)));
    assert_eq!(error(&prefix(7, 0)), ("length", FrameFault::TooShort { length: 7, needed: 8 }));
    assert_eq!(error(&prefix(108, 101)), ("length", FrameFault::TooShort { length: 108, needed: 109 }));
    // What another protocol would say here.
    assert_eq!(error(b"HTTP/1.1 400 ").0, "length");
}

#[test]
fn nobody_unknown_is_given_more_than_four_kibibytes() {
    for (head, payload) in [(4085, 0), (10, 1)] {
        let mut bytes = ((8 + head + payload) as u32).to_be_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend((head as u32).to_be_bytes());
        let error = first(&mut Decoder::new(), &bytes).unwrap_err();
        assert!(matches!(error.fault, FrameFault::TooLong { .. }), "{error}");
    }
    let mut decoder = Decoder::new();
    let mut bytes = [&4092u32.to_be_bytes()[..], &[0; 4], &4084u32.to_be_bytes()].concat();
    assert!(first(&mut decoder, &bytes).unwrap().is_none());
    bytes.clear();
    assert_eq!(decoder.missing(0), 4084);
}

#[test]
fn a_flipped_bit_before_the_payloads_is_always_found() {
    let whole = bytes_of(raft(&[(EntryType::Data, b"batch"), (EntryType::Data, b"another")]));
    let head_end = whole.len() - b"batchanother".len();
    // Enough behind it that a frame which seems longer is there as well.
    let stream = [&whole[..], &[0xa5; 3000]].concat();
    assert!(first(&mut established(SMALL), &stream).unwrap().is_some());
    for bit in 0..head_end * 8 {
        let mut flipped = stream.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = first(&mut established(SMALL), &flipped);
        assert!(found.is_err(), "bit {bit}: {found:?}");
    }
}

#[test]
fn a_flipped_bit_of_a_payload_is_found_unless_its_batches_have_checksums() {
    let frames = [
        raft(&[(EntryType::Data, b"batch"), (EntryType::Command, b"command")]),
        Frame::forward(Forward::default(), Bytes::from_static(b"request")),
        Frame::forwarded(Forwarded::default(), Bytes::from_static(b"response")),
        one_of_each().remove(1),
    ];
    for frame in frames {
        let data = match &frame.body {
            Body::Raft(message) if message.snapshot.is_none() => b"batch".len(),
            _ => 0,
        };
        let payload = frame.payloads.iter().map(Bytes::len).sum::<usize>();
        let whole = bytes_of(frame);
        for bit in 0..payload * 8 {
            let mut flipped = whole.clone();
            flipped[whole.len() - payload + bit / 8] ^= 1 << (bit % 8);
            let found = first(&mut established(SMALL), &flipped);
            match found {
                Ok(_) => assert!(bit < data * 8, "bit {bit}"),
                Err(FrameError { field, fault, .. }) => {
                    assert!(field == "payload" && matches!(fault, FrameFault::Checksum { .. }));
                    assert!(bit >= data * 8, "bit {bit}");
                }
            }
        }
    }
}

#[test]
fn an_error_names_the_frames_place_and_stays() {
    let mut decoder = established(SMALL);
    let good = bytes_of(Frame::bare(Body::Heartbeat(heartbeat())));
    let mut buffer = BytesMut::from(&[&good[..], &[0xff; 12]].concat()[..]);
    assert!(decoder.decode(&mut buffer).unwrap().is_some());
    let error = decoder.decode(&mut buffer).unwrap_err();
    assert_eq!((error.at, error.field), (good.len() as u64, "length"));
    let text = format!(
        "peer frame at byte {} of the connection, length: 4294967295 bytes are over the limit of 2408",
        good.len()
    );
    assert_eq!(error.to_string(), text);
    let again = decoder.decode(&mut BytesMut::from(&good[..])).unwrap_err();
    assert_eq!(again, error);
    assert_eq!(decoder.missing(0), 0);
}

#[test]
fn heads_that_are_no_message_are_refused() {
    assert!(matches!(error(&with_head(&[0xff; 20], 0)), ("head", FrameFault::Malformed(_))));
    // Nothing, a message of a later version alone, a message between nodes that is none.
    assert_eq!(error(&with_head(&[], 0)), ("head", FrameFault::NoMessage));
    assert_eq!(error(&with_head(&[0xfa, 0x01, 0x00], 0)), ("head", FrameFault::NoMessage));
    assert_eq!(error(&with_head(&[0x52, 0x00], 0)), ("NodeMessage", FrameFault::NoMessage));
}

#[test]
fn the_bytes_behind_the_head_are_those_that_the_message_names() {
    let frame = raft(&[(EntryType::Data, b"batch"), (EntryType::Data, b"more")]);
    let pieces = frame.encode(SMALL).unwrap();
    let head = &pieces[0][PREFIX_BYTES..];
    for present in [0, 8, 10] {
        assert_eq!(
            error(&with_head(head, present)),
            ("payload", FrameFault::Payloads { stated: 9, present })
        );
    }
    // Lengths whose sum does not fit 32 bits.
    let huge = EntryHead { length: u32::MAX, ..EntryHead::default() };
    let message = RaftMessage { entries: vec![huge; 3], ..RaftMessage::default() };
    let frame = proto::peer::PeerFrame { payload_crc: 0, body: Some(Body::Raft(message)) };
    let stated = 3 * u64::from(u32::MAX);
    let found = error(&with_head(&frame.encode_to_vec(), 9));
    assert_eq!(found, ("payload", FrameFault::Payloads { stated, present: 9 }));
}

#[test]
fn each_message_has_its_place_before_or_after_the_handshake() {
    let of_handshake = [Body::Hello(hello()), Body::Proof(Proof { mac: vec![0; 32].into() })];
    for body in of_handshake {
        let bytes = bytes_of(Frame::bare(body));
        assert!(first(&mut Decoder::new(), &bytes).unwrap().is_some());
        assert_eq!(error(&bytes), ("head", FrameFault::OutOfPlace { established: true }));
    }
    for frame in one_of_each().into_iter().filter(|frame| frame.payloads.is_empty()) {
        let anywhere = matches!(frame.body, Body::Refuse(_));
        let bytes = bytes_of(frame);
        assert!(first(&mut established(SMALL), &bytes).unwrap().is_some());
        match first(&mut Decoder::new(), &bytes) {
            Ok(_) => assert!(anywhere),
            Err(error) => assert_eq!(error.fault, FrameFault::OutOfPlace { established: false }),
        }
    }
}

#[test]
fn a_hello_with_an_impossible_field_is_refused_by_name() {
    let refused = |field: &str, change: fn(&mut Hello)| {
        let mut changed = hello();
        change(&mut changed);
        let bytes = bytes_of(Frame::bare(Body::Hello(changed)));
        assert_eq!(first(&mut Decoder::new(), &bytes).expect_err(field).field, field);
    };
    refused("Hello.highest_version", |h| h.lowest_version = 2);
    refused("Hello.cluster_id", |h| h.cluster_id = "c".repeat(256));
    refused("Hello.node_id", |h| h.node_id = -1);
    refused("Hello.process_start", |h| h.process_start = 0);
    refused("Hello.directory_id", |h| h.directory_id = Bytes::from_static(b"short"));
    refused("Hello.nonce", |h| h.nonce = Bytes::new());
    refused("Hello.purpose", |h| h.purpose = 0);
    refused("Hello.purpose", |h| h.purpose = 4);
    refused("Hello.to", |h| h.to = Some(-1));
}

#[test]
fn a_message_with_an_impossible_field_is_refused_by_name() {
    let refused = |field: &str, body: Body| assert_eq!(error(&bytes_of(Frame::bare(body))).0, field);
    let rows = |change: fn(&mut LeaderRow)| {
        let mut changed = row(1);
        change(&mut changed);
        Body::LeaderRows(LeaderRows { whole: false, rows: vec![row(2), changed] })
    };
    refused("LeaderRow.topic_id", rows(|r| r.topic_id = Bytes::new()));
    refused("LeaderRow.partition", rows(|r| r.partition = -1));
    refused("LeaderRow.epoch", rows(|r| r.epoch = -1));
    refused("LeaderRow.leader", rows(|r| r.leader = -2));
    refused("LeaderRow.in_sync", rows(|r| r.in_sync = vec![1, -1]));
    refused("Heartbeat.process_start", Body::Heartbeat(Heartbeat::default()));
    let asleep = |change: fn(&mut SleepingGroup)| {
        let mut changed = heartbeat();
        change(&mut changed.sleeping[0]);
        Body::Heartbeat(changed)
    };
    refused("SleepingGroup.topic_id", asleep(|g| g.topic_id = Bytes::new()));
    refused("SleepingGroup.partition", asleep(|g| g.partition = -1));
    let proposed = Proposed { token: 1, error_code: 1 << 15 };
    let proposed = NodeMessage { body: Some(node_message::Body::Proposed(proposed)) };
    refused("Proposed.error_code", Body::Node(proposed));
    refused("Refuse.node_id", Body::Refuse(Refuse { node_id: -1, ..Refuse::default() }));
    let found = |found: Found| Body::Found(found);
    refused("Found.cluster_id", found(Found { cluster_id: "c".repeat(256), ..Found::default() }));
    refused("Found.leader", found(Found { leader: -2, ..Found::default() }));
    refused("Found.voters", found(Found { voters: vec![1, -1], ..Found::default() }));
    refused("Found.error_code", found(Found { error_code: 1 << 15, ..Found::default() }));
    let replica = |id, node_id| proto::storage::Replica { id, node_id, kind: 0, witness: false };
    refused("Replica.id", found(Found { founders: vec![replica(0, 1)], ..Found::default() }));
    refused("Replica.node_id", found(Found { members: vec![replica(1, -1)], ..Found::default() }));
    let at = |host: &str, port, node_id| NodeAddress { host: host.to_owned(), port, node_id };
    for (field, node) in [
        ("NodeAddress.host", at(&"h".repeat(256), 1, 1)),
        ("NodeAddress.port", at("h", 0, 1)),
        ("NodeAddress.port", at("h", 1 << 16, 1)),
        ("NodeAddress.node_id", at("h", 1, -1)),
    ] {
        refused(field, found(Found { nodes: vec![node], ..Found::default() }));
    }
    let forwarded =
        Frame::forwarded(Forwarded { error_code: -(1 << 16), ..Forwarded::default() }, Bytes::new());
    assert_eq!(error(&bytes_of(forwarded)).0, "Forwarded.error_code");
}

#[test]
fn more_entries_than_any_message_may_have_are_refused() {
    let entries = vec![EntryHead::default(); (1 << 20) + 1];
    let message = RaftMessage { entries, ..RaftMessage::default() };
    let frame = proto::peer::PeerFrame { payload_crc: 0, body: Some(Body::Raft(message)) };
    let bytes = with_head(&frame.encode_to_vec(), 0);
    let error = first(&mut established(Limits::DEFAULT), &bytes).unwrap_err();
    let fault = FrameFault::TooMany { count: (1 << 20) + 1, limit: 1 << 20 };
    assert_eq!((error.field, error.fault), ("RaftMessage.entries", fault));
}

#[test]
fn what_is_too_large_or_does_not_fit_its_message_is_not_sent() {
    let large = raft(&[(EntryType::Data, &[0; 2001])]);
    assert_eq!(large.encode(SMALL), Err(Unsendable::Payload { length: 2001, limit: 2000 }));
    let long = Frame::bare(Body::LeaderRows(LeaderRows { whole: true, rows: (0..20).map(row).collect() }));
    assert!(matches!(long.encode(SMALL), Err(Unsendable::Head { limit: 400, .. })));
    let mut lacks = raft(&[(EntryType::Data, b"batch")]);
    lacks.payloads.clear();
    let mut has_more = raft(&[(EntryType::Data, b"batch")]);
    has_more.payloads.push(Bytes::new());
    let mut other = raft(&[(EntryType::Data, b"batch")]);
    other.payloads[0] = Bytes::from_static(b"batches");
    for frame in [lacks, has_more, other] {
        assert_eq!(frame.encode(SMALL), Err(Unsendable::Lengths));
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_arrive(
        rows in vec((vec((1..=4i32, vec(any::<u8>(), 0..300)), 0..5), any::<bool>()), 1..8),
        chunks in vec(1..200usize, 1..40),
    ) {
        let mut frames = Vec::new();
        for (entries, extra) in &rows {
            let kind = |number: i32| EntryType::try_from(number).unwrap();
            let entries: Vec<_> = entries.iter().map(|(k, payload)| (kind(*k), &payload[..])).collect();
            frames.push(raft(&entries));
            if *extra {
                frames.extend(one_of_each());
            }
        }
        let stream = frames.iter().flat_map(|frame| bytes_of(frame.clone())).collect::<Vec<_>>();
        let (mut decoder, mut buffer, mut found) = (established(SMALL), BytesMut::new(), Vec::new());
        let (mut rest, mut sizes) = (&stream[..], chunks.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            buffer.extend_from_slice(chunk);
            rest = after;
            while let Some(received) = decoder.decode(&mut buffer).unwrap() {
                found.push(received.frame);
            }
        }
        prop_assert_eq!(found, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in vec(any::<u8>(), 0..200), is_established in any::<bool>()) {
        let mut decoder = if is_established { established(Limits::DEFAULT) } else { Decoder::new() };
        let _ = first(&mut decoder, &bytes);
        let _ = first(&mut decoder, &with_head(&bytes, 0));
        let _ = first(&mut established(SMALL), &with_head(&bytes, 0));
    }
}
