//! The bytes that a record becomes.

use super::view::View;
use super::{avro, cloudevents};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// `sinks.<name>.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The record as the public contract describes it: one JSON object, without line breaks.
    #[default]
    Json,
    /// A CloudEvent in structured mode: one JSON object with the record as its `data`.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// A CloudEvent in binary mode: the record, and the attributes as headers.
    #[serde(rename = "cloudevents-binary")]
    CloudEventsBinary,
    /// The record in Avro's binary encoding, behind the schema's id: what clients of a schema registry read.
    Avro,
    /// The body byte for byte as it was received; in `file` and `stdout` one line `{"id", "raw_base64"}`.
    Raw,
}

/// How the sink keeps records apart: as messages with headers, or as lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Records of a topic.
    Kafka,
    /// Messages on a subject.
    Nats,
    /// Messages of an exchange.
    Amqp,
    /// Each is a line of text: `file` and `stdout`.
    Line,
}

impl Format {
    const OFFERED: [(&str, Self); 5] = [
        ("json", Self::Json),
        ("cloudevents", Self::CloudEvents),
        ("cloudevents-binary", Self::CloudEventsBinary),
        ("avro", Self::Avro),
        ("raw", Self::Raw),
    ];

    /// Whether it needs headers, which lines do not have.
    pub fn needs_headers(self) -> bool {
        self == Self::CloudEventsBinary
    }

    /// Whether lines of text can hold it.
    pub fn fits_lines(self) -> bool {
        !self.needs_headers() && self != Self::Avro
    }

    /// The media type of [`Format::encode`]'s bytes. A raw body is strict JSON too, or it was not accepted.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::CloudEventsBinary | Self::Raw => "application/json",
            Self::CloudEvents => "application/cloudevents+json",
            Self::Avro => "application/avro",
        }
    }

    /// The payload, without a line's end. An error tells of a fault in the relay, not in the record.
    pub fn encode(self, view: &View<'_>, framing: Framing) -> Result<Bytes, String> {
        let event = &view.stored().event;
        Ok(match (self, framing) {
            (Self::Avro, _) => Bytes::from(avro::encode(view)?),
            (Self::Json | Self::CloudEventsBinary, _) => Bytes::from(view.json()),
            (Self::CloudEvents, _) => Bytes::from(cloudevents::structured(view)),
            (Self::Raw, Framing::Kafka | Framing::Nats | Framing::Amqp) => event.body.clone(),
            (Self::Raw, Framing::Line) => {
                let line = serde_json::json!({"id": event.id, "raw_base64": BASE64_STANDARD.encode(&event.body)});
                Bytes::from(line.to_string())
            }
        })
    }

    /// What stands beside the payload, as the framing spells it.
    pub(super) fn headers(self, view: &View<'_>, framing: Framing) -> Vec<(String, String)> {
        match self {
            Self::CloudEventsBinary => cloudevents::headers(view, framing),
            Self::Json | Self::CloudEvents | Self::Avro | Self::Raw => Vec::new(),
        }
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::OFFERED.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| format).ok_or_else(|| {
            let names = Self::OFFERED.map(|(name, _)| name);
            format!("not a format; there are {}", names.join(", "))
        })
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
        json_schema!({"type": "string", "enum": Self::OFFERED.map(|(name, _)| name)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::fixture::Fixture;

    #[test]
    fn json_is_the_record_on_one_line() {
        let fixture = Fixture::new(r#"{"sandbox_metadata":{"env":"a\nb"}}"#);
        let bytes = Format::Json.encode(&fixture.view(), Framing::Line).unwrap();
        assert!(!bytes.contains(&b'\n'));
        let record: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(record["relay"]["sequence"], 4711);
        assert_eq!(record["event_data"]["sandbox_metadata"]["env"], "a\nb");
    }

    #[test]
    fn raw_is_the_body_itself_or_its_base64_on_a_line() {
        let fixture = Fixture::new("null");
        let body = fixture.stored.event.body.clone();
        assert_eq!(Format::Raw.encode(&fixture.view(), Framing::Kafka).unwrap(), body);
        let line = Format::Raw.encode(&fixture.view(), Framing::Line).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).expect("json");
        assert_eq!(line["id"], fixture.stored.event.id.as_str());
        let text = line["raw_base64"].as_str().expect("text");
        assert_eq!(BASE64_STANDARD.decode(text).expect("base64"), body);
    }

    #[test]
    fn a_format_is_shown_as_it_is_written() {
        for (name, format) in Format::OFFERED {
            assert_eq!(serde_json::from_str::<Format>(&format!("{name:?}")).expect("offered"), format);
            assert_eq!(serde_json::to_value(format).expect("a word"), name);
        }
        assert!(serde_json::from_str::<Format>(r#""xml""#).is_err());
    }
}
