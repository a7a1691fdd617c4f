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
    /// Where the sink stopped because events are missing without proof of damage, until an operator says otherwise.
    pub gap: Option<Gap>,
    /// The last failure, mended or not.
    pub last_error: Option<Failure>,
}

/// A place in the log where something is missing, or comes again, and nothing proves why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "SinkGap")]
pub struct Gap {
    /// `events` or `samples`.
    pub log: &'static str,
    /// Behind this sequence …
    pub after: u64,
    /// … and up to this one.
    pub through: u64,
    /// How many are missing; 0 where one comes again.
    pub events: u64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log, after, through, events } = self;
        match events {
            0 => write!(f, "the log of {log} goes back behind sequence {after}, at {through}"),
            _ => write!(
                f,
                "{events} records of the log of {log} are missing behind sequence {after} and up to {through}"
            ),
        }
    }
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
