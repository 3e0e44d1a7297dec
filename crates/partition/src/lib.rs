//! One partition: append decisions, producer state, watermarks, acknowledgements, read plans.
//!
//! A pure machine over a raft group (`consensus`) and its log (`storage`); `partition.rs` shows the order
//! of things. Must not know: the wire, connections, topics' names, what a machine's commands mean.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod aborted;
mod acks;
mod api;
mod append;
mod apply;
mod compaction;
mod in_sync;
mod install;
mod list_offsets;
mod maintenance;
mod markers;
mod members;
mod open;
mod partition;
mod peers;
mod preferred;
mod producer_state;
mod producer_table;
mod read;
mod restraint;
mod strong;
mod summary;
mod tickets;
mod transactions;
mod watermark;
mod witness;

pub use api::{
    AppendError, Appended, CommittedBody, CommittedEntry, Counters, FetchError, FetchInput, FetchOk,
    Isolation, ListOffsetAsk, ListOffsetOutcome, ListOffsetSearch, ListOffsetStep, Opened, Origin,
    PartitionConfig, PartitionFx, ProducerInfo, Start,
};
pub use compaction::CleaningConfig;
pub use in_sync::InSyncReplica;
pub use markers::Verified;
pub use partition::Partition;
pub use tickets::Ticket;
pub use transactions::{
    AbortedTransaction, Marker, NAME_BYTES, OWN_EPOCHS, OpenTransaction, TransactionStatus,
};

#[cfg(test)]
mod append_tests;
#[cfg(test)]
mod compaction_tests;
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
mod transactions_model_tests;
#[cfg(test)]
mod transactions_replicas_tests;
#[cfg(test)]
mod transactions_tests;
#[cfg(test)]
mod txn_rig;
#[cfg(test)]
mod witness_tests;
