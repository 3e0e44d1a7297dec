//! A disk is lost for good, at any moment: of the partitions with a witness that it had a copy of, and that counted
//! the other copy as in sync, nothing that was acknowledged is missing, and they are led again.
use super::events::{Event, MS};
use super::run::Run;
use super::verify::{PATIENCE, Probes};
use super::world::World;
use cluster::Partition;
use model::GroupKey;

impl Run {
    /// Ends the run with the loss of a disk, where there is one that may be lost; else `false`.
    pub(crate) fn lose_a_disk(&mut self) -> bool {
        let Some((lost, keys)) = expendable(&mut self.world) else { return false };
        self.world.trace.add(format_args!("the disk of {lost} is lost: {keys:?}"));
        self.world.counts.lost_disks += 1;
        self.world.crash(lost, true, 0);
        self.world.machines[lost].gone = true;
        self.end_faults();
        self.clients.draining = true;
        let until = self.world.t + PATIENCE;
        let mut probes = Probes::default();
        let mut left = keys.clone();
        while self.is_well() && !left.is_empty() {
            if self.world.t > until {
                let detail =
                    format!("20 s after the loss of a disk, the other copy in sync: {left:?} take nothing");
                return self.stuck(lost, &left, detail);
            }
            let world = &mut self.world;
            left.retain(|key| {
                // A deletion may have been on its way.
                if !exists(world, *key) {
                    return false;
                }
                let Some(m) = led(world, *key) else { return true };
                // What its leader acknowledged alone is committed when the witness is told of it.
                !is_committed(world, *key, m)
                    || takes_one_copy(world, *key) && probes.probe(world, *key, m).is_some()
            });
            self.world.later(100 * MS, Event::Look);
            let pause = self.world.t + 100 * MS;
            while self.world.t < pause && self.is_well() {
                self.step_then(|world| probes.hear(world));
            }
        }
        for key in keys {
            if self.is_well() && exists(&self.world, key) {
                self.read_whole(key, 0);
            }
        }
        true
    }

    fn stuck(&mut self, lost: usize, left: &[GroupKey], mut detail: String) -> bool {
        for key in left {
            for (m, machine) in self.world.machines.iter().enumerate().filter(|(m, _)| *m != lost) {
                let view = machine.node.as_ref().and_then(|n| n.replica_view(*key));
                detail.push_str(&format!("; {m}: {view:?}"));
            }
        }
        self.oracle.violate("liveness", detail);
        true
    }
}

fn exists(world: &World, key: GroupKey) -> bool {
    let nodes = world.machines.iter().filter_map(|m| m.node.as_ref());
    let newest = nodes.max_by_key(|n| n.metadata_applied());
    newest.is_none_or(|n| n.image().topic_by_id(key.topic).is_some())
}

fn led(world: &World, key: GroupKey) -> Option<usize> {
    let leads = |m: &usize| {
        let node = world.machines[*m].node.as_ref();
        node.and_then(|n| n.replica_view(key)).is_some_and(|v| v.epoch.is_some())
    };
    (0..world.machines.len()).find(leads)
}

fn is_committed(world: &World, key: GroupKey, leader: usize) -> bool {
    let view = world.machines[leader].node.as_ref().and_then(|n| n.replica_view(key));
    view.is_some_and(|view| view.high_watermark == view.log_end)
}

/// Whether appends with acks=all are content with the copy that is left.
fn takes_one_copy(world: &World, key: GroupKey) -> bool {
    let image = world.machines.iter().find_map(|m| m.node.as_ref()).map(|n| n.image());
    let least = image.and_then(|image| Some(image.min_insync_replicas(image.topic_by_id(key.topic)?)));
    least.is_some_and(|least| least <= 1)
}

/// A machine, and the partitions that must survive the loss of its disk: with a witness, settled members, and both
/// copies in sync for the newest of their leaders.
fn expendable(world: &mut World) -> Option<(usize, Vec<GroupKey>)> {
    let nodes = || world.machines.iter().filter_map(|m| m.node.as_ref());
    let image = nodes().max_by_key(|n| n.metadata_applied())?.image();
    // The metadata must outlive it too.
    if nodes().any(|n| n.quorum_sizes().0 < 3) || nodes().count() < 2 {
        return None;
    }
    let mut safe: Vec<(Vec<usize>, GroupKey)> = Vec::new();
    for topic in image.topics().filter(|t| !t.internal) {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let key = GroupKey { topic: topic.id, partition: index as i32 };
            if partition.witness.is_some() && !partition.is_moving() && both_in_sync(world, key, partition) {
                safe.push((partition.copies().map(|r| World::place_of(r.node)).collect(), key));
            }
        }
    }
    let hosts: Vec<usize> = safe.iter().flat_map(|(hosts, _)| hosts.clone()).collect();
    let lost = *world.rng.pick(&hosts)?;
    let keys = safe.into_iter().filter(|(hosts, _)| hosts.contains(&lost)).map(|(_, key)| key).collect();
    Some((lost, keys))
}

fn both_in_sync(world: &World, key: GroupKey, partition: &Partition) -> bool {
    let term = |m: &usize| world.machines[*m].node.as_ref()?.replica_view(key).map(|v| v.term);
    let newest = (0..world.machines.len()).filter_map(|m| term(&m)).max();
    let Some(leader) = led_in(world, key, newest) else { return false };
    let now = world.machines[leader].now(world.t);
    let node = world.machines[leader].node.as_ref();
    let in_sync = node.and_then(|n| n.copies_in_sync(now, key)).unwrap_or_default();
    partition.copies().all(|copy| in_sync.contains(&(copy.id, copy.node)))
}

/// Who leads in `term`; nobody may be down that could know of a later one.
fn led_in(world: &World, key: GroupKey, term: Option<u64>) -> Option<usize> {
    if world.machines.iter().any(|m| m.node.is_none()) {
        return None;
    }
    (0..world.machines.len()).find(|m| {
        let view = world.machines[*m].node.as_ref().and_then(|n| n.replica_view(key));
        view.is_some_and(|v| v.epoch.is_some() && Some(v.term) == term)
    })
}
