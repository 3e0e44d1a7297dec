//! One seed from start to verdict.
use crate::disk::DiskFaults;
use crate::oracle::{Oracle, Violation};
use crate::rng::Rng;
use crate::workload::{Workload, read_once};
use crate::world::World;
use model::GroupKey;
use std::collections::BTreeMap;

/// What a seed showed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Steps taken.
    pub steps: u64,
    /// Hash of the trace: equal for equal seeds.
    pub trace: u64,
    /// What the checkers found; empty when all is well.
    pub violations: Vec<Violation>,
    /// The last lines of the trace, for a report.
    pub recent: Vec<String>,
    /// What the disk did.
    pub faults: DiskFaults,
    /// Crashes of the process or the machine.
    pub restarts: u64,
    /// Times that a partition's appends were given up on a full disk.
    pub given_up: u64,
    /// Batches acknowledged.
    pub acked_batches: u64,
    /// Fetches that returned records.
    pub reads: u64,
}

/// How likely faults are in this seed; drawn once, so that seeds differ in kind.
struct Swarm {
    crash: u64,
    power: u64,
    sync_failure: u64,
    full: u64,
    /// Mean number of steps that a full disk stays so.
    full_for: u64,
    flip: bool,
    /// Topics are acknowledged from the page cache: processes are killed, the power stays on.
    write_caching: bool,
    /// But for the very end of such a run, in the midst of it all.
    cut_at_last: bool,
}

impl Swarm {
    fn draw(rng: &mut Rng) -> Swarm {
        Swarm {
            crash: 400 + rng.below(4_000),
            power: 1 + rng.below(4),
            sync_failure: if rng.chance(1, 2) { 3_000 } else { 0 },
            full: if rng.chance(1, 2) { 2_000 } else { 0 },
            full_for: *rng.pick(&[50, 500, 3_000, 20_000]).unwrap_or(&50),
            flip: rng.chance(1, 4),
            write_caching: rng.chance(1, 4),
            cut_at_last: rng.chance(1, 2),
        }
    }
}

struct Run {
    world: World,
    oracle: Oracle,
    workload: Workload,
    restarts: u64,
    refused_start: bool,
}

/// Runs one seed for `steps` steps, then heals everything and checks that nothing is missing.
pub fn run_seed(seed: u64, steps: u64) -> Outcome {
    let mut run = Run {
        world: World::new(seed),
        oracle: Oracle::default(),
        workload: Workload::new(),
        restarts: 0,
        refused_start: false,
    };
    let swarm = Swarm::draw(&mut Rng::new(seed, 2));
    run.world.write_caching = swarm.write_caching;
    run.start();
    let mut step = 0;
    while step < steps && run.oracle.violations.is_empty() && !run.refused_start {
        run.step(&swarm);
        // A seed without a crash or a fault proves little: both come at the latest here.
        if step == steps / 2 && run.restarts == 0 {
            run.crash(true);
        }
        if step == steps / 3 && run.world.disk.faults.failed_syncs == 0 {
            run.world.disk.fail_next_sync = true;
        }
        step += 1;
    }
    if run.oracle.violations.is_empty() && !run.refused_start {
        if swarm.write_caching && swarm.cut_at_last {
            run.cut_and_verify();
        } else {
            run.heal_and_verify(swarm.flip);
        }
    }
    Outcome {
        seed,
        steps: step,
        trace: run.world.trace.hash(),
        violations: run.oracle.violations,
        recent: run.world.trace.recent(),
        faults: run.world.disk.faults,
        restarts: run.restarts,
        given_up: run.world.given_up,
        acked_batches: run.workload.acked_batches,
        reads: run.workload.reads,
    }
}

impl Run {
    fn start(&mut self) {
        if let Err(error) = self.world.start() {
            self.refused_start = true;
            self.oracle.violate("liveness", format!("the node refuses to start: {error}"));
        }
    }

    /// Where the page cache is promised alone, the power stays on.
    fn crash(&mut self, power: bool) {
        self.die(power && !self.world.write_caching);
    }

    fn die(&mut self, power: bool) {
        self.world.crash(power);
        self.workload.crashed();
        self.restarts += 1;
        self.start();
    }

    fn step(&mut self, swarm: &Swarm) {
        let fenced = self.world.node.as_ref().is_some_and(|n| n.fenced().is_some());
        if fenced && self.world.rng.chance(1, 20) {
            // A fenced process ends; the machine may lose power right after.
            let power = self.world.rng.chance(1, 2);
            return self.crash(power);
        }
        if self.world.rng.chance(1, swarm.crash) {
            let power = self.world.rng.chance(swarm.power, 4);
            return self.crash(power);
        }
        if swarm.sync_failure > 0 && self.world.rng.chance(1, swarm.sync_failure) {
            self.world.disk.fail_next_sync = true;
        }
        if swarm.full > 0 {
            self.fill_up(swarm);
        }
        match self.world.rng.below(100) {
            0..=34 => self.workload.step(&mut self.world, &mut self.oracle),
            35..=79 => {
                self.world.step_disk();
            }
            80..=84 => {
                self.world.step_read();
            }
            85..=94 => self.world.end_turn(),
            _ => {
                let ms = self.world.rng.below(20) as i64;
                self.world.pass(ms);
            }
        }
        self.workload.hear(&mut self.world, &mut self.oracle);
    }

