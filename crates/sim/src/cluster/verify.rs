//! After everything was healed: all is well again within a bounded time, and nothing is missing.
use super::events::{Event, MS, SECOND};
use super::reader::read_once;
use super::run::Run;
use super::txn::still_open;
use super::world::World;
use bytes::BytesMut;
use model::GroupKey;
use node::{Node, Reply, Token};
use records::{BatchBuilder, NewRecord};
use std::collections::{BTreeMap, BTreeSet};

/// How long it may take until everything is well again, simulated.
pub(crate) const PATIENCE: u64 = 20 * SECOND;
/// Values of records that belong to no client.
const PROBES: u64 = 1 << 60;

impl Run {
    /// Ends all faults, proves that everything is well again, and reads every log.
    pub(crate) fn heal_and_verify(&mut self) {
        self.end_faults();
        self.clients.draining = true;
        self.clients.members.settle(self.world.t);
        let begun = self.world.t;
        let mut probes = Probes::default();
        let mut why = "nothing was looked at".to_owned();
        // Replicas that differ are found when the scrub has come to their files, one after the other.
        let patience = if self.world.forged.is_empty() { PATIENCE } else { 3 * PATIENCE };
        // Clients that left their transactions open leave that to a timeout, and a deleted topic is given time.
        let patience = if self.swarm.transactions { patience + PATIENCE } else { patience };
        // A throttle of the swarm's, and pieces of some bytes, make installs slow: they are waited for while they go on.
        let mut until = begun + patience;
        while self.world.t < until {
            if self.installs() {
                until = until.max(self.world.t + PATIENCE).min(begun + 10 * PATIENCE);
            }
            self.world.later(100 * MS, Event::Look);
            let next = self.world.t + 100 * MS;
            while self.world.t < next && self.is_well() {
                self.probing_step(&mut probes);
            }
            if !self.is_well() {
                return;
            }
            match self.not_yet(&mut probes) {
                None => {
                    self.healed_after = self.healed_after.max(self.world.t - begun);
                    return self.verify();
                }
                Some(reason) => why = reason,
            }
        }
        let nodes = || self.world.machines.iter().filter_map(|m| m.node.as_ref());
        let there = |key: &&GroupKey| nodes().any(|node| holds(node, **key));
        let forged = self.world.forged.iter().filter(there).find_map(|key| unequal(&self.world, *key));
        if let Some(why) = forged {
            return self.oracle.violate("logs-differ", format!("long after the last fault: {why}"));
        }
        if let Some(open) = still_open(&self.world) {
            let detail = format!("long after the last fault: {open}; {why}");
            return self.oracle.violate("txn-outlives-timeout", detail);
        }
        if let Some(unsettled) = self.clients.members.unsettled(&self.world) {
            let detail = format!("long after the last fault: {unsettled}; {why}");
            return self.oracle.violate("group-liveness", detail);
        }
        self.oracle.violate("liveness", format!("long after the last fault: {why}"));
    }

    /// Whether a replica is being brought up from a checkpoint.
    fn installs(&self) -> bool {
        let mut nodes = self.world.machines.iter().filter_map(|m| m.node.as_ref());
        nodes.any(|node| node.install_stats().running > 0)
    }

    fn probing_step(&mut self, probes: &mut Probes) {
        self.step_then(|world| probes.hear(world));
    }

