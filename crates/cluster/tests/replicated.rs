//! The state after a snapshot is the state that was; every replica comes to the same.
#![allow(clippy::unwrap_used)]
mod common;

use cluster::{Command, Metadata, decode_command, encode_command};
use proptest::prelude::*;
use proto::cluster as pb;
use std::collections::BTreeMap;

fn id(n: u8) -> bytes::Bytes {
    bytes::Bytes::from(vec![n + 1; 16])
}

fn replica_sets() -> impl Strategy<Value = Vec<pb::ReplicaSet>> {
    prop::collection::vec(
        prop::collection::vec(1..4i32, 1..3).prop_map(|nodes| pb::ReplicaSet { nodes, witness: None }),
        1..4,
    )
}

fn entries() -> impl Strategy<Value = Vec<pb::ConfigEntry>> {
    let names = prop::sample::select(vec![
        "retention.ms",
        "log.retention.ms",
        "write.caching",
        "cleanup.policy",
        "odd",
    ]);
    let entry = (names, prop::option::of(prop::sample::select(vec!["1", "77", "true", "compact", ""])));
    let entry = entry.prop_map(|(name, value)| pb::ConfigEntry {
        name: name.into(),
        value: value.map(str::to_owned),
        version: 0,
    });
    prop::collection::vec(entry, 0..3)
}

fn command() -> impl Strategy<Value = Command> {
    let names = || prop::sample::select(vec!["a", "a.b", "a_b", "__consumer_offsets", "z"]);
    prop_oneof![
        (names(), 0..6u8, replica_sets(), entries()).prop_map(|(name, n, partitions, configs)| {
            let configs = configs.into_iter().filter(|c| c.value.is_some()).collect();
            Command::CreateTopic(pb::CreateTopic { name: name.into(), topic_id: id(n), partitions, configs })
        }),
        (0..6u8).prop_map(|n| Command::DeleteTopic(pb::DeleteTopic { topic_id: id(n) })),
        (0..6u8, 0..9i32, replica_sets()).prop_map(|(n, first, partitions)| {
            Command::CreatePartitions(pb::CreatePartitions { topic_id: id(n), first, partitions })
        }),
        (1..5i32, prop::sample::select(vec!["", "1", "2", "a", "a.b", "z"]), entries()).prop_map(
            |(resource, name, entries)| {
                Command::SetConfigs(pb::SetConfigs { resource, name: name.into(), entries })
            }
        ),
        (1..3i32, 0..9000i64).prop_map(|(node_id, first)| {
            Command::AllocateProducerIds(pb::AllocateProducerIds { node_id, first, count: 1000 })
        }),
        (1..4i32).prop_map(common::register),
        (0..3i32).prop_map(|level| Command::UpdateFeature(pb::UpdateFeature { name: "f".into(), level })),
        (0..6u8, 1..4i32).prop_map(|(n, node_id)| {
            Command::ConfirmDeletion(pb::ConfirmDeletion { topic_id: id(n), node_id })
        }),
        Just(Command::SetClusterId(pb::SetClusterId { cluster_id: "c".into(), founders: founders() })),
        (1..5i32)
            .prop_map(|node_id| Command::RegisterNode(pb::RegisterNode { node_id, ..Default::default() })),
        (1..5i32, any::<bool>())
            .prop_map(|(node_id, voter)| Command::SetVoter(pb::SetVoter { node_id, voter })),
    ]
}

fn founders() -> Vec<proto::storage::Replica> {
    (1..3).map(|id| proto::storage::Replica { id: id as u64, node_id: id, kind: 0, witness: false }).collect()
}

fn fixed() -> BTreeMap<String, String> {
    BTreeMap::from([("log.retention.hours".to_owned(), "3".to_owned())])
}

proptest! {
    #[test]
    fn a_restored_replica_goes_on_like_the_others(commands in prop::collection::vec(command(), 0..60), cut in 0..60usize) {
        let (mut whole, mut half) = (Metadata::new(1, fixed()), Metadata::new(1, fixed()));
        for (i, command) in commands.iter().enumerate() {
            let index = i as u64 + 1;
            if i == cut {
                let snapshot = whole.snapshot();
                half = Metadata::new(1, fixed());
                half.restore(snapshot.clone()).unwrap();
                prop_assert_eq!(half.snapshot(), snapshot);
            }
            let command = decode_command(index, encode_command(command)).unwrap();
            let a = whole.apply(index, &command);
            let b = half.apply(index, &command);
            prop_assert_eq!(&a, &b);
            if a.is_err() {
                // A command that no leader would write stops both; go on as if it had been a no-op.
                whole.skip_to(index);
                half.skip_to(index);
            }
        }
        prop_assert_eq!(whole.image(), half.image());
        let partitions: usize = whole.image().topics().map(|t| t.partitions.len()).sum();
        prop_assert_eq!(partitions, whole.image().partition_count());
        let mut ids: Vec<u64> = whole.image().topics().flat_map(|t| t.partitions.clone()).flat_map(|p| p.replicas.to_vec()).map(|r| r.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
    }

    #[test]
    fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_command(1, bytes.clone().into());
        let mut metadata = Metadata::new(1, fixed());
        let before = metadata.image();
        if metadata.restore(bytes.into()).is_err() {
            prop_assert_eq!(metadata.image(), before);
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_read_without_a_panic(
        commands in prop::collection::vec(command(), 0..20), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut metadata = Metadata::new(1, fixed());
        for (i, command) in commands.iter().enumerate() {
            let _ = metadata.apply(i as u64 + 1, command);
        }
        let mut bytes = metadata.snapshot().to_vec();
        if !bytes.is_empty() {
            let i = at.index(bytes.len());
            bytes[i] = byte;
        }
        let _ = metadata.restore(bytes.into());
    }
}

#[test]
fn an_index_is_applied_once() {
    let mut metadata = Metadata::new(1, BTreeMap::new());
    metadata.apply(3, &common::register(1)).unwrap();
    for index in [1, 3] {
        let error = metadata.apply(index, &common::register(1)).unwrap_err();
        assert_eq!(error, cluster::ApplyError::OutOfOrder { index, applied: 3 });
    }
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused() {
    use prost::Message;
    let newer = pb::Snapshot { version: 99, ..Default::default() };
    let mut metadata = Metadata::new(1, BTreeMap::new());
    assert!(metadata.restore(newer.encode_to_vec().into()).is_err());
}

#[test]
fn ten_thousand_topics_are_not_copied_on_a_change() {
    let mut one = common::One::new(&[]);
    let sets = vec![pb::ReplicaSet { nodes: vec![1], witness: None }];
    for i in 0..10_000u32 {
        let mut id = [7u8; 16];
        id[..4].copy_from_slice(&i.to_be_bytes());
        one.apply(&Command::CreateTopic(pb::CreateTopic {
            name: format!("t{i}"),
            topic_id: id.to_vec().into(),
            partitions: sets.clone(),
            configs: vec![],
        }));
    }
    let before = one.metadata.image();
    one.apply(&common::register(2));
    let after = one.metadata.image();
    assert_eq!(after.partition_count(), 10_000);
    assert!(std::sync::Arc::ptr_eq(before.topic("t77").unwrap(), after.topic("t77").unwrap()));
}
