//! Transactions: clients that write several partitions and a group's offset all or nothing, those who fence and those who
//! are fenced, readers of what is committed, and the model that judges what they see.
//!
//! `client.rs` is one producer with a transactional id; `steps.rs` carries its requests and answers; `model.rs` what must
//! hold meanwhile; `read.rs` a fetch of what is committed; `verify.rs` the judgement at the end.
mod client;
mod model;
mod read;
mod steps;
mod verify;

pub(crate) use steps::{Transactions, TxnAsk};
pub(crate) use verify::still_open;

/// Names of the checkers of transactions.
pub const CHECKERS: &[&str] = &[
    "txn-torn",
    "txn-late-end",
    "txn-aborted-read",
    "txn-open-read",
    "lso-regressed",
    "lso-too-high",
    "txn-fenced-came-back",
    "txn-outlives-timeout",
    "txn-offsets",
];

/// How the keys begin that transactions write to the compacted topic.
const OWN_KEYS: &str = "own-";

/// The topic of the offsets that transactions commit; nobody looks whether it exists.
const PROGRESS: &str = "progress";

/// The transactional id of this number.
fn name_of(id: usize) -> String {
    format!("txn-{id}")
}

/// The group whose offsets it commits.
fn group_of(id: usize) -> String {
    format!("txn-group-{id}")
}
