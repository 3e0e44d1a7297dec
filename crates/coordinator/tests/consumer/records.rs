//! The records of consumer groups: Kafka's bytes, and the same as the generated codec of `protocol/kafka` writes.
use crate::group::topic;
use bytes::Bytes;
use coordinator::records::*;
use coordinator::{GroupConfig, GroupCoordinator, Protocol, RecordError};
use proptest::prelude::*;
use wire::{Message, Str};

#[test]
fn keys_have_kafkas_bytes() {
    let keys: [(ConsumerKey, &[u8]); 7] = [
        (ConsumerKey::Epoch, b"\x00\x03\x00\x01g"),
        (ConsumerKey::Topics, b"\x00\x04\x00\x01g"),
        (ConsumerKey::Member("m".into()), b"\x00\x05\x00\x01g\x00\x01m"),
        (ConsumerKey::TargetEpoch, b"\x00\x06\x00\x01g"),
        (ConsumerKey::Target("m".into()), b"\x00\x07\x00\x01g\x00\x01m"),
        (ConsumerKey::Current("m".into()), b"\x00\x08\x00\x01g\x00\x01m"),
        (ConsumerKey::Regex("t.*".into()), b"\x00\x10\x00\x01g\x00\x03t.*"),
    ];
    for (key, bytes) in keys {
        assert_eq!(&key.encode("g")[..], bytes);
        assert_eq!(RecordKey::decode(bytes), Ok(RecordKey::Consumer { group: "g".into(), key }));
        assert!(RecordKey::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn epochs_have_kafkas_bytes() {
    let plain = EpochValue { epoch: 7, metadata_hash: 0, created_ms: -1 };
    assert_eq!(&plain.encode()[..], b"\0\0\0\0\0\x07\0");
    let full = EpochValue { epoch: 7, metadata_hash: 258, created_ms: 1 };
    let bytes = b"\0\0\0\0\0\x07\x02\x00\x08\0\0\0\0\0\0\x01\x02\x01\x08\0\0\0\0\0\0\0\x01";
    assert_eq!(&full.encode()[..], bytes);
    assert_eq!(EpochValue::decode(bytes), Ok(full));
    let target = TargetEpochValue { epoch: 7, at_ms: 2 };
    assert_eq!(&target.encode()[..], b"\0\0\0\0\0\x07\x01\x00\x08\0\0\0\0\0\0\0\x02");
    assert_eq!(&TargetEpochValue { epoch: 7, at_ms: 0 }.encode()[..], b"\0\0\0\0\0\x07\0");
}

#[test]
fn assignments_have_kafkas_bytes() {
    let mut bytes = b"\0\0\x02".to_vec();
    bytes.extend([9; 16]);
    bytes.extend(b"\x03\0\0\0\x01\0\0\0\x04\0\0");
    let target = [(topic(9), [1, 4].into())].into();
    assert_eq!(&encode_target(&target)[..], bytes);
    assert_eq!(decode_target(&bytes), Ok(target));
    let current = CurrentValue {
        epoch: 3,
        previous_epoch: 2,
        state: 1,
        assigned: [(topic(9), [(1, 3)].into())].into(),
        revoking: Owned::new(),
    };
    let mut bytes = b"\0\0\0\0\0\x03\0\0\0\x02\x01\x02".to_vec();
    bytes.extend([9; 16]);
    bytes.extend(b"\x02\0\0\0\x01\x01\x00\x05\x02\0\0\0\x03\x01\0");
    assert_eq!(&current.encode()[..], bytes);
    assert_eq!(CurrentValue::decode(&bytes), Ok(current));
}

#[test]
fn partitions_of_before_assignment_epochs_have_the_members() {
    let mut bytes = b"\0\0\0\0\0\x03\0\0\0\x02\0\x02".to_vec();
    bytes.extend([9; 16]);
    bytes.extend(b"\x02\0\0\0\x01\0\x01\0");
    assert_eq!(CurrentValue::decode(&bytes).unwrap().assigned, [(topic(9), [(1, 3)].into())].into());
}

#[test]
fn members_have_kafkas_bytes() {
    let value = SubscriptionValue {
        instance_id: Some("i".into()),
        rack_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        topics: vec!["t".into()],
        regex: Some("x".into()),
        rebalance_timeout_ms: 5,
        assignor: None,
        classic: Some(ClassicMemberValue {
            session_timeout_ms: 6,
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"md") }],
        }),
    };
    let bytes =
        b"\0\0\x02i\0\x02c\x03/h\x02\x02t\x02x\0\0\0\x05\0\x01\0\x11\x01\0\0\0\x06\x02\x06range\x03md\0\0";
    assert_eq!(&value.encode()[..], bytes);
    assert_eq!(SubscriptionValue::decode(bytes), Ok(value));
    let regex = RegexValue { topics: vec!["t".into()], version: 3, at_ms: 4 };
    let bytes = b"\0\0\x02\x02t\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0";
    assert_eq!(&regex.encode()[..], bytes);
    assert_eq!(RegexValue::decode(bytes), Ok(regex));
}

