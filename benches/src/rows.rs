//! What is measured: each row names its batch size, partitions, producers and depth.
use crate::coordination_rows;
use crate::systems::Durability;
use crate::three_rows;

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Broker CPU-seconds per GB (uncompressed).
    CpuPerGb,
    /// Its user-space part.
    UserCpuPerGb,
    /// MB/s.
    Throughput,
    /// Requests per broker CPU-second.
    RequestsPerCpu,
    /// Latency, ms.
    P99,
    P999,
    /// Resident memory at the end, MB.
    Rss,
    /// The most resident memory since the start, MB.
    PeakRss,
    /// From the start of the process to the first acknowledged record, ms.
    FirstAck,
    /// The same to an acknowledged record of every partition, ms.
    AllAcks,
    /// From the wish for partitions to an acknowledged record of each, ms.
    Made,
    /// Memory that a partition adds, KB.
    PartitionKb,
    /// CPU while nothing is asked, % of a core.
    IdleCpu,
    /// Memory of all processes, what they share counted once, MB.
    Pss,
    /// Memory that a replica adds, KB.
    ReplicaKb,
    /// Time without an acknowledgement after a leader was killed, ms: the largest and the median of all kills.
    LongestGap,
    MedianGap,
    /// MB/s with many partitions / MB/s with ten.
    ManyToTen,
    /// What an application was told of.
    Errors,
    /// GB a second of a partition that moves.
    Moved,
    /// p99 of other partitions' clients beside a move / without.
    LiveP99,
    /// MB/s of transactional producers / of the same without transactions.
    ToIdempotent,
    /// From the moment a transaction was to end to EndTxn's answer, ms.
    CommitP99,
    /// Broker CPU-seconds per 1,000 transactions.
    CpuPerKiloTxn,
    /// Broker CPU-seconds per 1,000 OffsetCommits.
    CpuPerKiloCommit,
    /// From the first join of a group to a stable assignment, ms.
    Stable,
    /// From the start of the process to committed offsets being served, ms.
    OffsetsServed,
}

impl Figure {
    /// As the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Figure::CpuPerGb => "CPU-s/GB",
            Figure::UserCpuPerGb => "user CPU-s/GB",
            Figure::Throughput => "MB/s",
            Figure::RequestsPerCpu => "requests/CPU-s",
            Figure::P99 => "p99 ms",
            Figure::P999 => "p99.9 ms",
            Figure::Rss => "resident MB",
            Figure::PeakRss => "peak resident MB",
            Figure::FirstAck => "first acknowledgement ms",
            Figure::AllAcks => "every partition acknowledged ms",
            Figure::Made => "made and every partition acknowledged ms",
            Figure::PartitionKb => "KB a partition",
            Figure::IdleCpu => "idle CPU, % of a core",
            Figure::Pss => "PSS MB",
            Figure::ReplicaKb => "KB a replica",
            Figure::LongestGap => "longest gap ms",
            Figure::MedianGap => "median gap ms",
            Figure::ManyToTen => "MB/s against 10 partitions",
            Figure::Errors => "errors",
            Figure::Moved => "GB/s moved",
            Figure::LiveP99 => "live p99 / p99 without a move",
            Figure::ToIdempotent => "MB/s against idempotent",
            Figure::CommitP99 => "commit p99 ms",
            Figure::CpuPerKiloTxn => "CPU-s/1,000 transactions",
            Figure::CpuPerKiloCommit => "CPU-s/1,000 commits",
            Figure::Stable => "stable assignment ms",
            Figure::OffsetsServed => "offsets served ms",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn higher_is_better(self) -> bool {
        use Figure::{ManyToTen, Moved, RequestsPerCpu, Throughput, ToIdempotent};
        matches!(self, Throughput | RequestsPerCpu | ManyToTen | Moved | ToIdempotent)
    }
}

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Ours / Kafka's.
    Ratio(f64),
    /// Ours, in the figure's unit.
    Ours(f64),
    /// Ours, so much above the caches that the configuration allows.
    OursAbove { caches: f64, goal: f64 },
    /// Shown beside the others.
    None,
}

/// What a start finds on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: a new directory, a topic is created first.
    Empty,
    /// Many partitions, stopped cleanly.
    Clean,
    /// Many partitions, a record in each written just before kill -9.
    Killed,
}

/// Partitions of each topic in the rows with many: Kafka takes no topic with 10,000 in one request.
pub(crate) const PARTITIONS: u32 = 1000;
/// Topics in them.
pub(crate) const TOPICS: u32 = 10;

