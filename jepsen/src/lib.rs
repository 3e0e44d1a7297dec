//! The fault rig's parts: histories and their checker, machines with disks and networks of their own, what goes
//! wrong with them, and the clients that work meanwhile.
//!
//! Two programs use it: `crash` (one broker, kills and power cuts) and `rig` (a cluster, all faults).
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod checker;
pub mod history;
pub mod machine;
