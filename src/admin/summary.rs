//! `GET /api/events/summary`: how many events of which type, and of which template.

use super::events::{since, unreadable};
use super::journal::{Journal, Page, Query};
use super::reply::{Params, problem};
use crate::decode;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// How far back it goes where nothing is asked for.
const SPAN: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Events that are counted at once.
const AT_ONCE: usize = 8192;
/// Different types, and templates, that are told apart; whoever signs chooses them. What comes beyond them counts as
/// [`OTHER`].
const MOST: usize = 10_000;
const OTHER: &str = "(other)";
/// An event without a template.
const NONE: &str = "(none)";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    since: String,
    source: String,
}

/// What the journal has of a span. Both ends are times of receipt, as `relay.received_at`; samples of metrics are left
/// out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// From when on figures were asked for.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub asked_since: Timestamp,
    /// From when on they are: later than asked for where the journal does not reach back as far.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub from: Timestamp,
    /// Up to when they are.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub to: Timestamp,
    /// Whether nothing is missing of what was asked for.
    pub complete: bool,
    /// The earliest of the events' own times, if there are any.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub earliest_event: Option<Timestamp>,
    /// The latest.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub latest_event: Option<Timestamp>,
    /// How many there are.
    pub events: u64,
    /// How many of each type.
    pub by_type: BTreeMap<String, u64>,
    /// How many of each template's sandboxes; `(none)` for events that name none.
    pub by_template: BTreeMap<String, u64>,
}

pub(super) async fn show(State(journal): State<Journal>, Params(wanted): Params<Wanted>) -> Response {
    let now = Timestamp::now();
    let asked_since = match since(&wanted.since, now) {
        Ok(since) => since.unwrap_or_else(|| now.saturating_sub(SPAN).unwrap_or(Timestamp::MIN)),
        Err(message) => return problem(StatusCode::BAD_REQUEST, message),
    };
    let source = Some(wanted.source).filter(|source| !source.is_empty());
    match count(&journal, Summary::new(asked_since, now), source).await {
        Ok(summary) => Json(summary).into_response(),
        Err(error) => unreadable(&error),
    }
}

async fn count(journal: &Journal, mut summary: Summary, source: Option<String>) -> io::Result<Summary> {
    let query = Query { since: Some(summary.asked_since), source, ..Query::default() };
    // Looked at first: a segment may go while the others are read.
    if let Some(begins) = journal.begins().filter(|begins| *begins > summary.asked_since) {
        (summary.from, summary.complete) = (begins, false);
    }
    let mut after = None;
    loop {
        let page = journal.oldest_first(query.clone(), after, AT_ONCE).await?;
        let next = page.next;
        summary = tokio::task::spawn_blocking(move || summary.with(&page)).await?;
        match next {
            Some(_) => after = next,
            None => return Ok(summary),
        }
    }
}

impl Summary {
    fn new(asked_since: Timestamp, now: Timestamp) -> Self {
        Self {
            asked_since,
            from: asked_since,
            to: now,
            complete: true,
            earliest_event: None,
            latest_event: None,
            events: 0,
            by_type: BTreeMap::new(),
            by_template: BTreeMap::new(),
        }
    }

    fn with(mut self, page: &Page) -> Self {
        for stored in page.events.iter().filter(|stored| stored.arrival.received_at <= self.to) {
            let event = &stored.event;
            let at = event.timestamp.instant();
            self.events += 1;
            self.earliest_event = self.earliest_event.into_iter().chain([at]).min();
            self.latest_event = self.latest_event.max(Some(at));
            let record = decode::stored(event).ok();
            let template = record.and_then(|record| record.text("sandbox_template_id"));
            add(&mut self.by_type, &event.kind);
            add(&mut self.by_template, template.as_deref().filter(|id| !id.is_empty()).unwrap_or(NONE));
        }
        self
    }
}

fn add(counts: &mut BTreeMap<String, u64>, key: &str) {
    let key = if counts.len() < MOST || counts.contains_key(key) { key } else { OTHER };
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => drop(counts.insert(key.to_owned(), 1)),
    }
}
