//! Consumer groups of the new protocol (KIP-848).
#![allow(clippy::unwrap_used)]
#[path = "../common/mod.rs"]
mod common;
mod group;
mod membership;
mod migration;
mod mixed;
mod model;
mod offsets;
mod records;
