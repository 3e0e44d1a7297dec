//! Several nodes on one thread: the real machines of each, a network that delays, cuts and resets, disks and
//! processes that fail, clients that retry, all from one seed.
//!
//! `machine.rs` is one node with its disk, clock and process; `network.rs` the connections; `world.rs` all of
//! it with one clock and one queue of events; `faults.rs` what goes wrong; `clients.rs` those who ask;
//! `oracle.rs` what they were told; `txn/` transactions; `members/` members of groups; `tables.rs` a compacted topic; `checks.rs` what must hold between replicas; `run.rs` one seed, `loss.rs` one that ends with the loss of a disk,
//! `returning.rs` one in which a node returns that was unregistered.
mod accepted;
mod admin;
mod checks;
mod clients;
#[cfg(test)]
mod even_tests;
mod events;
mod faults;
mod forge;
#[cfg(test)]
mod forge_tests;
#[cfg(test)]
mod full_disk_tests;
mod joining;
mod loss;
mod machine;
mod members;
mod network;
mod oracle;
#[cfg(test)]
mod past_tests;
mod producer;
mod reader;
mod returning;
#[cfg(test)]
mod returning_tests;
mod run;
mod strict;
mod tables;
mod txn;
mod verify;
mod world;

pub use checks::CHECKERS as REPLICA_CHECKERS;
pub use faults::FaultCounts;
pub use members::CHECKERS as MEMBER_CHECKERS;
pub use oracle::CHECKERS as CLIENT_CHECKERS;
pub use run::{ClusterOutcome, run_seed};
pub use tables::CHECKERS as TABLE_CHECKERS;
pub use txn::CHECKERS as TRANSACTION_CHECKERS;
pub use world::Sometimes;
