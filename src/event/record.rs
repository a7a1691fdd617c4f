//! The record: what consumers get, as the public contract describes it.

use super::Origin;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The fields of the provider's event in the contract's order and spelling, each as the compact JSON text it came as.
///
/// Made by `decode`; unknown fields follow the known ones, under their own names. Borrows the body.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
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

impl<'a> Record<'a> {
    /// Takes the fields as they shall stand in the record; an incoming `relay` among them becomes `relay.received`.
    pub fn new(fields: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Self {
        Self { fields }
    }

    /// The JSON text of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, json)| &**json)
    }

    /// The text of a field that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|json| serde_json::from_str(json).ok())
    }

    /// The whole as one line of compact JSON.
    pub fn to_json(&self, relay: &RelayPart<'_>) -> String {
        let mut json = Json(String::with_capacity(1024));
        json.0.push('{');
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "relay") {
            json.name(name);
            json.0.push_str(value);
        }
        json.name("relay");
        json.0.push('{');
        json.member("schema", SCHEMA);
        json.text("source", relay.source);
        json.text("origin", relay.origin.as_str());
        json.member("sequence", relay.sequence);
        json.text("instance", relay.instance);
        // Digits and the signs of a time: nothing to escape.
        json.member("received_at", format_args!("\"{:.3}\"", relay.received_at));
        for (name, value) in [("webhook_id", relay.webhook_id), ("delivery_id", relay.delivery_id)] {
            if let Some(value) = value {
                json.text(name, value);
            }
        }
        if let Some(received) = self.get("relay") {
            json.member("received", received);
        }
        json.0.push_str("}}");
        json.0
    }
}

/// An object in the making.
struct Json(String);

impl Json {
    /// `"name":`, behind a comma where it is not the first.
    fn name(&mut self, name: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.quoted(name);
        self.0.push(':');
    }

    fn member(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        // Writing into memory does not fail.
        let _ = write!(self.0, "{value}");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.quoted(text);
    }

    fn quoted(&mut self, text: &str) {
        let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        if text.bytes().all(plain) {
            self.0.push('"');
            self.0.push_str(text);
            self.0.push('"');
        } else {
            self.0.push_str(&serde_json::Value::from(text).to_string());
        }
    }
}
