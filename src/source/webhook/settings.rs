//! `sources.<name>.webhook`.

use crate::secret::Secret;
use crate::verify::Accept;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The path of the only source.
pub const DEFAULT_PATH: &str = "/webhooks/e2b";

/// How many secrets a source may have, so that one can be rotated; every one costs a digest per delivery.
pub const MAX_SECRETS: usize = 4;

/// Where deliveries come in, and who may sign them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The path of the URL that is registered with the provider, compared byte for byte. Default with one source:
    /// `/webhooks/e2b`; with several sources each needs its own.
    #[serde(default)]
    pub path: Option<String>,
    /// What deliveries are signed with: 1 to 4, so that one can be rotated, of 16 bytes or more each (better 32), and
    /// none in two sources. The newest comes last: it is the one that `register` registers, with 32 characters or more.
    pub secrets: Vec<Secret>,
    /// Which signature dialects are taken: `auto` is `e2b` or `hmac`, by the header that is there.
    #[serde(default)]
    pub signature: Accept,
}
