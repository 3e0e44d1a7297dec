//! Frames that Apache Kafka's own classes serialised (`tests/golden`): decoded, and encoded to the same bytes.
//! The only oracle for versions that `kafka-protocol` does not know.
use crate::arbitrary::PROTOCOL;
use bytes::BytesMut;
use std::collections::BTreeSet;
use wire::{
    ApiKey, ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue,
    Message, OffsetCommitKey, OffsetCommitValue, TransactionLogKey, TransactionLogValue,
};

const FRAMES: &str = include_str!("../../../../tests/golden/kafka-4.4.0.txt");

struct Golden {
    name: &'static str,
    kind: &'static str,
    version: i16,
    filled: bool,
    bytes: Vec<u8>,
}

fn golden() -> impl Iterator<Item = Golden> {
    FRAMES.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let [name, kind, version, how, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        Golden { name, kind, version: version.parse().unwrap(), filled: how == "filled", bytes }
    })
}

fn key(name: &str) -> ApiKey {
    wire::served().iter().find(|api| api.name == name).unwrap().key
}

/// The value's text, and the bytes that it is encoded to.
fn again(golden: &Golden) -> (String, Vec<u8>) {
    let bytes = BytesMut::from(&golden.bytes[..]);
    match golden.kind {
        "request" => {
            let (header, request) = wire::decode_request(bytes).unwrap();
            assert_eq!((header.api_key, header.api_version), (key(golden.name), golden.version));
            assert_eq!((header.correlation_id, header.client_id.as_deref()), (7, Some("golden")));
            let frame = wire::encode_request(&header, &request).unwrap().concat();
            (format!("{request:?}"), frame[4..].to_vec())
        }
        "response" => {
            let (id, body) = wire::decode_response(key(golden.name), golden.version, bytes).unwrap();
            assert_eq!(id, 7);
            let frame = wire::encode_response(golden.version, id, &body).unwrap().concat();
            (format!("{body:?}"), frame[4..].to_vec())
        }
        "data" => match golden.name {
            "ConsumerProtocolSubscription" => versioned::<ConsumerProtocolSubscription>(bytes),
            "ConsumerProtocolAssignment" => versioned::<ConsumerProtocolAssignment>(bytes),
            "GroupMetadataKey" => versioned::<GroupMetadataKey>(bytes),
            "GroupMetadataValue" => versioned::<GroupMetadataValue>(bytes),
            "TransactionLogKey" => versioned::<TransactionLogKey>(bytes),
            "TransactionLogValue" => versioned::<TransactionLogValue>(bytes),
            "OffsetCommitKey" => versioned::<OffsetCommitKey>(bytes),
            "OffsetCommitValue" => versioned::<OffsetCommitValue>(bytes),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

fn versioned<M: Message + std::fmt::Debug>(bytes: BytesMut) -> (String, Vec<u8>) {
    let (version, value) = M::decode_versioned(bytes).unwrap();
    (format!("{value:?}"), value.encode_versioned(version).unwrap().to_vec())
}

#[test]
fn frames_of_kafkas_own_classes_come_out_as_they_went_in() {
    for golden in golden() {
        let what = format!("{} {} v{}", golden.name, golden.kind, golden.version);
        let (shown, encoded) = again(&golden);
        assert_eq!(encoded, golden.bytes, "{what} {shown}");
        // Texts are numbered in the order of the schema: a field that took another's would show.
        let numbers: Vec<u32> = shown.split("text-").skip(1).map(number).collect();
        assert!(!golden.filled || numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len(), "{what}");
    }
}

fn number(text: &str) -> u32 {
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn every_version_that_kafka_still_has_is_among_them() {
    let there: BTreeSet<_> = golden().map(|golden| (golden.name, golden.kind, golden.version)).collect();
    let mut missing = Vec::new();
    for api in wire::served() {
        for version in api.min..=api.max {
            for kind in ["request", "response"] {
                if !there.contains(&(api.name, kind, version)) && !missing.contains(&(api.name, version)) {
                    missing.push((api.name, version));
                }
            }
        }
    }
    missing.retain(|gone| !GONE_FROM_KAFKA.contains(gone));
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn bodies_of_apis_that_are_not_served_are_there_in_every_version_and_not_advertised() {
    let there: BTreeSet<_> = golden().map(|golden| (golden.name.to_owned(), golden.version)).collect();
    let advertised = wire::api_versions_response().api_keys;
    let unserved = include_str!("../../../../protocol/kafka/unserved.txt");
    for line in unserved.lines().filter(|line| !line.starts_with('#')) {
        let (key, name) = line.split_once(' ').unwrap();
        assert!(advertised.iter().all(|api| api.api_key.to_string() != key), "{name} is advertised");
        for body in ["Request", "Response"] {
            let name = format!("{name}{body}");
            let versions = PROTOCOL.message(&name).unwrap().versions;
            let missing = (versions.min..=versions.max).find(|v| !there.contains(&(name.clone(), *v)));
            assert_eq!(missing, None, "{name}");
        }
    }
}

/// What Kafka 4 dropped and clients of 3.9 still send: `golden.txt` and `differential.rs` see to these.
const GONE_FROM_KAFKA: [(&str, i16); 10] = [
    ("ListOffsets", 0),
    ("OffsetCommit", 1),
    ("CreateTopics", 0),
    ("CreateTopics", 1),
    ("DeleteTopics", 0),
    ("OffsetForLeaderEpoch", 0),
    ("OffsetForLeaderEpoch", 1),
    ("DescribeConfigs", 0),
    ("AlterReplicaLogDirs", 0),
    ("DescribeLogDirs", 0),
];
