//! What goes wrong, how often, and for how long: drawn once a seed, so that seeds differ in kind.
use super::events::{Event, MS, Micros, SECOND};
use super::machine::Machine;
use super::network::{Dir, KINDS, Latency};
use super::world::World;
use crate::rng::Rng;
use model::GroupKey;

/// The end of something that went wrong.
#[derive(Clone, Debug)]
pub(crate) enum Mend {
    /// These directions are whole again.
    Paths(Vec<Dir>),
    /// The disk has room again.
    Room { machine: usize },
    /// The process goes on.
    Resume { machine: usize },
}

/// How many of each went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Processes killed.
    pub kills: u64,
    /// Machines that lost power alone.
    pub power_cuts: u64,
    /// All machines lost power at once.
    pub blackouts: u64,
    /// Connections reset.
    pub resets: u64,
    /// Paths cut, in any of their forms.
    pub cuts: u64,
    /// Processes paused.
    pub pauses: u64,
    /// Disks made slow.
    pub slow_disks: u64,
    /// Disks made full.
    pub full_disks: u64,
    /// Syncs told to fail.
    pub failed_syncs: u64,
    /// Jumps of a wall clock.
    pub clock_jumps: u64,
    /// Bits flipped in sealed files of replicas with peers.
    pub rots: u64,
    /// Disks lost for good, at the end.
    pub lost_disks: u64,
    /// Entries that one replica took otherwise than they were sent, with checksums made right.
    pub forgeries: u64,
}

impl FaultCounts {
    /// Adds another seed's.
    pub fn add(&mut self, o: &FaultCounts) {
        let FaultCounts { kills, power_cuts, blackouts, resets, cuts, .. } = *o;
        self.kills += kills;
        self.power_cuts += power_cuts;
        self.blackouts += blackouts;
        self.resets += resets;
        self.cuts += cuts;
        let FaultCounts {
            pauses,
            slow_disks,
            full_disks,
            failed_syncs,
            clock_jumps,
            rots,
            lost_disks,
            forgeries,
            ..
        } = *o;
        (self.rots, self.lost_disks) = (self.rots + rots, self.lost_disks + lost_disks);
        self.forgeries += forgeries;
        self.pauses += pauses;
        self.slow_disks += slow_disks;
        self.full_disks += full_disks;
        self.failed_syncs += failed_syncs;
        self.clock_jumps += clock_jumps;
    }

    pub(crate) fn crashes(&self) -> u64 {
        self.kills + self.power_cuts + self.blackouts
    }

