//! Every message and version: decode then encode gives the same bytes, here and in `kafka-protocol`, and
//! both read the same values out of them. That crate is only ever given valid messages: it aborts on others.
use crate::arbitrary::{Entropy, PROTOCOL, body};
use crate::debug_tree::{difference, parse};
use crate::schema::Kind;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use wire::{
    ApiKey, ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    GroupMetadataKey, GroupMetadataValue, Message, OffsetCommitKey, OffsetCommitValue, Reader, Request,
    ResponseBody, TransactionLogKey, TransactionLogValue, Writer,
};

const CASES: u32 = 24;
/// Message versions that both know; fewer would mean that a comparison is skipped silently.
const VERSIONS_IN_BOTH: u32 = 171;

/// Runs `claim` on some bodies of each version of the messages of a kind.
fn for_each_body(kind: Kind, claim: impl Fn(&str, i16, &[u8]) -> Result<(), TestCaseError>) {
    let mut messages = 0;
    for message in PROTOCOL.messages.iter().filter(|message| message.kind == kind && has_dispatch(message)) {
        messages += 1;
        for version in message.versions.min..=message.versions.max {
            let mut runner =
                TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
            let entropy = prop::collection::vec(any::<u8>(), 0..160);
            runner
                .run(&entropy, |entropy| {
                    let bytes = body(message, version, &mut Entropy(&entropy));
                    claim(&message.name, version, &bytes)
                })
                .unwrap_or_else(|e| panic!("{} v{version}: {e}", message.name));
        }
    }
    assert!(messages > 0);
}

fn find_api(name: &str) -> Option<ApiKey> {
    let name = name.trim_end_matches("Request").trim_end_matches("Response");
    wire::served().iter().find(|api| api.name == name).map(|api| api.key)
}

fn api(name: &str) -> ApiKey {
    find_api(name).unwrap()
}

/// Requests and responses of APIs that are not served yet have code, but nothing that chooses it by their key.
fn has_dispatch(message: &crate::schema::Message) -> bool {
    message.kind == Kind::Data || find_api(&message.name).is_some()
}

fn bare_reader(bytes: &[u8]) -> Reader {
    Reader::new(BytesMut::from(bytes), "body", wire::RESPONSE_ITEM_BYTES)
}

fn compare(ours: &str, theirs: &str) -> Result<(), TestCaseError> {
    let difference = difference(&parse(ours), &parse(theirs), "");
    prop_assert!(difference.is_none(), "{}\nours   {ours}\ntheirs {theirs}", difference.unwrap());
    Ok(())
}

/// `None` where the crate's table claims a version that its code refuses.
fn decoded<T>(result: anyhow::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) if format!("{e:?}").contains("version not supported") => None,
        Err(e) => panic!("kafka-protocol refuses valid bytes: {e:?}"),
    }
}

fn known_to_both(key: ApiKey, version: i16) -> Option<theirs::ApiKey> {
    let known = theirs::ApiKey::try_from(key.code()).ok()?;
    let versions = known.valid_versions();
    (versions.min <= version && version <= versions.max).then_some(known)
}

#[test]
fn requests_agree_with_the_schema_and_with_kafka_protocol() {
    let compared = Cell::new(0);
    for_each_body(Kind::Request, |name, version, bytes| {
        let key = api(name);
        let ours = Request::read(key, version, bare_reader(bytes))
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        let mut writer = Writer::body();
        ours.write(&mut writer, version).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&writer.into_bytes()[..], bytes);
        if let Some(known) = known_to_both(key, version) {
            let mut rest = Bytes::copy_from_slice(bytes);
            let Some(theirs) = decoded(theirs::RequestKind::decode(known, &mut rest, version)) else {
                return Ok(());
            };
            compared.set(compared.get() + 1);
            let mut again = BytesMut::new();
            theirs.encode(&mut again, version).unwrap();
            prop_assert_eq!(&again[..], bytes, "kafka-protocol reads the schema's bytes otherwise");
            compare(&format!("{ours:?}"), &format!("{theirs:?}"))?;
        }
        Ok(())
    });
    assert!(compared.get() >= VERSIONS_IN_BOTH * CASES, "only {} bodies compared", compared.get());
}

#[test]
fn responses_agree_with_the_schema_and_with_kafka_protocol() {
    let compared = Cell::new(0);
    for_each_body(Kind::Response, |name, version, bytes| {
        let key = api(name);
        let ours = ResponseBody::read(key, version, bare_reader(bytes))
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        let mut writer = Writer::body();
        ours.write(&mut writer, version).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&writer.into_bytes()[..], bytes);
        if let Some(known) = known_to_both(key, version) {
            let mut rest = Bytes::copy_from_slice(bytes);
            let Some(theirs) = decoded(theirs::ResponseKind::decode(known, &mut rest, version)) else {
                return Ok(());
            };
            compared.set(compared.get() + 1);
            let mut again = BytesMut::new();
            theirs.encode(&mut again, version).unwrap();
            prop_assert_eq!(&again[..], bytes, "kafka-protocol reads the schema's bytes otherwise");
            compare(&format!("{ours:?}"), &format!("{theirs:?}"))?;
        }
        Ok(())
    });
    assert!(compared.get() >= VERSIONS_IN_BOTH * CASES, "only {} bodies compared", compared.get());
}

fn again<M: Message>(version: i16, bytes: &[u8]) -> Bytes {
    M::decode(BytesMut::from(bytes), version).unwrap().encode(version).unwrap()
}

