//! All machines, the network between them, one clock and one queue of events.
use super::events::{Event, MS, Micros, Queue, Replied};
use super::faults::FaultCounts;
use super::machine::Machine;
use super::network::{self, Dir, Item, KINDS, Latency, LinkKind, Network, Sent};
use crate::rng::Rng;
use crate::trace::Trace;
use model::{GroupKey, LeaderEpoch, NodeId, Now};
use node::{Effect, Node, PeerOut};
use std::collections::{BTreeMap, BTreeSet};

/// How often rare paths ran: a run in which they never do proves little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sometimes {
    /// A group got a leader.
    pub led: u64,
    /// The end of a replica's log was given up for another leader's entries.
    pub tails_given_up: u64,
    /// A replica asked for votes and got no majority in that term.
    pub votes_lost: u64,
    /// Entries were read from files for a follower that was behind.
    pub read_for_followers: u64,
    /// Replicas were brought up from a checkpoint.
    pub installed: u64,
    /// The metadata's among them.
    pub installed_metadata: u64,
    /// That went on after an interruption.
    pub install_resumed: u64,
    /// Replicas were found damaged.
    pub suspect: u64,
    /// The metadata's among them.
    pub suspect_metadata: u64,
    /// Two replicas found that they differ though each is good in itself.
    pub differed: u64,
    /// A group's replica fell asleep.
    pub slept: u64,
    /// And woke.
    pub woke: u64,
    /// Replicas gave up appends on a full disk.
    pub given_up: u64,
    /// Leads left a full disk.
    pub left_full_disk: u64,
    /// A process ended by itself because its disk failed.
    pub fenced: u64,
    /// Partitions got the replicas that were wanted instead of others.
    pub moved: u64,
    /// Replicas that were wanted no more were removed.
    pub replicas_gone: u64,
    /// Moves that were taken back on their way.
    pub cancelled: u64,
    /// Messages that found no connection or no room.
    pub dropped: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// Nodes that were no founders joined.
    pub joined: u64,
    /// The metadata's voters became more, as their leader saw it.
    pub voters_added: u64,
    /// Or fewer.
    pub voters_removed: u64,
    /// Disks that were lost for good.
    pub disks_lost: u64,
    /// Partitions that went on alone, because an operator accepted what that cost.
    pub losses_accepted: u64,
    /// Acknowledged records that may be lost with that.
    pub records_given_up: u64,
    /// Partitions got another preferred leader because a node led too much.
    pub evened_out: u64,
    /// Nodes that were unregistered while they were down, and have a new place.
    pub returned: u64,
    /// Transactions that committed, in seeds that were judged.
    pub txns_committed: u64,
    /// And those that aborted, or never came to an end that counts.
    pub txns_aborted: u64,
    /// Requests of fenced producers that were refused.
    pub fenced_refused: u64,
    /// Requests of transactions that were over and arrived once more.
    pub sent_again: u64,
    /// Of them ends before TV2 that came by a connection given up.
    pub late_ends: u64,
    /// Producer ids whose epochs were used up.
    pub ids_used_up: u64,
    /// Keys that transactions set in a compacted topic, by replica that was read.
    pub own_keys: u64,
    /// Markers that did.
    pub markers_again: u64,
    /// Transactions that reached their timeout.
    pub txns_timed_out: u64,
    /// Records that readers of what is committed got.
    pub committed_reads: u64,
    /// Partitions that a member of a group got from another one.
    pub partitions_handed_over: u64,
    /// Commits of members that were acknowledged.
    pub member_commits: u64,
    /// Requests of members that were told that they are out.
    pub members_refused: u64,
    /// Offsets that members read.
    pub member_reads: u64,
}