    pub(crate) fn of_disk_or_network(&self) -> u64 {
        self.resets + self.cuts + self.slow_disks + self.full_disks + self.failed_syncs
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Power,
    Blackout,
    Reset,
    Cut,
    Pause,
    Slow,
    Full,
    Sync,
    Clock,
    Rot,
    Forge,
}

/// Drawn by themselves; rot and forgery come with small files alone.
const ALL: [Kind; 10] = [
    Kind::Kill,
    Kind::Power,
    Kind::Blackout,
    Kind::Reset,
    Kind::Cut,
    Kind::Pause,
    Kind::Slow,
    Kind::Full,
    Kind::Sync,
    Kind::Clock,
];

/// What a seed is like.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    kinds: Vec<Kind>,
    /// Mean time between two faults.
    every: Micros,
    /// Faults last no longer.
    longest: Micros,
    pub(crate) latency: Latency,
    /// Topics are acknowledged from the page cache: no more than a minority loses power at once, until what that
    /// took is made good.
    pub(crate) write_caching: bool,
    pub(crate) turn_us: Micros,
    pub(crate) disk_us: Micros,
    /// Idempotent producers; of plain ones and of hasty ones there are half as many.
    pub(crate) producers: usize,
    /// One of so many requests is lost on its way, and one of so many answers.
    pub(crate) lost: u64,
    /// Out of 4 faults so many strike a node that leads something.
    at_leaders: u64,
    /// Log starts move.
    pub(crate) deletes: bool,
    /// Files and windows are small: replicas that were away are brought up from checkpoints. With so many bytes a
    /// piece, and a second (0 for any number).
    pub(crate) installs: Option<(u32, u32)>,
    /// Partitions get other replicas: one of so many requests about topics; 0: none do.
    pub(crate) moves: u64,
    /// The node whose sealed files rot; what the others hold is good.
    pub(crate) rot: Option<usize>,
    /// Replicas take what they were not sent, with all checksums right.
    pub(crate) forges: bool,
    /// How long clients think, at most.
    pub(crate) think: Micros,
    /// Before the last look nobody asks for anything, for so long: groups fall asleep.
    pub(crate) rest: Micros,
    /// Out of 4 nodes so many found the cluster, one at least; the others join.
    founding: usize,
    /// Voters of the metadata come and go.
    pub(crate) voters_change: bool,
    /// Everything loses power once more before the last look.
    pub(crate) blackout_at_last: bool,
    /// Most topics have two replicas, which have a witness.
    pub(crate) pairs: bool,
    /// A disk is lost for good instead of the last look.
    pub(crate) loses_disk: bool,
    /// At last all disks but that of one node are lost, which alone votes on the metadata.
    pub(crate) loses_disks: bool,
    /// Leads move for loads as small as those of these clients, and soon.
    pub(crate) evens_out: bool,
    /// A node is unregistered while it is down, and returns.
    pub(crate) returns: bool,
    /// Clients with transactions.
    pub(crate) transactions: bool,
    /// What transactional ids begin with: near the last one, their producer ids are used up.
    pub(crate) first_epoch: i16,
    /// A compacted topic.
    pub(crate) compacts: bool,
    /// It keeps what deletes for longer than the run lasts.
    pub(crate) keeps_deletes: bool,
    /// Members of groups.
    pub(crate) members: bool,
}

impl Swarm {
    pub(crate) fn draw(rng: &mut Rng) -> Swarm {
        let write_caching = rng.chance(1, 8);
        let mut kinds: Vec<Kind> = ALL.into_iter().filter(|_| rng.chance(1, 2)).collect();
        if write_caching {
            kinds.retain(|kind| *kind != Kind::Blackout);
        }
        if kinds.is_empty() {
            kinds.push(Kind::Kill);
        }
        let spread = *rng.pick(&[2, 5, 20, 60, 300]).unwrap_or(&5) * MS;
        let mut swarm = Swarm {
            kinds,
            every: *rng.pick(&[100, 300, 1_000, 2_500]).unwrap_or(&1_000) * MS,
            longest: *rng.pick(&[300, 1_000, 3_000, 6_000]).unwrap_or(&1_000) * MS,
            latency: Latency { least: if spread > 100 * MS { MS } else { 200 }, spread },
            write_caching,
            turn_us: *rng.pick(&[50, 500, 3_000]).unwrap_or(&200),
            disk_us: *rng.pick(&[50, 500, 5_000, 20_000]).unwrap_or(&300),
            producers: *rng.pick(&[2, 4, 12]).unwrap_or(&4),
            lost: *rng.pick(&[10, 100, 1_000]).unwrap_or(&100),
            deletes: rng.chance(1, 3),
            installs: None,
            rot: None,
            forges: false,
            at_leaders: rng.below(4),
            moves: *rng.pick(&[0, 3, 10, 40]).unwrap_or(&10),
            think: *rng.pick(&[1, 10, 100]).unwrap_or(&20) * MS,
            rest: if rng.chance(1, 3) { 5 * SECOND } else { 0 },
            blackout_at_last: !write_caching && rng.chance(1, 2),
            founding: *rng.pick(&[4, 4, 3, 1]).unwrap_or(&4),
            voters_change: rng.chance(1, 3),
            pairs: false,
            loses_disk: false,
            loses_disks: false,
            evens_out: false,
            returns: false,
            transactions: false,
            compacts: false,
            keeps_deletes: false,
            members: false,
            first_epoch: 0,
        };
        if rng.chance(1, 2) {
            let piece = *rng.pick(&[256, 1_000, 262_144]).unwrap_or(&256);
            // What rots is a loss like that of power: both may take a majority.
            if rng.chance(1, 2) && !write_caching {
                swarm.rot = Some(rng.below(3) as usize);
                swarm.kinds.extend([Kind::Rot; 3]);
                // A group that is changed has fewer good replicas than it seems.
                (swarm.moves, swarm.voters_change) = (0, false);
            }
            if swarm.rot.is_none() && rng.chance(1, 2) {
                swarm.forges = true;
                swarm.kinds.push(Kind::Forge);
                // Of an even number of replicas there may be no majority.
                swarm.moves = 0;
            }
            swarm.installs = Some((piece, *rng.pick(&[0, 300_000]).unwrap_or(&0)));
        }
        swarm.pairs = !write_caching && rng.chance(1, 3);
        swarm.loses_disk =
            swarm.pairs && !swarm.forges && swarm.rot.is_none() && !swarm.voters_change && rng.chance(1, 2);
        swarm.loses_disks = swarm.founding == 1 && !swarm.forges && !swarm.voters_change && rng.chance(2, 3);
        swarm.evens_out = rng.chance(1, 3);
        swarm.returns = !write_caching && !swarm.forges && swarm.rot.is_none() && rng.chance(1, 3);
        swarm.draw_topics(rng);
        swarm
    }