    /// The disk becomes full, gets a little room from elsewhere, or is free again.
    fn fill_up(&mut self, swarm: &Swarm) {
        let (rng, disk) = (&mut self.world.rng, &mut self.world.disk);
        match disk.room {
            None if rng.chance(1, swarm.full) => {
                let reserve = if rng.chance(1, 2) { rng.below(20_000) as usize } else { 0 };
                disk.limit(Some(rng.below(60_000) as usize), reserve);
            }
            Some(_) if rng.chance(1, swarm.full_for) => disk.limit(None, 0),
            Some(room) if rng.chance(1, 100) => disk.room = Some(room + rng.below(3_000) as usize),
            _ => {}
        }
    }

    /// Turns every fault off and lets the clients finish.
    fn settle(&mut self) {
        self.world.disk.limit(None, 0);
        self.world.disk.fail_next_sync = false;
        for _ in 0..60 {
            if self.world.node.as_ref().is_none_or(|n| n.fenced().is_some()) {
                self.crash(false);
            }
            for _ in 0..200 {
                self.workload.step(&mut self.world, &mut self.oracle);
                self.world.end_turn();
                self.world.step_disk();
                self.world.step_read();
                self.workload.hear(&mut self.world, &mut self.oracle);
            }
            self.world.quiesce();
            self.workload.hear(&mut self.world, &mut self.oracle);
            if self.workload.acked_batches > 0 && self.workload.unfinished(&self.world, &self.oracle) == 0 {
                return;
            }
        }
        let unfinished = self.workload.unfinished(&self.world, &self.oracle);
        if unfinished > 0 || self.workload.acked_batches == 0 {
            let detail = format!("{unfinished} producers got no acknowledgement on a healthy disk");
            self.oracle.violate("liveness", detail);
        }
    }

    /// The power goes while page caches are full: what was acknowledged may be gone, nothing may be damaged.
    fn cut_and_verify(&mut self) {
        self.world.disk.limit(None, 0);
        self.world.disk.fail_next_sync = false;
        self.oracle.power_lost();
        self.die(true);
        self.verify();
    }

    fn heal_and_verify(&mut self, flip: bool) {
        self.settle();
        if flip && self.oracle.violations.is_empty() {
            self.flip();
        }
        self.crash(true);
        self.verify();
    }

    /// Rot in what is long durable: it may be refused, never wrong and never missing in silence.
    fn flip(&mut self) {
        self.world.quiesce();
        let Some(node) = &self.world.node else { return };
        let mut files: BTreeMap<String, (u64, GroupKey)> = BTreeMap::new();
        for key in self.oracle.keys() {
            for file in node.files(key).unwrap_or_default() {
                files.insert(file.path, (file.bytes, key));
            }
        }
        let mut rng = self.world.rng.clone();
        let limit = |path: &str| files.get(path).map(|(bytes, _)| *bytes);
        if let Some((path, at)) = self.world.disk.flip_bit(&mut rng, limit)
            && let Some((_, key)) = files.get(&path)
        {
            self.world.trace.add(format_args!("flip {path}@{at}"));
            self.oracle.damage(*key);
        }
        self.world.rng = rng;
    }

    /// Reads every log from its start to its end.
    fn verify(&mut self) {
        if self.refused_start {
            return;
        }
        self.world.quiesce();
        for key in self.oracle.keys() {
            let mut seen = BTreeMap::new();
            let (mut at, mut start, mut tries) = (0, None, 0);
            let end = loop {
                let info = self.world.node.as_ref().and_then(|n| n.partition_info(key));
                match read_once(&mut self.world, &mut self.oracle, key, at, &mut seen) {
                    Some(next) if next == at => break info.map_or(at, |i| i.high_watermark),
                    Some(next) => at = next,
                    None => {
                        tries += 1;
                        if tries > 50 {
                            break -1;
                        }
                        self.world.quiesce();
                    }
                }
                start = self.world.node.as_ref().and_then(|n| n.partition_info(key)).map(|i| i.log_start);
            };
            if end < 0 && !self.oracle.is_damaged(key) {
                self.oracle.violate("liveness", format!("{key} cannot be read on a healthy disk"));
            } else if end >= 0 {
                self.oracle.complete(key, start.unwrap_or_default(), end, &seen);
            }
        }
    }
}
