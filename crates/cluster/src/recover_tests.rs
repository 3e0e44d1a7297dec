//! Accepted loss, applied to an image.
use crate::{Command, Image, Loss, Metadata, Partition, accept_loss, unregister_node};
use model::{ErrorCode, NodeId, TopicId};
use proto::cluster as pb;
use std::collections::BTreeMap;

const TOPIC: TopicId = TopicId([5; 16]);

/// Nodes 1 to 4, and topic `t` with one partition on 1, 2, 3 (replica ids 1, 2, 3).
fn cluster(level: i32) -> Metadata {
    let mut metadata = Metadata::new(1, BTreeMap::new());
    let feature = pb::UpdateFeature { name: "plimsoll.version".into(), level };
    metadata.apply(1, &Command::UpdateFeature(feature)).unwrap();
    for node_id in 1..=4 {
        let register = pb::RegisterNode { node_id, incarnation: 7, ..Default::default() };
        metadata.apply(metadata.applied() + 1, &Command::RegisterNode(register)).unwrap();
    }
    let create = pb::CreateTopic {
        name: "t".into(),
        topic_id: TOPIC.0.to_vec().into(),
        partitions: vec![pb::ReplicaSet { nodes: vec![1, 2, 3], witness: None }],
        ..Default::default()
    };
    metadata.apply(metadata.applied() + 1, &Command::CreateTopic(create)).unwrap();
    metadata
}

fn partition(image: &Image) -> Partition {
    image.topic("t").unwrap().partition(0).unwrap().clone()
}

fn loss(metadata: &Metadata, replica: u64) -> Loss {
    let generation = partition(&metadata.image()).generation();
    let (principal, topic) = ("User:op".to_owned(), TOPIC);
    let (epoch, last, offsets) = (7, (41, 6), (30, 35));
    Loss { topic, partition: 0, replica, generation, epoch, last, offsets, principal }
}

fn accept(metadata: &mut Metadata, loss: &Loss) -> Partition {
    let command = accept_loss(&metadata.image(), loss).unwrap();
    metadata.apply(metadata.applied() + 1, &command).unwrap();
    partition(&metadata.image())
}

fn wanted(p: &Partition) -> Vec<(u64, NodeId)> {
    p.wanted().map(|r| (r.id, r.node)).collect()
}

fn report(metadata: &mut Metadata, replicas: &[u64]) -> Partition {
    let generation = partition(&metadata.image()).generation();
    let command = pb::Reassigned {
        topic_id: TOPIC.0.to_vec().into(),
        partition: 0,
        replicas: replicas.to_vec(),
        index: 50,
        term: 70_000,
        generation,
    };
    metadata.apply(metadata.applied() + 1, &Command::Reassigned(command)).unwrap();
    partition(&metadata.image())
}

#[test]
fn the_one_that_is_left_and_all_that_are_wanted_beside_it_get_new_ids() {
    let mut metadata = cluster(3);
    let ask = loss(&metadata, 2);
    let p = accept(&mut metadata, &ask);
    assert_eq!(wanted(&p), [(4, 1), (5, 2), (6, 3)]);
    assert!(p.is_moving() && p.adding().is_empty() && p.removing().is_empty());
    let recovery = p.recovery_of(5).unwrap();
    assert_eq!((recovery.was, recovery.last, recovery.offsets), (2, (41, 6), (30, 35)));
    assert_eq!(recovery.given_up.iter().map(|r| r.id).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(recovery.principal, "User:op");
    assert!(recovery.epoch > 7 + 60_000, "above what the others may have used unheard");
    assert_eq!(p.recovery_of(4), None);
    assert_eq!(p.founders().iter().map(|r| r.id).collect::<Vec<_>>(), [1, 2, 3], "the log begins as it did");
    let done = report(&mut metadata, &[4, 5, 6]);
    assert!(!done.is_moving());
    assert!(done.recovery().unwrap().done, "and it is remembered");
    // A checkpoint says the same.
    let mut other = Metadata::new(1, BTreeMap::new());
    other.restore(metadata.snapshot()).unwrap();
    assert_eq!(partition(&other.image()), done);
}

#[test]
fn what_was_judged_before_another_change_accepts_nothing() {
    let mut metadata = cluster(3);
    let late = loss(&metadata, 3);
    let ask = loss(&metadata, 2);
    let before = accept(&mut metadata, &ask);
    assert_eq!(accept(&mut metadata, &late), before, "the same command twice, or for another replica");
    let gone = Loss { replica: 2, ..loss(&metadata, 2) };
    assert_eq!(accept(&mut metadata, &gone), before, "that replica has another id by now");
}

#[test]
fn nodes_that_were_replaced_before_are_given_up_too_and_one_that_was_leaving_leaves_later() {
    let mut metadata = cluster(3);
    for node in [2, 3] {
        let command = unregister_node(&metadata.image(), node, &[1]).unwrap();
        metadata.apply(metadata.applied() + 1, &command).unwrap();
    }
    let ask = loss(&metadata, 1);
    let p = accept(&mut metadata, &ask);
    let given_up: Vec<u64> = p.recovery().unwrap().given_up.iter().map(|r| r.id).collect();
    assert_eq!((wanted(&p), given_up), (vec![(6, 1), (7, 2), (8, 3)], vec![4, 5, 2, 3]));
    // On its way from 1, 2, 3 to 2, 3, 4 only node 1 is left.
    let mut metadata = cluster(3);
    let command = pb::Reassign {
        topic_id: TOPIC.0.to_vec().into(),
        partition: 0,
        target: Some(pb::ReplicaSet { nodes: vec![2, 3, 4], witness: None }),
        raises: false,
    };
    metadata.apply(metadata.applied() + 1, &Command::Reassign(command)).unwrap();
    let ask = loss(&metadata, 1);
    let p = accept(&mut metadata, &ask);
    assert_eq!((wanted(&p), p.removing()), (vec![(5, 2), (6, 3), (7, 4)], vec![1]));
    assert_eq!(p.recovery().map(|r| r.replica), Some(8));
}

#[test]
fn an_older_program_in_the_cluster_or_the_last_epoch_refuses_it() {
    let metadata = cluster(2);
    let refused = accept_loss(&metadata.image(), &loss(&metadata, 1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnsupportedVersion);
    let metadata = cluster(3);
    let last = Loss { epoch: i32::MAX as u64 - 10, ..loss(&metadata, 1) };
    assert_eq!(accept_loss(&metadata.image(), &last).unwrap_err().code, ErrorCode::InvalidRequest);
}