    /// Transactions, compacted topics, members of groups; drawn last, so that other seeds are what they were.
    fn draw_topics(&mut self, rng: &mut Rng) {
        // What an operator gives up is no transaction any more.
        let whole = !self.write_caching && !self.loses_disks;
        self.transactions = whole && rng.chance(1, 2);
        if self.transactions {
            // Their steps are for those who write in transactions.
            self.producers = 2;
        }
        self.compacts = whole && rng.chance(1, 4);
        self.keeps_deletes = rng.chance(1, 2);
        self.members = whole && rng.chance(2, 5);
        if self.transactions && rng.chance(1, 3) {
            self.first_epoch = i16::MAX - 2 - rng.below(4) as i16;
        }
    }
}

impl Swarm {
    /// How many of the nodes found the cluster.
    pub(crate) fn founders(&self, nodes: usize) -> usize {
        (nodes * self.founding / 4).max(1)
    }
}

impl World {
    /// The next thing that goes wrong, and when the one after it does.
    pub(crate) fn fault(&mut self, swarm: &Swarm) {
        let kind = *self.rng.pick(&swarm.kinds).unwrap_or(&Kind::Kill);
        self.strike(kind, swarm);
        let after = self.some(2 * swarm.every);
        self.later(after, Event::Fault);
    }

    /// A seed without a crash, or without a fault of disk or network, proves little.
    pub(crate) fn force_fault(&mut self, swarm: &Swarm) {
        if self.counts.crashes() == 0 {
            self.strike(Kind::Kill, swarm);
        }
        if self.counts.of_disk_or_network() == 0 {
            self.strike(Kind::Cut, swarm);
        }
    }

    /// How long a fault lasts: mostly short.
    fn duration(&mut self, swarm: &Swarm) -> Micros {
        let most = if self.rng.chance(1, 3) { swarm.longest } else { swarm.longest / 5 };
        10 * MS + self.some(most)
    }

