//! Points in time as people write them: `7d`, or RFC 3339 with a zone.

use crate::event;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

/// A time, or how long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// This time.
    At(Timestamp),
    /// So long before whoever reads it looks at the clock.
    Ago(Duration),
}

/// The text is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither a time ago such as 90m or 7d, nor RFC 3339 with a zone such as 2026-08-21T10:00:00Z")]
pub struct SinceError;

impl Since {
    /// The time, seen from `now`.
    pub fn from(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => *at,
            // Before the beginning of jiff's range nothing happened.
            Self::Ago(ago) => now.checked_sub(*ago).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        if let Ok(at) = event::Timestamp::parse(text) {
            return Ok(Self::At(at.instant()));
        }
        humantime::parse_duration(text).map(Self::Ago).map_err(|_| SinceError)
    }
}

impl std::fmt::Display for Since {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => write!(f, "{at}"),
            Self::Ago(ago) => write!(f, "{}", humantime::format_duration(*ago).to_string().replace(' ', "")),
        }
    }
}

impl JsonSchema for Since {
    fn schema_name() -> Cow<'static, str> {
        "Since".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "How long ago, such as 90m or 7d, or RFC 3339 with a zone.",
            "examples": ["7d", "2026-08-21T10:00:00Z"],
        })
    }
}

impl Serialize for Since {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_ago_or_has_a_zone_and_reads_back_as_it_is_written() {
        let now: Timestamp = "2026-08-21T10:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("7d", "2026-08-14T10:00:00Z"),
            ("1h 30m", "2026-08-21T08:30:00Z"),
            ("0s", "2026-08-21T10:00:00Z"),
            ("2026-08-20T10:00:00+02:00", "2026-08-20T08:00:00Z"),
            ("2026-08-20T10:00:00.5Z", "2026-08-20T10:00:00.5Z"),
            ("1000000years", "-009999-01-02T01:59:59Z"),
        ] {
            let since: Since = text.parse().expect(text);
            assert_eq!(since.from(now).to_string(), expected, "{text}");
            assert_eq!(since.to_string().parse::<Since>().expect(text).from(now), since.from(now), "{text}");
        }
        for wrong in ["", "7", "yesterday", "2026-08-20", "2026-08-20T10:00:00", "-7d", "d"] {
            assert_eq!(wrong.parse::<Since>(), Err(SinceError), "{wrong}");
        }
    }
}
