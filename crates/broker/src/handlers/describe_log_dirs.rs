//! DescribeLogDirs: the data directory, its partitions and its room.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{self, Topic};
use crate::shared::Shared;
use model::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use wire::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use wire::{DescribeLogDirsRequest, DescribeLogDirsResponse, ResponseBody, Str};

/// First version with an error of the whole.
const ERROR_FROM: i16 = 3;
/// Bytes of a reason that are told.
const TROUBLE_MAX: usize = 400;

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeLogDirsRequest,
) -> ResponseBody {
    if !authorize(ctx, Operation::Describe, Resource::Cluster) {
        let code = shared.code(ctx, ErrorCode::ClusterAuthorizationFailed);
        let error_code = if ctx.api_version >= ERROR_FROM { code } else { 0 };
        return ResponseBody::DescribeLogDirs(DescribeLogDirsResponse { error_code, ..Default::default() });
    }
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    match request.topics {
        None => {
            for topic in shared.core.topics() {
                topics.extend(describe(shared, &topic, 0..topic.partitions.len() as i32));
            }
        }
        Some(asked) => {
            // What is named twice is told once.
            let mut named: BTreeMap<Str, BTreeSet<i32>> = BTreeMap::new();
            for one in asked {
                named.entry(one.topic).or_default().extend(one.partitions);
            }
            for (name, partitions) in named {
                if let Some(topic) = shared.core.topic_by_name(&name) {
                    topics.extend(describe(shared, &topic, partitions));
                }
            }
        }
    }
    let (total_bytes, usable_bytes) = shared.disk_room();
    let fenced = shared.core.fenced().is_some();
    let code = if fenced { ErrorCode::KafkaStorageError } else { ErrorCode::None };
    let directory = DescribeLogDirsResult {
        error_code: shared.code(ctx, code),
        log_dir: Str::from(shared.settings().data_dir.to_string_lossy().as_ref()),
        topics,
        total_bytes,
        usable_bytes,
        is_cordoned: false,
    };
    ResponseBody::DescribeLogDirs(DescribeLogDirsResponse { results: vec![directory], ..Default::default() })
}

/// A panic may say anything: so much of it that an answer about many replicas stays small.
fn shortened(why: &str) -> &str {
    why.get(..why.floor_char_boundary(TROUBLE_MAX)).unwrap_or(why)
}

fn describe(
    shared: &Shared,
    topic: &Arc<Topic>,
    partitions: impl IntoIterator<Item = i32>,
) -> Option<DescribeLogDirsTopic> {
    let rows: Vec<DescribeLogDirsPartition> = partitions
        .into_iter()
        .filter_map(|index| {
            // A witness has files here too, though no client is told of it as a replica.
            let here = |key: &_| shared.core.holds(*key) || shared.core.is_witness_of(*key);
            let key = core::group_key(topic, index).filter(here)?;
            // A partition that was never touched has no files.
            let size = shared.core.partition_info(key).map_or(0, |info| info.size_bytes);
            let rate = shared.core.look(|node| node.replica_rate(key)).unwrap_or(0);
            let trouble = shared.core.replica_trouble(key);
            let long = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            Some(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: long(size),
                offset_lag: 0,
                is_future_key: false,
                append_rate: long(rate),
                bytes_left: trouble.bytes_left.map_or(-1, long),
                trouble: trouble.why.map(|why| Str::from(shortened(&why))),
            })
        })
        .collect();
    (!rows.is_empty()).then(|| DescribeLogDirsTopic { name: Str::from(&*topic.name), partitions: rows })
}
