//! Kafka's bytes in `__consumer_offsets`.
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use coordinator::records::*;
use coordinator::{GroupConfig, GroupCoordinator, RecordError};
use model::TopicId;
use proptest::prelude::*;

fn offset_value() -> OffsetValue {
    OffsetValue {
        offset: 258,
        leader_epoch: 3,
        metadata: "hi".into(),
        commit_timestamp: 1,
        expire_timestamp: None,
        topic_id: TopicId::ZERO,
    }
}

#[test]
fn keys_have_kafkas_bytes() {
    assert_eq!(&offset_key("g", "t", 5)[..], b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x05");
    assert_eq!(&group_key("g")[..], b"\x00\x02\x00\x01g");
    let key = RecordKey::decode(b"\x00\x00\x00\x01g\x00\x01t\x00\x00\x00\x05").unwrap();
    assert_eq!(key, RecordKey::Offset { group: "g".into(), topic: "t".into(), partition: 5 });
    assert_eq!(RecordKey::decode(b"\x00\x09\x00\x01g"), Ok(RecordKey::Unknown(9)));
}

#[test]
fn offsets_are_written_in_version_4_with_the_topic_id_as_a_tag() {
    let mut value = offset_value();
    let plain = b"\x00\x04\0\0\0\0\0\0\x01\x02\0\0\0\x03\x03hi\0\0\0\0\0\0\0\x01\x00";
    assert_eq!(&value.encode()[..], plain);
    value.topic_id = TopicId([9; 16]);
    let mut tagged = plain[..plain.len() - 1].to_vec();
    tagged.extend([1, 0, 16]);
    tagged.extend([9; 16]);
    assert_eq!(&value.encode()[..], tagged);
    assert_eq!(OffsetValue::decode(&tagged), Ok(value));
}

#[test]
fn a_lifetime_is_written_in_version_1() {
    let value = OffsetValue { leader_epoch: -1, expire_timestamp: Some(7), ..offset_value() };
    let bytes = b"\x00\x01\0\0\0\0\0\0\x01\x02\0\x02hi\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07";
    assert_eq!(&value.encode()[..], bytes);
    assert_eq!(OffsetValue::decode(bytes), Ok(value));
}

#[test]
fn older_offset_values_are_read() {
    for (version, epoch) in [(0u8, -1), (2, -1), (3, 3)] {
        let mut bytes = vec![0, version, 0, 0, 0, 0, 0, 0, 1, 2];
        if version == 3 {
            bytes.extend(3i32.to_be_bytes());
        }
        bytes.extend(b"\0\x02hi");
        bytes.extend(1i64.to_be_bytes());
        assert_eq!(OffsetValue::decode(&bytes), Ok(OffsetValue { leader_epoch: epoch, ..offset_value() }));
    }
    assert_eq!(OffsetValue::decode(b"\x00\x05"), Err(RecordError::UnknownVersion(5)));
}

#[test]
fn groups_are_written_in_version_3() {
    let value = GroupValue {
        protocol_type: "consumer".into(),
        generation: 2,
        protocol: Some("range".into()),
        leader: None,
        state_timestamp: 5,
        members: vec![MemberValue {
            member_id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout: 6,
            session_timeout: 7,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"as"),
        }],
    };
    let bytes = b"\x00\x03\x00\x08consumer\0\0\0\x02\x00\x05range\xff\xff\0\0\0\0\0\0\0\x05\0\0\0\x01\
        \x00\x01m\xff\xff\x00\x01c\x00\x02/h\0\0\0\x06\0\0\0\x07\0\0\0\x01s\0\0\0\x02as";
    assert_eq!(&value.encode()[..], bytes);
    assert_eq!(GroupValue::decode(bytes), Ok(value.clone()));
    // Version 4: compact lengths and tagged fields.
    let flexible = b"\x00\x04\x09consumer\0\0\0\x02\x06range\x00\0\0\0\0\0\0\0\x05\x02\
        \x02m\x00\x02c\x03/h\0\0\0\x06\0\0\0\x07\x02s\x03as\x00\x01\x05\x02zz";
    assert_eq!(GroupValue::decode(flexible), Ok(value.clone()));
    // Version 0: no timestamp, instance id or rebalance timeout.
    let first = b"\x00\x00\x00\x08consumer\0\0\0\x02\x00\x05range\xff\xff\0\0\0\x01\
        \x00\x01m\x00\x01c\x00\x02/h\0\0\0\x07\0\0\0\x01s\0\0\0\x02as";
    let mut old = value;
    old.state_timestamp = -1;
    old.members[0].rebalance_timeout = -1;
    assert_eq!(GroupValue::decode(first), Ok(old));
}

