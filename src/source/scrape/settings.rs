//! `sources.<name>.metrics`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the sandboxes' resource use is read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Between two looks at every running sandbox. The provider takes a sample every 5 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub interval: Duration,
    /// Whether each sample becomes a `sandbox.metrics` record. Without, a kill of the daemon may cost an execution's
    /// `sandbox.usage` the samples of 15 s: longer spans are fetched again.
    pub records: bool,
    /// For how many sandboxes, the oldest, there are gauges `e2b_sandbox_*`; 7 series each.
    pub max_series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), records: true, max_series: 0 }
    }
}