#[test]
fn records_of_kafka_and_bodies_that_are_not_served_round_trip() {
    for_each_body(Kind::Data, |name, version, bytes| {
        let again = match name {
            "ConsumerGroupHeartbeatRequest" => again::<ConsumerGroupHeartbeatRequest>(version, bytes),
            "ConsumerGroupHeartbeatResponse" => again::<ConsumerGroupHeartbeatResponse>(version, bytes),
            "ConsumerGroupDescribeRequest" => again::<ConsumerGroupDescribeRequest>(version, bytes),
            "ConsumerGroupDescribeResponse" => again::<ConsumerGroupDescribeResponse>(version, bytes),
            "TransactionLogKey" => again::<TransactionLogKey>(version, bytes),
            "TransactionLogValue" => again::<TransactionLogValue>(version, bytes),
            "OffsetCommitKey" => again::<OffsetCommitKey>(version, bytes),
            "OffsetCommitValue" => again::<OffsetCommitValue>(version, bytes),
            "GroupMetadataKey" => again::<GroupMetadataKey>(version, bytes),
            "GroupMetadataValue" => again::<GroupMetadataValue>(version, bytes),
            "ConsumerProtocolSubscription" => again::<ConsumerProtocolSubscription>(version, bytes),
            "ConsumerProtocolAssignment" => again::<ConsumerProtocolAssignment>(version, bytes),
            "ConsumerGroupCurrentMemberAssignmentKey" => {
                again::<ConsumerGroupCurrentMemberAssignmentKey>(version, bytes)
            }
            "ConsumerGroupCurrentMemberAssignmentValue" => {
                again::<ConsumerGroupCurrentMemberAssignmentValue>(version, bytes)
            }
            "ConsumerGroupMemberMetadataKey" => again::<ConsumerGroupMemberMetadataKey>(version, bytes),
            "ConsumerGroupMemberMetadataValue" => again::<ConsumerGroupMemberMetadataValue>(version, bytes),
            "ConsumerGroupMetadataKey" => again::<ConsumerGroupMetadataKey>(version, bytes),
            "ConsumerGroupMetadataValue" => again::<ConsumerGroupMetadataValue>(version, bytes),
            "ConsumerGroupPartitionMetadataKey" => again::<ConsumerGroupPartitionMetadataKey>(version, bytes),
            "ConsumerGroupPartitionMetadataValue" => {
                again::<ConsumerGroupPartitionMetadataValue>(version, bytes)
            }
            "ConsumerGroupRegularExpressionKey" => again::<ConsumerGroupRegularExpressionKey>(version, bytes),
            "ConsumerGroupRegularExpressionValue" => {
                again::<ConsumerGroupRegularExpressionValue>(version, bytes)
            }
            "ConsumerGroupTargetAssignmentMemberKey" => {
                again::<ConsumerGroupTargetAssignmentMemberKey>(version, bytes)
            }
            "ConsumerGroupTargetAssignmentMemberValue" => {
                again::<ConsumerGroupTargetAssignmentMemberValue>(version, bytes)
            }
            "ConsumerGroupTargetAssignmentMetadataKey" => {
                again::<ConsumerGroupTargetAssignmentMetadataKey>(version, bytes)
            }
            "ConsumerGroupTargetAssignmentMetadataValue" => {
                again::<ConsumerGroupTargetAssignmentMetadataValue>(version, bytes)
            }
            other => panic!("{other} is not tested"),
        };
        prop_assert_eq!(&again[..], bytes);
        Ok(())
    });
}

#[test]
fn every_field_of_kafka_protocol_has_its_counterpart() {
    let both =
        |m: &&crate::schema::Message| matches!(m.kind, Kind::Request | Kind::Response) && has_dispatch(m);
    for message in PROTOCOL.messages.iter().filter(both) {
        let key = api(&message.name);
        // The first version that has code everywhere; both print the fields of all versions.
        let Some(version) = message_versions(key).min() else { continue };
        let bytes = body(message, version, &mut Entropy(&[]));
        let known = theirs::ApiKey::try_from(key.code()).unwrap();
        let mut rest = Bytes::from(bytes.clone());
        let (ours, theirs) = match message.kind {
            Kind::Request => (
                format!("{:?}", Request::read(key, version, bare_reader(&bytes)).unwrap()),
                format!("{:?}", theirs::RequestKind::decode(known, &mut rest, version).unwrap()),
            ),
            _ => (
                format!("{:?}", ResponseBody::read(key, version, bare_reader(&bytes)).unwrap()),
                format!("{:?}", theirs::ResponseKind::decode(known, &mut rest, version).unwrap()),
            ),
        };
        let (crate::debug_tree::Tree::Struct(ours), crate::debug_tree::Tree::Struct(theirs)) =
            (parse(&ours), parse(&theirs))
        else {
            panic!("{} is no struct", message.name)
        };
        // InitProducerId 6 is not stable in Kafka 4.4.
        let unserved =
            ["enable_2_pc", "keep_prepared_txn", "ongoing_txn_producer_id", "ongoing_txn_producer_epoch"];
        for name in theirs.keys().filter(|name| !unserved.contains(&name.as_str())) {
            // Renamed in Kafka 4.4.
            let renamed = message.name == "TxnOffsetCommitRequest" && name == "generation_id";
            let name = if renamed { "generation_id_or_member_epoch" } else { name.as_str() };
            assert!(ours.contains_key(name), "{}: {name} is missing", message.name);
        }
    }
}

fn message_versions(key: ApiKey) -> impl Iterator<Item = i16> {
    (key.api().min..=key.api().max).filter(move |version| known_to_both(key, *version).is_some())
}
