//! Hostile bytes: an error that says where, never a panic, never memory by an unchecked count.
use crate::arbitrary::{Entropy, PROTOCOL, body};
use crate::schema::Kind;
use bytes::BytesMut;
use proptest::prelude::*;
use wire::{
    DecodeErrorKind, FetchRequest, Message, Reader, Request, RequestError, ResponseBody, decode_request,
};

const EMPTY_CLIENT_ID: [u8; 2] = [0xff, 0xff];

/// A frame with some body; the header is valid.
fn frame(key: wire::ApiKey, version: i16, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&key.code().to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1]);
    frame.extend_from_slice(&EMPTY_CLIENT_ID);
    if key.request_header_version(version) >= 2 {
        frame.extend_from_slice(&[0]);
    }
    frame.extend_from_slice(body);
    frame
}

fn full_body(key: wire::ApiKey, version: i16) -> Vec<u8> {
    let message = PROTOCOL.message(&format!("{}Request", key.name())).unwrap();
    // Every array has two items, every nullable field is there.
    body(message, version, &mut Entropy(&[2; 400]))
}

#[test]
fn a_request_cut_anywhere_is_an_error_that_names_its_place() {
    for api in wire::served() {
        for version in api.min..=api.max {
            let whole = frame(api.key, version, &full_body(api.key, version));
            decode_request(whole.clone()).unwrap_or_else(|e| panic!("{:?} v{version}: {e}", api.key));
            for len in 0..whole.len() {
                let cut = BytesMut::from(&whole[..len]);
                match decode_request(cut) {
                    Err(RequestError::Malformed(e)) => assert!(e.offset <= len, "{e}"),
                    other => panic!("{:?} v{version} cut at {len}: {other:?}", api.key),
                }
            }
        }
    }
}

/// Peak resident memory of this process, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn counts_and_lengths_beyond_the_bytes_present_cost_no_memory() {
    let before = peak_memory();
    let bombs: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x00, 0x0f, 0x42, 0x3f],
        &[0xbf, 0x84, 0x3d],
    ];
    for api in wire::served() {
        for version in api.min..=api.max {
            let whole = full_body(api.key, version);
            for at in 0..whole.len() {
                for bomb in bombs {
                    let mut body = whole[..at].to_vec();
                    body.extend_from_slice(bomb);
                    body.extend_from_slice(&whole[at..]);
                    // It may still be a message: a bomb inside text is text.
                    let _ = decode_request(frame(api.key, version, &body));
                }
            }
        }
    }
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[test]
fn items_that_would_outgrow_the_memory_budget_are_refused() {
    // CreateTopics 0: each empty topic takes 14 bytes here and several times that in memory.
    let mut body = 900_000_i32.to_be_bytes().to_vec();
    body.resize(4 + 900_000 * 14 + 4, 0);
    let error = decode_request(frame(wire::ApiKey::CreateTopics, 0, &body)).unwrap_err();
    let RequestError::Malformed(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, DecodeErrorKind::TooManyItems(900_000));
    assert_eq!((error.message, error.field), ("CreateTopicsRequest", "CreateTopicsRequest.topics"));
}

#[test]
fn limits_of_kafka_on_arrays_and_tagged_fields_hold() {
    let mut body = 1_000_001_i32.to_be_bytes().to_vec();
    body.resize(4 << 20, 0);
    let Err(RequestError::Malformed(error)) = decode_request(frame(wire::ApiKey::DeleteTopics, 0, &body))
    else {
        panic!("decoded")
    };
    assert_eq!(error.kind, DecodeErrorKind::TooManyItems(1_000_001));
    // ApiVersions 3: two empty strings, then 10,001 tagged fields.
    let mut body = vec![1, 1, 0x91, 0x4e];
    body.resize(1 << 20, 0);
    let Err(RequestError::Malformed(error)) = decode_request(frame(wire::ApiKey::ApiVersions, 3, &body))
    else {
        panic!("decoded")
    };
    assert_eq!(error.kind, DecodeErrorKind::TooManyTags(10_001));
}

#[test]
fn unknown_tagged_fields_are_skipped_and_known_ones_must_fit() {
    let decode = |tags: &[u8]| {
        let mut body = vec![2, b'n', 2, b'v'];
        body.extend_from_slice(tags);
        decode_request(frame(wire::ApiKey::ApiVersions, 3, &body))
    };
    let (_, Request::ApiVersions(request)) = decode(&[1, 99, 3, 1, 2, 3]).unwrap() else {
        panic!("another body")
    };
    assert_eq!(request.client_software_version, "v");
    assert!(decode(&[1, 99, 4, 1, 2, 3]).is_err());
    // Fetch 12: tag 0 is the cluster id; its size says 3, its text takes 2.
    let mut body = FetchRequest::default().encode(12).unwrap().to_vec();
    assert_eq!(body.pop(), Some(0));
    body.extend_from_slice(&[1, 0, 3, 2, b'c', 0]);
    let Err(RequestError::Malformed(error)) = decode_request(frame(wire::ApiKey::Fetch, 12, &body)) else {
        panic!("decoded")
    };
    assert_eq!(error.kind, DecodeErrorKind::TagSize);
}

#[test]
fn text_that_is_not_utf8_and_endless_varints_are_refused() {
    let kind = |body: &[u8]| match decode_request(frame(wire::ApiKey::ApiVersions, 3, body)) {
        Err(RequestError::Malformed(error)) => error.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(&[2, 0xff, 1, 0]), DecodeErrorKind::BadUtf8);
    assert_eq!(kind(&[0, 1, 0]), DecodeErrorKind::UnexpectedNull);
    assert_eq!(kind(&[0xff, 0xff, 0xff, 0xff, 0xff, 1]), DecodeErrorKind::BadVarint);
    assert_eq!(kind(&[0x81, 0x80, 0x02]), DecodeErrorKind::StringTooLong(32_768));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_decoder_panic(at in 0..1000usize, bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = decode_request(BytesMut::from(&bytes[..]));
        let api = &wire::served()[at % wire::served().len()];
        let version = api.min + (at as i16 / 31) % (api.max - api.min + 1);
        let _ = decode_request(frame(api.key, version, &bytes));
        let reader = Reader::new(BytesMut::from(&bytes[..]), "body", wire::REQUEST_ITEM_BYTES);
        let _ = ResponseBody::read(api.key, version, reader);
    }

    #[test]
    fn a_changed_byte_makes_no_decoder_panic(at in 0..1000usize, place in any::<usize>(), byte in any::<u8>()) {
        let api = &wire::served()[at % wire::served().len()];
        let version = api.min + (at as i16 / 31) % (api.max - api.min + 1);
        for kind in [Kind::Request, Kind::Response] {
            let name = format!("{}{kind:?}", api.name);
            let mut bytes = body(PROTOCOL.message(&name).unwrap(), version, &mut Entropy(&[2; 300]));
            if bytes.is_empty() {
                continue;
            }
            let place = place % bytes.len();
            bytes[place] = byte;
            let reader = Reader::new(BytesMut::from(&bytes[..]), "body", wire::REQUEST_ITEM_BYTES);
            match kind {
                Kind::Request => drop(Request::read(api.key, version, reader)),
                _ => drop(ResponseBody::read(api.key, version, reader)),
            }
        }
    }
}
