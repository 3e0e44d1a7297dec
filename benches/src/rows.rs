//! What is measured: each row names its batch size, partitions, producers and depth.
use crate::systems::Durability;

/// The figure that a row's ratio is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Broker CPU-seconds per GB (uncompressed); lower is better.
    CpuPerGb,
    /// Its user-space part.
    UserCpuPerGb,
    /// MB/s; higher is better.
    Throughput,
    /// Requests per broker CPU-second; higher is better.
    RequestsPerCpu,
    /// Latency, ms; lower is better.
    P99,
    P999,
    /// Resident memory after the run, MB.
    Rss,
}

/// What the load generator does in a run.
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
}

/// One row of a table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) durability: Durability,
    pub(crate) partitions: u32,
    pub(crate) load: Load,
    /// Figures with their goals (ours / Kafka's).
    pub(crate) goals: &'static [(Figure, f64)],
}

use Figure::{CpuPerGb, P99, P999, RequestsPerCpu, Rss, Throughput, UserCpuPerGb};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "produce-128k",
        what: "1 KB records, 128 KiB batches, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072"]),
        goals: &[(CpuPerGb, 0.33), (UserCpuPerGb, 0.20), (Throughput, 1.0), (Rss, 0.2)],
    },
    Row {
        name: "produce-16k",
        what: "1 KB records, 16 KiB batches, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "16384"]),
        goals: &[(CpuPerGb, 0.25), (UserCpuPerGb, 0.20), (Throughput, 1.0)],
    },
    Row {
        name: "produce-lz4",
        what: "1 KB records, 128 KiB batches before lz4, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--codec", "lz4"]),
        goals: &[(CpuPerGb, 0.20)],
    },
    Row {
        name: "produce-zstd",
        what: "1 KB records, 128 KiB batches before zstd, 10 partitions, 1 producer, 5 in flight",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--codec", "zstd"]),
        goals: &[(CpuPerGb, 0.20)],
    },
    Row {
        name: "tail",
        what: "three tail readers at 100 MB/s, 128 KiB batches, 10 partitions; above the produce cost",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Tail { produce: &["--batch-bytes", "131072", "--rate", "100"], readers: 3 },
        goals: &[(CpuPerGb, 0.30)],
    },
    Row {
        name: "backlog",
        what: "one reader of 4 GB just written, 128 KiB batches, 10 partitions",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Backlog { fill: &["--batch-bytes", "131072", "--megabytes", "4000", "--seconds", "60"] },
        goals: &[(CpuPerGb, 0.8), (Throughput, 1.0)],
    },
    Row {
        name: "small-requests",
        what: "100-byte records, one a request, 1 partition, 1 producer, 64 in flight",
        durability: Durability::PageCache,
        partitions: 1,
        load: Load::Produce(&["--batch-bytes", "1", "--record-size", "100", "--depth", "64"]),
        goals: &[(RequestsPerCpu, 4.0)],
    },
    Row {
        name: "fsync-128k",
        what: "fsync; 1 KB records, 128 KiB batches, 10 partitions, 4 producers, 5 in flight",
        durability: Durability::Fsync,
        partitions: 10,
        load: Load::Produce(&["--batch-bytes", "131072", "--connections", "4"]),
        goals: &[(Throughput, 2.5), (CpuPerGb, 0.25), (P99, 0.4)],
    },
    Row {
        name: "fsync-16k",
        what: "fsync; 1 KB records, 16 KiB batches, 100 partitions, 4 producers, 5 in flight",
        durability: Durability::Fsync,
        partitions: 100,
        load: Load::Produce(&["--batch-bytes", "16384", "--connections", "4", "--batches-per-request", "5"]),
        goals: &[(Throughput, 5.0), (CpuPerGb, 0.15)],
    },
    Row {
        name: "latency",
        what: "end to end at 60 MB/s, 16 KiB batches, 10 partitions, 1 producer, 1 consumer",
        durability: Durability::PageCache,
        partitions: 10,
        load: Load::Latency(&["--batch-bytes", "16384", "--rate", "60"]),
        goals: &[(P99, 0.3), (P999, 0.2)],
    },
];
