//! A stored event for the tests of this room.

use super::View;
use crate::event::{Arrival, Event, Origin, Record, Stored, Timestamp};
use bytes::Bytes;
use std::borrow::Cow;

pub(crate) const INSTANCE: &str = "0b7d2f0e-27c4-4b52-8d52-5fb3b1b9c0de";

pub(crate) struct Fixture {
    pub(crate) stored: Stored,
    pub(crate) record: Record<'static>,
}

impl Fixture {
    /// A killed event with that `event_data`, JSON text.
    pub(crate) fn new(event_data: &str) -> Self {
        Self::with("sandbox.lifecycle.killed", "iz62km2v0zwlow3i7icxv", &[("event_data", event_data)])
    }

    /// A killed event whose metadata has that `env`.
    pub(crate) fn env(env: &str) -> Self {
        Self::new(&serde_json::json!({"sandbox_metadata": {"env": env}}).to_string())
    }

    /// An event with further fields, JSON text each.
    pub(crate) fn with(kind: &str, sandbox_id: &str, further: &[(&str, &str)]) -> Self {
        let id = "f5911677-cb60-498f-afed-f68143b3cc59";
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let mut fields = vec![
            ("id".to_owned(), quote(id)),
            ("type".to_owned(), quote(kind)),
            ("version".to_owned(), quote("v2")),
            ("timestamp".to_owned(), quote("2025-08-06T20:59:36Z")),
        ];
        fields.extend(further.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())));
        fields.push(("sandbox_id".to_owned(), quote(sandbox_id)));
        let body = fields.iter().map(|(name, json)| format!("{name:?}: {json}")).collect::<Vec<_>>().join(", ");
        let fields = fields.into_iter().map(|(name, json)| (name.into(), Cow::Owned(json))).collect();
        Self {
            stored: Stored {
                sequence: 4711,
                arrival: Arrival {
                    source: "acme".into(),
                    origin: Origin::Webhook,
                    received_at: "2025-08-06T20:59:36.412Z".parse().expect("a time"),
                    webhook_id: None,
                    delivery_id: None,
                },
                event: Event {
                    id: id.to_owned(),
                    kind: kind.to_owned(),
                    timestamp: Timestamp::parse("2025-08-06T20:59:36Z").expect("a time"),
                    sandbox_id: sandbox_id.to_owned(),
                    body: Bytes::from(format!("{{{body}}}")),
                },
            },
            record: Record::new(fields),
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(&self.stored, &self.record, INSTANCE)
    }
}