    /// What is not as it should be, if anything.
    fn not_yet(&mut self, probes: &mut Probes) -> Option<String> {
        let world = &mut self.world;
        if let Some(why) = not_up(world) {
            return Some(why);
        }
        let nodes = || world.machines.iter().filter_map(|m| m.node.as_ref());
        let versions: BTreeSet<u64> = nodes().map(Node::metadata_applied).collect();
        if versions.len() != 1 {
            return Some(format!("metadata is applied up to {versions:?}"));
        }
        let mut keys: Vec<GroupKey> = Vec::new();
        let image = nodes().next()?.image();
        // A coordinator's log takes no records of ours; and where it has one replica nobody may have touched it.
        let internal = |key: &GroupKey| image.topic_by_id(key.topic).is_some_and(|t| t.internal);
        let replicas = |key: &GroupKey| image.partition(*key);
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let key = GroupKey { topic: topic.id, partition: index as i32 };
                keys.push(key);
                if partition.is_moving() {
                    return Some(format!(
                        "{key} has not got its replicas: {partition:?}; {}",
                        explain(world, key)
                    ));
                }
            }
        }
        if let Some(why) = left_behind(world, &keys) {
            return Some(why);
        }
        let mut leaders = BTreeMap::new();
        for key in &keys {
            let said: BTreeSet<_> = nodes().map(|n| n.leader_of(*key)).collect();
            let named: BTreeSet<_> = said.iter().map(|(_, leader)| *leader).collect();
            // Nobody knows the epoch of a partition without other replicas before it is touched.
            let known = said.len() == 1 || !probes.done.contains(key);
            let (1, true, Some(Some(leader))) = (named.len(), known, named.first()) else {
                return Some(format!(
                    "{key} is led, by (epoch, node), by {said:?}; {}",
                    explain(world, *key)
                ));
            };
            leaders.insert(*key, World::place_of(*leader));
        }
        let ill = nodes().flat_map(|n| keys.iter().filter_map(|key| Some((key, n.suspicion(*key)?)))).next();
        if let Some((key, why)) = ill {
            let views: Vec<_> = nodes().map(|n| n.replica_view(*key)).collect();
            return Some(format!("{key} is suspect: {why}; {views:?}"));
        }
        let unfinished = self.clients.unfinished(world.t);
        if unfinished > 0 {
            return Some(format!("{unfinished} clients wait{}", not_led(world, &leaders)));
        }
        let open = still_open(world);
        let unsettled = self.clients.members.unsettled(world);
        let mut taking = leaders.iter().filter(|(key, _)| !internal(key));
        let why = open.or_else(|| taking.find_map(|(key, leader)| probes.probe(world, *key, *leader)));
        if why.is_some() {
            return why;
        }
        keys.retain(|key| !internal(key) || replicas(key).is_some_and(|p| p.replicas.len() > 1));
        keys.push(GroupKey::METADATA);
        let unequal = || keys.iter().find_map(|key| unequal(world, *key));
        quorum_unsettled(world).or_else(unequal).or(unsettled)
    }

    fn verify(&mut self) {
        self.clients.members.quiet = true;
        let Some(node) = self.world.machines.first().and_then(|m| m.node.as_ref()) else { return };
        let image = node.image();
        let (promised, deleted) = self.clients.topics();
        for (name, id) in promised {
            let found = image.topic(&name).map(|t| t.id);
            if found != Some(id) {
                let detail = format!("{name} was created with id {id} and is gone; now it has {found:?}");
                self.oracle.violate("topic-lost", detail);
            }
        }
        for machine in &self.world.machines {
            let dirs = storage::DiskRead::list(&machine.disk, "groups").unwrap_or_default();
            for dir in dirs {
                let left =
                    storage::parse_group_dir(&dir).is_some_and(|(key, _)| deleted.contains(&key.topic));
                if left {
                    self.oracle
                        .violate("topic-lost", format!("{dir} of a deleted topic is on node {}", machine.id));
                }
            }
        }
        self.mark_tables();
        let mut keys = Vec::new();
        for key in self.oracle.keys() {
            match image.topic_by_id(key.topic) {
                None => self.oracle.violate("topic-lost", format!("{key}: its topic is gone")),
                // What coordinators write is no value of ours.
                Some(topic) if topic.internal => {}
                Some(_) => {
                    keys.push(key);
                    self.read_whole(key, 3);
                }
            }
        }
        if self.swarm.transactions && self.is_well() {
            self.judge_transactions(&keys);
        }
        if self.swarm.compacts && self.is_well() {
            self.judge_tables();
        }
    }

    /// `tries`: how often a leader may find that its files are rotten.
    pub(crate) fn read_whole(&mut self, key: GroupKey, tries: u32) {
        let leader = self.world.machines.iter().position(|m| {
            m.node.as_ref().and_then(|n| n.replica_view(key)).is_some_and(|v| v.epoch.is_some())
        });
        let view = leader.and_then(|m| self.world.machines[m].node.as_ref()?.replica_view(key));
        let (Some(leader), Some(view)) = (leader, view) else {
            return self.oracle.violate("liveness", format!("{key} has no leader to read from"));
        };
        let (mut at, mut seen) = (view.log_start, BTreeMap::new());
        while at < view.high_watermark {
            match read_once(&mut self.world, &mut self.oracle, leader, key, at, &mut seen) {
                Some(next) if next > at => at = next,
                _ if tries > 0 && self.world.rotten == Some(leader) => {
                    self.heal_rot(key);
                    return self.read_whole(key, tries - 1);
                }
                other => {
                    let detail = format!("{key} cannot be read from {at} on: {other:?}");
                    return self.oracle.violate("acked-lost", detail);
                }
            }
        }
        let reign = (view.epoch.unwrap_or(-1), self.world.machines[leader].life);
        self.oracle.complete(key, reign, view.log_start, &seen, &self.clients.producer_of);
    }
}

