//! Witnesses, from creation to what takes them away.
use crate::{
    Command, Image, Metadata, NewTopic, Partition, PartitionTarget, ReplicaKind, alter_reassignments,
    create_topics, lacks_witness, raise_witnesses, unregister_node,
};
use model::{NodeId, TopicId};
use proto::cluster as pb;
use std::collections::BTreeMap;

const TOPIC: [u8; 16] = [5; 16];

fn apply(metadata: &mut Metadata, command: &Command) {
    metadata.apply(metadata.applied() + 1, command).unwrap();
}

fn join(metadata: &mut Metadata, node_id: NodeId, rack: &str) {
    let register = pb::RegisterNode { node_id, incarnation: 7, rack: rack.into(), ..Default::default() };
    apply(metadata, &Command::RegisterNode(register));
}

/// Nodes 1 to `nodes`, at level 3.
fn cluster(nodes: NodeId) -> Metadata {
    let mut metadata = Metadata::new(1, BTreeMap::new());
    let level = pb::UpdateFeature { name: "plimsoll.version".into(), level: 3 };
    apply(&mut metadata, &Command::UpdateFeature(level));
    (1..=nodes).for_each(|node| join(&mut metadata, node, ""));
    metadata
}

fn creation(image: &Image, live: &[NodeId], partitions: i32, factor: i16) -> Command {
    let topic = NewTopic {
        name: "t".into(),
        num_partitions: partitions,
        replication_factor: factor,
        ..NewTopic::default()
    };
    create_topics(image, &[topic], live, &mut || TopicId(TOPIC)).remove(0).result.unwrap().command
}

fn created(metadata: &mut Metadata, live: &[NodeId], partitions: i32, factor: i16) -> bool {
    let command = creation(&metadata.image(), live, partitions, factor);
    apply(metadata, &command);
    let lacking = lacks_witness(&metadata.image(), &command);
    assert!(lacking.as_deref().is_none_or(|name| name == "t"));
    lacking.is_none()
}

fn partition(metadata: &Metadata) -> Partition {
    metadata.image().topic("t").unwrap().partition(0).unwrap().clone()
}

fn witness(metadata: &Metadata) -> Option<(u64, NodeId)> {
    partition(metadata).witness.map(|w| (w.id, w.node))
}

fn copies(p: &Partition) -> Vec<NodeId> {
    p.copies().map(|r| r.node).collect()
}

fn reassign(metadata: &mut Metadata, nodes: Option<&[NodeId]>) {
    let target = PartitionTarget { topic: "t".into(), partition: 0, nodes: nodes.map(<[NodeId]>::to_vec) };
    let command = alter_reassignments(&metadata.image(), &[target], false).remove(0).unwrap().unwrap();
    apply(metadata, &command);
}

fn report(metadata: &mut Metadata) {
    let p = partition(metadata);
    let replicas = p.wanted().map(|r| r.id).collect();
    let (topic_id, generation) = (TOPIC.to_vec().into(), p.generation());
    let report = pb::Reassigned { topic_id, partition: 0, replicas, index: 9, term: 3, generation };
    apply(metadata, &Command::Reassigned(report));
    assert!(!partition(metadata).is_moving());
}

fn raise(metadata: &mut Metadata, live: &[NodeId]) -> usize {
    let commands = raise_witnesses(&metadata.image(), live, 64);
    commands.iter().for_each(|c| apply(metadata, c));
    commands.len()
}

#[test]
fn two_replicas_get_a_witness_on_a_third_node_and_clients_see_two() {
    let mut metadata = cluster(4);
    assert!(created(&mut metadata, &[1, 2, 3, 4], 40, 2));
    let image = metadata.image();
    let topic = image.topic("t").unwrap();
    assert_eq!(topic.replication_factor(), 2);
    let mut load = BTreeMap::new();
    for p in &topic.partitions {
        let witness = p.witness.unwrap();
        assert!(witness.kind == ReplicaKind::Witness && !copies(p).contains(&witness.node));
        assert_eq!((p.replicas.len(), p.wanted().count(), p.founders().len()), (2, 3, 3));
        assert!(p.holders().any(|r| r.id == witness.id) && !p.is_moving() && p.may_be_raised());
        *load.entry(witness.node).or_insert(0) += 1;
    }
    assert!(load.len() == 4 && load.values().all(|n| *n >= 5), "{load:?}");
    let mut other = Metadata::new(2, BTreeMap::new());
    other.restore(metadata.snapshot()).unwrap();
    assert_eq!(partition(&other), partition(&metadata));
    for factor in [1, 3] {
        let mut metadata = cluster(4);
        assert!(created(&mut metadata, &[1, 2, 3, 4], 1, factor), "nothing is missing");
        assert_eq!(witness(&metadata), None);
    }
}

#[test]
fn another_rack_is_preferred() {
    let mut metadata = cluster(0);
    for (node, rack) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "c")] {
        join(&mut metadata, node, rack);
    }
    assert!(created(&mut metadata, &[1, 2, 3, 4, 5], 1, 2));
    let placed = copies(&partition(&metadata));
    let apart = witness(&metadata).unwrap().1;
    let rack = |node: NodeId| metadata.image().nodes[&node].rack.clone();
    assert!(placed.iter().all(|node| rack(*node) != rack(apart)), "{placed:?} {apart}");
}

