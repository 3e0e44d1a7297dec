//! What can go wrong, by name; how each begins and how it ends.
use crate::lab::Lab;
use crate::net::CLIENTS;
use crate::proxy::Manner;
use crate::rng::Rng;
use anyhow::Result;
use std::time::Duration;

/// A kind of fault, as `--faults` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// kill -9 of a node, mostly one that leads; started again later.
    Kill,
    /// kill -9 of all nodes at once.
    KillAll,
    /// A node stands still (SIGSTOP).
    Pause,
    /// A node and the others do not hear each other.
    Isolate,
    /// A node is heard and does not hear.
    OneWay,
    /// Two nodes do not hear each other, others hear both.
    Bridge,
    /// Each node hears only its two neighbours; needs five nodes.
    Ring,
    /// A node's cable is pulled and plugged twice a second.
    Flap,
    /// Packets to a node are lost.
    Loss,
    /// What peers say arrives late.
    Delay,
    /// Connections between peers are reset.
    Reset,
    /// Connections between peers fall silent.
    HalfOpen,
    /// A node is stopped in good order (SIGTERM) and started again later.
    Restart,
    /// As [`Fault::Restart`], with the other one of two versions of the program.
    Upgrade,
    /// Clients and one node do not hear each other.
    ClientCut,
    /// One node loses power: what it has not synced is gone.
    Power,
    /// All nodes lose power at once.
    PowerAll,
    /// As [`Fault::PowerAll`], after syncs have been so slow everywhere for a while that much was not synced.
    PowerAllSlow,
    /// A sync fails.
    SyncError,
    /// Syncs are slow.
    SlowSync,
    /// Syncs are slow on all nodes: whoever says that he has synced has not.
    SlowSyncAll,
    /// A disk is full.
    DiskFull,
    /// All disks are full at once.
    DiskFullAll,
    /// A node is killed and its index files are removed.
    LoseIndexes,
    /// A disk writes so many blocks a second and no more.
    SlowDisk,
    /// A wall clock jumps by an hour, forth and back.
    Clock,
    /// A bit flips in a data file of a node, which goes on meanwhile.
    BitFlip,
    /// A partition is given other replicas; needs more nodes than a partition has replicas.
    Membership,
    /// A node loses its whole disk and comes back with an empty one.
    DiskLoss,
}

/// Percent of packets that are lost.
const LOSS: [f64; 3] = [0.01, 0.05, 0.2];
const DELAYS_MS: [u64; 3] = [5, 50, 250];
const SLOW_SYNC_MS: [u64; 3] = [20, 100, 500];
const SLOW_DISK: [u32; 3] = [2, 10, 50];
const HOUR_NS: i64 = 3_600_000_000_000;

