//! Reassignments, applied to an image.
use crate::{
    Command, Image, Metadata, Partition, PartitionTarget, Replica, ReplicaKind, alter_reassignments,
    unregister_node,
};
use model::{ErrorCode, NodeId};
use proto::cluster as pb;
use std::collections::BTreeMap;
use std::sync::Arc;

const TOPIC: [u8; 16] = [5; 16];

/// Nodes 1 to 5, and topic `t` with one partition on 1, 2, 3 (replica ids 1, 2, 3).
fn cluster() -> Metadata {
    let mut metadata = Metadata::new(1, BTreeMap::new());
    let mut index = 1;
    for node_id in 1..=5 {
        index += 1;
        let register = pb::RegisterNode { node_id, incarnation: 7, ..Default::default() };
        metadata.apply(index, &Command::RegisterNode(register)).unwrap();
    }
    let create = pb::CreateTopic {
        name: "t".into(),
        topic_id: TOPIC.to_vec().into(),
        partitions: vec![pb::ReplicaSet { nodes: vec![1, 2, 3], witness: None }],
        ..Default::default()
    };
    metadata.apply(index + 1, &Command::CreateTopic(create)).unwrap();
    metadata
}

fn partition(image: &Image) -> Partition {
    image.topic("t").unwrap().partition(0).unwrap().clone()
}

fn ask(metadata: &mut Metadata, nodes: Option<&[NodeId]>) -> Result<Partition, ErrorCode> {
    let target = PartitionTarget { topic: "t".into(), partition: 0, nodes: nodes.map(<[NodeId]>::to_vec) };
    let verdict = alter_reassignments(&metadata.image(), &[target], false).remove(0).map_err(|e| e.code)?;
    if let Some(command) = verdict {
        metadata.apply(metadata.applied() + 1, &command).unwrap();
    }
    Ok(partition(&metadata.image()))
}

fn report(metadata: &mut Metadata, replicas: &[u64]) -> Partition {
    let generation = partition(&metadata.image()).generation();
    report_of(metadata, replicas, generation)
}

fn report_of(metadata: &mut Metadata, replicas: &[u64], generation: u64) -> Partition {
    let topic_id = TOPIC.to_vec().into();
    let command =
        pb::Reassigned { topic_id, partition: 0, replicas: replicas.to_vec(), index: 9, term: 3, generation };
    metadata.apply(metadata.applied() + 1, &Command::Reassigned(command)).unwrap();
    partition(&metadata.image())
}

fn nodes(p: &Partition) -> Vec<NodeId> {
    p.replicas.iter().map(|r| r.node).collect()
}

fn wanted(p: &Partition) -> Vec<(u64, NodeId)> {
    p.wanted().map(|r| (r.id, r.node)).collect()
}

#[test]
fn a_partition_whose_only_replica_is_unregistered_is_lost_and_one_with_others_is_not() {
    let mut next = 10;
    let replica = |id: u64, node: NodeId| Replica { id, node, kind: ReplicaKind::Voter };
    let one = Partition::founded(Arc::from([replica(1, 4)]), None);
    assert!(one.is_alone() && !one.is_lost());
    let gone = one.replaced_on(4, 7, &mut next).unwrap();
    assert!(!gone.is_alone() && gone.is_lost());
    assert_eq!(gone.replicas[..], [replica(10, 4)]);
    let two = Partition::founded(Arc::from([replica(1, 4), replica(2, 5)]), None);
    let gone = two.replaced_on(4, 7, &mut next).unwrap();
    assert!(!gone.is_alone() && !gone.is_lost() && !two.is_alone());
}

#[test]
fn a_move_is_shown_as_kafka_does_until_the_leader_reports() {
    let mut metadata = cluster();
    let moving = ask(&mut metadata, Some(&[4, 2, 3])).unwrap();
    assert_eq!((nodes(&moving), moving.adding(), moving.removing()), (vec![4, 2, 3, 1], vec![4], vec![1]));
    assert_eq!(wanted(&moving), [(4, 4), (2, 2), (3, 3)]);
    assert_eq!(report(&mut metadata, &[1, 2, 3]), moving, "a report of what was wanted before says nothing");
    let done = report(&mut metadata, &[2, 3, 4]);
    assert_eq!((nodes(&done), done.is_moving()), (vec![4, 2, 3], false));
    assert_eq!((moving.agreed(), done.agreed()), ((0, 0), (9, 3)));
    assert_eq!(done.founders().iter().map(|r| r.id).collect::<Vec<_>>(), [1, 2, 3]);
    let mut other = Metadata::new(2, BTreeMap::new());
    other.restore(metadata.snapshot()).unwrap();
    assert_eq!(partition(&other.image()), done);
}

