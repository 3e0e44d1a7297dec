//! One seed from start to verdict.
use super::checks::Checks;
use super::clients::Clients;
use super::events::{Event, MS, Micros, SECOND};
use super::faults::{FaultCounts, Mend, Swarm};
use super::members;
use super::network::KINDS;
use super::oracle::Oracle;
use super::verify::PATIENCE;
use super::world::{Sometimes, World};
use crate::disk::DiskFaults;
use crate::oracle::Violation;
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a seed showed.
#[derive(Debug)]
pub struct ClusterOutcome {
    /// The seed.
    pub seed: u64,
    /// Steps taken before everything was healed.
    pub steps: u64,
    /// Hash of the trace: equal for equal seeds.
    pub trace: u64,
    /// What the checkers found; empty when all is well.
    pub violations: Vec<Violation>,
    /// The last lines of the trace, for a report.
    pub recent: Vec<String>,
    /// What went wrong on purpose.
    pub faults: FaultCounts,
    /// What the disks did.
    pub disks: DiskFaults,
    /// Rare paths.
    pub sometimes: Sometimes,
    /// Simulated time, ms.
    pub simulated_ms: u64,
    /// How long after the end of all faults everything was well again, ms.
    pub healed_after_ms: u64,
    /// Batches acknowledged.
    pub acked_batches: u64,
    /// Fetches that returned records.
    pub reads: u64,
    /// Strong reads that were answered.
    pub strong_reads: u64,
}

pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) oracle: Oracle,
    pub(crate) checks: Checks,
    pub(crate) clients: Clients,
    pub(crate) swarm: Swarm,
    /// How long the last healing took.
    pub(crate) healed_after: Micros,
    steps: u64,
    faults_end: bool,
    forced: bool,
}

