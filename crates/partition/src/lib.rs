//! One partition: append decisions, producer state, watermarks, acknowledgements, read plans.
//!
//! A pure machine over a raft group (`consensus`) and its log (`storage`); `partition.rs` shows the order
//! of things. Must not know: the wire, connections, topics' names, what a machine's commands mean.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod acks;
mod api;
mod append;
mod apply;
mod in_sync;
mod install;
mod list_offsets;
mod maintenance;
mod members;
mod open;
mod partition;
mod peers;
mod preferred;
mod producer_state;
mod read;
mod restraint;
mod strong;
mod summary;
mod watermark;
mod witness;

pub use api::{
    AppendError, Appended, CommittedBody, CommittedEntry, Counters, FetchError, FetchInput, FetchOk,
    Isolation, ListOffsetAsk, ListOffsetOutcome, ListOffsetSearch, ListOffsetStep, Opened, Origin,
    PartitionConfig, PartitionFx, ProducerInfo, Start,
};
pub use in_sync::InSyncReplica;
pub use partition::Partition;

#[cfg(test)]
mod append_tests;
#[cfg(test)]
mod idempotence_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod planted_tests;
#[cfg(test)]
mod replicas_tests;
#[cfg(test)]
mod strong_tests;
#[cfg(test)]
mod test_rig;
#[cfg(test)]
mod witness_tests;
