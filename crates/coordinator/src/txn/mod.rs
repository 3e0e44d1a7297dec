//! Transactions as a pure state machine: one [`TxnCoordinator`] for each partition of `__transaction_state`.
//!
//! Must not know: the log, raft, the wire's versions, the clock, where partitions live. Records to append and
//! markers to send go out as effects; what came of them comes back. `docs/transactions.md` says which request
//! means what in which state (KIP-98, KIP-360, KIP-890, KIP-1228).
mod admin;
mod api;
mod config;
mod coordinator;
mod effects;
mod end;
mod entry;
mod expiry;
mod init;
mod loading;
mod markers;
mod outcomes;
mod parked;
mod partitions;
mod producer_ids;
mod records;
mod value;

pub use admin::{DescribedTxn, ListFilter, ListTxnsRequest, ListedTxn, MarkersWaiting};
pub use api::*;
pub use config::TxnConfig;
pub use coordinator::TxnCoordinator;
pub use effects::*;
pub use records::{decode_key, decode_value, encode_key, encode_value};
pub use value::{TopicPartition, TxnState, TxnValue, TxnVersion};
