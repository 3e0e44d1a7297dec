//! Leads that are all on one node are evened out by what they take in, while clients go on.
use super::events::{Event, MS, SECOND};
use super::faults::Swarm;
use super::run::Run;
use super::verify::PATIENCE;
use super::world::World;
use crate::rng::Rng;
use cluster::PartitionTarget;
use model::{GroupKey, NodeId};
use node::{AdminRequest, Node, Token};

const NODES: NodeId = 3;
/// No token of a client.
const OURS: Token = Token(1 << 61);

/// Nothing goes wrong, nobody moves or deletes anything, and every topic is on all nodes.
pub(super) fn calm() -> Swarm {
    let mut swarm = Swarm::draw(&mut Rng::new(1, 3));
    (swarm.installs, swarm.rot, swarm.voters_change, swarm.deletes) = (None, None, false, false);
    (swarm.moves, swarm.lost, swarm.evens_out) = (0, 1 << 40, true);
    // With these every topic gets all replicas.
    swarm.write_caching = true;
    (swarm.producers, swarm.think) = (2, 100 * MS);
    (swarm.turn_us, swarm.disk_us) = (50, 50);
    (swarm.latency.least, swarm.latency.spread) = (200, MS);
    swarm
}

/// Bytes a second of what each node is preferred for. Who leads it now is another question: readers have leads handed
/// over at random, and they go back.
fn preferred(run: &Run) -> Vec<u64> {
    let nodes: Vec<&Node> = run.world.machines.iter().filter_map(|m| m.node.as_ref()).collect();
    let mut sums = vec![0; nodes.len()];
    for topic in nodes[0].image().topics().filter(|t| !t.internal) {
        for (partition, row) in (0..).zip(&topic.partitions) {
            let (key, at) = (GroupKey { topic: topic.id, partition }, World::place_of(row.replicas[0].node));
            sums[at] += nodes[at].replica_rate(key).unwrap_or(0);
        }
    }
    sums
}

/// The most that one partition takes in.
fn hottest(run: &Run) -> u64 {
    let nodes: Vec<&Node> = run.world.machines.iter().filter_map(|m| m.node.as_ref()).collect();
    let image = nodes[0].image();
    let key = |topic, partition| GroupKey { topic, partition };
    let keys = image.topics().flat_map(|t| (0..t.partitions.len() as i32).map(move |p| key(t.id, p)));
    keys.filter_map(|key| nodes.iter().filter_map(|n| n.replica_rate(key)).max()).max().unwrap_or(0)
}

fn leader_of_metadata(run: &Run) -> usize {
    let leads = |m: &super::machine::Machine| m.node.as_ref().is_some_and(Node::leads_metadata);
    run.world.machines.iter().position(leads).unwrap()
}

fn partitions(run: &Run) -> usize {
    let image = run.world.machines[0].node.as_ref().map(Node::image);
    image.map_or(0, |image| image.topics().filter(|t| !t.internal).map(|t| t.partitions.len()).sum())
}

/// A client has node 1 preferred for everything.
fn skew(run: &mut Run) {
    let at = leader_of_metadata(run);
    let image = run.world.machines[at].node.as_ref().unwrap().image();
    let mut targets = Vec::new();
    for topic in image.topics().filter(|t| !t.internal) {
        for partition in 0..topic.partitions.len() as i32 {
            let nodes = Some((1..=NODES).collect());
            targets.push(PartitionTarget { topic: topic.name.to_string(), partition, nodes });
        }
    }
    let request = AdminRequest::Reassign { targets, keep_factor: true };
    run.world.call(at, |node, now| node.admin(now, OURS, request));
}

#[test]
fn a_skewed_workload_gets_even_stays_even_and_loses_nothing() {
    let mut run = Run::new(5, NODES as usize, calm());
    for machine in 0..NODES as usize {
        run.world.later(MS, Event::Start { machine });
    }
    run.clients.begin(&mut run.world);
    // Topics come one after the other, as chance has it.
    while partitions(&run) < 5 {
        assert!(run.world.t < 3 * PATIENCE && run.is_well(), "{} partitions", partitions(&run));
        run.pass(SECOND);
    }
    run.pass(3 * SECOND);
    skew(&mut run);
    run.pass(100 * MS);
    let sum = |rates: &[u64]| rates.iter().sum::<u64>();
    let (skewed, before) = (preferred(&run), run.world.sometimes.evened_out);
    assert!(skewed[0] > 0 && skewed[0] == sum(&skewed), "{skewed:?}");

    run.pass(PATIENCE * 3 / 4);
    let even = preferred(&run);
    let most = even.iter().max().copied().unwrap();
    assert!(run.world.sometimes.evened_out > before);
    // A partition is moved whole: with few of them nobody can do better than this, nor with a very hot one.
    let hottest = hottest(&run);
    assert!(most * 3 < sum(&even) * 2 || most * 4 < hottest * 5, "{skewed:?} became {even:?}, {hottest}");

    // What is even stays: a partition may go now and then because clients choose at random.
    let moved = run.world.sometimes.evened_out;
    run.pass(PATIENCE / 4);
    assert!(run.world.sometimes.evened_out <= moved + 3, "{moved} became {}", run.world.sometimes.evened_out);
    run.heal_and_verify();
    assert_eq!(run.oracle.violations, []);
}