#[test]
fn without_a_third_node_or_its_level_a_topic_is_made_all_the_same_and_told_from_one_that_tolerates_a_loss() {
    let mut metadata = cluster(3);
    assert!(!created(&mut metadata, &[1, 2], 1, 2));
    assert_eq!(witness(&metadata), None);
    assert_eq!(raise(&mut metadata, &[1, 2]), 0);
    assert_eq!(raise(&mut metadata, &[1, 2, 3]), 1, "the third node has come");
    assert_eq!(witness(&metadata), Some((3, 3)));
    let p = partition(&metadata);
    assert!(p.is_moving() && p.adding().is_empty() && p.removing().is_empty(), "clients are told of no move");
    assert_eq!(raise(&mut metadata, &[1, 2, 3]), 0);
    report(&mut metadata);
    assert_eq!((copies(&partition(&metadata)), witness(&metadata)), (vec![1, 2], Some((3, 3))));
    assert_eq!(partition(&metadata).founders().len(), 2);
    let mut old = Metadata::new(1, BTreeMap::new());
    (1..=3).for_each(|node| join(&mut old, node, ""));
    assert!(!created(&mut old, &[1, 2, 3], 1, 2));
    assert_eq!((witness(&old), raise(&mut old, &[1, 2, 3])), (None, 0));
}

#[test]
fn a_witness_stays_beside_two_others_and_goes_when_the_factor_is_another() {
    let mut metadata = cluster(5);
    created(&mut metadata, &[1, 2, 3], 1, 2);
    let before = witness(&metadata);
    assert_eq!((copies(&partition(&metadata)), before), (vec![1, 2], Some((3, 3))));
    reassign(&mut metadata, Some(&[1, 4]));
    assert_eq!(witness(&metadata), before);
    report(&mut metadata);
    reassign(&mut metadata, Some(&[1, 4, 5]));
    let p = partition(&metadata);
    assert_eq!((p.witness, p.wanted().count()), (None, 3));
    assert!(p.holders().any(|r| r.node == 3), "it holds something until the group has let it go");
    report(&mut metadata);
    assert!(!partition(&metadata).holders().any(|r| r.node == 3));
    reassign(&mut metadata, Some(&[4, 5]));
    assert_eq!(raise(&mut metadata, &[1, 2, 3, 4, 5]), 0, "not while it moves");
    report(&mut metadata);
    assert_eq!(raise(&mut metadata, &[1, 2, 3, 4, 5]), 1);
    assert!(witness(&metadata).is_some_and(|(_, node)| node < 4));
}

#[test]
fn a_copy_takes_the_place_of_a_witness_on_its_node_under_another_id() {
    let mut metadata = cluster(3);
    created(&mut metadata, &[1, 2, 3], 1, 2);
    reassign(&mut metadata, Some(&[1, 3]));
    let p = partition(&metadata);
    assert_eq!(
        (p.witness, p.wanted().map(|r| (r.id, r.node)).collect::<Vec<_>>()),
        (None, vec![(1, 1), (4, 3)])
    );
    let on_three: Vec<_> = p.holders().filter(|r| r.node == 3).map(|r| r.id).collect();
    assert_eq!(on_three, [4, 3], "the witness votes until the group has let it go");
    let mut lost = Metadata::new(1, BTreeMap::new());
    lost.restore(metadata.snapshot()).unwrap();
    let command = unregister_node(&lost.image(), 3, &[1, 2]).unwrap();
    apply(&mut lost, &command);
    assert!(!partition(&lost).holders().any(|r| r.id <= 4 && r.node == 3), "both are lost with their disk");
    reassign(&mut metadata, None);
    assert_eq!((copies(&partition(&metadata)), witness(&metadata)), (vec![1, 2], None));
    report(&mut metadata);
    assert_eq!(raise(&mut metadata, &[1, 2, 3]), 1);
    report(&mut metadata);
    assert!(witness(&metadata).is_some_and(|(id, node)| id > 4 && node == 3));
}

#[test]
fn a_node_that_is_gone_for_good_takes_its_witness_along_and_another_is_chosen() {
    let mut metadata = cluster(4);
    created(&mut metadata, &[1, 2, 3], 1, 2);
    let command = unregister_node(&metadata.image(), 3, &[1, 2, 4]).unwrap();
    apply(&mut metadata, &command);
    assert!(witness(&metadata).is_none() && partition(&metadata).is_moving());
    report(&mut metadata);
    assert_eq!(raise(&mut metadata, &[1, 2, 4]), 1);
    assert_eq!(witness(&metadata).map(|(_, node)| node), Some(4));
    // One that is lost before the group has it.
    let command = unregister_node(&metadata.image(), 4, &[1, 2]).unwrap();
    apply(&mut metadata, &command);
    report(&mut metadata);
    assert_eq!((copies(&partition(&metadata)), witness(&metadata)), (vec![1, 2], None));
    // A data replica that is lost keeps its witness.
    join(&mut metadata, 3, "");
    assert_eq!(raise(&mut metadata, &[1, 2, 3]), 1);
    report(&mut metadata);
    let command = unregister_node(&metadata.image(), 2, &[1, 3]).unwrap();
    apply(&mut metadata, &command);
    assert!(witness(&metadata).is_some_and(|(_, node)| node == 3));
}

#[test]
fn internal_topics_that_are_about_to_have_three_copies_get_no_witness() {
    let mut metadata = cluster(3);
    let create = pb::CreateTopic {
        name: crate::CONSUMER_OFFSETS.into(),
        topic_id: TOPIC.to_vec().into(),
        partitions: vec![pb::ReplicaSet { nodes: vec![1, 2], witness: None }],
        ..Default::default()
    };
    apply(&mut metadata, &Command::CreateTopic(create));
    assert_eq!(raise(&mut metadata, &[1, 2, 3]), 0);
}
