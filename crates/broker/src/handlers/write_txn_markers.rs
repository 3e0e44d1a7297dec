//! WriteTxnMarkers: ends a transaction in the partitions that this node leads. Brokers of ours tell each other
//! (docs/transactions.md); this is for operators, who abort what hangs.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::core::{Reply, group_key};
use crate::shared::Shared;
use model::ErrorCode;
use partition::Marker;
use std::rc::Rc;
use wire::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use wire::{ResponseBody, WriteTxnMarkersRequest, WriteTxnMarkersResponse};

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: WriteTxnMarkersRequest,
) -> ResponseBody {
    let allowed = authorize(ctx, Operation::ClusterAction, Resource::Cluster)
        || authorize(ctx, Operation::Alter, Resource::Cluster);
    let (mut markers, mut asked, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for marker in request.markers {
        let what = Marker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            commit: marker.transaction_result,
            coordinator_epoch: marker.coordinator_epoch,
            txn_version: i16::from(marker.transaction_version),
        };
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            let known = shared.core.topic_by_name(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let key = known.as_ref().and_then(|known| group_key(known, index));
                let error_code = match key {
                    _ if !allowed => shared.code(ctx, ErrorCode::ClusterAuthorizationFailed),
                    None => shared.code(ctx, ErrorCode::UnknownTopicOrPartition),
                    Some(key) => {
                        asked.push((key, what));
                        places.push((markers.len(), topics.len(), partitions.len()));
                        ErrorCode::RequestTimedOut.code()
                    }
                };
                partitions.push(WritableTxnMarkerPartitionResult { partition_index: index, error_code });
            }
            topics.push(WritableTxnMarkerTopicResult { name: topic.name, partitions });
        }
        markers.push(WritableTxnMarkerResult { producer_id: marker.producer_id, topics });
    }
    let answers = shared.core.write_markers(asked).await;
    for ((marker, topic, partition), reply) in places.into_iter().zip(answers) {
        let code = match reply {
            Some(Reply::Marker(code)) => code,
            Some(_) => ErrorCode::UnknownServerError,
            None => ErrorCode::RequestTimedOut,
        };
        markers[marker].topics[topic].partitions[partition].error_code = shared.code(ctx, code);
    }
    ResponseBody::WriteTxnMarkers(WriteTxnMarkersResponse { markers })
}
