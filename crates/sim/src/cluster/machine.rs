//! One node: its process, its disk, its clock.
use super::events::Micros;
use crate::disk::SimDisk;
use crate::rng::Rng;
use model::{Mono, NodeId, Now};
use node::{Node, NodeConfig, OpenError, ReadToken};
use std::collections::{BTreeMap, VecDeque};
use storage::{DirectoryConfig, FileRange};

const CLUSTER_ID: &str = "simulated-cluster-id00";
/// The wall clock of everybody when a run begins, ms.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// A machine's clocks. The monotonic one begins somewhere at each start of the process and runs a little too
/// fast or too slow; the wall clock is wrong by an amount that jumps.
#[derive(Debug)]
struct Clock {
    base_ns: u64,
    since: Micros,
    ppm: i64,
    wall_off_ms: i64,
}

impl Clock {
    fn mono(&self, t: Micros) -> Mono {
        let passed = i128::from(t.saturating_sub(self.since)) * 1_000;
        let drift = passed * i128::from(self.ppm) / 1_000_000;
        Mono(self.base_ns + u64::try_from(passed + drift).unwrap_or(0))
    }

    /// The first microsecond at which `mono` shows `at` or later.
    fn when(&self, at: Mono) -> Micros {
        let ahead = i128::from(at.0.saturating_sub(self.base_ns));
        let passed = ahead * 1_000_000 / (1_000_000 + i128::from(self.ppm)) / 1_000;
        self.since + u64::try_from(passed).unwrap_or(0) + 1
    }
}

pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) disk: SimDisk,
    pub(crate) node: Option<Node>,
    /// The number of the present process, or of the last one; rises with each start.
    pub(crate) life: u64,
    pub(crate) reads: VecDeque<(ReadToken, FileRange)>,
    /// When the next turn is due, if one stands in the queue.
    pub(crate) turn_at: Option<Micros>,
    pub(crate) disk_busy: bool,
    pub(crate) read_busy: bool,
    /// No event reaches the process before this.
    pub(crate) paused_until: Micros,
    /// The disk takes its time until then.
    pub(crate) slow_until: Micros,
    boots: u64,
    /// Power was lost here, and the process that follows has not said yet that it made good what that took.
    pub(crate) shaken: bool,
    /// The machine is lost for good.
    pub(crate) gone: bool,
    clock: Clock,
    seed: u64,
    configs: BTreeMap<String, String>,
    founders: usize,
    /// What a new transactional id begins with.
    pub(super) first_epoch: i16,
    /// Disks that were here before.
    pub(super) directories: u8,
    /// It is known under the disk that it has lost: nobody would let it in.
    pub(super) barred: bool,
    /// It was unregistered while it was down and looks for its new place; the replica of the metadata that it had.
    pub(super) returning: Option<u64>,
}

impl Machine {
    pub(crate) fn new(
        place: usize,
        founders: usize,
        seed: u64,
        configs: BTreeMap<String, String>,
    ) -> Machine {
        Machine {
            id: place as NodeId + 1,
            disk: SimDisk::evicting(),
            node: None,
            life: 0,
            reads: VecDeque::new(),
            turn_at: None,
            disk_busy: false,
            read_busy: false,
            paused_until: 0,
            slow_until: 0,
            boots: 1,
            shaken: false,
            gone: false,
            clock: Clock { base_ns: 1, since: 0, ppm: 0, wall_off_ms: 0 },
            seed,
            configs,
            founders,
            first_epoch: 0,
            directories: 0,
            barred: false,
            returning: None,
        }
    }

    pub(crate) fn now(&self, t: Micros) -> Now {
        let wall = EPOCH_MS + i64::try_from(t / 1_000).unwrap_or(0) + self.clock.wall_off_ms;
        Now { mono: self.clock.mono(t), wall }
    }

    /// When the node wants its timers looked at.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        self.node.as_ref().and_then(Node::next_deadline).map(|at| self.clock.when(at))
    }

    /// The wall clock jumps; it stays within half an hour of the true time.
    pub(crate) fn jump(&mut self, to_ms: i64) {
        self.clock.wall_off_ms = to_ms;
    }

    /// The founders; those that are none find out, and who comes with another disk finds the cluster there.
    fn voters(&self) -> Vec<(u64, NodeId)> {
        let founds = self.id as usize <= self.founders && self.directories == 0;
        if founds { (1..=self.founders as u64).map(|id| (id, id as NodeId)).collect() } else { Vec::new() }
    }

    /// Of the directory on this machine's disk.
    pub(crate) fn directory_id(&self) -> [u8; 16] {
        [self.id as u8 + 100 * self.directories; 16]
    }

    fn config(&self) -> NodeConfig {
        let mut boot_id = [self.id as u8; 16];
        boot_id[..8].copy_from_slice(&self.boots.to_be_bytes());
        let own = self.seed.wrapping_mul(31).wrapping_add(self.id as u64 * 1_000_003 + self.life);
        NodeConfig {
            node_id: self.id,
            fresh_cluster_id: CLUSTER_ID.to_owned(),
            endpoints: Vec::new(),
            voters: self.voters(),
            peer: None,
            rack: None,
            static_configs: self.configs.clone(),
            incarnation: self.life,
            directory: DirectoryConfig {
                cluster_id: CLUSTER_ID.to_owned(),
                node_id: self.id,
                new_directory_id: self.directory_id(),
                boot_id,
                // Some nodes keep next to nothing in memory: what followers lack is read back there.
                tail_cache_bytes: if own.is_multiple_of(3) { 2 << 10 } else { 1 << 20 },
                state_log_bytes: 64 << 10,
                relaxed_sync_ms: 300,
                relaxed_sync_bytes: 100_000,
                ..DirectoryConfig::default()
            },
            seed: own,
            first_transactional_epoch: self.first_epoch,
        }
    }

    /// A new process opens the directory.
    pub(crate) fn start(&mut self, t: Micros, rng: &mut Rng) -> Result<(), OpenError> {
        self.life += 1;
        self.clock.base_ns = 1 + rng.below(1 << 50);
        self.clock.since = t;
        self.clock.ppm = rng.below(2_001) as i64 - 1_000;
        self.turn_at = None;
        self.disk_busy = false;
        self.read_busy = false;
        self.node = Some(Node::open(self.config(), &self.disk, self.now(t))?);
        Ok(())
    }

    /// Another disk takes the place of the one that was here, with nothing on it.
    pub(super) fn lose_disk(&mut self) {
        let faults = self.disk.faults;
        self.disk = SimDisk::new();
        self.disk.faults = faults;
        self.directories += 1;
        self.barred = true;
    }

    /// The process ends; with `power` the machine does.
    pub(crate) fn die(&mut self, rng: &mut Rng, power: bool) {
        // A failed sync takes what was not synced, as a loss of power does.
        self.shaken = power || self.fenced() || self.is_shaken();
        self.node = None;
        self.reads.clear();
        self.paused_until = 0;
        self.turn_at = None;
        self.disk_busy = false;
        self.read_busy = false;
        self.disk.crash(rng, power);
        self.boots += u64::from(power);
    }

    pub(crate) fn fenced(&self) -> bool {
        self.node.as_ref().is_some_and(|n| n.fenced().is_some())
    }

    /// Whether replicas here may lack what they acknowledged.
    pub(crate) fn is_shaken(&self) -> bool {
        let fails = self.disk.fail_next_sync || self.fenced();
        fails || self.node.as_ref().map_or(self.shaken, |node| node.below_their_floor() > 0)
    }

    pub(crate) fn is_paused(&self, t: Micros) -> bool {
        t < self.paused_until
    }
}