impl Sometimes {
    /// Adds another seed's.
    pub fn add(&mut self, o: &Sometimes) {
        self.led += o.led;
        self.tails_given_up += o.tails_given_up;
        self.votes_lost += o.votes_lost;
        self.read_for_followers += o.read_for_followers;
        self.suspect += o.suspect;
        self.suspect_metadata += o.suspect_metadata;
        self.differed += o.differed;
        self.installed += o.installed;
        self.installed_metadata += o.installed_metadata;
        self.install_resumed += o.install_resumed;
        self.slept += o.slept;
        self.woke += o.woke;
        self.given_up += o.given_up;
        self.left_full_disk += o.left_full_disk;
        self.fenced += o.fenced;
        self.moved += o.moved;
        self.replicas_gone += o.replicas_gone;
        self.cancelled += o.cancelled;
        self.dropped += o.dropped;
        self.delivered += o.delivered;
        self.joined += o.joined;
        self.voters_added += o.voters_added;
        self.voters_removed += o.voters_removed;
        self.disks_lost += o.disks_lost;
        self.losses_accepted += o.losses_accepted;
        self.records_given_up += o.records_given_up;
        self.evened_out += o.evened_out;
        self.returned += o.returned;
        self.txns_committed += o.txns_committed;
        self.txns_aborted += o.txns_aborted;
        self.fenced_refused += o.fenced_refused;
        self.sent_again += o.sent_again;
        self.late_ends += o.late_ends;
        self.ids_used_up += o.ids_used_up;
        self.own_keys += o.own_keys;
        self.markers_again += o.markers_again;
        self.txns_timed_out += o.txns_timed_out;
        self.committed_reads += o.committed_reads;
        self.partitions_handed_over += o.partitions_handed_over;
        self.member_commits += o.member_commits;
        self.members_refused += o.members_refused;
        self.member_reads += o.member_reads;
    }
}

/// Something that a node said unasked.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) machine: usize,
    pub(crate) event: node::Event,
}