    fn strike(&mut self, kind: Kind, swarm: &Swarm) {
        let m = self.victim(swarm);
        let lasting = self.duration(swarm);
        let loses = matches!(kind, Kind::Power | Kind::Sync);
        let kind = if loses && swarm.write_caching && !self.may_lose_power(m) { Kind::Kill } else { kind };
        self.trace.add(format_args!("fault {kind:?} {m} for {lasting}"));
        match kind {
            Kind::Kill => {
                self.counts.kills += 1;
                self.crash(m, false, lasting);
            }
            Kind::Power => {
                self.counts.power_cuts += 1;
                self.crash(m, true, lasting);
            }
            Kind::Blackout => {
                self.counts.blackouts += 1;
                for m in 0..self.machines.len() {
                    let down = self.some(lasting);
                    self.crash(m, true, down);
                }
            }
            Kind::Reset => self.reset_some(m),
            Kind::Cut => self.cut_some(m, lasting),
            Kind::Pause => {
                self.counts.pauses += 1;
                self.machines[m].paused_until = self.t + lasting.min(3 * SECOND);
                self.later(lasting.min(3 * SECOND), Event::Mend(Mend::Resume { machine: m }));
            }
            Kind::Slow => {
                self.counts.slow_disks += 1;
                self.machines[m].slow_until = self.t + lasting;
            }
            Kind::Full => self.fill(m, lasting),
            Kind::Sync => {
                self.counts.failed_syncs += 1;
                self.machines[m].disk.fail_next_sync = true;
            }
            Kind::Rot => {
                let m = swarm.rot.unwrap_or(0);
                if !(self.rng.chance(1, 4) && self.rot_metadata(m, lasting)) {
                    self.rot(m);
                }
            }
            Kind::Forge => self.forging = true,
            Kind::Clock => {
                self.counts.clock_jumps += 1;
                let to = self.rng.below(3_600_000) as i64 - 1_800_000;
                self.machines[m].jump(to);
            }
        }
    }

    /// Whether this node and all that have not made good an earlier loss are a minority.
    fn may_lose_power(&self, m: usize) -> bool {
        let shaken = (0..self.machines.len()).filter(|n| *n == m || self.machines[*n].is_shaken()).count();
        2 * shaken < self.machines.len()
    }

    /// A bit flips in a file of a replica that has two good peers at least, below a mark that is durable itself: what
    /// is above it would be a torn tail.
    fn rot(&mut self, m: usize) {
        let Some(node) = self.machines[m].node.as_ref() else { return };
        let image = node.image();
        let states =
            storage::inspect::group_states(&self.machines[m].disk.after_power_cut()).unwrap_or_default();
        let mut settled = std::collections::BTreeMap::new();
        for (state, mark) in states.into_iter().filter_map(|state| Some((state.clone(), state.mark?))) {
            let key = state.key;
            let replicas = image.partition(key);
            if replicas.is_none_or(|p| p.replicas.len() < 3 || p.is_moving()) {
                continue;
            }
            let last = storage::aside_path(&storage::generation_dir(key, state.generation), 0, mark.segment);
            let files = node.files(key).unwrap_or_default().into_iter().filter(|file| file.path <= last);
            settled.extend(
                files.map(|file| (file.path.clone(), if file.path == last { mark.pos } else { file.bytes })),
            );
        }
        let wanted = |path: &str| settled.get(path).copied();
        if let Some((path, at)) = self.machines[m].disk.flip_bit(&mut self.rng, wanted) {
            self.counts.rots += 1;
            self.trace.add(format_args!("rot {m} {path} at {at}"));
        }
    }

    /// A bit flips in what the metadata's replica on a node votes by, and its process ends; it has two good peers at
    /// least. Below a mark that is durable itself: else it would be a torn tail. Whether it was done.
    fn rot_metadata(&mut self, m: usize, down: Micros) -> bool {
        let key = GroupKey::METADATA;
        let good = |machine: &Machine| {
            let node = machine.node.as_ref().filter(|node| node.ready() && node.suspicion(key).is_none());
            let view = node.and_then(|node| node.replica_view(key));
            view.is_some_and(|view| !view.restrained && view.members.1 > 2)
        };
        if !self.machines.iter().all(good) {
            return false;
        }
        let states = storage::inspect::group_states(&self.machines[m].disk.after_power_cut());
        let state = states.ok().and_then(|states| states.into_iter().find(|state| state.key == key));
        let Some((state, mark)) = state.and_then(|state| Some((state.clone(), state.mark?))) else {
            return false;
        };
        let file = storage::aside_path(&storage::generation_dir(key, state.generation), 0, mark.segment);
        let wanted = |path: &str| (path == file).then_some(mark.pos);
        let Some((path, at)) = self.machines[m].disk.flip_bit(&mut self.rng, wanted) else { return false };
        self.counts.rots += 1;
        self.trace.add(format_args!("rot {m} {path} at {at}"));
        self.crash(m, false, down);
        true
    }

