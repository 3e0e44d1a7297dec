//! What must hold between replicas, whatever clients saw.
use super::oracle::Oracle;
use super::world::World;
use model::GroupKey;
use node::{InstallEvent, ReplicaView};
use std::collections::BTreeMap;

/// Names of the checkers of replicas.
pub const CHECKERS: &[&str] = &[
    "two-leaders",
    "logs-differ",
    "images-differ",
    "replica-regressed",
    "false-damage",
    "peer-refused",
    "install-failed",
    "witness-ahead",
    "codec",
    "panic",
];

/// What is remembered of replicas.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// The leader of each term.
    leaders: BTreeMap<(GroupKey, u64), i32>,
    /// Chain values of committed entries.
    chains: BTreeMap<GroupKey, BTreeMap<u64, (u32, usize)>>,
    /// The last view of each replica, of which process.
    last: BTreeMap<(usize, GroupKey), (u64, ReplicaView)>,
    /// Metadata by index.
    images: BTreeMap<u64, (Vec<u8>, usize)>,
    metadata_seen: BTreeMap<usize, (u64, u64)>,
    /// Voters of the metadata, and up to which entry that is so.
    voters: (u64, usize),
}

/// What its leader knows to be committed is on every copy that counts as in sync, where there is a witness.
fn witness_ahead(world: &World, oracle: &mut Oracle, m: usize, key: GroupKey, view: &ReplicaView) {
    let now = world.machines[m].now(world.t);
    let in_sync = world.machines[m].node.as_ref().and_then(|n| n.copies_in_sync(now, key));
    for (id, at) in in_sync.unwrap_or_default() {
        let copy = world.machines[World::place_of(at)].node.as_ref();
        let copy = copy.filter(|n| n.suspicion(key).is_none()).and_then(|n| n.replica_view(key));
        if let Some(copy) = copy.filter(|copy| copy.replica == id && copy.last_index < view.committed) {
            let detail = format!(
                "{key}: node {} has committed {}, node {at}, in sync: {copy:?}",
                m + 1,
                view.committed
            );
            oracle.violate("witness-ahead", detail);
        }
    }
}

impl Checks {
    /// Looks at everything on a machine to which something happened.
    pub(crate) fn look(&mut self, world: &mut World, oracle: &mut Oracle, m: usize) {
        let life = world.machines[m].life;
        let Some(node) = &world.machines[m].node else { return };
        let keys: Vec<GroupKey> = node.open_keys().collect();
        let views: Vec<_> = keys.iter().filter_map(|k| node.replica_view(*k).map(|v| (*k, v))).collect();
        let applied = node.metadata_applied();
        if self.metadata_seen.insert(m, (life, applied)) != Some((life, applied)) {
            let snapshot = node.metadata_snapshot().1.to_vec();
            let (known, by) = self.images.entry(applied).or_insert_with(|| (snapshot.clone(), m));
            if *known != snapshot {
                let detail = format!("index {applied}: nodes {} and {} differ", *by + 1, m + 1);
                oracle.violate("images-differ", detail);
            }
        }
        let votes = (applied, node.quorum_sizes().0);
        if votes.0 > self.voters.0 {
            let before = self.voters.1;
            world.sometimes.voters_added += u64::from(before > 0 && votes.1 > before);
            world.sometimes.voters_removed += u64::from(votes.1 < before);
            self.voters = votes;
        }
        // A replica that gives up appends on a full disk is opened anew.
        self.last.retain(|(of, key), _| *of != m || keys.binary_search(key).is_ok());
        for (key, view) in views {
            self.replica(world, oracle, m, key, &view);
            if view.leads {
                witness_ahead(world, oracle, m, key, &view);
            }
        }
    }

    fn replica(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        m: usize,
        key: GroupKey,
        view: &ReplicaView,
    ) {
        let (node, life) = (world.machines[m].id, world.machines[m].life);
        // Who is alone elects itself before that is on its disk, and a full one takes it back; it serves no earlier.
        let elected = view.epoch.is_some() || view.members.1 > 1;
        let leader = if view.leads { Some(node).filter(|_| elected) } else { view.leader };
        if let Some(leader) = leader {
            let known = *self.leaders.entry((key, view.term)).or_insert(leader);
            if known != leader {
                let detail = format!("{key} term {}: {known} and, says node {node}, {leader}", view.term);
                oracle.violate("two-leaders", detail);
            }
        }
        let last = self.last.insert((m, key), (life, *view)).filter(|(of, _)| *of == life).map(|(_, v)| v);
        let moved = last.is_none_or(|l| l.applied != view.applied);
        // Whether they find it, and are equal again, is seen at the end.
        if let Some(chain) = view.chain.filter(|_| moved && !world.forged.contains(&key)) {
            let (known, by) = *self.chains.entry(key).or_default().entry(view.applied).or_insert((chain, m));
            if known != chain {
                let detail = format!("{key} at index {}: nodes {} and {node}", view.applied, by + 1);
                oracle.violate("logs-differ", detail);
            }
        }
        let Some(last) = last else { return };
        let back = view.applied < last.applied
            || view.committed < last.committed
            || view.high_watermark < last.high_watermark
            || view.log_start < last.log_start
            || view.term < last.term;
        if back {
            oracle.violate("replica-regressed", format!("{key} on node {node}: {last:?} became {view:?}"));
        }
        let count = &mut world.sometimes;
        count.tails_given_up += u64::from(view.last_index < last.last_index);
        count.slept += u64::from(last.awake && !view.awake);
        count.woke += u64::from(!last.awake && view.awake);
        let rose = view.term > last.term;
        let asked = last.leader.is_none() && !last.leads && view.leader != Some(node) && !view.leads;
        count.votes_lost += u64::from(rose && asked && view.leader.is_none());
    }

