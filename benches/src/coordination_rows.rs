//! The rows of transactions and of group coordinators.
use crate::rows::Figure::{
    CommitP99, CpuPerKiloCommit, CpuPerKiloTxn, LongestGap, MedianGap, OffsetsServed, P99, Rss, Stable,
    Throughput, ToIdempotent,
};
use crate::rows::Goal::{self, Ours, Ratio};
use crate::rows::{Load, Row};
use crate::systems::Durability;

/// Rows in which a pair takes minutes.
const FEW: usize = 3;

pub(crate) const TXN: &[Row] = &[
    Row {
        name: "txn-100ms",
        what: "eight transactional producers that commit every 100 ms against eight idempotent ones, without, with, \
               with, without, half a run each; 1 KB records, 16 KiB batches, 10 partitions, 5 in flight. Enough producers \
               that the broker is the limit, not the flush of one",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::TxnToIdempotent(&["--producers", "8", "--commit-ms", "100"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(ToIdempotent, Ours(0.97)), (Throughput, Goal::None)],
    },
    Row {
        name: "txn-10ms",
        what: "the same with a commit every 10 ms",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::TxnToIdempotent(&["--producers", "8", "--commit-ms", "10"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(ToIdempotent, Ours(0.90)), (Throughput, Goal::None)],
    },
    Row {
        name: "txn-latency",
        what: "eight producers at 20 MB/s together, 16 KiB batches, 10 partitions, a commit every 100 ms: from the \
               moment a transaction was to end to EndTxn's answer",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Txn(&["--producers", "8", "--commit-ms", "100", "--rate", "20"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CommitP99, Ratio(0.4)), (P99, Goal::None)],
    },
    Row {
        name: "txn-cpu",
        what: "16 producers, each transaction one request with a record of 100 bytes to each of 10 partitions, then \
               its end; as fast as it goes",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Txn(&[
            "--producers",
            "16",
            "--commit-ms",
            "0",
            "--batches-per-transaction",
            "10",
            "--batches-per-request",
            "10",
            "--batch-bytes",
            "1",
            "--record-size",
            "100",
        ]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerKiloTxn, Ratio(0.4)), (CommitP99, Goal::None)],
    },
    Row {
        name: "txn-100ms-synced",
        what: "`txn-100ms` with the defaults of each: ours syncs records and ends of transactions before it acknowledges",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::TxnToIdempotent(&["--producers", "8", "--commit-ms", "100"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(ToIdempotent, Goal::None), (Throughput, Goal::None)],
    },
    Row {
        name: "txn-latency-synced",
        what: "`txn-latency` with the defaults of each",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::Txn(&["--producers", "8", "--commit-ms", "100", "--rate", "20"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CommitP99, Goal::None), (P99, Goal::None)],
    },
];

pub(crate) const GROUPS: &[Row] = &[
    Row {
        name: "groups-classic",
        what: "1,000 members of one classic group join at once, a topic of 1,000 partitions: from the first JoinGroup \
               until all have synced at one generation and have every partition, none more than its share. \
               `group.initial.rebalance.delay.ms=0` on both, heartbeats every 500 ms: with the defaults of 3 s each \
               these waits are most of the time. A group of 100 members before it warms the broker",
        durability: Durability::Defaults,
        partitions: 1000,
        load: Load::Join(&["--protocol", "classic", "--heartbeat-ms", "500"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Stable, Ratio(0.5))],
    },
    Row {
        name: "groups-848",
        what: "the same with the new protocol (KIP-848): until all are at one member epoch and have every \
               partition, none more than its share; heartbeats as the coordinator says",
        durability: Durability::Defaults,
        partitions: 1000,
        load: Load::Join(&["--protocol", "consumer"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Stable, Ratio(0.5))],
    },
    Row {
        name: "commits-10k",
        what: "10,000 OffsetCommits a second over 1,000 groups, one partition each, a connection for each group; latency \
               from the intended send",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Commits(&["--rate", "10000"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerKiloCommit, Ratio(0.4)), (P99, Goal::None)],
    },
    Row {
        name: "commits-10k-synced",
        what: "`commits-10k` with the defaults of each: ours syncs each commit before it acknowledges it",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::Commits(&["--rate", "10000"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerKiloCommit, Goal::None), (P99, Goal::None)],
    },
    Row {
        name: "groups-memory",
        what: "100,000 groups with the offsets of 10 partitions each, then idle for as many seconds as a run has",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::GroupsAtRest { groups: 100_000 },
        most_pairs: FEW,
        beside_kafka: true,
        goals: &[(Rss, Ours(200.0))],
    },
    Row {
        name: "offsets-load",
        what: "a clean stop and a start with 1,000,000 offsets in 100,000 groups: from the process to the answer for \
               the last of 1,000 groups that are asked for, spread over all coordinators",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::OffsetsLoaded { groups: 100_000 },
        most_pairs: FEW,
        beside_kafka: true,
        goals: &[(OffsetsServed, Ours(1000.0))],
    },
    Row {
        name: "groups-failover",
        what: "three nodes; kill -9 of the coordinator of a group whose member beats and commits 50 times a second each, \
               with 10,000 offsets of 1,000 other groups in the same partition: 20 times ours, 5 times Kafka's; the \
               longest time without a heartbeat's or a commit's answer",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::CoordinatorKills { ours: 20, theirs: 5 },
        most_pairs: 1,
        beside_kafka: true,
        goals: &[(LongestGap, Ours(1000.0)), (MedianGap, Goal::None)],
    },
];
