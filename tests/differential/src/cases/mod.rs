//! The requests, by what they are about. Order matters: later steps use what earlier ones made.
mod batches;
mod bodies;
mod changes;
mod cluster;
mod config_values;
mod configs;
mod consumer_groups;
mod fetch;
mod groups;
mod handshake;
mod member_errors;
mod member_steps;
mod offsets;
mod produce;
mod topic_steps;
mod transactions;

use crate::script::Script;
use wire::Str;

/// Every step.
pub(crate) fn all(script: &mut Script) {
    handshake::steps(script);
    topic_steps::steps(script);
    produce::steps(script);
    fetch::steps(script);
    offsets::steps(script);
    cluster::steps(script);
    changes::steps(script);
    configs::steps(script);
    groups::steps(script);
    member_steps::steps(script);
    member_errors::steps(script);
    produce::internal(script);
    configs::late(script);
    topic_steps::deletions(script);
    topic_steps::all(script);
    cluster::all(script);
    config_values::steps(script);
    bodies::steps(script);
    groups::not_served(script);
    consumer_groups::steps(script);
    transactions::steps(script);
}

/// A text that may be null.
fn some(text: &str) -> Option<Str> {
    Some(Str::from(text))
}
