//! What every fuzz target does with its input: plain functions that panic on a broken promise.
//!
//! `fuzz/` runs them under libFuzzer; `tests/corpus.rs` replays the committed corpora without it. A target
//! must hold for any bytes: no panic, no abort, memory and time in proportion to the input.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod batches;
mod config_text;
mod directory;
mod files;
mod groups;
mod metadata;
mod peer_link;
mod transactions;
mod wire_frames;

pub use batches::{batch, codecs};
pub use config_text::config_text;
pub use directory::{recovery, state_log};
pub use files::{frames, side_files};
pub use groups::group_records;
pub use metadata::metadata;
pub use peer_link::{both_sides, peer_link};
pub use transactions::transaction_records;
pub use wire_frames::{request, response};

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; each name has a corpus in `fuzz/corpus-seed` and a program in `fuzz/fuzz_targets`.
pub const TARGETS: &[Target] = &[
    ("request", request),
    ("response", response),
    ("batch", batch),
    ("codecs", codecs),
    ("group_records", group_records),
    ("transaction_records", transaction_records),
    ("metadata", metadata),
    ("config_text", config_text),
    ("frames", frames),
    ("side_files", side_files),
    ("recovery", recovery),
    ("state_log", state_log),
    ("peer_link", peer_link),
];
