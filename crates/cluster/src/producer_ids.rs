//! Blocks of producer ids.
use crate::command::Command;
use crate::error::{ItemError, ItemResult};
use crate::image::Image;
use model::{ErrorCode, NodeId};
use proto::cluster::AllocateProducerIds;

/// Ids in a block, as in Kafka.
pub const PRODUCER_ID_BLOCK: i32 = 1000;

/// The command that gives `node` the next block. Fails when all ids are used up.
pub fn allocate_producer_ids(image: &Image, node: NodeId) -> ItemResult<Command> {
    let first = image.next_producer_id;
    if first > i64::MAX - i64::from(PRODUCER_ID_BLOCK) {
        return Err(ItemError::new(ErrorCode::UnknownServerError, "Exhausted all producer ids."));
    }
    Ok(Command::AllocateProducerIds(AllocateProducerIds { node_id: node, first, count: PRODUCER_ID_BLOCK }))
}