#[test]
fn a_cancelled_move_goes_back_and_its_replica_stays_until_it_is_out() {
    let mut metadata = cluster();
    assert_eq!(ask(&mut metadata, None), Err(ErrorCode::NoReassignmentInProgress));
    ask(&mut metadata, Some(&[4, 5, 3])).unwrap();
    let back = ask(&mut metadata, None).unwrap();
    assert_eq!(wanted(&back), [(3, 3), (1, 1), (2, 2)], "in the order of Kafka's revert");
    assert!(back.adding().is_empty() && back.removing().is_empty() && back.is_moving());
    let holders: Vec<u64> = back.holders().map(|r| r.id).collect();
    assert_eq!(holders, [3, 1, 2, 4, 5]);
    assert_eq!(ask(&mut metadata, None), Err(ErrorCode::NoReassignmentInProgress), "nothing that is seen");
    // Asked for again it is the same replica: it may be a voter by now.
    let again = ask(&mut metadata, Some(&[4, 2, 3])).unwrap();
    assert_eq!(wanted(&again), [(4, 4), (2, 2), (3, 3)]);
    let mut other = Metadata::new(2, BTreeMap::new());
    other.restore(metadata.snapshot()).unwrap();
    assert_eq!(partition(&other.image()), again);
    assert!(!report(&mut metadata, &[4, 2, 3]).is_moving());
    let once_more = ask(&mut metadata, Some(&[5, 2, 3])).unwrap();
    assert_eq!(wanted(&once_more)[0], (6, 5), "one that was out for good is another one");
}

#[test]
fn a_report_for_an_earlier_target_says_nothing_even_if_that_is_wanted_again() {
    let mut metadata = cluster();
    ask(&mut metadata, Some(&[4, 2, 3])).unwrap();
    let first = ask(&mut metadata, None).unwrap().generation();
    ask(&mut metadata, Some(&[4, 2, 3])).unwrap();
    ask(&mut metadata, None).unwrap();
    assert!(report_of(&mut metadata, &[1, 2, 3], first).is_moving(), "4 may be a voter by now");
    assert!(!report(&mut metadata, &[1, 2, 3]).is_moving());
}

#[test]
fn a_target_may_be_changed_on_the_way() {
    let mut metadata = cluster();
    ask(&mut metadata, Some(&[4, 2, 3])).unwrap();
    let other = ask(&mut metadata, Some(&[5, 2, 3])).unwrap();
    assert_eq!((other.adding(), other.removing()), (vec![5], vec![1]));
    assert_eq!(other.holders().map(|r| r.node).collect::<Vec<_>>(), [5, 2, 3, 1, 4]);
    let order = ask(&mut metadata, Some(&[3, 2, 1])).unwrap();
    assert_eq!(wanted(&order), [(3, 3), (2, 2), (1, 1)]);
}

#[test]
fn impossible_targets_are_refused_with_kafkas_codes() {
    let mut metadata = cluster();
    let invalid = ErrorCode::InvalidReplicaAssignment;
    for bad in [&[][..], &[1, 1], &[1, 9], &[-1]] {
        assert_eq!(ask(&mut metadata, Some(bad)), Err(invalid), "{bad:?}");
    }
    let target = |partition, nodes: &[NodeId]| PartitionTarget {
        topic: "t".into(),
        partition,
        nodes: Some(nodes.to_vec()),
    };
    let code =
        |target, keep| alter_reassignments(&metadata.image(), &[target], keep).remove(0).map_err(|e| e.code);
    assert_eq!(code(target(7, &[1]), false), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(code(target(0, &[1, 2]), true), Err(ErrorCode::InvalidReplicationFactor));
    assert_eq!(code(target(0, &[1, 2, 3]), true), Ok(None), "nothing to do");
}

#[test]
fn a_node_whose_disk_is_lost_gets_new_replicas_and_keeps_its_place() {
    let mut metadata = cluster();
    let image = metadata.image();
    assert_eq!(unregister_node(&image, 9, &[]).unwrap_err().code, ErrorCode::BrokerIdNotRegistered);
    assert_eq!(unregister_node(&image, 2, &[1, 2]).unwrap_err().code, ErrorCode::InvalidRequest);
    let command = unregister_node(&image, 2, &[1, 3]).unwrap();
    metadata.apply(metadata.applied() + 1, &command).unwrap();
    assert!(!metadata.image().nodes.contains_key(&2), "another directory may register");
    let replaced = partition(&metadata.image());
    assert_eq!(wanted(&replaced), [(1, 1), (4, 2), (3, 3)]);
    assert!(replaced.is_moving() && replaced.adding().is_empty());
    assert!(replaced.holders().all(|r| r.id != 2), "nobody has its files");
    assert_eq!(wanted(&report(&mut metadata, &[1, 4, 3])).len(), 3);
    assert!(!partition(&metadata.image()).is_moving());
}