#[test]
fn a_newer_or_damaged_value_stops_loading_and_other_types_are_kept() {
    let replay = |key: Bytes, value: &'static [u8]| {
        let mut coordinator = GroupCoordinator::new(GroupConfig::default(), 1);
        coordinator
            .replay(0, key, Some(Bytes::from_static(value)))
            .map(|()| coordinator.live_records().count())
    };
    let key = ConsumerKey::Epoch.encode("g");
    assert_eq!(replay(key.clone(), b"\0\x01\0\0\0\x07\0"), Err(RecordError::UnknownVersion(1)));
    assert!(replay(key.clone(), b"\0\0\0\0").is_err());
    assert_eq!(replay(key, b"\0\0\0\0\0\x07\0"), Ok(1));
    // A share group's record, for one.
    assert_eq!(replay(Bytes::from_static(b"\x00\x0b\x00\x01g"), b"\0\x05any"), Ok(1));
}

fn written(message: &impl Message) -> Bytes {
    message.encode_versioned(0).unwrap()
}

proptest! {
    #[test]
    fn the_generated_codec_writes_the_same_members(
        texts in proptest::collection::vec("[a-z]{0,8}", 4),
        instance in proptest::option::of("[a-z]{1,5}"),
        topics in proptest::collection::vec("[a-z]{1,5}", 0..4),
        timeout: i32,
        classic in proptest::option::of((any::<i32>(), proptest::collection::vec(any::<u8>(), 0..9))),
    ) {
        use wire::consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol};
        let ours = SubscriptionValue {
            instance_id: instance.clone(),
            rack_id: Some(texts[0].clone()),
            client_id: texts[1].clone(),
            client_host: texts[2].clone(),
            topics: topics.clone(),
            regex: instance.clone(),
            rebalance_timeout_ms: timeout,
            assignor: Some(texts[3].clone()),
            classic: classic.clone().map(|(session_timeout_ms, metadata)| ClassicMemberValue {
                session_timeout_ms,
                protocols: vec![Protocol { name: "p".into(), metadata: metadata.into() }],
            }),
        };
        let text = |s: &str| Str::from(s);
        let theirs = wire::ConsumerGroupMemberMetadataValue {
            instance_id: instance.as_deref().map(text),
            rack_id: Some(text(&texts[0])),
            client_id: text(&texts[1]),
            client_host: text(&texts[2]),
            subscribed_topic_names: topics.iter().map(|t| text(t)).collect(),
            subscribed_topic_regex: instance.as_deref().map(text),
            rebalance_timeout_ms: timeout,
            server_assignor: Some(text(&texts[3])),
            classic_member_metadata: classic.map(|(session_timeout_ms, metadata)| ClassicMemberMetadata {
                session_timeout_ms,
                supported_protocols: vec![ClassicProtocol { name: text("p"), metadata: metadata.into() }],
            }),
        };
        prop_assert_eq!(ours.encode(), written(&theirs));
        prop_assert_eq!(SubscriptionValue::decode(&ours.encode()), Ok(ours));
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut value = vec![0, 0];
        value.extend(bytes);
        let _ = EpochValue::decode(&value);
        let _ = TargetEpochValue::decode(&value);
        let _ = SubscriptionValue::decode(&value);
        let _ = decode_target(&value);
        let _ = CurrentValue::decode(&value);
        let _ = RegexValue::decode(&value);
        let _ = RecordKey::decode(&value);
    }
}
