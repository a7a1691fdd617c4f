//! `GET /api/events`: what the journal still has, a page at a time.
//!
//! `since=` is when the relay received an event (`relay.received_at`), which the journal can be searched by; a page in the
//! order of arrival, the newest first, or with `order=asc` the oldest.

use super::journal::{Journal, Page, Query};
use super::openapi::Record;
use super::paging::{self, given};
use super::reply::{Params, problem};
use super::time::Since;
use crate::decode;
use crate::event::Stored;
use crate::route::View;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

/// What stands behind the `?`; an empty value is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    since: String,
    #[serde(rename = "type")]
    kind: String,
    sandbox_id: String,
    source: String,
    limit: String,
    order: String,
    cursor: String,
}

/// One page.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventPage")]
pub(super) struct Shown {
    /// As consumers get them in `format: json`.
    #[schemars(with = "Vec<Record>")]
    events: Vec<Box<RawValue>>,
    /// For the page after this one; `null` on the last. A page may be empty and not be the last.
    next_cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
}

pub(super) async fn list(State(journal): State<Journal>, Params(wanted): Params<Wanted>) -> Response {
    let (query, order, from, limit) = match wanted.understand(Timestamp::now()) {
        Ok(understood) => understood,
        Err(message) => return problem(StatusCode::BAD_REQUEST, message),
    };
    let read = match order {
        Order::OldestFirst => journal.oldest_first(query, from, limit).await,
        Order::NewestFirst => journal.newest_first(query, from, limit).await,
    };
    let instance = journal.instance().to_owned();
    let shown = match read {
        Ok(page) => tokio::task::spawn_blocking(move || show(&page, order, &instance)).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match shown {
        Ok(shown) => Json(shown).into_response(),
        Err(error) => unreadable(&error),
    }
}

pub(super) fn unreadable(error: &std::io::Error) -> Response {
    problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the journal cannot be read: {error}"))
}

/// `since=` as a time.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let read =
        |text: &str| text.parse::<Since>().map(|since| since.from(now)).map_err(|error| format!("since: {error}"));
    given(text).map(read).transpose()
}

impl Wanted {
    fn understand(&self, now: Timestamp) -> Result<(Query, Order, Option<u64>, usize), String> {
        let query = Query::of_type(given(&self.kind)).map_err(|error| format!("type: {error}"))?;
        let query = Query {
            since: since(&self.since, now)?,
            sandbox_id: given(&self.sandbox_id).map(str::to_owned),
            source: given(&self.source).map(str::to_owned),
            ..query
        };
        let order = match self.order.as_str() {
            "" | "desc" => Order::NewestFirst,
            "asc" => Order::OldestFirst,
            _ => return Err("order: neither asc nor desc".to_owned()),
        };
        let limit = paging::limit(&self.limit)?;
        let from = paging::cursor(&self.cursor, |cursor| order.read(cursor))?;
        Ok((query, order, from, limit))
    }
}

impl Order {
    fn sign(self) -> char {
        match self {
            Self::OldestFirst => 'a',
            Self::NewestFirst => 'd',
        }
    }

    /// Opaque to whoever gets it: only the sequence stands in it for now.
    fn write(self, sequence: u64) -> String {
        format!("{}{sequence:x}", self.sign())
    }

    fn read(self, cursor: &str) -> Option<u64> {
        cursor.strip_prefix(self.sign()).and_then(|hex| u64::from_str_radix(hex, 16).ok())
    }
}

fn show(page: &Page, order: Order, instance: &str) -> Shown {
    let events = page.events.iter().filter_map(|stored| record(stored, instance)).collect();
    Shown { events, next_cursor: page.next.map(|sequence| order.write(sequence)) }
}

/// The record; of a body that cannot be read back, which only a fault in `decode` can bring about, that.
pub(super) fn record(stored: &Stored, instance: &str) -> Option<Box<RawValue>> {
    let Stored { event, sequence, .. } = stored;
    match decode::stored(event) {
        Ok(record) => RawValue::from_string(View::new(stored, &record, instance).json()).ok(),
        Err(error) => to_raw_value(
            &json!({"id": event.id, "type": event.kind, "error": error.to_string(), "relay": {"sequence": sequence}}),
        )
        .ok(),
    }
}
