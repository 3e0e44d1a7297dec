//! Which APIs and versions are served, and what follows from that.
use crate::api_versions_response::ApiVersion;
use crate::generated::APIS;
use crate::{ApiKey, ApiVersionsResponse};

/// One row of the table of served APIs.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// The API.
    pub key: ApiKey,
    /// Kafka's name.
    pub name: &'static str,
    /// Lowest version that is served.
    pub min: i16,
    /// Highest version that is served.
    pub max: i16,
    /// Lowest version that is advertised: Produce says 0 and refuses 0 to 2, as Kafka does.
    pub advertised_min: i16,
    /// First version with compact lengths; `i16::MAX` if there is none.
    pub flexible_from: i16,
}

/// Every API that is served, by ascending key.
pub fn served() -> &'static [Api] {
    APIS
}

impl ApiKey {
    /// The API of a number.
    pub fn from_code(code: i16) -> Option<ApiKey> {
        APIS.binary_search_by_key(&code, |api| api.key as i16).ok().map(|at| APIS[at].key)
    }

    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        self.api().name
    }

    /// This API's row of the table.
    pub fn api(self) -> &'static Api {
        let at = APIS.binary_search_by_key(&self.code(), |api| api.key as i16);
        &APIS[at.expect("every key has a row: both are generated from one list")]
    }

    /// Whether requests of this version are decoded.
    pub fn serves(self, version: i16) -> bool {
        let api = self.api();
        (api.min..=api.max).contains(&version)
    }

    /// The version of the header in front of a request.
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.api().flexible_from { 2 } else { 1 }
    }

    /// The version of the header in front of an answer. For ApiVersions always 0: a client reads it before
    /// it knows what the broker speaks.
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::ApiVersions && version >= self.api().flexible_from)
    }
}

/// The table as ApiVersions answers it; features are for the broker to add.
pub fn api_versions_response() -> ApiVersionsResponse {
    let row = |api: &Api| ApiVersion {
        api_key: api.key.code(),
        min_version: api.advertised_min,
        max_version: api.max,
    };
    ApiVersionsResponse { api_keys: APIS.iter().map(row).collect(), ..Default::default() }
}
