//! `sources.<name>.backfill`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How what the deliveries missed is fetched from the events API. On as soon as the source has an `api`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `false` leaves the list of events alone.
    pub enabled: bool,
    /// Between two looks at the list of events.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub interval: Duration,
    /// How far behind the newest event seen the next look goes back: the most that an event is listed late, and that
    /// the clock of one of the provider's machines is slow.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub overlap: Duration,
    /// How far the very first look goes back.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub lookback: Duration,
    /// The id of the relay's own webhook at the provider, where `register` does not keep it. Its failed deliveries are
    /// then fetched too.
    pub webhook_id: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(30),
            overlap: Duration::from_secs(10 * 60),
            lookback: Duration::from_secs(60 * 60),
            webhook_id: None,
        }
    }
}
