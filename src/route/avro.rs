//! The record in Avro's binary encoding, by the schema that consumers find in a registry.
//!
//! What has no fixed shape (`event_data`, fields that are not known) is JSON text: a schema that followed metadata, which
//! strangers choose, would change with each of them.

use super::view::View;
use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The schema, as it is registered; `config/record.avsc`.
pub const SCHEMA: &str = include_str!("../../config/record.avsc");

static PARSED: LazyLock<Result<Schema, String>> =
    LazyLock::new(|| Schema::parse_str(SCHEMA).map_err(|error| error.to_string()));

#[derive(Serialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    version: Option<String>,
    timestamp: String,
    occurred_at: i64,
    event_category: Option<String>,
    event_label: Option<String>,
    event_data: Option<String>,
    sandbox_id: String,
    sandbox_execution_id: Option<String>,
    sandbox_template_id: Option<String>,
    sandbox_build_id: Option<String>,
    sandbox_team_id: Option<String>,
    more: BTreeMap<String, String>,
    relay: Relay,
}

#[derive(Serialize)]
struct Relay {
    schema: i32,
    source: String,
    origin: String,
    sequence: i64,
    instance: String,
    received_at: i64,
    webhook_id: Option<String>,
    delivery_id: Option<String>,
    received: Option<String>,
}

/// One record. An error tells of a fault in here, not in the record.
pub(super) fn encode(view: &View<'_>) -> Result<Vec<u8>, String> {
    let schema = PARSED.as_ref().map_err(String::clone)?;
    let Value::Object(mut record) = view.tree()?.clone() else { return Err("the record is no object".to_owned()) };
    let Some(Value::Object(mut relay)) = record.remove("relay") else {
        return Err("the record lacks `relay`".to_owned());
    };
    let stored = view.stored();
    let relay = Relay {
        schema: relay.get("schema").and_then(Value::as_i64).and_then(|schema| schema.try_into().ok()).unwrap_or(0),
        source: needed(&mut relay, "source")?,
        origin: needed(&mut relay, "origin")?,
        sequence: i64::try_from(stored.sequence).map_err(|error| error.to_string())?,
        instance: needed(&mut relay, "instance")?,
        received_at: stored.arrival.received_at.as_millisecond(),
        webhook_id: text(&mut relay, "webhook_id"),
        delivery_id: text(&mut relay, "delivery_id"),
        received: relay.remove("received").map(|received| received.to_string()),
    };
    let event = Event {
        id: needed(&mut record, "id")?,
        kind: needed(&mut record, "type")?,
        version: text(&mut record, "version"),
        timestamp: needed(&mut record, "timestamp")?,
        occurred_at: stored.event.timestamp.instant().as_microsecond(),
        event_category: text(&mut record, "event_category"),
        event_label: text(&mut record, "event_label"),
        event_data: view.json_of("event_data"),
        sandbox_id: needed(&mut record, "sandbox_id")?,
        sandbox_execution_id: text(&mut record, "sandbox_execution_id"),
        sandbox_template_id: text(&mut record, "sandbox_template_id"),
        sandbox_build_id: text(&mut record, "sandbox_build_id"),
        sandbox_team_id: text(&mut record, "sandbox_team_id"),
        more: rest(view, record),
        relay,
    };
    let writer = GenericDatumWriter::builder(schema).build().map_err(|error| error.to_string())?;
    writer.write_ser_to_vec(&event).map_err(|error| error.to_string())
}

/// A string's text; of anything else that is not null the JSON.
fn text(object: &mut Map<String, Value>, name: &str) -> Option<String> {
    match object.remove(name)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn needed(object: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    text(object, name).ok_or_else(|| format!("the record lacks `{name}`"))
}

fn rest(view: &View<'_>, record: Map<String, Value>) -> BTreeMap<String, String> {
    let names = record.into_iter().map(|(name, _)| name).filter(|name| name != "event_data");
    names.filter_map(|name| Some((view.json_of(&name)?, name))).map(|(json, name)| (name, json)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value as Avro;

    #[test]
    fn a_record_is_read_back_by_its_schema() {
        let schema = Schema::parse_str(SCHEMA).unwrap();
        let further =
            [("event_data", r#"{"a":[1,null]}"#), ("event_label", "null"), ("new_field", "[1.50]"), ("relay", "7")];
        let fixture = Fixture::with("sandbox.lifecycle.killed", "sbx-é", &further);
        let bytes = encode(&fixture.view()).unwrap();
        let read = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &bytes[..]).unwrap();
        let Avro::Record(fields) = read else { panic!("{read:?}") };
        let of = |name: &str| &fields.iter().find(|(field, _)| field == name).unwrap().1;
        let string = |text: &str| Avro::String(text.to_owned());
        assert_eq!((of("type"), of("sandbox_id")), (&string("sandbox.lifecycle.killed"), &string("sbx-é")));
        assert_eq!(of("event_data"), &Avro::Union(1, Box::new(string(r#"{"a":[1,null]}"#))));
        assert_eq!(of("event_label"), &Avro::Union(0, Box::new(Avro::Null)));
        assert_eq!(of("occurred_at"), &Avro::TimestampMicros(1_754_513_976_000_000));
        assert_eq!(of("more"), &Avro::Map([("new_field".to_owned(), string("[1.50]"))].into()));
        let Avro::Record(relay) = of("relay") else { panic!() };
        assert_eq!(relay[3], ("sequence".to_owned(), Avro::Long(4711)));
        assert_eq!(relay[8], ("received".to_owned(), Avro::Union(1, Box::new(string("7")))));
    }
}
