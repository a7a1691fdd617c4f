//! `sources.<name>.reconcile`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the set of live sandboxes is compared with the provider's list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Between two comparisons; the first is made at the start.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub interval: Duration,
    /// Whether a state that the list shows and no event told becomes a `sandbox.reconciled` record.
    pub emit: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5 * 60), emit: false }
    }
}
