//! The named tests of `docs/reliability.md`: one fault, again and again, and a figure.
use crate::faults::Fault;
use crate::run::Load;
use crate::txn_load::Workload;
use std::time::Duration;

/// Whom a step strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The leader of the first key.
    Leader,
    /// A node that does not lead the first key.
    Follower,
    /// One node after the other.
    InTurn,
    /// A node that coordinates a client's transactions.
    Coordinator,
}

/// One fault with its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    pub(crate) at: At,
    /// How bad it is, of what the fault offers.
    pub(crate) level: usize,
    pub(crate) hold: Duration,
}

/// What must hold besides a clean history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Also {
    Nothing,
    /// No client is told an error that its application sees.
    NoErrors,
    /// The first key is served all the time: no gap of a second while followers fail.
    Served,
    /// So few elections of each key for each time that the fault strikes.
    FewElections(i64),
    /// No record is deleted.
    NothingDeleted,
}

/// A named test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Its number in the list that the documentation follows.
    pub(crate) number: u32,
    pub(crate) nodes: u32,
    pub(crate) keys: u32,
    /// How often all steps are taken.
    pub(crate) times: u32,
    pub(crate) steps: &'static [Step],
    pub(crate) also: Also,
    pub(crate) load: Rate,
    pub(crate) workload: Workload,
    /// Members of a group that come, leave, die and stand still.
    pub(crate) churn: u32,
    /// Configs of the topic.
    pub(crate) topic: &'static [(&'static str, &'static str)],
    /// Whether clients of other families work too.
    pub(crate) outside: bool,
    /// How long all goes well before each step, besides the time until all replicas are in sync.
    pub(crate) calm: Duration,
    /// What was acknowledged so long before the power of all is lost may be gone.
    pub(crate) takes: Duration,
}

/// How much is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// A hundred times a second for each key, one record at a time: gaps are measured.
    Steady,
    /// As much as there is time for, many records at a time.
    Burst,
}

impl Rate {
    pub(crate) fn load(self) -> Load {
        match self {
            Rate::Steady => Load {
                pause: Duration::from_millis(9),
                timeout: Duration::from_millis(300),
                ..Load::default()
            },
            Rate::Burst => Load {
                pause: Duration::from_millis(2),
                batch: 50,
                producers: 2,
                oneshots: 0,
                ..Load::default()
            },
        }
    }
}

const fn step(fault: Fault, at: At, level: usize, hold_ms: u64) -> Step {
    Step { fault, at, level, hold: Duration::from_millis(hold_ms) }
}

const PLAIN: Scenario = Scenario {
    name: "",
    number: 0,
    nodes: 3,
    keys: 3,
    times: 5,
    steps: &[],
    also: Also::Nothing,
    load: Rate::Steady,
    workload: Workload::Queue,
    churn: 0,
    topic: &[],
    outside: false,
    calm: Duration::ZERO,
    takes: Duration::ZERO,
};

const fn of(number: u32, name: &'static str, times: u32, steps: &'static [Step]) -> Scenario {
    Scenario { name, number, times, steps, ..PLAIN }
}

