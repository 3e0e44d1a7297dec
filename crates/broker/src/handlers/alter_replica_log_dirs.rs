//! AlterReplicaLogDirs: a node has one data directory, where its replicas are already.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core;
use crate::shared::Shared;
use model::ErrorCode;
use std::collections::BTreeMap;
use std::rc::Rc;
use wire::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use wire::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, ResponseBody, Str};

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: AlterReplicaLogDirsRequest,
) -> ResponseBody {
    let allowed = authorize(ctx, Operation::Alter, Resource::Cluster);
    // What is named twice goes to where it was named last.
    let mut moves: BTreeMap<Str, BTreeMap<i32, Str>> = BTreeMap::new();
    for dir in request.dirs {
        for topic in dir.topics {
            let named = topic.partitions.into_iter().map(|partition| (partition, dir.path.clone()));
            moves.entry(topic.name).or_default().extend(named);
        }
    }
    let results = moves.into_iter().map(|(topic_name, partitions)| {
        let row = |(partition_index, path): (i32, Str)| {
            let code = if allowed {
                judge(shared, &topic_name, partition_index, &path)
            } else {
                ErrorCode::ClusterAuthorizationFailed
            };
            AlterReplicaLogDirPartitionResult { partition_index, error_code: shared.code(ctx, code) }
        };
        let partitions = partitions.into_iter().map(row).collect();
        AlterReplicaLogDirTopicResult { topic_name: topic_name.clone(), partitions }
    });
    let results = results.collect();
    ResponseBody::AlterReplicaLogDirs(AlterReplicaLogDirsResponse { throttle_time_ms: 0, results })
}

fn judge(shared: &Shared, topic: &Str, partition: i32, path: &str) -> ErrorCode {
    if shared.settings().data_dir.to_string_lossy() != path {
        return ErrorCode::LogDirNotFound;
    }
    let topic = shared.core.topic_by_name(topic);
    match topic.and_then(|topic| core::group_key(&topic, partition)) {
        None => ErrorCode::UnknownTopicOrPartition,
        Some(key) if !shared.core.holds(key) => ErrorCode::ReplicaNotAvailable,
        Some(key) if shared.core.is_offline(key) => ErrorCode::KafkaStorageError,
        Some(_) => ErrorCode::None,
    }
}