pub(crate) struct World {
    pub(crate) machines: Vec<Machine>,
    pub(crate) net: Network,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) t: Micros,
    pub(crate) replies: Vec<Replied>,
    pub(crate) said: Vec<Said>,
    pub(crate) sometimes: Sometimes,
    pub(crate) counts: FaultCounts,
    /// The node whose files rot.
    pub(crate) rotten: Option<usize>,
    /// The next batch that is sent to a replica of enough others is altered.
    pub(crate) forging: bool,
    /// Groups of which that was done.
    pub(crate) forged: BTreeSet<GroupKey>,
    /// Markers of transactions may arrive twice.
    pub(crate) markers_come_again: bool,
    /// The longest that a turn of a shell's loop takes.
    pub(crate) turn_us: Micros,
    /// The longest that a step of a disk takes.
    pub(crate) disk_us: Micros,
    /// A process that could not be started, and why.
    pub(crate) refused_start: Option<String>,
    /// A message that could not be sent, or not be read.
    pub(crate) unsaid: Option<String>,
    /// Pairs that are about to try.
    connecting: BTreeSet<(usize, usize, LinkKind)>,
    effects: Vec<Effect>,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        (nodes, founders): (usize, usize),
        configs: &BTreeMap<String, String>,
        latency: Latency,
    ) -> World {
        World {
            machines: (0..nodes).map(|place| Machine::new(place, founders, seed, configs.clone())).collect(),
            net: Network::new(nodes, latency),
            queue: Queue::default(),
            rng: Rng::new(seed, 1),
            trace: Trace::new(),
            t: 0,
            replies: Vec::new(),
            said: Vec::new(),
            sometimes: Sometimes::default(),
            counts: FaultCounts::default(),
            rotten: None,
            forging: false,
            forged: BTreeSet::new(),
            markers_come_again: false,
            turn_us: 200,
            disk_us: 300,
            refused_start: None,
            unsaid: None,
            connecting: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn place_of(node: NodeId) -> usize {
        usize::try_from(node).unwrap_or(1) - 1
    }

    /// Machines that answer clients now.
    pub(crate) fn answering(&self) -> Vec<usize> {
        let ready = |m: &usize| {
            let machine = &self.machines[*m];
            let serves = machine.returning.is_none() && !machine.is_paused(self.t);
            serves && machine.node.as_ref().is_some_and(Node::ready)
        };
        (0..self.machines.len()).filter(ready).collect()
    }

    pub(crate) fn later(&mut self, after: Micros, event: Event) {
        self.queue.add(self.t + after, event);
    }

    /// Some microseconds, at most `most`.
    pub(crate) fn some(&mut self, most: Micros) -> Micros {
        self.rng.below(most + 1)
    }

    /// Calls a node and carries out what it wants done; `None` where no process runs.
    pub(crate) fn call<R>(&mut self, m: usize, call: impl FnOnce(&mut Node, Now) -> R) -> Option<R> {
        let now = self.machines[m].now(self.t);
        let result = call(self.machines[m].node.as_mut()?, now);
        self.carry_out(m);
        let at = self.t + self.rng.below(self.turn_us + 1);
        self.turn_by(m, at);
        Some(result)
    }

    /// The shell's loop turns at `at`, or before.
    fn turn_by(&mut self, m: usize, at: Micros) {
        if self.machines[m].turn_at.is_none_or(|due| due > at) {
            self.machines[m].turn_at = Some(at);
            self.queue.add(at, Event::Turn { machine: m, at });
        }
    }

    /// Whether nothing comes of an event for certain.
    pub(crate) fn is_idle(&self, event: &Event) -> bool {
        match event {
            Event::Turn { machine, at } => self.machines[*machine].turn_at != Some(*at),
            Event::Connect { .. }
            | Event::Find { .. }
            | Event::Look
            | Event::Client(_)
            | Event::Patience { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn turn(&mut self, m: usize, at: Micros) {
        if self.machines[m].turn_at != Some(at) || self.machines[m].node.is_none() {
            return;
        }
        self.machines[m].turn_at = None;
        let now = self.machines[m].now(self.t);
        if let Some(node) = &mut self.machines[m].node {
            if node.next_deadline().is_some_and(|due| due <= now.mono) {
                node.tick(now);
            }
            node.end_turn(now);
        }
        self.carry_out(m);
        if let Some(due) = self.machines[m].deadline() {
            let due = due.max(self.t + 1);
            self.turn_by(m, due);
        }
    }

    fn carry_out(&mut self, m: usize) {
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(node) = &mut self.machines[m].node {
            node.take_effects(&mut effects);
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Disk(op) => self.machines[m].disk.submit(op),
                Effect::Read(token, range) => {
                    self.sometimes.read_for_followers += 1;
                    self.machines[m].reads.push_back((token, range));
                }
                Effect::Peer(to, said) => self.send(m, World::place_of(to), said),
                Effect::Reply(token, reply) => self.replies.push(Replied { machine: m, token, reply }),
                Effect::Event(event) => {
                    let evens_out = matches!(event, node::Event::LeadsTooMuch { .. });
                    self.sometimes.evened_out += u64::from(evens_out);
                    self.said.push(Said { machine: m, event });
                }
            }
        }
        self.effects = effects;
        self.start_disk(m);
        self.start_read(m);
    }

    /// The time that a disk takes for its next step.
    fn disk_time(&mut self, m: usize) -> Micros {
        let slow = self.t < self.machines[m].slow_until && self.rng.chance(1, 6);
        if slow { self.some(2_000 * MS) } else { self.some(self.disk_us) }
    }

    /// The disk has something to say unasked.
    pub(crate) fn wake_disk(&mut self, m: usize) {
        if self.machines[m].node.is_some() {
            self.start_disk(m);
        }
    }

    fn start_disk(&mut self, m: usize) {
        if !self.machines[m].disk_busy && self.machines[m].disk.busy() {
            self.machines[m].disk_busy = true;
            let (after, life) = (self.disk_time(m), self.machines[m].life);
            self.later(after, Event::Disk { machine: m, life });
        }
    }

    fn start_read(&mut self, m: usize) {
        if !self.machines[m].read_busy && !self.machines[m].reads.is_empty() {
            self.machines[m].read_busy = true;
            let (after, life) = (self.disk_time(m), self.machines[m].life);
            self.later(after, Event::Read { machine: m, life });
        }
    }

    pub(crate) fn step_disk(&mut self, m: usize, life: u64) {
        if self.machines[m].life != life || self.machines[m].node.is_none() {
            return;
        }
        self.machines[m].disk_busy = false;
        // A few small things at once: but any two of them may have a crash between them.
        let most = 1 + self.rng.below(6);
        for _ in 0..most {
            let completion = self.machines[m].disk.step(&mut self.rng);
            if let Some(completion) = completion {
                self.trace.add(format_args!("disk {m} {}", crate::world::kind_of(&completion)));
                self.call(m, |node, now| node.on_disk(now, completion));
                break;
            }
        }
        self.start_disk(m);
    }

    pub(crate) fn step_read(&mut self, m: usize, life: u64) {
        if self.machines[m].life != life || self.machines[m].node.is_none() {
            return;
        }
        self.machines[m].read_busy = false;
        if let Some((token, range)) = self.machines[m].reads.pop_front() {
            let result = storage::read_range(&self.machines[m].disk, &range);
            self.call(m, |node, now| node.on_read(now, token, result));
        }
        self.start_read(m);
    }

    fn send(&mut self, from: usize, to: usize, said: PeerOut) {
        let kind = match said {
            PeerOut::Heartbeat(_) | PeerOut::Leaders(_) => LinkKind::Liveness,
            PeerOut::Raft { .. }
            | PeerOut::Propose { .. }
            | PeerOut::Proposed { .. }
            | PeerOut::Install { .. }
            | PeerOut::AskReplica { .. }
            | PeerOut::ReplicaState { .. }
            | PeerOut::HandOver { .. }
            | PeerOut::TxnAsk { .. }
            | PeerOut::TxnAnswer { .. }
            | PeerOut::Markers { .. }
            | PeerOut::Marked { .. }
            | PeerOut::Chain { .. } => LinkKind::Data,
        };
        let table = matches!(said, PeerOut::Leaders(_));
        self.keep_marker((from, to), &said);
        let said = if self.forging { self.forge((from, to), said) } else { said };
        let said = match network::encode(said) {
            Ok(said) => said,
            Err(why) => return self.unsaid = Some(format!("node {}: {why}", from + 1)),
        };
        match self.net.send(self.t, (from, to), kind, said, &mut self.rng) {
            Sent::OnItsWay(Some(at)) => self.queue.add(at, Event::Deliver { dir: (from, to), kind, at }),
            Sent::OnItsWay(None) => {}
            Sent::NoConnection | Sent::Full if table => {
                let peer = self.machines[to].id;
                let now = self.machines[from].now(self.t);
                if let Some(node) = &mut self.machines[from].node {
                    node.on_peer_missed(now, peer);
                }
            }
            Sent::NoConnection | Sent::Full => {}
        }
    }

    /// Coordinators ask again for markers whose answers are late, and a path may change meanwhile: what they said may
    /// arrive long after the transaction is over. Where epochs tell transactions apart nothing must come of it.
    fn keep_marker(&mut self, dir: Dir, said: &PeerOut) {
        let PeerOut::Markers { markers, .. } = said else { return };
        if self.markers_come_again && markers.marker.txn_version >= 2 && self.rng.chance(1, 2) {
            let after = self.some(2_000 * MS);
            self.later(after, Event::Again { dir, said: Box::new(said.clone()) });
        }
    }

    pub(crate) fn again(&mut self, (from, to): Dir, said: PeerOut) {
        self.sometimes.markers_again += 1;
        self.trace.add(format_args!("{from} to {to} once more {}", name_of(&said)));
        let peer = self.machines[from].id;
        self.call(to, |node, now| node.on_peer(now, peer, said));
    }

    pub(crate) fn deliver(&mut self, dir: Dir, kind: LinkKind, at: Micros) {
        let (item, next) = self.net.arrive(self.t, dir, kind, at);
        if let Some(at) = next {
            self.queue.add(at, Event::Deliver { dir, kind, at });
        }
        let Some(item) = item else { return };
        let (from, to) = dir;
        if self.machines[to].node.is_none() {
            return;
        }
        let (peer, liveness) = (self.machines[from].id, kind == LinkKind::Liveness);
        match item {
            Item::Up { life, number } => {
                self.trace.add(format_args!("{to} has {kind:?} to {from}.{life}"));
                self.net.note(dir, kind, Some(number));
                if liveness {
                    self.call(to, |node, now| node.on_peer_connected(now, peer, life));
                }
            }
            Item::Down => {
                let was = self.net.is_up(to, from, kind);
                self.net.note(dir, kind, None);
                if was && liveness {
                    self.trace.add(format_args!("{to} lost {from}"));
                    self.call(to, |node, now| node.on_peer_disconnected(now, peer));
                }
                self.connect_soon(from, to, kind);
            }
            Item::Message(frame) if self.net.is_up(to, from, kind) => match network::decode(&frame) {
                Ok(said) => {
                    self.net.delivered += 1;
                    self.trace.add(format_args!("{from} to {to} {}", name_of(&said)));
                    self.call(to, |node, now| node.on_peer(now, peer, said));
                }
                Err(why) => self.unsaid = Some(format!("from node {peer}: {why}")),
            },
            Item::Message(_) => self.net.dropped += 1,
        }
    }

    pub(crate) fn connect_soon(&mut self, a: usize, b: usize, kind: LinkKind) {
        if !self.connecting.insert((a.min(b), a.max(b), kind)) {
            return;
        }
        let after = MS + self.some(150 * MS);
        self.later(after, Event::Connect { a: a.min(b), b: a.max(b), kind });
    }

    pub(crate) fn try_connect(&mut self, a: usize, b: usize, kind: LinkKind) {
        self.connecting.remove(&(a, b, kind));
        let lives = |m: usize| self.machines[m].node.as_ref().map(|_| self.machines[m].life);
        let (Some(life_a), Some(life_b)) = (lives(a), lives(b)) else { return };
        if self.net.in_motion(a, b, kind) {
            return self.connect_soon(a, b, kind);
        }
        if self.net.is_up(a, b, kind) && self.net.is_up(b, a, kind) {
            return;
        }
        let paused = self.machines[a].is_paused(self.t) || self.machines[b].is_paused(self.t);
        if paused || !self.net.may_connect(a, b, kind) {
            if self.net.is_stale(a, b, kind) {
                self.reset(a, b, kind);
            }
            return self.connect_soon(a, b, kind);
        }
        for (dir, at) in self.net.connect(self.t, a, b, kind, (life_a, life_b), &mut self.rng) {
            self.queue.add(at, Event::Deliver { dir, kind, at });
        }
    }

    pub(crate) fn reset(&mut self, a: usize, b: usize, kind: LinkKind) {
        for (dir, at) in self.net.reset(self.t, a, b, kind, &mut self.rng) {
            self.queue.add(at, Event::Deliver { dir, kind, at });
        }
        self.connect_soon(a, b, kind);
    }

    /// Paths that were cut, or processes that were paused, are not any more.
    pub(crate) fn go_on(&mut self) {
        for (dir, kind, at) in self.net.stalled(self.t) {
            self.queue.add(at, Event::Deliver { dir, kind, at });
        }
    }

    /// A process is started, unless one runs.
    pub(crate) fn start(&mut self, m: usize) {
        let out = self.machines[m].gone || self.machines[m].barred;
        if out || self.machines[m].node.is_some() || self.refused_start.is_some() {
            return;
        }
        if let Err(error) = self.machines[m].start(self.t, &mut self.rng) {
            self.refused_start = Some(format!("node {} refuses to start: {error}", m + 1));
            return;
        }
        self.trace.add(format_args!("start {m}.{}", self.machines[m].life));
        self.carry_out(m);
        self.turn_by(m, self.t);
        let after = self.some(300 * MS);
        self.later(after, Event::Find { machine: m });
        for other in (0..self.machines.len()).filter(|n| *n != m) {
            KINDS.into_iter().for_each(|kind| self.connect_soon(m, other, kind));
        }
    }

    /// A process dies; with `power` its machine does. It is started again after a while.
    pub(crate) fn crash(&mut self, m: usize, power: bool, down_for: Micros) {
        if self.machines[m].node.is_none() {
            return;
        }
        self.trace.add(format_args!("crash {m} power={power}"));
        self.machines[m].die(&mut self.rng, power);
        for (dir, kind, at) in self.net.died(self.t, m, power, &mut self.rng) {
            self.queue.add(at, Event::Deliver { dir, kind, at });
        }
        self.replies.retain(|reply| reply.machine != m);
        self.later(down_for, Event::Start { machine: m });
    }

    /// Any running node's word on who leads a partition, with the epoch.
    pub(crate) fn ask_leader(&mut self, key: GroupKey) -> Option<(LeaderEpoch, usize)> {
        let answering = self.answering();
        let m = *self.rng.pick(&answering)?;
        let (epoch, leader) = self.machines[m].node.as_ref()?.leader_of(key);
        leader.map(|leader| (epoch, World::place_of(leader)))
    }

    /// Any running node's word on who leads the metadata group.
    pub(crate) fn ask_controller(&mut self) -> Option<usize> {
        let answering = self.answering();
        let m = *self.rng.pick(&answering)?;
        self.machines[m].node.as_ref()?.metadata_leader().map(World::place_of)
    }
}

fn name_of(said: &PeerOut) -> &'static str {
    match said {
        PeerOut::Raft { .. } => "raft",
        PeerOut::Heartbeat(_) => "beat",
        PeerOut::Leaders(_) => "leaders",
        PeerOut::Propose { .. } => "propose",
        PeerOut::Proposed { .. } => "proposed",
        PeerOut::Install { .. } => "install",
        PeerOut::HandOver { .. } => "hand over",
        PeerOut::AskReplica { .. } => "ask replica",
        PeerOut::ReplicaState { .. } => "replica state",
        PeerOut::TxnAsk { .. } => "ask transaction",
        PeerOut::TxnAnswer { .. } => "transaction",
        PeerOut::Markers { .. } => "markers",
        PeerOut::Marked { .. } => "marked",
        PeerOut::Chain { .. } => "chain",
    }
}