#[test]
fn a_count_beyond_the_bytes_is_refused_without_allocating_for_it() {
    let bytes = b"\x00\x03\x00\x00\0\0\0\x02\xff\xff\xff\xff\0\0\0\0\0\0\0\x05\x7f\xff\xff\xff";
    assert_eq!(GroupValue::decode(bytes), Err(RecordError::Short("members")));
    let huge = b"\x00\x03\x00\x00\0\0\0\x02\xff\xff\xff\xff\0\0\0\0\0\0\0\x05\x80\xff\xff\xff";
    assert_eq!(GroupValue::decode(huge), Err(RecordError::Malformed("members")));
}

#[test]
fn records_of_other_types_survive_a_snapshot_and_damaged_ones_are_refused() {
    let mut c = GroupCoordinator::new(GroupConfig::default(), 1);
    let foreign = (Bytes::from_static(b"\x00\x09abc"), Bytes::from_static(b"value"));
    c.replay(0, foreign.0.clone(), Some(foreign.1.clone())).unwrap();
    c.replay(1, group_key("gone"), None).unwrap();
    c.replay(2, offset_key("gone", "t", 0), None).unwrap();
    c.replay(3, offset_key("g", "t", 0), Some(offset_value().encode())).unwrap();
    assert!(c.replay(4, offset_key("g", "t", 0), Some(Bytes::from_static(b"\x00\x03\x00"))).is_err());
    assert!(c.replay(5, group_key("g"), Some(Bytes::from_static(b"\x00\x09"))).is_err());
    assert!(c.replay(6, Bytes::from_static(b"\x00"), None).is_err());
    let snapshot = c.snapshot();
    let mut d = GroupCoordinator::new(GroupConfig::default(), 2);
    d.restore(&snapshot).unwrap();
    assert!(c.live_records().eq(d.live_records()));
    assert_eq!(d.live_records().count(), 2);
    for cut in 0..snapshot.len() {
        let _ = GroupCoordinator::new(GroupConfig::default(), 3).restore(&snapshot[..cut]);
    }
    d.reset();
    d.replay(0, foreign.0.clone(), Some(foreign.1)).unwrap();
    d.replay(0, foreign.0, None).unwrap();
    assert_eq!(d.live_records().count(), 0);
}

proptest! {
    #[test]
    fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..6) {
        let mut bytes = bytes;
        let _ = RecordKey::decode(&bytes);
        bytes.insert(0, version);
        bytes.insert(0, 0);
        let _ = (OffsetValue::decode(&bytes), GroupValue::decode(&bytes), RecordKey::decode(&bytes));
        let _ = GroupCoordinator::new(GroupConfig::default(), 1).restore(&bytes);
    }

    #[test]
    fn offsets_read_back_as_written(offset: i64, epoch: i32, note in ".{0,40}", at: i64, expire in proptest::option::of(0i64..), id: [u8; 16]) {
        let value = OffsetValue {
            offset,
            leader_epoch: if expire.is_some() { -1 } else { epoch },
            metadata: note.into(),
            commit_timestamp: at,
            expire_timestamp: expire,
            topic_id: if expire.is_some() { TopicId::ZERO } else { TopicId(id) },
        };
        prop_assert_eq!(OffsetValue::decode(&value.encode()), Ok(value));
    }
}
