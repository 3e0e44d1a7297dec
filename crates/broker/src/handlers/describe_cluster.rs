//! DescribeCluster: the brokers, at the endpoints of the listener that was asked.
use crate::context::{
    CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, Operation, RequestContext, Resource, authorize,
    authorized_operations,
};
use crate::shared::Shared;
use model::ErrorCode;
use std::rc::Rc;
use wire::describe_cluster_response::DescribeClusterBroker;
use wire::{DescribeClusterRequest, DescribeClusterResponse, ResponseBody, Str};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: DescribeClusterRequest,
) -> ResponseBody {
    // Version 0 has no such field and means brokers.
    let endpoint_type = if ctx.api_version == 0 { BROKERS } else { request.endpoint_type };
    // As in Kafka an error answers with the type of the endpoint that was asked, not with the one asked for.
    let mut response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        cluster_id: shared.core.cluster_id().as_ref().into(),
        controller_id: shared.core.controller_id(),
        ..Default::default()
    };
    if endpoint_type != BROKERS {
        let code = if endpoint_type == CONTROLLERS {
            ErrorCode::MismatchedEndpointType
        } else {
            ErrorCode::UnsupportedEndpointType
        };
        response.error_code = shared.code(ctx, code);
        response.error_message = Some(if endpoint_type == CONTROLLERS {
            Str::from_static("The request was sent to an endpoint of the wrong type.")
        } else {
            Str::from_static("Unsupported endpoint type")
        });
        response.controller_id = -1;
        response.cluster_id = Str::default();
        return ResponseBody::DescribeCluster(response);
    }
    for e in shared.core.endpoints(&ctx.connection.listener) {
        response.brokers.push(DescribeClusterBroker {
            broker_id: e.node,
            host: e.host.into(),
            port: e.port,
            rack: e.rack.map(Str::from),
            is_fenced: false,
        });
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = if authorize(ctx, Operation::Describe, Resource::Cluster) {
            authorized_operations(ctx, &CLUSTER_OPERATIONS, Resource::Cluster)
        } else {
            0
        };
    }
    ResponseBody::DescribeCluster(response)
}
