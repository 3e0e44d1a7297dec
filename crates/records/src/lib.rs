//! Kafka record batches of format 2: views, checks, codecs, builders.
//!
//! Everything works on bytes in memory: a batch is looked at, patched in place and handed on; it is
//! never re-encoded unless its topic asks for another codec. Must not know: files, the wire, raft.
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod batch;
mod builder;
mod check;
mod codec;
mod control;
mod crc;
mod encoder;
mod error;
mod patch;
mod read_batches;
mod recompress;
mod record;
mod streamed;
mod thin_out;
mod varint;
mod walk;

pub use batch::{
    BatchHeader, HEADER_LEN, LENGTH_PREFIX, MAGIC, MIN_BATCH_LENGTH, NO_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    NO_TIMESTAMP, TimestampType, UNCOVERED_LEN, next_sequence,
};
pub use builder::{BatchBuilder, NewRecord};
pub use check::{
    BatchLimits, ONLY_LEGACY_BELOW, TimestampBounds, ZSTD_SINCE, check_client_batch, check_crc, only_batch_of,
};
pub use codec::{Codec, CodecError, compress, decompress};
pub use control::{ControlKind, EndMarker, end_marker_batch, parse_end_marker};
pub use crc::{batch_crc, crc32c};
pub use error::{BatchError, RecordIssue};
pub use patch::{
    set_base_offset, set_log_append_time, set_max_timestamp, set_partition_leader_epoch, set_producer,
};
pub use read_batches::{Batches, FetchedBatches, SplitBatches, batches, fetched_batches, split_batches};
pub use recompress::{CompressionTarget, recompress};
pub use record::{Header, Record, Records, records};
pub use thin_out::{emptied_batch, thinned_batch};
pub use walk::{MAX_ISSUES, WalkRules, Walked, walk};