impl Run {
    /// A leader found that what it was to read is not what was written: another one takes over, and its replica is
    /// brought up anew.
    fn heal_rot(&mut self, key: GroupKey) {
        let until = self.world.t + PATIENCE;
        let ill = |run: &Run| {
            let nodes = || run.world.machines.iter().filter_map(|m| m.node.as_ref());
            nodes().any(|n| n.suspicion(key).is_some()) || unequal(&run.world, key).is_some()
        };
        while self.is_well() && ill(self) {
            if self.world.t > until {
                return self.oracle.violate("liveness", format!("{key} does not heal"));
            }
            self.step_then(|_| {});
        }
    }
}

/// How the replicas of a group differ, if they do.
fn unequal(world: &World, key: GroupKey) -> Option<String> {
    let replicas = world.machines.iter().filter_map(|m| m.node.as_ref().map(|n| (m.id, n)));
    let members: Vec<_> = replicas.filter(|(_, n)| key == GroupKey::METADATA || holds(n, key)).collect();
    let views: Vec<_> = members.iter().map(|(id, n)| (id, n.replica_view(key))).collect();
    let missing = views.iter().find(|(_, view)| view.is_none());
    if let Some((id, _)) = missing {
        return Some(format!("{key} is not open on node {id}"));
    }
    let heads = |v: &node::ReplicaView| (v.applied, v.last_index, v.high_watermark);
    for machine in &world.machines {
        let Some(node) = machine.node.as_ref().filter(|n| witnesses(n, key)) else { continue };
        let view = node.replica_view(key);
        let equal = view
            .is_some_and(|v| v.witness && views.iter().all(|(_, o)| o.map(|o| heads(&o)) == Some(heads(&v))));
        if !equal {
            return Some(format!("the witness of {key} has {view:?}, the others {views:?}"));
        }
    }
    let state = |v: &node::ReplicaView| (v.applied, v.last_index, v.chain, v.high_watermark, v.log_start);
    let states: BTreeSet<_> = views.iter().filter_map(|(_, v)| v.as_ref().map(state)).collect();
    let whole = states.iter().all(|(applied, last, chain, ..)| applied == last && chain.is_some());
    (states.len() != 1 || !whole).then(|| format!("replicas of {key} differ: {views:?}"))
}

/// What the replicas of a group say of its members.
fn explain(world: &World, key: GroupKey) -> String {
    let mut said = String::new();
    for machine in &world.machines {
        let now = machine.now(world.t);
        if let Some(why) = machine.node.as_ref().and_then(|n| n.explain_move(now, key)) {
            let view = machine.node.as_ref().and_then(|n| n.replica_view(key));
            said.push_str(&format!("node {}: {why}, {view:?}; ", machine.id));
        }
    }
    said
}

/// Which node knows of changes of the metadata's voters to come, if one does.
fn quorum_unsettled(world: &World) -> Option<String> {
    let wanting = |m: &&super::machine::Machine| m.node.as_ref().is_some_and(|n| !n.quorum_is_settled());
    let machine = world.machines.iter().find(wanting)?;
    Some(format!("on node {} the metadata's members are not what they are to be", machine.id))
}

