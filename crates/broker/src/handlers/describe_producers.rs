//! DescribeProducers: who writes to a partition.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, Isolation, Reply};
use crate::shared::Shared;
use model::{ErrorCode, GroupKey};
use partition::{ListOffsetAsk, OpenTransaction, ProducerInfo};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;
use wire::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use wire::{DescribeProducersRequest, DescribeProducersResponse, ResponseBody, Str};

/// How long a partition may take to open.
const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeProducersRequest,
) -> ResponseBody {
    let mut accepted = Vec::new();
    for topic in &request.topics {
        let keys = topic.partition_indexes.iter().map(|index| accept(shared, ctx, &topic.name, *index));
        accepted.push(keys.collect::<Vec<_>>());
    }
    let refused = open(shared, accepted.iter().flatten().filter_map(|key| key.ok())).await;
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic, keys) in request.topics.into_iter().zip(accepted) {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for (index, key) in topic.partition_indexes.into_iter().zip(keys) {
            let mut row = PartitionResponse { partition_index: index, ..Default::default() };
            match key.and_then(|key| describe(shared, key, &refused)) {
                Ok((key, producers)) => {
                    row.active_producers = producers.into_iter().map(encode).collect();
                    // A successful answer has no use for its error text: there it is told whose the open transactions are.
                    if ctx.is_our_command_line() {
                        let mut open = shared.core.look(|node| node.open_transactions(key));
                        open.retain(|t| {
                            authorize(
                                ctx,
                                Operation::Describe,
                                Resource::TransactionalId(&t.transactional_id),
                            )
                        });
                        row.error_message = Some(Str::from(owners(&open)));
                    }
                }
                Err(code) => {
                    row.error_code = shared.code(ctx, code);
                    row.error_message = message(code).map(Str::from_static);
                }
            }
            partitions.push(row);
        }
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    ResponseBody::DescribeProducers(DescribeProducersResponse { topics, ..Default::default() })
}

/// A line for each open transaction: producer id, when it began, transactional id, principal and client id with tabs
/// between them.
fn owners(open: &[OpenTransaction]) -> String {
    let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
    let mut lines = String::new();
    for t in open {
        let (id, principal, client) = (plain(&t.transactional_id), plain(&t.principal), plain(&t.client_id));
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{}\t{}\t{id}\t{principal}\t{client}", t.producer_id, t.begun_at);
    }
    lines
}

fn message(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopicOrPartition => Some("This server does not host this topic-partition."),
        ErrorCode::InvalidTopicException => Some("The topic name is not valid."),
        _ => None,
    }
}

fn accept(shared: &Rc<Shared>, ctx: &RequestContext, name: &str, index: i32) -> Result<GroupKey, ErrorCode> {
    if !authorize(ctx, Operation::Read, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if cluster::validate_topic_name(name).is_err() {
        return Err(ErrorCode::InvalidTopicException);
    }
    let topic = shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    core::group_key(&topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Opens those that were not used since the start, all at once: what a log knows of producers is there once it is open.
/// Answers why some did not.
async fn open(shared: &Rc<Shared>, keys: impl Iterator<Item = GroupKey>) -> BTreeMap<GroupKey, ErrorCode> {
    let (timestamp, current_leader_epoch) = (-1, -1);
    let ask = ListOffsetAsk { timestamp, current_leader_epoch, isolation: Isolation::ReadUncommitted };
    let closed = keys.filter(|key| shared.core.describe_producers(*key).is_none());
    let asks: Vec<_> = closed.map(|key| (key, ask)).collect();
    let mut refused = BTreeMap::new();
    if asks.is_empty() {
        return refused;
    }
    let mut call = shared.core.list_offsets(&asks);
    call.done_within(PATIENCE).await;
    call.take(|item, reply| {
        if let Reply::ListOffset(Err(code)) = reply {
            refused.insert(asks[item].0, code);
        }
    });
    refused
}

fn describe(
    shared: &Rc<Shared>,
    key: GroupKey,
    refused: &BTreeMap<GroupKey, ErrorCode>,
) -> Result<(GroupKey, Vec<ProducerInfo>), ErrorCode> {
    let why = refused.get(&key).copied().unwrap_or(ErrorCode::NotLeaderOrFollower);
    shared.core.describe_producers(key).map(|producers| (key, producers)).ok_or(why)
}

fn encode(p: ProducerInfo) -> ProducerState {
    ProducerState {
        producer_id: p.producer_id,
        producer_epoch: i32::from(p.epoch),
        last_sequence: p.last_sequence,
        last_timestamp: p.last_timestamp,
        coordinator_epoch: p.coordinator_epoch,
        current_txn_start_offset: p.current_txn_start_offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_words_cannot_forge_owners() {
        let open = OpenTransaction {
            producer_id: 7,
            epoch: 1,
            transactional_id: "pay\tments".to_owned(),
            principal: "User:a\n8\t1\tx\ty\tz".to_owned(),
            client_id: String::new(),
            first_offset: 3,
            begun_at: 1_700,
        };
        assert_eq!(owners(&[open]), "7\t1700\tpay ments\tUser:a 8 1 x y z\t\n");
    }
}
