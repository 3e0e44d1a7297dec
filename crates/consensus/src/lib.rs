//! One raft group: proposals in, entries to append and committed entries out.
//!
//! The only crate that names `raft`. It follows the asynchronous ready path: entries are handed out at
//! once, counted when the caller says that they are persisted, and committed entries come back without
//! their payload (commands and configuration changes whole). Must not know: batches, files, the wire.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod change;
mod config;
mod context;
mod error;
mod group;
mod members;
mod peer_codec;
mod peer_fault;
mod peer_message;
mod peers;
mod restraint;
mod view;
mod witness;

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod peer_codec_tests;
#[cfg(test)]
mod peers_tests;
#[cfg(test)]
mod reset_tests;
#[cfg(test)]
mod restraint_tests;
#[cfg(test)]
mod witness_tests;

pub use config::{GroupParams, TICK_MS};
pub use error::{ChangeError, ProposeError};
pub use group::{Committed, DataHead, Group, GroupFx, HardState, NewEntry, Role, epoch_of_term};
pub use members::{MemberChange, Membership, Misfit, reset_of};
pub use peer_codec::{MOST_ENTRIES, SNAPSHOT_BYTES};
pub use peer_fault::{PeerCodecError, PeerFault};
pub use peer_message::PeerMessage;
pub use peers::{EntriesAsk, Follower, Refused};
pub use restraint::Freed;
pub use view::{EntryMeta, LogView};
