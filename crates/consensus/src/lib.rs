//! One raft group: proposals in, entries to append and committed entries out.
//!
//! The only crate that names `raft`. It follows the asynchronous ready path: entries are handed out at
//! once, counted when the caller says that they are persisted, and committed entries come back without
//! their payload (commands and configuration changes whole). Must not know: batches, files, the wire.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod config;
mod context;
mod error;
mod group;
mod peer_message;
mod view;

#[cfg(test)]
mod group_tests;

pub use config::{GroupParams, TICK_MS};
pub use error::ProposeError;
pub use group::{Committed, DataHead, Group, GroupFx, HardState, NewEntry, Role, epoch_of_term};
pub use peer_message::PeerMessage;
pub use view::{EntryMeta, LogView};
