//! How a sink is doing, for operators.

use crate::sink::Reason;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// What a sink is, by its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "SinkAbout")]
pub struct About {
    /// `kafka`, `nats`, `amqp`, `file` or `stdout`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Topic, subject, exchange and routing key, or file, with their templates.
    pub to: String,
    /// Any certificate is taken for the peer's.
    pub insecure_skip_verify: bool,
}

/// As of now, or of a second ago.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "SinkStatus")]
pub struct Status {
    /// Whether it takes records; `None` until that is known.
    pub up: Option<bool>,
    /// What the peer answered at the start: its product and version, or why it did not.
    pub peer: Option<String>,
    /// Every event up to this sequence is settled.
    pub position: u64,
    /// Sequences between that and the newest event.
    pub lag_events: u64,
    /// Since the oldest event was received that is not settled; 0 if there is none.
    pub oldest_unsent_age_seconds: f64,
    /// The last failure, mended or not.
    pub last_error: Option<Failure>,
}

/// Of one record, or of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "SinkFailure")]
pub struct Failure {
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// The metrics' word for it.
    pub reason: &'static str,
    /// The peer's, the client's or the disk's own words; never a credential.
    pub message: String,
}

impl Failure {
    pub(super) fn new(at: Timestamp, reason: Reason, message: &str) -> Self {
        Self { at, reason: reason.as_str(), message: message.to_owned() }
    }
}
