//! Moving replicas between brokers: a plan first, then progress. Speaks only the Kafka protocol.
pub(crate) mod args;
pub(crate) mod follow;
pub(crate) mod plan;
pub(crate) mod shares;
mod stored;
pub(crate) mod view;
