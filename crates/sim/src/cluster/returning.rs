//! A node is unregistered while it is down, and returns with the directory that it had: what is in there does not count
//! any more, and it begins anew under other ids. Or its disk was lost, and it returns with an empty one.
use super::accepted::Operator;
use super::events::{Event, MS, SECOND};
use super::run::Run;
use super::world::World;
use model::{GroupKey, NodeId};
use node::Node;
use storage::ReplicaKind;

/// So many looks, at intervals of 300 ms, may find a partition without a leader.
const MOST_WAITS: u32 = 30;

/// Whether every partition has a live leader, as far as this node knows.
fn all_led(node: &Node) -> bool {
    let image = node.image();
    let mut keys = image.topics().flat_map(|topic| {
        (0..topic.partitions.len() as i32).map(|partition| GroupKey { topic: topic.id, partition })
    });
    keys.all(|key| node.leader_of(key).1.is_some())
}

impl Run {
    /// One that the others can do without is stopped, unregistered and started again, while clients go on and others
    /// crash; then all must be well again.
    pub(crate) fn return_unregistered(&mut self) {
        let all: Vec<usize> = (0..self.world.machines.len()).collect();
        let dispensable: Vec<usize> =
            all.iter().copied().filter(|m| self.is_dispensable(*m) == Some(true)).collect();
        let Some(m) = self.world.rng.pick(&dispensable).copied() else { return };
        let id = self.world.machines[m].id;
        let held = self.world.machines[m].node.as_ref().map_or(0, Node::metadata_replica);
        (self.clients.draining, self.clients.settled) = (false, true);
        let directory = self.world.machines[m].directory_id();
        let power = self.world.rng.chance(1, 2);
        self.world.machines[m].barred = true;
        self.world.crash(m, power, MS);
        let mut operator = Operator::default();
        let (mut spared, mut waits) = (false, 0);
        let gone = self.until(&mut operator, "a stopped node to be unregistered", |run, operator| {
            operator.at = run.world.ask_controller().unwrap_or(operator.at);
            // A partition that was made meanwhile may have no majority without it: whoever unregisters it then gives that
            // partition up, and has to say so by `partition recover`.
            // As `plimsoll cluster replace-node` does: what is not led without it may need it, whatever is wanted.
            let led = run.world.machines[operator.at].node.as_ref().is_some_and(all_led);
            waits += u32::from(!led);
            spared = waits > MOST_WAITS || run.is_dispensable(m) == Some(false);
            spared || led && run.unregister(operator, id, directory)
        });
        if !gone {
            return;
        }
        if spared {
            self.world.machines[m].barred = false;
            return self.world.later(MS, Event::Start { machine: m });
        }
        self.clients.settled = false;
        // Not with `write.caching` (`faults.rs`): a loss of power that follows is the second one for what only two had.
        if self.world.rng.chance(1, 2) {
            self.world.trace.add(format_args!("{m} returns with an empty disk, where it was {held}"));
            self.world.machines[m].lose_disk();
        } else {
            self.world.trace.add(format_args!("{m} returns, where it was {held}"));
            self.world.machines[m].returning = Some(held);
        }
        self.world.machines[m].barred = false;
        let after = self.world.some(3 * SECOND);
        self.world.later(after, Event::Start { machine: m });
        for _ in 0..self.world.some(6) {
            let while_up = self.world.some(SECOND);
            self.pass(while_up);
            let victim =
                if self.world.rng.chance(1, 2) { m } else { *self.world.rng.pick(&all).unwrap_or(&m) };
            let (power, down) = (self.world.rng.chance(1, 2), self.world.some(500 * MS));
            self.world.crash(victim, power, down);
        }
        if self.is_well() {
            self.heal_and_verify();
        }
    }

    /// Whether every group, that of the metadata too, has a majority without this machine; `None` while nobody leads the
    /// metadata, who would know.
    fn is_dispensable(&self, m: usize) -> Option<bool> {
        let id = self.world.machines[m].id;
        let enough = |nodes: Vec<NodeId>| {
            let others = nodes.iter().filter(|node| **node != id).count();
            others == nodes.len() || 2 * others > nodes.len()
        };
        let leads = |node: &&Node| node.leads_metadata();
        let leader = self.world.machines.iter().filter_map(|m| m.node.as_ref()).find(leads)?;
        let told = leader.whereabouts(id);
        let voters = told.members.iter().filter(|r| r.kind() != ReplicaKind::Learner).map(|r| r.node_id);
        let image = leader.image();
        let mut partitions = image.topics().flat_map(|topic| topic.partitions.iter());
        Some(enough(voters.collect()) && partitions.all(|p| enough(p.holders().map(|r| r.node).collect())))
    }
}

impl World {
    /// What the process on `m` does by itself once its node is registered again: it takes its new place, and then starts
    /// once more. Whether there is nothing else to look for.
    pub(crate) fn take_new_place(&mut self, m: usize, held: u64) -> bool {
        let in_place = self.call(m, |node, now| node.ready() && !node.take_given_place(now));
        let Some(node) = self.machines[m].node.as_ref() else { return true };
        if node.has_new_place() {
            self.trace.add(format_args!("{m} has a new place"));
            let soon = self.some(100 * MS);
            self.crash(m, false, soon);
            return true;
        }
        if in_place != Some(true) {
            return false;
        }
        if node.metadata_replica() == held {
            self.unsaid = Some(format!("node {} is in its old place, {held}, and serves", m + 1));
        }
        self.sometimes.returned += 1;
        self.machines[m].returning = None;
        true
    }

    /// The node is told which replica of the metadata it has now. It asks to be let in where it has none, and under
    /// its new one too: the leader may not know that it lives.
    pub(crate) fn place_anew(&mut self, m: usize, other: usize, told: &node::Whereabouts) {
        let held = self.machines[m].node.as_ref().map_or(0, Node::metadata_replica);
        if told.replica > held {
            self.call(m, |node, now| node.take_place(now, told.replica, &told.members));
            return;
        }
        self.ask_to_join(m, other);
        if told.replica == held {
            self.call(m, |node, now| node.meet(now, &told.members));
        }
    }
}