/// With an acknowledgement that does not wait for the sync, where that is allowed.
const CACHING: &[(&str, &str)] = &[("write.caching", "true")];
/// Small files, so that there are sealed ones with indexes.
const SMALL: &[(&str, &str)] = &[("segment.bytes", "1048576")];

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    of(1, "leader-kill", 20, &[step(Fault::Kill, At::Leader, 0, 1500)]),
    Scenario {
        also: Also::Served,
        keys: 1,
        ..of(2, "follower-kill", 6, &[step(Fault::Kill, At::Follower, 0, 2000)])
    },
    of(3, "kill-all", 5, &[step(Fault::KillAll, At::InTurn, 0, 200)]),
    of(
        4,
        "pause-leader",
        2,
        &[
            step(Fault::Pause, At::Leader, 0, 500),
            step(Fault::Pause, At::Leader, 0, 5_000),
            step(Fault::Pause, At::Leader, 0, 15_000),
        ],
    ),
    // Ends and markers of transactions come late once more all the time (`txn_load.rs`); the last pause is longer than
    // a transaction may take.
    Scenario {
        workload: Workload::Txn,
        outside: true,
        ..of(
            5,
            "pause-coordinator",
            4,
            &[
                step(Fault::Pause, At::Coordinator, 0, 500),
                step(Fault::Pause, At::Coordinator, 0, 3_000),
                step(Fault::Pause, At::Coordinator, 0, 8_000),
            ],
        )
    },
    of(6, "isolate-leader", 5, &[step(Fault::Isolate, At::Leader, 0, 5_000)]),
    Scenario {
        also: Also::FewElections(6),
        ..of(
            7,
            "one-way",
            5,
            &[step(Fault::OneWay, At::Leader, 0, 5_000), step(Fault::OneWay, At::Follower, 0, 5_000)],
        )
    },
    Scenario { nodes: 5, ..of(8, "majorities-ring", 3, &[step(Fault::Ring, At::InTurn, 0, 8_000)]) },
    of(9, "client-cut", 5, &[step(Fault::ClientCut, At::Leader, 0, 4_000)]),
    Scenario {
        also: Also::FewElections(25),
        ..of(
            10,
            "flap-and-loss",
            2,
            &[
                step(Fault::Flap, At::Leader, 0, 6_000),
                step(Fault::Loss, At::Leader, 0, 6_000),
                step(Fault::Loss, At::Leader, 1, 6_000),
                step(Fault::Loss, At::Leader, 2, 6_000),
            ],
        )
    },
    of(
        11,
        "delay-reset-half-open",
        2,
        &[
            step(Fault::Delay, At::Leader, 0, 5_000),
            step(Fault::Delay, At::Leader, 1, 5_000),
            step(Fault::Delay, At::Leader, 2, 8_000),
            step(Fault::Reset, At::Leader, 0, 5_000),
            step(Fault::HalfOpen, At::Leader, 0, 6_000),
        ],
    ),
    of(
        12,
        "power-one",
        10,
        &[step(Fault::Power, At::Leader, 0, 500), step(Fault::Power, At::Follower, 0, 500)],
    ),
    Scenario { load: Rate::Burst, ..of(13, "power-all", 20, &[step(Fault::PowerAll, At::InTurn, 0, 100)]) },
    of(
        14,
        "sync-error",
        5,
        &[step(Fault::SyncError, At::Leader, 0, 2_000), step(Fault::SyncError, At::Follower, 0, 2_000)],
    ),
    Scenario { load: Rate::Burst, ..of(16, "bit-flip", 5, &[step(Fault::BitFlip, At::InTurn, 3, 5_000)]) },
    Scenario {
        topic: SMALL,
        load: Rate::Burst,
        ..of(19, "lost-indexes", 4, &[step(Fault::LoseIndexes, At::InTurn, 0, 500)])
    },
    Scenario {
        nodes: 5,
        ..of(
            20,
            "membership",
            5,
            &[
                step(Fault::Membership, At::InTurn, 0, 3_000),
                step(Fault::Kill, At::Leader, 0, 1_500),
                step(Fault::Membership, At::InTurn, 1, 3_000),
                step(Fault::Isolate, At::Leader, 0, 3_000),
                step(Fault::Membership, At::Leader, 2, 3_000),
            ],
        )
    },
    of(21, "disk-loss", 4, &[step(Fault::DiskLoss, At::InTurn, 0, 500)]),
    of(
        22,
        "disk-full",
        3,
        &[step(Fault::DiskFull, At::Leader, 0, 5_000), step(Fault::DiskFullAll, At::InTurn, 0, 5_000)],
    ),
    of(
        23,
        "slow-disk",
        2,
        &[
            step(Fault::SlowDisk, At::Follower, 0, 6_000),
            step(Fault::SlowDisk, At::Leader, 1, 6_000),
            step(Fault::SlowDisk, At::Leader, 0, 6_000),
            step(Fault::SlowSync, At::Leader, 2, 6_000),
        ],
    ),
    Scenario {
        also: Also::NothingDeleted,
        ..of(
            24,
            "clock",
            4,
            &[step(Fault::Clock, At::Leader, 0, 3_000), step(Fault::Clock, At::Leader, 1, 3_000)],
        )
    },
    Scenario {
        also: Also::NoErrors,
        outside: true,
        ..of(
            25,
            "rolling-restart",
            10,
            &[
                step(Fault::Restart, At::InTurn, 0, 300),
                step(Fault::Restart, At::InTurn, 0, 300),
                step(Fault::Restart, At::InTurn, 0, 300),
            ],
        )
    },
    Scenario {
        also: Also::NoErrors,
        outside: true,
        ..of(
            26,
            "upgrade-and-downgrade",
            4,
            &[
                step(Fault::Upgrade, At::InTurn, 0, 300),
                step(Fault::Upgrade, At::InTurn, 0, 300),
                step(Fault::Upgrade, At::InTurn, 0, 300),
            ],
        )
    },
    // Records wait for a rebalance to end, and members for one another: a calm of 10 s between kills.
    Scenario {
        churn: 50,
        keys: 8,
        calm: Duration::from_secs(10),
        ..of(
            27,
            "consumer-churn",
            3,
            &[step(Fault::Kill, At::InTurn, 0, 1_500), step(Fault::Pause, At::InTurn, 0, 3_000)],
        )
    },
    Scenario {
        topic: CACHING,
        ..of(
            41,
            "caching-power-one",
            10,
            &[step(Fault::Power, At::InTurn, 0, 500), step(Fault::KillAll, At::InTurn, 0, 200)],
        )
    },
    Scenario {
        topic: CACHING,
        // A flush every 30 s, and the time that it takes.
        takes: Duration::from_secs(40),
        calm: Duration::from_secs(50),
        ..of(42, "caching-power-all", 3, &[step(Fault::PowerAll, At::InTurn, 0, 100)])
    },
];

/// The one of this name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_does_something() {
        for (at, scenario) in ALL.iter().enumerate() {
            assert!(!scenario.steps.is_empty() && scenario.times > 0, "{}", scenario.name);
            assert!(ALL[..at].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
        }
    }
}
