//! One broker's pure machines wired together: the data directory, the partitions, the metadata machine and
//! the group coordinators. The broker's shell and the simulator drive the same [`Node`].
//!
//! Must not know: sockets, the wire, threads, the clock. Start at `node.rs`, then `groups.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod admin;
mod api;
mod asides;
mod balance;
mod campaign;
mod cleaner;
mod compare;
mod configs;
mod data;
mod elections;
mod even;
mod even_out;
mod finding;
#[cfg(test)]
mod finding_tests;
mod full_disk;
mod group_host;
mod groups;
mod hand_over;
mod hosts;
mod install;
mod install_budget;
mod install_looks;
mod install_pace;
mod install_send;
mod joining;
mod leaders;
mod liveness;
#[cfg(test)]
mod liveness_tests;
mod load;
mod machines;
mod members;
mod metadata;
mod nearby;
mod node;
mod panics;
mod peer_wire;
mod peers;
mod quorum;
mod recovery;
mod recovery_plan;
mod recovery_wire;
mod registration;
mod removals;
mod replica_view;
mod scrub;
mod sleep;
mod strong;
mod suspect;
mod throttle;
mod topic_image;
mod txn_counts;
mod txn_hanging;
mod txn_host;
mod txn_markers;
mod txn_verify;
mod txn_wire;
mod visits;
mod watches;

pub use api::{
    AdminReply, AdminRequest, Effect, Event, GroupRequest, InstallEvent, InstallSaid, NodeConfig,
    PartitionInfo, PeerOut, ReadToken, Reply, Token, TxnRequest,
};
pub use cleaner::CleanerCounts;
pub use compare::CompareCounts;
pub use data::FetchResult;
pub use finding::{At, Decision, Heard, Membership, Plan, decide, founders, seen};
pub use install::InstallStats;
pub use joining::Whereabouts;
pub use leaders::{LeaderBatch, LeaderRow};
pub use liveness::Heartbeat;
pub use load::{LoadReport, LoadView};
pub use node::{LastStop, Node, OpenError};
pub use peer_wire::BadMessage;
pub use quorum::{QuorumMember, QuorumView};
pub use recovery::RecoverAsk;
pub use recovery_plan::{Condition, PlanRow, RecoveryPlan, ReplicaState};
pub use replica_view::{LedView, ReplicaTrouble, ReplicaView};
pub use scrub::ScrubCounts;
pub use sleep::Sleeping;
pub use strong::StrongStats;
pub use txn_counts::{CoordinatorCounts, TransactionCounts};
pub use txn_hanging::{HangingEvent, HangingTransaction};
pub use txn_host::TxnAsk;
pub use txn_markers::MarkersFor;
pub use txn_verify::VerifyStats;
