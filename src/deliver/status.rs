//! How a sink is doing, for operators.

use crate::sink::Reason;
use crate::store::{LogKind, Missing};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// The hole in the log at which it is halted, if it is: it goes on once somebody accepts that.
    pub gap: Option<Gap>,
    /// Events that it has passed, and that are neither delivered nor filtered, dead-lettered or damaged: 0, always.
    pub unaccounted_events: u64,
    /// Where they are, if there are any.
    pub unaccounted: Option<Unaccounted>,
}

/// Which of the store's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LogName")]
pub enum Log {
    /// That of the events.
    Events,
    /// That of the samples.
    Samples,
}

/// Events that the log counts and does not have, without a proof of damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LogGap")]
pub struct Gap {
    /// In which they are missing.
    pub log: Log,
    /// The last event before them, by its sequence.
    pub after: u64,
    /// The last sequence that one of them can have.
    pub through: u64,
    /// How many they are; 0 where a record comes again, or the log has fewer than the sink has passed.
    pub events: u64,
    /// The ordinal of the first.
    #[serde(skip)]
    pub first: u64,
}

/// Events of which it is not known what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "UnaccountedEvents")]
pub struct Unaccounted {
    /// The last sequence up to which all are accounted for …
    pub since_sequence: u64,
    /// … and the last one of those that were looked at.
    pub through_sequence: u64,
    /// How many are missing between the two.
    pub events: u64,
}

impl From<LogKind> for Log {
    fn from(log: LogKind) -> Self {
        match log {
            LogKind::Events => Self::Events,
            LogKind::Samples => Self::Samples,
        }
    }
}

impl Gap {
    /// What the store would have to give up; `None` where nothing is missing.
    pub(super) fn missing(&self) -> Option<Missing> {
        let Self { after, through, events, first, .. } = *self;
        let log = match self.log {
            Log::Events => LogKind::Events,
            Log::Samples => LogKind::Samples,
        };
        (events > 0).then(|| Missing { log, first, last: first + events - 1, after, through })
    }

    /// The command by which `sink` goes on behind it.
    pub fn remedy(&self, sink: &str) -> String {
        format!("e2b-relay sinks resume --accept-gap {sink}")
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, after, through, events, first: _ } = self;
        let log = match log {
            Log::Events => "events",
            Log::Samples => "samples",
        };
        write!(f, "halted at a gap: {events} missing in the log of {log}, after sequence {after} through {through}")
    }
}

impl Unaccounted {
    /// The command that sends `sink` everything of that span once more.
    pub fn remedy(&self, sink: &str) -> String {
        let Self { since_sequence, through_sequence, .. } = self;
        format!("e2b-relay replay --sink {sink} --after {since_sequence} --through {through_sequence}")
    }
}

impl fmt::Display for Unaccounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since_sequence, through_sequence, events } = self;
        write!(f, "{events} events not accounted for, after sequence {since_sequence} through {through_sequence}")
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
