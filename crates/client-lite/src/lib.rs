//! A small Kafka client for the command line, tests and benches.
//!
//! Speaks only the Kafka protocol, to Plimsoll and to Apache Kafka 4 alike. Start at [`Client`]; [`Conn`]
//! is one connection for whoever wants a certain broker, [`RawConn`] a socket for bytes that misbehave.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod admin;
mod assignor;
mod client;
mod conn;
mod consumer;
mod consumer_group;
mod elect;
mod error;
mod fetch;
mod group_member;
mod offsets;
mod produce;
mod raw_conn;
mod reassign;
mod rebalance_log;
mod topic;
mod txn;
mod txn_admin;

pub use admin::{ConfigEntry, ConfigOp, NewTopic, ResourceKind};
pub use assignor::{Subscriber, assign_range};
pub use client::{Client, ClientOptions};
pub use conn::{Conn, ConnOptions, Pending};
pub use consumer::{Consumed, Consumer, Reset};
pub use consumer_group::{ConsumerMember, OwnedPartitions};
pub use error::{ClientError, check};
pub use fetch::{FetchFrom, FetchOptions, Fetched, MAX_BATCH_PLAIN};
pub use group_member::{Beat, GroupMember, MemberOptions, decode_assignment, decode_subscription};
pub use offsets::{Committed, Committer, EARLIEST, LATEST, MAX_TIMESTAMP, OffsetAt, Place};
pub use produce::{Acks, IdempotentProducer, Produced};
pub use raw_conn::RawConn;
pub use reassign::{OnDisk, Ongoing};
pub use rebalance_log::{Rebalance, parse_rebalance_log};
pub use topic::{Broker, Cluster, Partition, Topic};
pub use txn::{TxnFailure, TxnOptions, TxnProducer};
pub use txn_admin::{
    AbortMarker, ActiveProducer, DescribedTransaction, ListedTransaction, TxnFilter, TxnOwner,
};
