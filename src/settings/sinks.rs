//! A sink's settings: what every sink has, and what its kind has, in one table told apart by `type`.
//!
//! By hand, since serde's `flatten` and `deny_unknown_fields` exclude each other.

use crate::deliver;
use crate::sink::{amqp, file, kafka, nats, stdout};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Everything under `sinks.<name>`.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// The keys that every sink has.
    pub common: deliver::Settings,
    /// The keys of its kind.
    pub kind: SinkKind,
}

/// What a sink's `type` says.
#[derive(Debug, Clone)]
pub enum SinkKind {
    /// A Kafka topic.
    Kafka(kafka::Settings),
    /// A NATS subject, with or without JetStream.
    Nats(nats::Settings),
    /// An AMQP 0.9.1 exchange.
    Amqp(amqp::Settings),
    /// A file of one record per line.
    File(file::Settings),
    /// Standard output, one record per line.
    Stdout(stdout::Settings),
}

impl SinkKind {
    /// The values of `type`.
    pub const NAMES: [&str; 5] = ["kafka", "nats", "amqp", "file", "stdout"];

    /// The value of `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Nats(_) => "nats",
            Self::Amqp(_) => "amqp",
            Self::File(_) => "file",
            Self::Stdout(_) => "stdout",
        }
    }
}

impl<'de> Deserialize<'de> for SinkSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = Map::deserialize(deserializer)?;
        let name = match own.remove("type") {
            Some(Value::String(name)) => name,
            _ => return Err(D::Error::missing_field("type")),
        };
        let mut common = Map::new();
        for key in properties_of::<deliver::Settings>(&mut SchemaGenerator::default()).keys() {
            common.extend(own.remove_entry(key));
        }
        let kind = match name.as_str() {
            "kafka" => SinkKind::Kafka(read(own)?),
            "nats" => SinkKind::Nats(read(own)?),
            "amqp" => SinkKind::Amqp(read(own)?),
            "file" => SinkKind::File(read(own)?),
            "stdout" => SinkKind::Stdout(read(own)?),
            other => return Err(D::Error::unknown_variant(other, &SinkKind::NAMES)),
        };
        Ok(Self { common: read(common)?, kind })
    }
}

/// Reads one struct from its keys; the message keeps the path, which `serde_json` alone would lose here.
fn read<T: DeserializeOwned, E: serde::de::Error>(table: Map<String, Value>) -> Result<T, E> {
    serde_path_to_error::deserialize(Value::Object(table)).map_err(E::custom)
}

impl Serialize for SinkSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match &self.kind {
            SinkKind::Kafka(settings) => serde_json::to_value(settings),
            SinkKind::Nats(settings) => serde_json::to_value(settings),
            SinkKind::Amqp(settings) => serde_json::to_value(settings),
            SinkKind::File(settings) => serde_json::to_value(settings),
            SinkKind::Stdout(settings) => serde_json::to_value(settings),
        };
        let mut all = Map::from_iter([("type".to_owned(), Value::from(self.kind.name()))]);
        for part in [kind, serde_json::to_value(&self.common)] {
            match part.map_err(S::Error::custom)? {
                Value::Object(part) => all.extend(part),
                _ => return Err(S::Error::custom("a sink's settings are not a table")),
            }
        }
        all.serialize(serializer)
    }
}

impl JsonSchema for SinkSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sink".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = [
            kind_schema::<kafka::Settings>("kafka", generator),
            kind_schema::<nats::Settings>("nats", generator),
            kind_schema::<amqp::Settings>("amqp", generator),
            kind_schema::<file::Settings>("file", generator),
            kind_schema::<stdout::Settings>("stdout", generator),
        ];
        schemars::json_schema!({"description": "One peer that records are sent to.", "oneOf": kinds})
    }
}

fn kind_schema<T: JsonSchema>(name: &str, generator: &mut SchemaGenerator) -> Value {
    let mut schema = T::json_schema(generator).to_value();
    let mut properties = properties_of::<deliver::Settings>(generator);
    properties.insert("type".to_owned(), json!({"const": name, "description": "What kind of peer it is."}));
    if let Value::Object(schema) = &mut schema {
        if let Some(Value::Object(own)) = schema.remove("properties") {
            properties.extend(own);
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            required.push(json!("type"));
        }
    }
    schema
}

fn properties_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    match T::json_schema(generator).to_value().get_mut("properties") {
        Some(Value::Object(properties)) => std::mem::take(properties),
        _ => Map::new(),
    }
}
