//! The async shell around the pure node: sockets, decoding, handlers, files, threads, metrics.
//!
//! Owns: listeners, connections, one handler file an API, the reactor that feeds the node, budgets,
//! fetch sessions, HTTP. Must not know: raft, segments, how a topic is placed or a group rebalanced.
//! Start at `listener.rs`, then `connection.rs`, `dispatch.rs`, `handlers/`, `core/`.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod broker;
mod budget;
mod clock;
mod connection;
mod connections;
mod context;
mod core;
mod damage_log;
mod dispatch;
mod error_map;
mod fetch_session;
mod frame_reader;
mod handlers;
mod http;
mod listener;
mod meta_properties;
mod metadata_watch;
pub mod metrics;
mod observe;
mod observe_partitions;
mod observe_txn;
mod opening;
mod peers;
mod reader_pool;
mod settings;
mod shared;
mod slots;
mod write_pieces;

pub use broker::{Addresses, Bound, Broker, RunError, Stopped};
pub use node::NodeConfig;
pub use peer::Secret;
pub use settings::{Listener, PeerAddress, PeerSettings, Settings};
