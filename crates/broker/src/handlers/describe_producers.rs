//! DescribeProducers: who writes to a partition.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, Isolation, Reply};
use crate::shared::Shared;
use model::{ErrorCode, GroupKey};
use partition::{ListOffsetAsk, OpenTransaction, ProducerInfo};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;
use wire::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use wire::{DescribeProducersRequest, DescribeProducersResponse, ResponseBody, Str};

/// How long a partition may take to open.
const PATIENCE: Duration = Duration::from_secs(10);
/// What our own command line calls itself (KIP-511). A successful answer has no use for its error text: there it is told
/// whose the open transactions are.
const OWN_SOFTWARE: &str = "plimsoll";

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeProducersRequest,
) -> ResponseBody {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let mut row = PartitionResponse { partition_index: index, ..Default::default() };
            match describe(shared, ctx, &topic.name, index).await {
                Ok((key, producers)) => {
                    row.active_producers = producers.into_iter().map(encode).collect();
                    if ctx.software.name == OWN_SOFTWARE {
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

async fn describe(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    name: &str,
    index: i32,
) -> Result<(GroupKey, Vec<ProducerInfo>), ErrorCode> {
    if !authorize(ctx, Operation::Read, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if cluster::validate_topic_name(name).is_err() {
        return Err(ErrorCode::InvalidTopicException);
    }
    let topic = shared.core.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let key = core::group_key(&topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if let Some(producers) = shared.core.describe_producers(key) {
        return Ok((key, producers));
    }
    // It was not used since the start: what its log knows of producers is there once it is open.
    let ask =
        ListOffsetAsk { timestamp: -1, current_leader_epoch: -1, isolation: Isolation::ReadUncommitted };
    let opened = shared.core.list_offsets(&[(key, ask)]).one_within(PATIENCE).await;
    let producers = shared.core.describe_producers(key).ok_or(match opened {
        Some(Reply::ListOffset(Err(code))) => code,
        _ => ErrorCode::NotLeaderOrFollower,
    })?;
    Ok((key, producers))
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
