//! The keys that every sink has, whatever its type.

use crate::decode::Redaction;
use crate::sink::registry;
use crate::{route, store};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which records a sink takes, as which bytes, from where on, and how many at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Which records, and as which bytes.
    #[serde(flatten)]
    pub route: route::Settings,
    /// Where the schema of `format: avro` is registered; required for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<registry::Settings>,
    /// Paths into the record whose values this sink shall not get, as in a source's `redact`; filter, templates and dead
    /// letters see the record without them. Not with `format: raw`.
    #[schemars(with = "Vec<String>")]
    pub redact: Redaction,
    /// Where on the same broker dead letters go: a Kafka topic, a NATS subject (of the same stream, if one is named), an AMQP
    /// routing key (in the same exchange). Each is in the store before, waits there no more once the broker has confirmed it,
    /// and carries `e2b-relay-dead-letter`, the reason, and `e2b-relay-error`. Without it they wait in the store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_to: Option<String>,
    /// Where a sink begins whose name is new: `now`, `earliest` (the oldest event that is kept), or a time such as
    /// `2026-03-10T12:00:00Z`, by when events were received.
    pub start: Start,
    /// The name that this sink had before; position, counts and dead letters are carried over if its new name is not known
    /// yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// Most records between the oldest that the peer has not confirmed and the newest that was handed to it; so many a
    /// crash may send again.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route: route::Settings::default(),
            schema_registry: None,
            redact: Redaction::default(),
            dead_letter_to: None,
            start: Start::default(),
            renamed_from: None,
            max_in_flight: 1000,
        }
    }
}

/// Where a new sink begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    #[default]
    Now,
    /// With the oldest event that is kept.
    Earliest,
    /// With the first event that is kept and was received at this time or later.
    At(jiff::Timestamp),
}

impl From<Start> for store::Start {
    fn from(start: Start) -> Self {
        match start {
            Start::Now => Self::Now,
            Start::Earliest => Self::Earliest,
            Start::At(time) => Self::At(time),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "now" => Ok(Self::Now),
            "earliest" => Ok(Self::Earliest),
            time => time.parse().map(Self::At).map_err(|_| {
                serde::de::Error::custom(format!(
                    "{time:?} is neither `now` nor `earliest` nor a time with a zone such as 2026-03-10T12:00:00Z"
                ))
            }),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Now => serializer.serialize_str("now"),
            Self::Earliest => serializer.serialize_str("earliest"),
            Self::At(time) => serializer.collect_str(time),
        }
    }
}

impl JsonSchema for Start {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Start".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["now", "earliest", "2026-03-10T12:00:00Z"]})
    }
}
