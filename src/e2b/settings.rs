//! `sources.<name>.api`.

use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The cloud's API.
pub const DEFAULT_URL: &str = "https://api.e2b.app";

/// The environment variable that holds the key where the settings do not; the provider's SDKs read it too.
pub const KEY_VARIABLE: &str = "E2B_API_KEY";

/// Where the provider's API is, and who asks it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The API's URL. Default, as in the provider's SDKs: the variable `E2B_API_URL`, else `https://api.` with the
    /// variable `E2B_DOMAIN`, else `https://api.e2b.app`.
    pub url: Option<String>,
    /// The team's API key. Default: the variable `E2B_API_KEY`. It is sent to the host in `url` and nowhere else.
    pub api_key: Option<Secret>,
    /// Most calls within a minute, of everything together that asks this API for this source.
    pub max_calls_per_minute: u32,
    /// For one call, the reply's last byte included.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: None, api_key: None, max_calls_per_minute: 3000, timeout: Duration::from_secs(10) }
    }
}

impl Settings {
    /// Whether the key looks like the cloud's: `e2b_` and hexadecimal digits. A self-hosted installation's may differ.
    pub fn has_usual_key(&self) -> bool {
        let digits = self.api_key.as_ref().and_then(|key| key.expose().strip_prefix("e2b_"));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}
