//! UpdateFeatures (KIP-584): levels of what the nodes may write and do. All of a request or none.
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;
use cluster::{FeatureUpdate, ItemError, UpgradeType};
use model::ErrorCode;
use node::AdminRequest;
use std::rc::Rc;
use std::time::Duration;
use wire::update_features_request::FeatureUpdateKey;
use wire::update_features_response::UpdatableFeatureResult;
use wire::{ResponseBody, Str, UpdateFeaturesRequest, UpdateFeaturesResponse};

/// First version without a result for each feature.
const NO_RESULTS_FROM: i16 = 2;

pub(crate) async fn handle(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: UpdateFeaturesRequest,
) -> ResponseBody {
    let names: Vec<Str> = request.feature_updates.iter().map(|u| u.feature.clone()).collect();
    let error = judge(shared, ctx, request).await.err();
    let code = error.as_ref().map_or(0, |e| shared.code(ctx, e.code));
    let message = error.and_then(|e| e.message);
    let mut response = UpdateFeaturesResponse::default();
    if ctx.api_version >= NO_RESULTS_FROM {
        response.error_code = code;
        response.error_message = message.map(Str::from);
    } else {
        let result = |feature| UpdatableFeatureResult {
            feature,
            error_code: code,
            error_message: message.as_ref().map(Str::from),
        };
        response.results = names.into_iter().map(result).collect();
    }
    ResponseBody::UpdateFeatures(response)
}

async fn judge(
    shared: &Rc<Shared>,
    ctx: &RequestContext,
    request: UpdateFeaturesRequest,
) -> Result<(), ItemError> {
    if !authorize(ctx, Operation::Alter, Resource::Cluster) {
        return Err(ItemError::bare(ErrorCode::ClusterAuthorizationFailed));
    }
    let patience = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let updates: Vec<FeatureUpdate> =
        request.feature_updates.into_iter().map(|u| update(ctx.api_version, u)).collect();
    let count = updates.len();
    let admin = AdminRequest::UpdateFeatures { updates, validate_only: request.validate_only };
    let outcomes = super::alter_configs::outcomes(shared.admin(ctx, admin, patience).await, count);
    match outcomes.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some(ItemError { code, message: Some(why) }) => Err(ItemError::new(
            code,
            format!("The update failed for all features since the following feature had an error: {why}"),
        )),
        Some(error) => Err(error),
    }
}

fn update(version: i16, update: FeatureUpdateKey) -> FeatureUpdate {
    let upgrade = match update.upgrade_type {
        _ if version == 0 && update.allow_downgrade => UpgradeType::SafeDowngrade,
        1 => UpgradeType::Upgrade,
        2 => UpgradeType::SafeDowngrade,
        3 => UpgradeType::UnsafeDowngrade,
        _ => UpgradeType::Unknown,
    };
    FeatureUpdate { name: update.feature.into(), level: update.max_version_level, upgrade }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_has_a_flag_and_later_ones_a_type() {
        let asked = |version, allow_downgrade, upgrade_type| {
            let key =
                FeatureUpdateKey { feature: "f".into(), max_version_level: 1, allow_downgrade, upgrade_type };
            update(version, key).upgrade
        };
        assert_eq!(asked(0, true, 1), UpgradeType::SafeDowngrade);
        assert_eq!(asked(0, false, 1), UpgradeType::Upgrade);
        assert_eq!(asked(1, false, 2), UpgradeType::SafeDowngrade);
        assert_eq!(asked(2, false, 3), UpgradeType::UnsafeDowngrade);
        assert_eq!(asked(2, false, 4), UpgradeType::Unknown);
    }
}
