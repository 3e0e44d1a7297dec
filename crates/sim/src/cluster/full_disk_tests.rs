//! The disk of a leader is full: another node leads instead, and clients go on.
use super::even_tests::calm;
use super::events::{Event, MS, SECOND};
use super::run::Run;
use super::verify::PATIENCE;
use model::GroupKey;
use node::Node;

/// Partitions of clients that each node leads, and records of them that are committed.
fn led(run: &Run) -> (Vec<usize>, i64) {
    let nodes: Vec<&Node> = run.world.machines.iter().filter_map(|m| m.node.as_ref()).collect();
    let image = nodes[0].image();
    let key = |topic, partition| GroupKey { topic, partition };
    let of_clients = image.topics().filter(|t| !t.internal);
    let keys: Vec<GroupKey> =
        of_clients.flat_map(|t| (0..t.partitions.len() as i32).map(move |p| key(t.id, p))).collect();
    let leads =
        |node: &Node, key: &GroupKey| node.replica_view(*key).is_some_and(|view| view.epoch.is_some());
    let counts = nodes.iter().map(|node| keys.iter().filter(|key| leads(node, key)).count()).collect();
    let views = nodes.iter().flat_map(|node| keys.iter().filter_map(|key| node.replica_view(*key)));
    (counts, views.filter(|view| view.epoch.is_some()).map(|view| view.high_watermark).sum())
}

#[test]
fn leads_leave_a_full_disk_and_clients_go_on() {
    let mut run = Run::new(7, 3, calm());
    (0..3).for_each(|machine| run.world.later(MS, Event::Start { machine }));
    run.clients.begin(&mut run.world);
    run.pass(3 * SECOND);
    while led(&run).0.iter().sum::<usize>() < 3 {
        assert!(run.world.t < 3 * PATIENCE && run.is_well(), "{:?}", led(&run));
        run.pass(SECOND);
    }
    let full = (0..3).max_by_key(|at| led(&run).0[*at]).unwrap();
    run.world.machines[full].disk.limit(Some(0), 20_000);
    run.pass(5 * SECOND);
    let (counts, before) = led(&run);
    assert_eq!(counts[full], 0, "{counts:?}");
    assert!(run.world.sometimes.left_full_disk > 0);
    // Nor do they come back while it is full.
    run.pass(10 * SECOND);
    let (counts, after) = led(&run);
    assert_eq!(counts[full], 0, "{counts:?}");
    assert!(after > before + 10, "{before} records, then {after}");
    run.world.make_room(full);
    run.heal_and_verify();
    assert_eq!(run.oracle.violations, []);
}
