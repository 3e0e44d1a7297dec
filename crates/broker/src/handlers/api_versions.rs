//! ApiVersions: what is served, and who asks.
use crate::context::{RequestContext, Software};
use crate::dispatch::Done;
use crate::shared::Shared;
use model::ErrorCode;
use std::rc::Rc;
use wire::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use wire::{ApiVersionsRequest, ApiVersionsResponse, ResponseBody, Str};

/// First version that names the client's software (KIP-511).
const SOFTWARE_FROM: i16 = 3;
/// First version that names the broker it wants (KIP-1242).
const TARGET_FROM: i16 = 5;

pub(crate) fn handle(shared: &Rc<Shared>, ctx: &RequestContext, request: ApiVersionsRequest) -> Done {
    if let Some(code) = refusal(shared, ctx, &request) {
        let error_code = shared.code(ctx, code);
        return ResponseBody::ApiVersions(ApiVersionsResponse { error_code, ..Default::default() }).into();
    }
    let mut response = wire::api_versions_response();
    let image = shared.core.image();
    response.finalized_features_epoch = image.features_version.try_into().unwrap_or(i64::MAX);
    // Clients that ask below version 4 cannot read a level of 0: as Kafka does, they are not told of such a feature.
    let shown = |feature: &&cluster::Feature| ctx.api_version >= 4 || feature.lowest > 0;
    for feature in cluster::FEATURES.iter().filter(shown) {
        response.supported_features.push(SupportedFeatureKey {
            name: Str::from_static(feature.name),
            min_version: feature.lowest,
            max_version: feature.highest,
        });
    }
    for (name, level) in image.features.iter() {
        let name = Str::from(name);
        let (max_version_level, min_version_level) = (*level, *level);
        response.finalized_features.push(FinalizedFeatureKey { name, max_version_level, min_version_level });
    }
    let body = ResponseBody::ApiVersions(response);
    if ctx.api_version < SOFTWARE_FROM {
        return body.into();
    }
    let software = Software {
        name: request.client_software_name.as_str().to_owned(),
        version: request.client_software_version.as_str().to_owned(),
    };
    Done::with_software(body, Rc::new(software))
}

fn refusal(shared: &Shared, ctx: &RequestContext, request: &ApiVersionsRequest) -> Option<ErrorCode> {
    if ctx.api_version >= SOFTWARE_FROM
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        return Some(ErrorCode::InvalidRequest);
    }
    if ctx.api_version < TARGET_FROM {
        return None;
    }
    let Some(cluster_id) = &request.cluster_id else {
        return (request.node_id >= 0).then_some(ErrorCode::InvalidRequest);
    };
    let wrong_cluster = cluster_id.as_str() != &*shared.core.cluster_id();
    let wrong_node = request.node_id >= 0 && request.node_id != shared.core.node_id();
    (wrong_cluster || wrong_node).then_some(ErrorCode::RebootstrapRequired)
}

/// Letters and digits at both ends, '-' and '.' between.
fn is_software_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| inner(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["librdkafka", "apache-kafka-java", "2.14.0", "v1.2.3-rc1", "a"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a\n", "\u{e9}", ".1"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