fn configs(swarm: &Swarm) -> BTreeMap<String, String> {
    let rows = [
        ("offsets.topic.num.partitions", "2"),
        ("log.segment.bytes", "1048576"),
        ("log.retention.check.interval.ms", "1000"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("write.caching", if swarm.write_caching { "true" } else { "false" }),
    ];
    let of_transactions =
        [("transaction.state.log.num.partitions", "2"), ("transaction.state.log.min.isr", "1")];
    let mut configs: BTreeMap<String, String> =
        rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    if swarm.transactions {
        configs.extend(of_transactions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    }
    if swarm.members {
        configs.extend(members::CONFIGS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    }
    if swarm.compacts {
        let rows = [("log.window.bytes", "4096"), ("log.cleaner.backoff.ms", "200")];
        configs.extend(rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    }
    if swarm.evens_out {
        let rows = [
            // A look each second, and averages over two.
            ("leader.imbalance.check.interval.seconds", "10"),
            ("internal.leader.imbalance.margin.bytes", "200"),
        ];
        configs.extend(rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    }
    if let Some((piece, rate)) = swarm.installs {
        let rows = [
            ("log.roll.ms", 300),
            ("log.window.bytes", 4_096),
            ("internal.metadata.log.segment.bytes", 2_000),
            ("install.piece.bytes", piece),
            ("follower.replication.throttled.rate", rate),
            ("log.scrub.rate.bytes", if swarm.rot.is_some() || swarm.forges { 1_000_000 } else { 0 }),
            ("log.scrub.interval.ms", 2_000),
        ];
        configs.extend(rows.iter().map(|(k, v)| ((*k).to_owned(), v.to_string())));
    }
    configs
}

/// Runs one seed for `steps` steps with `nodes` nodes, heals everything, and checks that all is well again and
/// nothing is missing. A panic of the code under test is a violation like any other.
pub fn run_seed(seed: u64, steps: u64, nodes: usize) -> ClusterOutcome {
    let mut run = Run::new(seed, nodes, Swarm::draw(&mut Rng::new(seed, 3)));
    let ended = catch_unwind(AssertUnwindSafe(|| run.whole(steps)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        run.oracle.violate("panic", text.unwrap_or_default());
    }
    run.outcome(seed)
}

impl Run {
    pub(crate) fn new(seed: u64, nodes: usize, swarm: Swarm) -> Run {
        let founders = swarm.founders(nodes);
        let mut world = World::new(seed, (nodes, founders), &configs(&swarm), swarm.latency);
        (world.turn_us, world.disk_us) = (swarm.turn_us, swarm.disk_us);
        world.rotten = swarm.rot;
        world.machines.iter_mut().for_each(|machine| machine.first_epoch = swarm.first_epoch);
        world.markers_come_again = swarm.transactions;
        Run {
            world,
            oracle: Oracle::default(),
            checks: Checks::default(),
            clients: Clients::new(seed, nodes, &swarm),
            swarm,
            healed_after: 0,
            steps: 0,
            faults_end: false,
            forced: false,
        }
    }

    fn outcome(mut self, seed: u64) -> ClusterOutcome {
        self.clients.count_members(&mut self.world);
        let mut disks = DiskFaults::default();
        for machine in &self.world.machines {
            disks.add(&machine.disk.faults);
        }
        let mut sometimes = self.world.sometimes;
        (sometimes.dropped, sometimes.delivered) = (self.world.net.dropped, self.world.net.delivered);
        ClusterOutcome {
            seed,
            steps: self.steps,
            trace: self.world.trace.hash(),
            violations: self.oracle.violations,
            recent: self.world.trace.recent(),
            faults: self.world.counts,
            disks,
            sometimes,
            simulated_ms: self.world.t / MS,
            healed_after_ms: self.healed_after / MS,
            acked_batches: self.clients.acked_batches,
            reads: self.clients.reads,
            strong_reads: self.clients.strong_reads(),
        }
    }

    fn whole(&mut self, steps: u64) {
        self.world.trace.add(format_args!("{:?}", self.swarm));
        for machine in 0..self.world.machines.len() {
            let late = if machine < self.swarm.founders(self.world.machines.len()) { 100 } else { 3_000 };
            let after = self.world.some(late * MS);
            self.world.later(after, Event::Start { machine });
        }
        self.clients.begin(&mut self.world);
        self.world.later(SECOND, Event::Fault);
        while self.steps < steps && self.is_well() {
            if self.steps >= steps / 2 && !std::mem::replace(&mut self.forced, true) {
                self.world.force_fault(&self.swarm);
            }
            self.step();
        }
        if self.is_well() && self.swarm.loses_disk && self.lose_a_disk() {
            return;
        }
        if self.is_well() {
            self.heal_and_verify();
        }
        if self.is_well() && self.swarm.returns {
            self.return_unregistered();
        }
        if self.is_well() && self.swarm.rest > 0 {
            self.rest();
        }
        if self.is_well() && self.swarm.blackout_at_last {
            for m in 0..self.world.machines.len() {
                self.world.crash(m, true, MS);
            }
            self.heal_and_verify();
        }
        if self.is_well() && self.swarm.loses_disks && self.swarm.founders(self.world.machines.len()) == 1 {
            self.lose_all_but_one();
        }
    }

    /// Nothing is asked for; then one node loses its connections, or dies, and all must be well again.
    fn rest(&mut self) {
        self.pass(self.swarm.rest);
        // Leaders may have gone back to preferred replicas meanwhile: then a rest begins anew.
        let until = self.world.t + PATIENCE;
        while self.is_well() && self.world.t < until && !self.awake().is_empty() {
            self.pass(200 * MS);
        }
        if let Some(first) = self.awake().first() {
            let detail = format!("{} replicas are awake after a long rest: {first}", self.awake().len());
            self.oracle.violate("liveness", detail);
        }
        let m = self.world.rng.below(self.world.machines.len() as u64) as usize;
        if self.world.rng.chance(1, 2) {
            self.world.crash(m, false, SECOND);
        } else {
            for other in (0..self.world.machines.len()).filter(|n| *n != m) {
                KINDS.into_iter().for_each(|kind| self.world.reset(m.min(other), m.max(other), kind));
            }
        }
        self.pass(SECOND);
        if self.is_well() {
            self.heal_and_verify();
        }
    }

    /// Replicas that get ticks: none of groups that are at rest.
    fn awake(&self) -> Vec<String> {
        let mut awake = Vec::new();
        for machine in &self.world.machines {
            let Some(node) = &machine.node else { continue };
            let views = node.open_keys().filter_map(|key| node.replica_view(key).map(|view| (key, view)));
            let told = |(key, view)| format!("{key} on {}: {view:?}", machine.id);
            awake.extend(views.filter(|(_, view)| view.awake).map(told));
        }
        awake
    }

    pub(crate) fn pass(&mut self, time: Micros) {
        let until = self.world.t + time;
        while self.world.t < until && self.is_well() {
            self.step();
        }
    }

    pub(crate) fn is_well(&mut self) -> bool {
        if let Some(why) = self.world.refused_start.take() {
            self.oracle.violate("liveness", why);
        }
        if let Some(why) = self.world.unsaid.take() {
            self.oracle.violate("codec", why);
        }
        self.oracle.violations.is_empty()
    }

    pub(crate) fn end_faults(&mut self) {
        self.faults_end = true;
        self.world.heal_everything();
    }

    fn step(&mut self) {
        self.step_then(|_| {});
    }

    /// The next event happens, and everything that it touched is looked at; `hear` sees the answers first.
    pub(crate) fn step_then(&mut self, mut hear: impl FnMut(&mut World)) {
        let Some((at, event)) = self.world.queue.pop() else { return };
        self.world.t = self.world.t.max(at);
        self.world.trace.at(self.world.t);
        let touched = machine_of(&event);
        if let Some(m) = touched
            && self.world.machines[m].is_paused(self.world.t)
            && !matches!(event, Event::Start { .. })
        {
            // What happens to a paused process happens when it goes on.
            let until = self.world.machines[m].paused_until;
            return self.world.queue.add(until, event);
        }
        // A timer that was replaced by an earlier one, and a look around, are no steps.
        self.steps += u64::from(!self.world.is_idle(&event));
        self.happen(event);
        hear(&mut self.world);
        self.clients.send_answers(&mut self.world, &mut self.oracle);
        self.checks.hear(&mut self.world, &mut self.oracle);
        if let Some(m) = touched {
            self.checks.look(&mut self.world, &mut self.oracle, m);
            if let Some(node) = self.world.machines[m].node.as_ref().filter(|_| self.swarm.transactions) {
                self.clients.txns.model.observe(&mut self.oracle, node);
            }
            if self.world.machines[m].fenced() {
                // A fenced process ends; the machine may lose power right after.
                let power = !self.swarm.write_caching && self.world.rng.chance(1, 2);
                let down = self.world.some(500 * MS);
                self.world.crash(m, power, down);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Turn { machine, at } => world.turn(machine, at),
            Event::Disk { machine, life } => world.step_disk(machine, life),
            Event::Read { machine, life } => world.step_read(machine, life),
            Event::Deliver { dir, kind, at } => world.deliver(dir, kind, at),
            Event::Connect { a, b, kind } => world.try_connect(a, b, kind),
            Event::Start { machine } => world.start(machine),
            Event::Find { machine } => world.find(machine),
            Event::Client(c) => self.clients.on_client(world, &mut self.oracle, c),
            Event::Request { client, call, machine } => {
                self.clients.on_request(world, &mut self.oracle, client, call, machine);
            }
            Event::Answer { client, call, reply } => {
                self.clients.on_answer(world, &mut self.oracle, client, call, *reply);
            }
            Event::Patience { client, call } => self.clients.on_patience(world, client, call),
            Event::Fault if self.faults_end => {}
            Event::Fault => world.fault(&self.swarm),
            Event::Mend(mend) => world.mend(mend),
            Event::Again { dir, said } => world.again(dir, *said),
            Event::Look => {}
        }
    }
}

/// The machine whose process an event concerns.
fn machine_of(event: &Event) -> Option<usize> {
    match event {
        Event::Turn { machine, .. }
        | Event::Disk { machine, .. }
        | Event::Read { machine, .. }
        | Event::Start { machine }
        | Event::Find { machine }
        | Event::Request { machine, .. } => Some(*machine),
        Event::Deliver { dir, .. } | Event::Again { dir, .. } => Some(dir.1),
        Event::Mend(Mend::Resume { machine }) => Some(*machine),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_replay_from_their_seed_and_come_through_it() {
        for seed in 1..4 {
            let (one, other) = (run_seed(seed, 2_000, 3), run_seed(seed, 2_000, 3));
            assert_eq!(one.trace, other.trace, "seed {seed}");
            assert_eq!(one.violations, [], "seed {seed}");
            assert!(one.steps >= 2_000 && one.faults.crashes() > 0 && one.faults.of_disk_or_network() > 0);
        }
    }

    /// The first seeds of which this holds.
    fn seeds(wanted: impl Fn(&Swarm) -> bool) -> impl Iterator<Item = u64> {
        (1..).filter(move |seed| wanted(&Swarm::draw(&mut Rng::new(*seed, 3))))
    }

    /// Runs each twice, to the same trace, and counts what happened.
    fn clean_twice(seeds: impl Iterator<Item = u64>) -> Sometimes {
        let mut sum = Sometimes::default();
        for seed in seeds {
            let (one, other) = (run_seed(seed, 4_000, 3), run_seed(seed, 4_000, 3));
            assert_eq!(one.violations, [], "seed {seed}");
            assert_eq!(one.trace, other.trace, "seed {seed}");
            sum.add(&one.sometimes);
        }
        sum
    }

    #[test]
    fn transactions_go_on_under_faults_and_all_of_them_end() {
        let sum = clean_twice(seeds(|swarm| swarm.transactions && !swarm.loses_disk).take(3));
        assert!(sum.txns_committed > 0 && sum.txns_aborted > 0 && sum.committed_reads > 0, "{sum:?}");
    }

    #[test]
    fn a_compacted_topic_keeps_the_last_of_each_key_under_faults() {
        for seed in seeds(|swarm| swarm.compacts && swarm.keeps_deletes && !swarm.loses_disk).take(2) {
            assert_eq!(run_seed(seed, 4_000, 3).violations, [], "seed {seed}");
        }
    }

    #[test]
    fn members_of_groups_come_and_go_under_faults_and_each_partition_has_one_at_the_end() {
        let sum = clean_twice(seeds(|swarm| swarm.members && !swarm.loses_disk).take(3));
        assert!(sum.partitions_handed_over > 0 && sum.member_commits > 0 && sum.member_reads > 0, "{sum:?}");
    }

    #[test]
    fn two_and_five_nodes_come_through_it_too() {
        for nodes in [2, 5] {
            assert_eq!(run_seed(7, 2_000, nodes).violations, [], "{nodes} nodes");
        }
    }
}