    /// The node that is struck.
    fn victim(&mut self, swarm: &Swarm) -> usize {
        let leads = |m: &usize| {
            let node = self.machines[*m].node.as_ref();
            node.is_some_and(|n| n.open_keys().any(|key| n.replica_view(key).is_some_and(|v| v.leads)))
        };
        let leaders: Vec<usize> = (0..self.machines.len()).filter(leads).collect();
        match self.rng.pick(&leaders).copied() {
            Some(leader) if self.rng.chance(swarm.at_leaders, 4) => leader,
            _ => self.rng.below(self.machines.len() as u64) as usize,
        }
    }

    fn other(&mut self, m: usize) -> usize {
        let nodes = self.machines.len();
        (m + 1 + self.rng.below(nodes as u64 - 1) as usize) % nodes
    }

    fn reset_some(&mut self, m: usize) {
        self.counts.resets += 1;
        let other = self.other(m);
        let both = self.rng.chance(1, 2);
        let one = self.rng.below(2) as usize;
        for (i, kind) in KINDS.into_iter().enumerate() {
            if both || i == one {
                self.reset(m.min(other), m.max(other), kind);
            }
        }
    }

    /// One node alone, a pair, one way only, a bridge, or everybody alone.
    fn cut_some(&mut self, m: usize, lasting: Micros) {
        self.counts.cuts += 1;
        let nodes = self.machines.len();
        let other = self.other(m);
        let others = (0..nodes).filter(|n| *n != m);
        let dirs: Vec<Dir> = match self.rng.below(6) {
            0 | 1 => others.flat_map(|n| [(m, n), (n, m)]).collect(),
            2 => vec![(m, other), (other, m)],
            3 => vec![(m, other)],
            4 if self.rng.chance(1, 2) => others.map(|n| (m, n)).collect(),
            4 => others.map(|n| (n, m)).collect(),
            _ => self.net.pairs().into_iter().flat_map(|(a, b)| [(a, b), (b, a)]).collect(),
        };
        dirs.iter().for_each(|dir| self.net.cut(*dir));
        // A long silence ends connections.
        if self.rng.chance(1, 3) {
            for (a, b) in self.net.pairs() {
                if dirs.contains(&(a, b)) || dirs.contains(&(b, a)) {
                    KINDS.into_iter().for_each(|kind| self.reset(a, b, kind));
                }
            }
        }
        self.later(lasting, Event::Mend(Mend::Paths(dirs)));
    }

    fn fill(&mut self, m: usize, lasting: Micros) {
        if self.machines[m].disk.room.is_some() {
            return;
        }
        self.counts.full_disks += 1;
        let reserve = if self.rng.chance(1, 2) { self.rng.below(20_000) as usize } else { 0 };
        let room = self.rng.below(30_000) as usize;
        self.machines[m].disk.limit(Some(room), reserve);
        self.later(lasting, Event::Mend(Mend::Room { machine: m }));
    }

    /// Something that went wrong is over.
    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Paths(dirs) => {
                dirs.into_iter().for_each(|dir| self.net.heal(dir));
                self.go_on();
            }
            Mend::Room { machine } => self.make_room(machine),
            Mend::Resume { machine: _ } => self.go_on(),
        }
    }

    pub(crate) fn make_room(&mut self, m: usize) {
        self.machines[m].disk.limit(None, 0);
        self.wake_disk(m);
    }

    /// Everything that is wrong ends now, and messages are quick.
    pub(crate) fn heal_everything(&mut self) {
        self.forging = false;
        self.net.heal_all();
        self.net.latency = Latency { least: 200, spread: 2 * MS };
        (self.turn_us, self.disk_us) = (200, 500);
        for m in 0..self.machines.len() {
            self.machines[m].paused_until = 0;
            self.machines[m].slow_until = 0;
            self.machines[m].disk.fail_next_sync = false;
            self.make_room(m);
            if self.machines[m].node.is_none() {
                self.later(MS, Event::Start { machine: m });
            }
        }
        self.go_on();
    }
}
