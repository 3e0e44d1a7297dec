//! A copy is lost while the node of the witness is down, and the copy that is to come instead goes to that node; a voter of
//! the metadata returns with an empty disk, and does not hear that it is let in.
use super::accepted::Operator;
use super::even_tests::calm;
use super::events::{Event, MS, SECOND};
use super::run::Run;
use super::world::World;
use cluster::{NewTopic, Partition, PartitionTarget};
use model::{GroupKey, NodeId};
use node::{AdminRequest, Node};
use storage::ReplicaKind;

const TOPIC: &str = "pair";

/// The partition as the leader of the metadata has it, and whether somebody leads it.
fn seen(run: &Run) -> Option<(Partition, bool)> {
    let nodes = || run.world.machines.iter().filter_map(|m| m.node.as_ref());
    let image = nodes().find(|node| node.leads_metadata())?.image();
    let topic = image.topic(TOPIC)?;
    let key = GroupKey { topic: topic.id, partition: 0 };
    let led = nodes().any(|node| node.replica_view(key).is_some_and(|view| view.epoch.is_some()));
    Some((topic.partition(0)?.clone(), led))
}

fn ask(run: &mut Run, operator: &mut Operator, request: AdminRequest) -> bool {
    operator.at = run.world.ask_controller().unwrap_or(operator.at);
    run.ask(operator, request);
    false
}

fn stop(run: &mut Run, node: NodeId) {
    run.world.machines[World::place_of(node)].barred = true;
    run.world.crash(World::place_of(node), false, MS);
}

fn start(run: &mut Run, node: NodeId) {
    let machine = World::place_of(node);
    run.world.machines[machine].barred = false;
    run.world.later(MS, Event::Start { machine });
}

#[test]
fn a_witness_that_is_needed_votes_after_a_start_though_a_copy_is_to_take_its_place() {
    let mut run = Run::new(11, 5, calm());
    (0..5).for_each(|machine| run.world.later(MS, Event::Start { machine }));
    let mut operator = Operator::default();
    run.until(&mut operator, "a partition with a witness", |run, operator| match seen(run) {
        Some((partition, led)) => led && partition.witness.is_some() && !partition.is_moving(),
        None => {
            let topic = NewTopic {
                name: TOPIC.to_owned(),
                num_partitions: 1,
                replication_factor: 2,
                ..NewTopic::default()
            };
            ask(run, operator, AdminRequest::CreateTopics { topics: vec![topic], validate_only: false })
        }
    });
    let (partition, _) = seen(&run).unwrap();
    let copies: Vec<NodeId> = partition.copies().map(|r| r.node).collect();
    let witness = partition.witness.unwrap();

    let held = run.world.machines[World::place_of(copies[1])].node.as_ref().unwrap().metadata_replica();
    stop(&mut run, copies[1]);
    run.until(&mut operator, "the lost copy to be given up", |run, operator| {
        operator.at = run.world.ask_controller().unwrap_or(operator.at);
        run.unregister(operator, copies[1], [copies[1] as u8; 16])
    });
    stop(&mut run, witness.node);
    run.until(&mut operator, "the witness to be wanted no more", |run, operator| match seen(run) {
        Some((partition, _)) if partition.witness.is_none() => true,
        _ => {
            let target = PartitionTarget {
                topic: TOPIC.to_owned(),
                partition: 0,
                nodes: Some(vec![copies[0], witness.node]),
            };
            ask(run, operator, AdminRequest::Reassign { targets: vec![target], keep_factor: false })
        }
    });
    start(&mut run, witness.node);
    let moved = run.until(&mut operator, "the copy to be there", |run, _| {
        seen(run).is_some_and(|(partition, led)| led && !partition.is_moving())
    });
    assert!(moved, "{:?}", run.oracle.violations);
    run.world.machines[World::place_of(copies[1])].returning = Some(held);
    start(&mut run, copies[1]);
    run.heal_and_verify();
    assert_eq!(run.oracle.violations, []);
}

/// What the replica of the metadata on `node` is, as the leader has it, once there is a new one.
fn successor(run: &Run, node: NodeId) -> Option<ReplicaKind> {
    let mut nodes = run.world.machines.iter().filter_map(|m| m.node.as_ref());
    let told = nodes.find(|node| node.leads_metadata())?.whereabouts(node);
    told.members.iter().find(|m| m.node_id == node && m.id == told.replica).map(|m| m.kind())
}

#[test]
fn a_voter_with_an_empty_disk_counts_only_when_it_has_heard_that_it_is_let_in() {
    let mut run = Run::new(12, 3, calm());
    (0..3).for_each(|machine| run.world.later(MS, Event::Start { machine }));
    let mut operator = Operator::default();
    run.until(&mut operator, "all to be there", |run, _| {
        run.world.machines.iter().all(|m| m.node.as_ref().is_some_and(Node::ready))
    });
    let leader =
        |run: &Run| run.world.machines.iter().position(|m| m.node.as_ref().is_some_and(Node::leads_metadata));
    let lost = (0..3).find(|m| leader(&run) != Some(*m)).unwrap();
    let id = run.world.machines[lost].id;
    stop(&mut run, id);
    run.until(&mut operator, "the lost node to be unregistered", |run, operator| {
        operator.at = run.world.ask_controller().unwrap_or(operator.at);
        run.unregister(operator, id, [id as u8; 16])
    });
    // It is let in, and the answer never reaches it.
    run.world.machines[lost].lose_disk();
    for other in (0..3).filter(|m| *m != lost) {
        run.world.net.cut((lost, other));
        run.world.net.cut((other, lost));
    }
    start(&mut run, id);
    run.until(&mut operator, "its registration", |run, _| {
        if let Some(leader) = leader(run) {
            run.world.ask_to_join(lost, leader);
        }
        successor(run, id).is_some()
    });
    run.pass(5 * SECOND);
    assert_eq!(successor(&run, id), Some(ReplicaKind::Learner), "nothing was heard from it");
    // The other two are enough.
    let first = leader(&run).unwrap();
    run.world.crash(first, false, 100 * MS);
    run.pass(SECOND);
    assert!(run.until(&mut operator, "a leader after a crash", |run, _| leader(run).is_some()));
    run.heal_and_verify();
    assert_eq!(run.oracle.violations, []);
    assert_eq!(successor(&run, id), Some(ReplicaKind::Voter));
}