/// What happens in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// `plimsoll bench produce` with these arguments.
    Produce(&'static [&'static str]),
    /// Produce at a rate with tail readers; CPU counts above a run without them, per GB read.
    Tail { produce: &'static [&'static str], readers: usize },
    /// Fill the topic, then one reader of what was just written.
    Backlog { fill: &'static [&'static str] },
    /// `plimsoll bench latency`.
    Latency(&'static [&'static str]),
    /// A new broker that nobody asks anything.
    Idle,
    /// A start.
    Start(Before),
    /// A new broker; many partitions are made, one record in each, then nobody asks anything.
    Many,
    /// New brokers with a topic of the row's partitions and a record in each; then nobody asks anything.
    IdleTopic,
    /// As `Many`, then full speed to all of them, and the same to ten.
    ManyReplicas,
    /// The leader of a partition is killed so many times.
    Kills { ours: usize, theirs: usize },
    /// Each node is stopped and started again, one after the other, so many times.
    Rolling { rounds: usize },
    /// A partition moves to another node: beside nothing, then back and forth beside a load.
    Move,
    /// `plimsoll bench txn` with these arguments.
    Txn(&'static [&'static str]),
    /// The same with and without transactions, each twice.
    TxnToIdempotent(&'static [&'static str]),
    /// `plimsoll bench groups commit` with these arguments.
    Commits(&'static [&'static str]),
    /// `plimsoll bench groups join` with these arguments: brokers that have just been started, and a first group before.
    Join(&'static [&'static str]),
    /// So many groups with offsets of ten partitions each, then nobody asks anything.
    GroupsAtRest { groups: u32 },
    /// A start on the offsets of so many groups with ten partitions each.
    OffsetsLoaded { groups: u32 },
    /// The coordinator of a group is killed so many times.
    CoordinatorKills { ours: usize, theirs: usize },
}

impl Load {
    /// Whether each pair starts the brokers anew.
    pub(crate) fn starts_anew(self) -> bool {
        !self.has_bytes() && !matches!(self, Load::Commits(_))
    }

    /// Whether records are produced all the time, so that figures per GB say something.
    pub(crate) fn has_bytes(self) -> bool {
        use Load::{Backlog, Latency, Produce, Tail, Txn, TxnToIdempotent};
        matches!(self, Produce(_) | Tail { .. } | Backlog { .. } | Latency(_) | Txn(_) | TxnToIdempotent(_))
    }

    /// The internal topic that the load writes to, beside that of the row.
    pub(crate) fn coordinators(self) -> Option<&'static str> {
        match self {
            Load::Txn(_) | Load::TxnToIdempotent(_) => Some("__transaction_state"),
            Load::Commits(_) => Some("__consumer_offsets"),
            _ => None,
        }
    }

    /// Whether each run finds the files of the one before.
    pub(crate) fn keeps_files(self) -> bool {
        matches!(self, Load::Start(Before::Clean | Before::Killed) | Load::OffsetsLoaded { .. })
    }

    /// How many brokers there are of each kind, where it is not as the suite has it.
    pub(crate) fn nodes(self) -> Option<usize> {
        matches!(self, Load::CoordinatorKills { .. }).then_some(3)
    }

    /// Settings of both kinds of brokers, as `name=value`.
    pub(crate) fn settings(self) -> &'static [&'static str] {
        // A thousand members come from one address.
        const ADDRESS: &str = "max.connections.per.ip=100000";
        match self {
            // Else both wait for that, and nothing else is seen.
            Load::Join(_) => &[ADDRESS, "group.initial.rebalance.delay.ms=0"],
            Load::Commits(_)
            | Load::GroupsAtRest { .. }
            | Load::OffsetsLoaded { .. }
            | Load::CoordinatorKills { .. } => &[ADDRESS],
            _ => &[],
        }
    }
}

/// One row of a table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) durability: Durability,
    pub(crate) partitions: u32,
    pub(crate) load: Load,
    /// No more pairs than this, where one takes minutes.
    pub(crate) most_pairs: usize,
    /// Whether Apache Kafka is measured beside it: not where the goal is absolute and its share takes very long.
    pub(crate) beside_kafka: bool,
    pub(crate) goals: &'static [(Figure, Goal)],
}

/// `log.tail.cache.bytes` as configured by default, MB.
const CACHES_MB: f64 = 67.1;
/// Rows with 10,000 partitions.
const FEW: usize = 3;

use Figure::{
    AllAcks, CpuPerGb, FirstAck, IdleCpu, Made, P99, P999, PartitionKb, PeakRss, RequestsPerCpu, Rss,
    Throughput, UserCpuPerGb,
};
use Goal::{Ours, OursAbove, Ratio};

/// Rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Transactions.
    Txn,
    /// Coordinators of groups.
    Groups,
}

/// The rows of a suite; without one those of so many nodes, 1 or 3.
pub(crate) fn of(suite: Option<Suite>, nodes: usize) -> &'static [Row] {
    match (suite, nodes) {
        (Some(Suite::Txn), _) => coordination_rows::TXN,
        (Some(Suite::Groups), _) => coordination_rows::GROUPS,
        (None, 1) => ROWS,
        (None, _) => three_rows::ROWS,
    }
}