impl Fault {
    pub(crate) const ALL: [Fault; 29] = [
        Fault::Kill,
        Fault::KillAll,
        Fault::Restart,
        Fault::Upgrade,
        Fault::Pause,
        Fault::Isolate,
        Fault::OneWay,
        Fault::Bridge,
        Fault::Ring,
        Fault::Flap,
        Fault::Loss,
        Fault::Delay,
        Fault::Reset,
        Fault::HalfOpen,
        Fault::ClientCut,
        Fault::Power,
        Fault::PowerAll,
        Fault::PowerAllSlow,
        Fault::SyncError,
        Fault::SlowSync,
        Fault::SlowSyncAll,
        Fault::DiskFull,
        Fault::DiskFullAll,
        Fault::LoseIndexes,
        Fault::SlowDisk,
        Fault::Clock,
        Fault::BitFlip,
        Fault::Membership,
        Fault::DiskLoss,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillAll => "kill-all",
            Fault::Restart => "restart",
            Fault::Upgrade => "upgrade",
            Fault::Pause => "pause",
            Fault::Isolate => "isolate",
            Fault::OneWay => "one-way",
            Fault::Bridge => "bridge",
            Fault::Ring => "ring",
            Fault::Flap => "flap",
            Fault::Loss => "loss",
            Fault::Delay => "delay",
            Fault::Reset => "reset",
            Fault::HalfOpen => "half-open",
            Fault::ClientCut => "client-cut",
            Fault::Power => "power",
            Fault::PowerAll => "power-all",
            Fault::PowerAllSlow => "power-all-slow",
            Fault::SyncError => "sync-error",
            Fault::SlowSync => "slow-sync",
            Fault::SlowSyncAll => "slow-sync-all",
            Fault::DiskFull => "disk-full",
            Fault::DiskFullAll => "disk-full-all",
            Fault::LoseIndexes => "lose-indexes",
            Fault::SlowDisk => "slow-disk",
            Fault::Clock => "clock",
            Fault::BitFlip => "bit-flip",
            Fault::Membership => "membership",
            Fault::DiskLoss => "disk-loss",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Begins it somewhere, somehow. What it did, to be ended by [`Active::end`].
    pub(crate) fn begin(self, lab: &mut Lab, rng: &mut Rng) -> Result<Active> {
        let target = lab.target(rng);
        self.begin_at(lab, rng.below(6) as usize, target)
    }

    /// Begins it at this node. The level says how bad it is, or whom else it strikes.
    pub(crate) fn begin_at(self, lab: &mut Lab, level: usize, target: u32) -> Result<Active> {
        let others: Vec<u32> = lab.ids().filter(|id| *id != target).collect();
        let mut what = format!("{} {target}", self.name());
        match self {
            Fault::Kill => lab.node(target).kill()?,
            Fault::KillAll => lab.kill_all()?,
            Fault::Restart => drop(lab.stop(target)?),
            Fault::Upgrade => {
                lab.stop(target)?;
                lab.node(target).change_version();
            }
            Fault::Pause => lab.node(target).pause(),
            Fault::Power => lab.power_cut(target)?,
            Fault::PowerAll => lab.power_cut_all()?,
            Fault::PowerAllSlow => {
                lab.delay_all_syncs(Duration::from_millis(600))?;
                std::thread::sleep(Duration::from_millis(1500));
                lab.power_cut_all()?;
                lab.delay_all_syncs(Duration::ZERO)?;
            }
            Fault::Isolate => lab.isolate(target)?,
            Fault::OneWay => others.iter().try_for_each(|other| lab.cut(*other, target))?,
            Fault::Bridge => {
                let other = others[level % others.len()];
                what = format!("bridge {target}-{other}");
                lab.cut(target, other)?;
                lab.cut(other, target)?;
            }
            Fault::Ring => lab.ring()?,
            Fault::Flap => lab.flap(target),
            Fault::Loss => {
                let share = LOSS[level % LOSS.len()];
                what = format!("loss {target} {:.0}%", share * 100.0);
                lab.node(target).network.lose(share)?;
            }
            Fault::Delay => {
                let delay = DELAYS_MS[level % DELAYS_MS.len()];
                what = format!("delay {target} {delay} ms");
                lab.divert(target, Manner::Delay(Duration::from_millis(delay)))?;
            }
            Fault::Reset => lab.divert(target, Manner::Reset(Duration::from_millis(700)))?,
            Fault::HalfOpen => lab.divert(target, Manner::HalfOpen(Duration::from_millis(1500)))?,
            Fault::ClientCut => lab.node(target).network.drop_from(CLIENTS)?,
            _ => what = self.begin_at_disk(lab, level, target)?,
        }
        if matches!(
            self,
            Fault::KillAll
                | Fault::PowerAll
                | Fault::PowerAllSlow
                | Fault::Ring
                | Fault::DiskFullAll
                | Fault::SlowSyncAll
        ) {
            what = self.name().to_owned();
        }
        Ok(Active { fault: self, target, what })
    }

    /// The rest of [`Fault::begin_at`]: what concerns disks and clocks.
    fn begin_at_disk(self, lab: &mut Lab, level: usize, target: u32) -> Result<String> {
        let node = lab.node(target);
        match self {
            Fault::SyncError => node.fail_syncs(1 + level as i64 % 3)?,
            Fault::SlowSync => {
                let delay = SLOW_SYNC_MS[level % SLOW_SYNC_MS.len()];
                node.delay_syncs(Duration::from_millis(delay))?;
                return Ok(format!("slow-sync {target} {delay} ms"));
            }
            Fault::SlowSyncAll => {
                let delay = Duration::from_millis(SLOW_SYNC_MS[level % SLOW_SYNC_MS.len()]);
                lab.delay_all_syncs(delay)?;
            }
            Fault::DiskFull => node.fill_disk((level as u64 % 2) * (256 << 10))?,
            Fault::DiskFullAll => lab.ids().try_for_each(|id| lab.node(id).fill_disk(0))?,
            Fault::SlowDisk => {
                let writes = SLOW_DISK[level % SLOW_DISK.len()];
                node.throttle(Some(writes))?;
                return Ok(format!("slow-disk {target} {writes}/s"));
            }
            Fault::LoseIndexes => {
                node.kill()?;
                node.remove_indexes()?;
            }
            Fault::Clock => {
                let ahead = if level.is_multiple_of(2) { HOUR_NS } else { -HOUR_NS };
                node.set_clock(ahead)?;
                return Ok(format!("clock {target} {:+} h", ahead / HOUR_NS));
            }
            Fault::BitFlip => {
                if node.flip_bit(level as u64) {
                    lab.flipped.insert(target);
                }
            }
            Fault::Membership => return lab.give_other_replicas(level as u32, target),
            Fault::DiskLoss => return lab.lose_disk(target),
            other => anyhow::bail!("{} concerns no disk", other.name()),
        }
        Ok(format!("{} {target}", self.name()))
    }
}

/// A fault that has begun.
#[derive(Debug)]
pub(crate) struct Active {
    fault: Fault,
    target: u32,
    pub(crate) what: String,
}

impl Active {
    /// Ends it. Faults of the network end together: whoever ends one ends those of its node.
    pub(crate) fn end(&self, lab: &mut Lab) -> Result<()> {
        match self.fault {
            Fault::Kill
            | Fault::Power
            | Fault::Restart
            | Fault::Upgrade
            | Fault::LoseIndexes
            | Fault::DiskLoss => lab.start(self.target),
            Fault::KillAll | Fault::PowerAll | Fault::PowerAllSlow => lab.start_all(),
            Fault::Pause => {
                lab.node(self.target).resume();
                Ok(())
            }
            Fault::Isolate | Fault::Bridge | Fault::Ring | Fault::OneWay => lab.heal_network(),
            Fault::Flap => lab.end_flap(self.target),
            Fault::Loss | Fault::ClientCut => lab.node(self.target).network.heal(),
            Fault::Delay | Fault::Reset | Fault::HalfOpen => lab.end_diversion(),
            Fault::SyncError => {
                lab.node(self.target).fail_syncs(0)?;
                lab.start_all()
            }
            Fault::SlowSync => lab.node(self.target).delay_syncs(Duration::ZERO),
            Fault::SlowSyncAll => lab.delay_all_syncs(Duration::ZERO),
            Fault::DiskFull => {
                lab.node(self.target).free_disk();
                lab.start_all()
            }
            Fault::DiskFullAll => {
                lab.ids().for_each(|id| lab.node(id).free_disk());
                lab.start_all()
            }
            Fault::SlowDisk => lab.node(self.target).throttle(None),
            Fault::Clock => lab.node(self.target).set_clock(0),
            Fault::BitFlip | Fault::Membership => Ok(()),
        }
    }
}