    fn hear_loss(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        machine: usize,
        key: GroupKey,
        recovery: &cluster::Recovery,
    ) {
        world.sometimes.losses_accepted += 1;
        let given_up = oracle.lose(key, recovery.offsets.0);
        world.sometimes.records_given_up += given_up as u64;
        // What the lost ones committed, another entry may stand for by now.
        if let Some(chains) = self.chains.get_mut(&key) {
            chains.retain(|index, (_, by)| *by == machine && *index <= recovery.last.0);
        }
    }

    /// What nodes said unasked.
    pub(crate) fn hear(&mut self, world: &mut World, oracle: &mut Oracle) {
        for said in std::mem::take(&mut world.said) {
            let node = said.machine + 1;
            match said.event {
                node::Event::Leads { key, epoch } => {
                    world.trace.add(format_args!("node {node} leads {key} in {epoch}"));
                    world.sometimes.led += 1;
                    let replica = world.machines[said.machine].node.as_ref();
                    if key != GroupKey::METADATA
                        && let Some(view) = replica.and_then(|n| n.replica_view(key))
                        && view.epoch == Some(epoch)
                    {
                        oracle.told(key, epoch, view.high_watermark, view.log_start);
                    }
                }
                node::Event::GroupFailed { key, detail } => {
                    world.trace.add(format_args!("node {node} failed {key} {detail}"));
                    // Entries that are not committed yet may rot too: whoever needs them asks again.
                    if world.rotten != Some(said.machine) {
                        oracle.violate("false-damage", format!("node {node}, {key}: {detail}"));
                    }
                }
                node::Event::PeerRefused { node: peer, key, why } => {
                    oracle.violate("peer-refused", format!("node {node}, {key}, of node {peer}: {why}"));
                }
                node::Event::Suspect { key, why } => {
                    world.trace.add(format_args!("node {node} suspects {key} {why}"));
                    world.sometimes.suspect += 1;
                    world.sometimes.suspect_metadata += u64::from(key == GroupKey::METADATA);
                    // Bits flip on one node; its rotten files may have been sent, but never taken.
                    let forged = world.forged.contains(&key) && why.contains("chain value");
                    if world.rotten != Some(said.machine) && !forged {
                        oracle.violate("false-damage", format!("node {node}, {key}: {why}"));
                    }
                }
                node::Event::LossAccepted { key, recovery } => {
                    world.trace.add(format_args!("node {node} goes on alone with {key}: {recovery:?}"));
                    self.hear_loss(world, oracle, said.machine, key, &recovery);
                }
                event @ (node::Event::ChainsDiffer { .. } | node::Event::ChainsUndecided { .. }) => {
                    differ(world, oracle, node, &event);
                }
                node::Event::Install { key, what, .. } => install(world, oracle, node, key, what),
                node::Event::GivenUp(count) => {
                    world.sometimes.given_up += count as u64;
                    world.trace.add(format_args!("node {node} gives up {count}"));
                }
                node::Event::LeftFullDisk(count) => {
                    world.sometimes.left_full_disk += count as u64;
                    world.trace.add(format_args!("node {node} hands {count} over"));
                }
                node::Event::Fenced(why) => {
                    world.sometimes.fenced += 1;
                    world.trace.add(format_args!("node {node} is fenced: {why}"));
                }
                node::Event::Moved { key } => {
                    world.sometimes.moved += 1;
                    world.trace.add(format_args!("node {node} has moved {key}"));
                }
                node::Event::ReplicaGone { key } => {
                    world.sometimes.replicas_gone += 1;
                    world.trace.add(format_args!("node {node} removes its replica of {key}"));
                }
                event => {
                    world.sometimes.txns_timed_out += u64::from(is_timeout(&event));
                    world.trace.add(format_args!("node {node}: {event:?}"));
                }
            }
        }
    }
}

fn is_timeout(event: &node::Event) -> bool {
    matches!(event, node::Event::Transaction(coordinator::txn::TxnEvent::TimedOut { .. }))
}

/// Replicas found that they differ: only those that were made to.
fn differ(world: &mut World, oracle: &mut Oracle, node: usize, event: &node::Event) {
    world.trace.add(format_args!("node {node}: {event:?}"));
    match event {
        node::Event::ChainsDiffer { key, .. } if world.forged.contains(key) => world.sometimes.differed += 1,
        _ => oracle.violate("logs-differ", format!("node {node}: {event:?}")),
    }
}

/// A replica is brought up from a checkpoint.
fn install(world: &mut World, oracle: &mut Oracle, node: usize, key: GroupKey, what: InstallEvent) {
    world.trace.add(format_args!("node {node} install {key} {what:?}"));
    let count = &mut world.sometimes;
    match what {
        InstallEvent::Begun { resumes, .. } => count.install_resumed += u64::from(resumes),
        InstallEvent::Resumed { .. } => count.install_resumed += 1,
        InstallEvent::Finished { .. } => {
            count.installed += 1;
            count.installed_metadata += u64::from(key == GroupKey::METADATA);
        }
        // A leader whose files rot sends them before it knows.
        InstallEvent::Failed { .. } if world.rotten.is_some() => {}
        // Pieces of two replicas that differ are no file of either: it begins anew, and is equal at the end.
        InstallEvent::Failed { .. } if world.forged.contains(&key) => {}
        InstallEvent::Failed { why } => {
            oracle.violate("install-failed", format!("node {node}, {key}: {why}"));
        }
    }
}
