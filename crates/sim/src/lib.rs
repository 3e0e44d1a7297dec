//! Nodes on one thread under disks and a network that fail: the real machines, driven by a seed.
//!
//! `world.rs` holds the node, its disk and the clock; `workload.rs` the clients; `oracle.rs` what they were
//! told and every checker; `run.rs` one seed from start to verdict. `cluster/` holds the same for several nodes.
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod cluster;
pub mod disk;
pub mod oracle;
pub mod rng;
pub mod run;
mod trace;
mod workload;
mod world;

pub use run::{Outcome, run_seed};