/// Which node is down or not registered, if one is.
fn not_up(world: &World) -> Option<String> {
    for machine in &world.machines {
        let Some(node) = &machine.node else { return Some(format!("node {} is down", machine.id)) };
        if !node.ready() {
            let view = |m: &super::machine::Machine| m.node.as_ref()?.replica_view(GroupKey::METADATA);
            let views: Vec<_> = world.machines.iter().map(view).collect();
            return Some(format!("node {} is not registered; the metadata: {views:?}", machine.id));
        }
        if let Some(held) = machine.returning {
            return Some(format!("node {}, which was unregistered as {held}, has no new place", machine.id));
        }
    }
    None
}

/// Partitions that the table of leaders says are led, and are not.
fn not_led(world: &World, leaders: &BTreeMap<GroupKey, usize>) -> String {
    let view = |at: usize, key| world.machines[at].node.as_ref().and_then(|n| n.replica_view(key));
    let idle = leaders.iter().filter(|(key, at)| view(**at, **key).is_none_or(|v| v.epoch.is_none()));
    let all = |key: GroupKey| (0..world.machines.len()).map(|at| view(at, key)).collect::<Vec<_>>();
    idle.map(|(key, _)| format!("; {key} is not led: {:?}", all(*key))).collect()
}

/// What a node still has of a partition that has no replica there any more.
fn left_behind(world: &World, keys: &[GroupKey]) -> Option<String> {
    for machine in &world.machines {
        let Some(node) = &machine.node else { continue };
        let dirs = storage::DiskRead::list(&machine.disk, "groups").unwrap_or_default();
        for key in keys.iter().filter(|key| !holds(node, **key) && !witnesses(node, **key)) {
            let of_key = |d: &String| storage::parse_group_dir(d).is_some_and(|(of, _)| of == *key);
            if node.replica_view(*key).is_some() || dirs.iter().any(of_key) {
                return Some(format!("{key} is still on node {}", machine.id));
            }
        }
    }
    None
}

fn holds(node: &Node, key: GroupKey) -> bool {
    let image = node.image();
    let replicas = image.partition(key);
    replicas.is_some_and(|p| p.replicas.iter().any(|r| r.node == image.node_id))
}

fn witnesses(node: &Node, key: GroupKey) -> bool {
    let image = node.image();
    let partition = image.partition(key);
    partition.and_then(|p| p.witness).is_some_and(|w| w.node == image.node_id)
}

/// One append with acks=all for each partition.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    count: u64,
    asked: BTreeMap<GroupKey, (Token, u64)>,
    done: BTreeSet<GroupKey>,
}

impl Probes {
    /// Why the partition is not known to take appends yet.
    pub(crate) fn probe(&mut self, world: &mut World, key: GroupKey, leader: usize) -> Option<String> {
        if self.done.contains(&key) {
            return None;
        }
        let recent = self.asked.get(&key).is_some_and(|(_, at)| at + SECOND > world.t);
        if !recent {
            self.count += 1;
            let token = Token(PROBES + self.count);
            let value = PROBES + world.t * 1_000 + self.count;
            let mut batch = BatchBuilder::new();
            batch.push(NewRecord::new(1_700_000_000_000, Some(b"k"), Some(&value.to_be_bytes())));
            let bytes = batch.finish().expect("an uncompressed batch can always be built");
            self.asked.insert(key, (token, world.t));
            world.call(leader, |n, now| n.produce(now, token, key, BytesMut::from(&bytes[..]), -1));
        }
        Some(format!("{key} has not taken an append"))
    }

    pub(crate) fn hear(&mut self, world: &mut World) {
        for replied in &world.replies {
            let Reply::Produce(result) = &replied.reply else { continue };
            let key = self.asked.iter().find(|(_, (token, _))| *token == replied.token).map(|(key, _)| *key);
            let Some(key) = key else { continue };
            match result {
                Ok(_) => {
                    self.done.insert(key);
                }
                Err(_) => {
                    self.asked.remove(&key);
                }
            }
        }
    }
}
