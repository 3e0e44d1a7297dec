//! The rows of three brokers: replication factor 3, acks=all, `min.insync.replicas=2`.
use crate::rows::Figure::{
    CpuPerGb, Errors, IdleCpu, LiveP99, LongestGap, ManyToTen, MedianGap, Moved, P99, P999, Pss, ReplicaKb,
    Throughput, UserCpuPerGb,
};
use crate::rows::Goal::{self, Ours, Ratio};
use crate::rows::{Load, Row};
use crate::systems::Durability;

/// All processes, their client too, share the machine's two cores: what a name says of speed is work done.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "three-128k",
        what: "1 KB records, 128 KiB batches, 10 partitions, 1 producer, 5 in flight on each connection. CPU of \
               all three brokers. Two cores run three brokers and the client, so that MB/s is the inverse of CPU, not \
               what three machines would do",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(CpuPerGb, Ratio(0.25)), (UserCpuPerGb, Ratio(0.20)), (Throughput, Goal::None)],
    },
    Row {
        name: "three-128k-synced",
        what: "the same with the defaults of each: ours syncs before it acknowledges, Kafka's does not",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Throughput, Ratio(1.0)), (CpuPerGb, Goal::None)],
    },
    Row {
        name: "three-ceiling",
        what: "`three-128k` with 4 producers: the most that gets through; both cores are busy, the client's share is in it",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--connections", "4"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Throughput, Ratio(3.0)), (CpuPerGb, Goal::None)],
    },
    Row {
        name: "three-fsync-16k",
        what: "fsync on both sides; 1 KB records, 16 KiB batches, 100 partitions, 4 producers, 5 batches a request, 5 \
               requests in flight on each connection. Each broker has its own file system on one disk: syncs of the \
               three wait for each other",
        durability: Durability::Fsync,
        partitions: 100,
        load: Load::Produce(&["--batch-bytes", "16384", "--connections", "4", "--batches-per-request", "5"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(Throughput, Ratio(6.0)), (P99, Ratio(0.2)), (CpuPerGb, Ratio(0.15))],
    },
    Row {
        name: "three-latency",
        what: "end to end at 20 MB/s, 16 KiB batches, 10 partitions, 1 producer, 1 consumer, from the intended send. \
               With three brokers and the client on two cores a good part of it is waiting for a core",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Latency(&["--batch-bytes", "16384", "--rate", "20"]),
        most_pairs: usize::MAX,
        beside_kafka: true,
        goals: &[(P99, Ratio(0.2)), (P999, Ratio(0.15))],
    },
    Row {
        name: "three-idle",
        what: "a topic of 100 partitions, a record in each, then nothing for as many seconds as a run has; three \
               brokers together",
        durability: Durability::Defaults,
        partitions: 100,
        load: Load::IdleTopic,
        most_pairs: 3,
        beside_kafka: true,
        goals: &[(Pss, Ours(75.0)), (IdleCpu, Ours(1.0))],
    },
    Row {
        name: "three-kill",
        what: "kill -9 of the leader of a partition that gets 100 records a second: 20 times ours, 5 times Kafka's. \
               The client asks for the new leader every 5 to 20 ms; it and the two that are left share two cores",
        durability: Durability::Defaults,
        partitions: 1,
        load: Load::Kills { ours: 20, theirs: 5 },
        most_pairs: 1,
        beside_kafka: true,
        goals: &[(LongestGap, Ours(500.0)), (MedianGap, Goal::None)],
    },
    Row {
        name: "three-10k",
        what: "10,000 partitions, a record in each: memory and CPU at rest of three brokers together, then full speed \
               to all of them (16 KiB batches, ten producers, 5 batches a request) against the same to ten \
               partitions. Ours alone",
        durability: Durability::Defaults,
        partitions: 10_000,
        load: Load::ManyReplicas,
        most_pairs: 1,
        beside_kafka: false,
        goals: &[(ReplicaKb, Ours(15.0)), (IdleCpu, Ours(5.0)), (ManyToTen, Ours(0.7)), (Pss, Goal::None)],
    },
    Row {
        name: "three-rolling",
        what: "every node is stopped and started again, ten times, while ten producers write 100 records a second each \
               and try each for 120 s: records that were given up. Ours alone",
        durability: Durability::Defaults,
        partitions: 10,
        load: Load::Rolling { rounds: 10 },
        most_pairs: 1,
        beside_kafka: false,
        goals: &[(Errors, Ours(0.0)), (LongestGap, Goal::None)],
    },
    Row {
        name: "three-move",
        what: "a partition of 3 GB with two replicas: the one that follows moves to the third node, without a throttle; \
               from the command to its end. Then the same back and forth beside 10 MB/s to ten partitions (16 KiB \
               batches): their p99 against that without a move. Both nodes' disks, the client and three brokers share \
               two cores and one disk. Ours alone",
        durability: Durability::Defaults,
        partitions: 1,
        load: Load::Move,
        most_pairs: 3,
        beside_kafka: false,
        goals: &[(Moved, Ours(0.3)), (LiveP99, Ours(1.5))],
    },
];
