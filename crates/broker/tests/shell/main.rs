//! The shell over real sockets and a real data directory.
#![allow(clippy::unwrap_used, missing_docs)]
mod answers;
mod bad_input;
mod consumer_groups;
mod every_version;
mod life;
mod named_twice;
mod partition_metrics;
mod peers;
mod rig;
mod serving;
