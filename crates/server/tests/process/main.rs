//! The real process: `plimsoll serve` under hostile bytes, a full or failing disk, locks and signals.
//!
//! Each test starts its own brokers on ports that the system chooses; `cargo xtask test --only process` runs
//! them. What is in `on_a_small_disk` needs loop devices and the right to mount.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]
#[path = "../../../xtask/src/codegen_wire_schema.rs"]
mod schema;

mod bodies;
mod bombs;
mod cluster;
mod cluster_admin;
mod cluster_cli;
mod cluster_load;
mod cluster_loss;
mod cluster_moves;
mod cluster_reads;
mod cluster_returns;
mod commands;
mod commits;
mod compaction;
mod consumer_groups;
mod costs;
mod damage;
mod damaged_metadata;
mod flood;
mod group_commands;
mod install;
mod joining;
mod kafka_dump_log;
mod kafka_tools_cluster;
mod kafka_tools_cluster_txn;
mod life;
mod load;
mod mounts;
mod nodes;
mod on_a_small_disk;
mod server;
mod starting;
mod telling;
mod transactions;
mod txn_client;
mod upgrade;
mod wire_client;
mod witness;
