//! The bytes that a record becomes.

use super::view::View;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// `sinks.<name>.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The record as the public contract describes it: one JSON object, without line breaks.
    #[default]
    Json,
    /// The body byte for byte as it was received; in `file` and `stdout` one line `{"id", "raw_base64"}`.
    Raw,
}

/// How the sink keeps records apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each is a message of its own, with headers beside it.
    Message,
    /// Each is a line of text: `file` and `stdout`.
    Line,
}

impl Format {
    const OFFERED: [&str; 2] = ["json", "raw"];

    /// Words of the contract that a later version will take.
    pub const NOT_YET: [&str; 2] = ["cloudevents", "cloudevents-binary"];

    /// The media type of [`Format::encode`]'s bytes. A raw body is strict JSON too, or it was not accepted.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Raw => "application/json",
        }
    }

    /// The payload, without a line's end.
    pub fn encode(self, view: &View<'_>, framing: Framing) -> Bytes {
        let event = &view.stored().event;
        match (self, framing) {
            (Self::Json, _) => Bytes::from(view.json()),
            (Self::Raw, Framing::Message) => event.body.clone(),
            (Self::Raw, Framing::Line) => {
                let line = serde_json::json!({"id": event.id, "raw_base64": BASE64_STANDARD.encode(&event.body)});
                Bytes::from(line.to_string())
            }
        }
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "raw" => Ok(Self::Raw),
            later if Self::NOT_YET.contains(&later) => {
                Err(format!("format `{later}` is not offered yet; this version has json and raw"))
            }
            _ => Err("not a format; there are json and raw".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Format {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Format".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": Self::OFFERED})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::fixture::Fixture;

    #[test]
    fn json_is_the_record_on_one_line() {
        let fixture = Fixture::new(r#"{"sandbox_metadata":{"env":"a\nb"}}"#);
        let bytes = Format::Json.encode(&fixture.view(), Framing::Line);
        assert!(!bytes.contains(&b'\n'));
        let record: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(record["relay"]["sequence"], 4711);
        assert_eq!(record["event_data"]["sandbox_metadata"]["env"], "a\nb");
    }

    #[test]
    fn raw_is_the_body_itself_or_its_base64_on_a_line() {
        let fixture = Fixture::new("null");
        let body = fixture.stored.event.body.clone();
        assert_eq!(Format::Raw.encode(&fixture.view(), Framing::Message), body);
        let line = Format::Raw.encode(&fixture.view(), Framing::Line);
        let line: serde_json::Value = serde_json::from_slice(&line).expect("json");
        assert_eq!(line["id"], fixture.stored.event.id.as_str());
        let text = line["raw_base64"].as_str().expect("text");
        assert_eq!(BASE64_STANDARD.decode(text).expect("base64"), body);
    }

    #[test]
    fn what_is_not_offered_yet_says_so() {
        assert_eq!(serde_json::from_str::<Format>(r#""raw""#).expect("offered"), Format::Raw);
        for later in Format::NOT_YET {
            let error = serde_json::from_str::<Format>(&format!("{later:?}")).expect_err("later");
            assert!(error.to_string().contains("not offered yet"), "{error}");
        }
        assert!(serde_json::from_str::<Format>(r#""xml""#).is_err());
    }
}
