//! Consumer groups as pure state machines: one [`GroupCoordinator`] for each partition of `__consumer_offsets`.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod config;
mod events;
mod partitioner;
mod replies;
mod requests;

pub use config::GroupConfig;
pub use events::*;
pub use partitioner::coordinator_partition_for;
pub use replies::*;
pub use requests::*;
