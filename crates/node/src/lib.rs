//! One broker's pure machines wired together: the data directory, the partitions, the metadata machine and
//! the group coordinators. The broker's shell and the simulator drive the same [`Node`].
//!
//! Must not know: sockets, the wire, threads, the clock. Start at `node.rs`, then `groups.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod admin;
mod api;
mod configs;
mod coordinators;
mod data;
mod full_disk;
mod groups;
mod metadata;
mod node;
mod visits;
mod watches;

pub use api::{
    AdminReply, AdminRequest, Effect, Event, GroupRequest, NodeConfig, PartitionInfo, ReadToken, Reply, Token,
};
pub use data::FetchResult;
pub use node::{LastStop, Node, OpenError};
