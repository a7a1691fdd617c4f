//! The record: what consumers get, as the public contract describes it.

use super::Origin;
use serde_json::value::RawValue;

/// The fields of the provider's event in the contract's order and spelling, each as the compact JSON text it came as.
///
/// Made by `decode`; unknown fields follow the known ones, under their own names.
#[derive(Debug, Clone)]
pub struct Record {
    fields: Vec<(String, Box<RawValue>)>,
}

/// What the relay adds under `relay`.
#[derive(Debug, Clone)]
pub struct RelayPart<'a> {
    /// The source's name.
    pub source: &'a str,
    /// The road.
    pub origin: Origin,
    /// Place in the log.
    pub sequence: u64,
    /// The store's UUID.
    pub instance: &'a str,
    /// By the host's clock.
    pub received_at: jiff::Timestamp,
    /// Unsigned evidence.
    pub webhook_id: Option<&'a str>,
    /// Unsigned evidence.
    pub delivery_id: Option<&'a str>,
}

/// Rises only when a field is removed or changes its meaning.
const SCHEMA: u32 = 1;

impl Record {
    /// Takes the fields as they shall stand in the record; an incoming `relay` among them becomes `relay.received`.
    pub fn new(fields: Vec<(String, Box<RawValue>)>) -> Self {
        Self { fields }
    }

    /// The JSON text of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.get())
    }

    /// The text of a field that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|json| serde_json::from_str(json).ok())
    }

    /// The whole as one line of compact JSON.
    pub fn to_json(&self, relay: &RelayPart<'_>) -> String {
        let mut json = String::with_capacity(1024);
        json.push('{');
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "relay") {
            push_member(&mut json, name, value.get());
        }
        json.push_str("\"relay\":{");
        push_member(&mut json, "schema", &SCHEMA.to_string());
        push_member(&mut json, "source", &quote(relay.source));
        push_member(&mut json, "origin", &quote(relay.origin.as_str()));
        push_member(&mut json, "sequence", &relay.sequence.to_string());
        push_member(&mut json, "instance", &quote(relay.instance));
        push_member(&mut json, "received_at", &quote(&format!("{:.3}", relay.received_at)));
        for (name, value) in [("webhook_id", relay.webhook_id), ("delivery_id", relay.delivery_id)] {
            if let Some(value) = value {
                push_member(&mut json, name, &quote(value));
            }
        }
        if let Some(received) = self.get("relay") {
            push_member(&mut json, "received", received);
        }
        json.pop();
        json.push_str("}}");
        json
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Appends `"name":value,`; the last comma is the caller's to take off.
fn push_member(json: &mut String, name: &str, value: &str) {
    json.push_str(&quote(name));
    json.push(':');
    json.push_str(value);
    json.push(',');
}
