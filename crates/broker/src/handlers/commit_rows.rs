//! What OffsetCommit and TxnOffsetCommit have in common: the topics and partitions that they name.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{GroupRequest, Topic};
use crate::shared::Shared;
use coordinator::{CommitPartition, CommitTopic, Reply};
use model::{ErrorCode, TopicId};
use std::rc::Rc;
use std::sync::Arc;
use wire::Str;

/// A topic as a request names it.
pub(super) struct Wanted<'a> {
    /// Its name, where the request goes by names.
    pub(super) name: &'a Str,
    /// Its id, where the request goes by ids.
    pub(super) id: TopicId,
    /// What to commit.
    pub(super) partitions: Vec<CommitPartition>,
}

/// Has the coordinator of `group` do what `ask` makes of the topics that may be read and the partitions that are there.
/// `refused` is the code for all of them. Answers the codes of each topic's partitions, in the order of the request.
pub(super) async fn commit(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    topics: Vec<Wanted<'_>>,
    by_id: bool,
    refused: Option<ErrorCode>,
    group: &str,
    ask: impl FnOnce(Vec<CommitTopic>) -> GroupRequest,
) -> Vec<Vec<i16>> {
    let mut codes: Vec<Vec<ErrorCode>> = Vec::with_capacity(topics.len());
    let (mut asked, mut places) = (Vec::new(), Vec::new());
    for topic in topics {
        let accepted = match refused {
            Some(code) => Err(code),
            None => accept(shared, ctx, &topic, by_id),
        };
        // A partition that is not there keeps this code; the rest get the coordinator's.
        let code = accepted.as_ref().err().copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
        codes.push(vec![code; topic.partitions.len()]);
        let Ok(found) = accepted else { continue };
        let there = topic.partitions.into_iter().enumerate();
        let there = there.filter(|(_, p)| found.partition(p.index).is_some());
        let (rows, partitions): (Vec<usize>, Vec<CommitPartition>) = there.unzip();
        if !partitions.is_empty() {
            places.push((codes.len() - 1, rows));
            asked.push(CommitTopic { name: found.name.to_string(), topic_id: found.id, partitions });
        }
    }
    if !asked.is_empty() {
        match shared.core.group(group, ask(asked)).await {
            Ok(Reply::Commit(reply)) => {
                for ((topic, rows), answer) in places.into_iter().zip(reply.topics) {
                    for (row, (_, code)) in rows.into_iter().zip(answer.partitions) {
                        codes[topic][row] = code;
                    }
                }
            }
            other => {
                let code = other.err().unwrap_or(ErrorCode::UnknownServerError);
                for (topic, rows) in places {
                    rows.into_iter().for_each(|row| codes[topic][row] = code);
                }
            }
        }
    }
    let told = |codes: Vec<ErrorCode>| codes.into_iter().map(|code| shared.code(ctx, code)).collect();
    codes.into_iter().map(told).collect()
}

fn accept(
    shared: &Shared,
    ctx: &RequestContext,
    topic: &Wanted<'_>,
    by_id: bool,
) -> Result<Arc<Topic>, ErrorCode> {
    // Who may not read a topic does not learn whether it is there.
    if !by_id && !authorize(ctx, Operation::Read, Resource::Topic(topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let found = if by_id {
        shared.core.topic_by_id(topic.id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        shared.core.topic_by_name(topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if !authorize(ctx, Operation::Read, Resource::Topic(&found.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    Ok(found)
}
