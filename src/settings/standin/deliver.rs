use crate::route;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The keys of every sink.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Which records, and as which bytes.
    #[serde(flatten)]
    pub route: route::Settings,
    /// Where a sink begins whose name is new: `now`, `earliest`, or a time (RFC 3339).
    pub start: Start,
    /// The name that this sink had before; its position is carried over.
    pub renamed_from: Option<String>,
}

/// Where a new sink begins.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is kept.
    Earliest,
}
