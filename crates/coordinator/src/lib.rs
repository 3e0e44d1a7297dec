//! Consumer groups as pure state machines, one [`GroupCoordinator`] for each partition of `__consumer_offsets`,
//! and transactions, one [`txn::TxnCoordinator`] for each partition of `__transaction_state`.
//!
//! Must not know: the log, raft, the wire's versions, the clock. Records to append go out as effects and come
//! back as outcomes; `docs/groups.md` says who may send what in which state.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod admin;
mod codec;
mod config;
pub mod consumer;
mod context;
mod coordinator;
mod events;
mod expiry;
mod group;
mod join;
mod loading;
mod member_ids;
mod offsets;
mod outcomes;
mod partitioner;
mod rebalance;
pub mod records;
mod replies;
mod requests;
mod store;
mod sync;
pub mod txn;
mod txn_offsets;

pub use codec::RecordError;
pub use config::GroupConfig;
pub use consumer::{
    ConsumerHeartbeatReply, ConsumerHeartbeatRequest, ConsumerState, DescribedConsumer,
    DescribedConsumerGroup, DescribedTopic, TopicFilter, TopicImage,
};
pub use coordinator::{GroupCoordinator, Phase};
pub use events::*;
pub use group::GroupState;
pub use partitioner::coordinator_partition_for;
pub use replies::*;
pub use requests::*;
