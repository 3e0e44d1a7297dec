//! The transaction coordinator: every cell of the table in `docs/transactions.md`, the last epochs, its bounds,
//! its records, and random histories against a model.
#![allow(unreachable_pub, clippy::unwrap_used)]
mod admin;
mod bench;
mod bounds;
mod checks;
mod end;
mod epochs;
mod histories;
mod init;
mod loading;
mod markers;
mod parked;
mod partitions;
mod records;
mod timeouts;
mod world;
