//! Records of `__consumer_offsets`, and the coordinator that replays them.
use bytes::{Buf, Bytes};
use coordinator::records::{
    CurrentValue, GroupValue, OffsetValue, RecordKey, SubscriptionValue, decode_target, encode_target,
};
use coordinator::{GroupConfig, GroupCoordinator};
use model::{Mono, Now};

/// A sequence of records, each a key and a value behind a length of two bytes (0xffff for no value):
/// decoded alone, replayed, taken through a snapshot, loaded and served.
pub fn group_records(data: &[u8]) {
    let mut replica = GroupCoordinator::new(GroupConfig::default(), 1);
    for (key, value) in pairs(data) {
        let _ = RecordKey::decode(&key);
        if let Some(value) = &value {
            decode_value(value);
        }
        let _ = replica.replay(0, key, value);
    }
    let snapshot = replica.snapshot();
    let mut other = GroupCoordinator::new(GroupConfig::default(), 2);
    other.restore(&snapshot).expect("our own snapshot");
    assert!(other.snapshot() == snapshot, "a snapshot restores to itself");
    let _ = other.restore(data);
    let mut effects = Vec::new();
    let now = |ms: u64| Now { mono: Mono(ms * 1_000_000), wall: 1_700_000_000_000 + ms as i64 };
    replica.loaded(now(0), &mut effects);
    replica.tick(now(86_400_000), &mut effects);
    replica.unload(now(86_400_001), &mut effects);
}

pub(crate) fn pairs(data: &[u8]) -> Vec<(Bytes, Option<Bytes>)> {
    let mut rest = Bytes::copy_from_slice(data);
    let mut found = Vec::new();
    while let Some(key) = piece(&mut rest) {
        let value = piece(&mut rest);
        found.push((key, value));
    }
    found
}

fn piece(rest: &mut Bytes) -> Option<Bytes> {
    if rest.len() < 2 {
        return None;
    }
    let len = usize::from(rest.get_u16());
    if len == usize::from(u16::MAX) { None } else { Some(rest.split_to(len.min(rest.len()))) }
}

fn decode_value(value: &[u8]) {
    if let Ok(offset) = OffsetValue::decode(value) {
        let again = OffsetValue::decode(&offset.encode()).expect("what we encode, we decode");
        assert!(again.offset == offset.offset && again.metadata == offset.metadata);
    }
    if let Ok(group) = GroupValue::decode(value) {
        assert!(GroupValue::decode(&group.encode()).is_ok_and(|again| again == group));
    }
    if let Ok(member) = SubscriptionValue::decode(value) {
        let again = SubscriptionValue::decode(&member.encode()).expect("what we encode, we decode");
        assert!(again.topics.len() == member.topics.len() && again.classic == member.classic);
    }
    if let Ok(current) = CurrentValue::decode(value) {
        assert!(CurrentValue::decode(&current.encode()).is_ok_and(|again| again == current));
    }
    if let Ok(target) = decode_target(value) {
        assert!(decode_target(&encode_target(&target)).is_ok_and(|again| again == target));
    }
}