/// Every row there is, in the order of the page.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    [ROWS, three_rows::ROWS, coordination_rows::TXN, coordination_rows::GROUPS].into_iter().flatten()
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "produce-128k",
        what: "1 KB records, 128 KiB batches, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.33)), (UserCpuPerGb, Ratio(0.20)), (Throughput, Ratio(1.0))],
    },
    Row {
        name: "produce-16k",
        what: "1 KB records, 16 KiB batches, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "16384"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.25)), (UserCpuPerGb, Ratio(0.20)), (Throughput, Ratio(1.0))],
    },
    Row {
        name: "produce-lz4",
        what: "1 KB records, 128 KiB batches before lz4, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--codec", "lz4"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.20))],
    },
    Row {
        name: "produce-zstd",
        what: "1 KB records, 128 KiB batches before zstd, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--codec", "zstd"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.20))],
    },
    Row {
        name: "tail",
        what: "three tail readers at 100 MB/s, 128 KiB batches, 10 partitions; above the produce cost",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Tail { produce: &["--batch-bytes", "131072", "--rate", "100"], readers: 3 },
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.30))],
    },
    Row {
        name: "backlog",
        what: "one reader of 4 GB just written, 128 KiB batches, 10 partitions",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Backlog { fill: &["--batch-bytes", "131072", "--megabytes", "4000"] },
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.8)), (Throughput, Ratio(1.0))],
    },
    Row {
        name: "small-requests",
        what: "100-byte records, one a request, 1 partition, 1 producer, 64 in flight",
        durability: Durability::PageCache,
        partitions: 1,
        load: Load::Produce(&["--batch-bytes", "1", "--record-size", "100", "--depth", "64"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(RequestsPerCpu, Ratio(4.0))],
    },
    Row {
        name: "fsync-128k",
        what: "fsync; 1 KB records, 128 KiB batches, 10 partitions, 4 producers, 5 in flight",
        durability: Durability::Fsync,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--connections", "4"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Throughput, Ratio(2.5)), (CpuPerGb, Ratio(0.25)), (P99, Ratio(0.4))],
    },
    Row {
        name: "fsync-16k",
        what: "fsync; 1 KB records, 16 KiB batches, 100 partitions, 4 producers, 5 in flight",
        durability: Durability::Fsync,
        partitions: 100,
        load: Load::Produce(&["--batch-bytes", "16384", "--connections", "4", "--batches-per-request", "5"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Throughput, Ratio(5.0)), (CpuPerGb, Ratio(0.15))],
    },
    Row {
        name: "latency",
        what: "end to end at 60 MB/s, 16 KiB batches, 10 partitions, 1 producer, 1 consumer",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Latency(&["--batch-bytes", "16384", "--rate", "60"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(P99, Ratio(0.3)), (P999, Ratio(0.2))],
    },
    Row {
        name: "memory-load-128k",
        what: "full speed, 1 KB records, 128 KiB batches, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072"]),
        most_pairs: 3,
        beside_kafka: true,
        goals: &[(PeakRss, OursAbove { caches: CACHES_MB, goal: 200.0 })],
    },
    Row {
        name: "memory-load-16k",
        what: "full speed, 1 KB records, 16 KiB batches, 10 partitions, 4 producers, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "16384", "--connections", "4"]),
        most_pairs: 3,
        beside_kafka: true,
        goals: &[(PeakRss, OursAbove { caches: CACHES_MB, goal: 200.0 })],
    },
    Row {
        name: "memory-idle",
        what: "a new broker without a topic, after as many seconds as a run has",
        durability: Durability::Defaults,
        partitions: 0,
        load: Load::Idle,
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Rss, Ours(25.0)), (IdleCpu, Goal::None)],
    },
    Row {
        name: "start-empty",
        what: "start on a new directory to the first acknowledged record of a new topic",
        durability: Durability::Defaults,
        partitions: 1,
        load: Load::Start(Before::Empty),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(FirstAck, Ours(100.0))],
    },
    Row {
        name: "start-10k-clean",
        what: "10,000 partitions with a record in each, stopped cleanly; at most 3 pairs, Apache Kafka takes \
               about 15 s a start",
        durability: Durability::Defaults,
        partitions: 10_000,
        load: Load::Start(Before::Clean),
        most_pairs: FEW,
        beside_kafka: true,
        goals: &[(FirstAck, Ours(1000.0)), (AllAcks, Goal::None)],
    },
    Row {
        name: "start-10k-killed",
        what: "10,000 partitions, a record written to each, then kill -9; at most 3 pairs, Apache Kafka takes \
               about 45 s a start",
        durability: Durability::Defaults,
        partitions: 10_000,
        load: Load::Start(Before::Killed),
        most_pairs: FEW,
        beside_kafka: true,
        goals: &[(FirstAck, Ours(2000.0)), (AllAcks, Goal::None)],
    },
    Row {
        name: "partitions-10k",
        what: "10,000 partitions made and a record written to each, then idle for as many seconds as a run has; \
               at most 3 pairs",
        durability: Durability::Defaults,
        partitions: 10_000,
        load: Load::Many,
        most_pairs: FEW,
        beside_kafka: true,
        goals: &[(PartitionKb, Ours(10.0)), (IdleCpu, Ours(1.0)), (Rss, Goal::None), (Made, Goal::None)],
    },
];
