//! How a source's backfill is doing, for operators.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As of its last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Everything that is listed and happened before this is in the store; `None` until that is known.
    pub verified_through: Option<Timestamp>,
    /// `None` before the first.
    pub last_poll: Option<Poll>,
}

/// One look at the list of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackfillPoll")]
pub struct Poll {
    /// When it ended.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// `ok`, or the metrics' word for what was in the way.
    pub outcome: String,
    /// What that was, in words.
    pub problem: Option<String>,
}
