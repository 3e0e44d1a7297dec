//! Words that every crate shares: ids, offsets, epochs, times and Kafka's error codes.
//!
//! Must not know: the wire, files, raft. A type enters only when two crates need it.
mod error_code;
mod ids;
pub mod planted;
mod time;

pub use error_code::{ALL as ALL_ERROR_CODES, ErrorCode};
pub use ids::{GroupKey, ParseTopicIdError, TopicId};
pub use time::{Mono, Now};

/// A broker's `node.id`.
pub type NodeId = i32;
/// A record's position in its partition, as Kafka counts it.
pub type Offset = i64;
/// The raft term of a confirmed leader, as Kafka's leader epoch.
pub type LeaderEpoch = i32;
/// A partition's number within its topic.
pub type PartitionIndex = i32;
/// An idempotent producer's id.
pub type ProducerId = i64;
/// An idempotent producer's epoch.
pub type ProducerEpoch = i16;
/// Milliseconds since 1970, UTC, as Kafka's timestamps.
pub type WallMs = i64;
