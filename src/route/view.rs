//! One stored event as filters, templates and formats look at it.

use crate::event::{Record, RelayPart, Stored};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::OnceCell;

/// An event in the store, its record, and what is worked out of them on demand.
///
/// Parsing the record into a tree is the dear part, so it happens at most once, and not at all where only top-level
/// fields are asked for.
#[derive(Debug)]
pub struct View<'a> {
    stored: &'a Stored,
    record: &'a Record<'a>,
    instance: &'a str,
    tree: OnceCell<Result<Value, String>>,
}

/// A top-level field, as far as a template can use it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// Not there, null, or an empty string.
    Empty,
    /// A list or an object.
    Composite,
    /// A string's text; a number's or a truth value's JSON text.
    Scalar(Cow<'a, str>),
}

impl<'a> View<'a> {
    /// `instance` is the store's UUID; `record` must be the one decoded from `stored`.
    pub fn new(stored: &'a Stored, record: &'a Record<'a>, instance: &'a str) -> Self {
        Self { stored, record, instance, tree: OnceCell::new() }
    }

    /// The event and its place in the log.
    pub(crate) fn stored(&self) -> &'a Stored {
        self.stored
    }

    /// The record as one line of compact JSON; see the public contract.
    pub fn json(&self) -> String {
        let arrival = &self.stored.arrival;
        self.record.to_json(&RelayPart {
            source: &arrival.source,
            origin: arrival.origin,
            sequence: self.stored.sequence,
            instance: self.instance,
            received_at: arrival.received_at,
            webhook_id: arrival.webhook_id.as_deref(),
            delivery_id: arrival.delivery_id.as_deref(),
        })
    }

    /// The record as a tree. The error says where it is not JSON, which only a fault in `decode` can bring about.
    pub(crate) fn tree(&self) -> Result<&Value, &str> {
        self.tree
            .get_or_init(|| {
                serde_json::from_str(&self.json()).map_err(|error| format!("the record is not JSON: {error}"))
            })
            .as_ref()
            .map_err(String::as_str)
    }

    /// A top-level field that is a string and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.record.text(name).filter(|text| !text.is_empty())
    }

    /// The JSON text of a top-level field as it came; `None` where it is absent or null.
    pub(crate) fn json_of(&self, name: &str) -> Option<String> {
        self.record.get(name).filter(|json| *json != "null").map(str::to_owned)
    }

    /// A top-level field without parsing the others; `relay` is what the relay says, never what came under that name.
    pub(crate) fn field(&self, name: &str) -> Field<'a> {
        match name {
            "id" => return scalar(&self.stored.event.id),
            "type" => return scalar(&self.stored.event.kind),
            "sandbox_id" => return scalar(&self.stored.event.sandbox_id),
            "relay" => return Field::Composite,
            _ => {}
        }
        let Some(json) = self.record.get(name) else { return Field::Empty };
        match json.as_bytes().first() {
            Some(b'{' | b'[') => Field::Composite,
            Some(b'"') => match serde_json::from_str::<String>(json) {
                Ok(text) if !text.is_empty() => Field::Scalar(Cow::Owned(text)),
                _ => Field::Empty,
            },
            _ if json == "null" => Field::Empty,
            _ => scalar(json),
        }
    }
}

fn scalar(text: &str) -> Field<'_> {
    if text.is_empty() { Field::Empty } else { Field::Scalar(Cow::Borrowed(text)) }
}
