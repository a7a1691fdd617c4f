//! `/api/dead-letters`: records that a sink never took, to be read, retried or dropped.

use super::events;
use super::openapi::Record;
use super::paging::{self, given};
use super::quarantine::Dropped;
use super::replay::refusal;
use super::reply::{Change, InPath, Params, blocking, problem};
use super::sinks::{Asked, Problem};
use super::telling::tell;
use crate::event::Stored;
use crate::store::{DeadLetter, DeadLetters, Resolution};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use tokio::sync::watch;

/// What stands behind the `?`; an empty value is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    sink: String,
    reason: String,
    limit: String,
    cursor: String,
}

/// One page.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetterPage")]
pub struct LetterPage {
    /// By sink and sequence, oldest first.
    pub dead_letters: Vec<Letter>,
    /// For the page after this one; `null` on the last.
    pub next_cursor: Option<String>,
}

/// One letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
pub struct Letter {
    /// Whose.
    pub sink: String,
    /// Of the event, in the log.
    pub sequence: u64,
    /// The event's.
    pub id: String,
    /// The event's.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's.
    pub sandbox_id: String,
    /// The source that it came by.
    pub source: String,
    /// One of the metrics' reasons.
    pub reason: String,
    /// In the peer's or the client's words.
    pub message: String,
    /// Since when it is one.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: jiff::Timestamp,
}

/// One page. A letter that is resolved while the page is made is left out.
pub(super) async fn list(State(asked): State<Asked>, Params(wanted): Params<Wanted>) -> Response {
    let read = |cursor: &str| {
        let (sink, sequence) = cursor.rsplit_once(':')?;
        Some((sink.to_owned(), sequence.parse::<u64>().ok()?))
    };
    let paged = paging::limit(&wanted.limit).and_then(|limit| Ok((limit, paging::cursor(&wanted.cursor, read)?)));
    let (limit, after) = match paged {
        Ok(paged) => paged,
        Err(message) => return problem(StatusCode::BAD_REQUEST, message),
    };
    blocking(move || {
        let letters = &asked.letters;
        let is_wanted = |letter: &DeadLetter| given(&wanted.reason).is_none_or(|reason| reason == letter.cause.reason);
        let mut found = letters.after(given(&wanted.sink), after, limit + 1, is_wanted);
        let next_cursor = paging::cut(&mut found, limit, |(sink, sequence, _)| format!("{sink}:{sequence}"));
        let mut dead_letters = Vec::new();
        for (sink, sequence, letter) in found {
            match letters.event(&sink, sequence) {
                Ok(Some(stored)) => dead_letters.push(show(&sink, sequence, letter, &stored)),
                Ok(None) if !waits(letters, &sink, sequence) => {}
                // It can still be dropped.
                Ok(None) => dead_letters.push(show_unread(&sink, sequence, letter, "what is kept of it is damaged")),
                Err(error) => dead_letters.push(show_unread(&sink, sequence, letter, &error.to_string())),
            }
        }
        Ok(Json(LetterPage { dead_letters, next_cursor }).into_response())
    })
    .await
}

fn show(sink: &str, sequence: u64, letter: DeadLetter, stored: &Stored) -> Letter {
    Letter {
        sink: sink.to_owned(),
        sequence,
        id: letter.id,
        kind: stored.event.kind.clone(),
        sandbox_id: stored.event.sandbox_id.clone(),
        source: stored.arrival.source.to_string(),
        reason: letter.cause.reason,
        message: letter.cause.message,
        at: letter.at,
    }
}

/// One whose event cannot be read: what only that tells is empty.
fn show_unread(sink: &str, sequence: u64, letter: DeadLetter, why: &str) -> Letter {
    Letter {
        sink: sink.to_owned(),
        sequence,
        id: letter.id,
        kind: String::new(),
        sandbox_id: String::new(),
        source: String::new(),
        reason: letter.cause.reason,
        message: format!("cannot be read: {why}; it became a dead letter for this: {}", letter.cause.message),
        at: letter.at,
    }
}

fn waits(letters: &DeadLetters, sink: &str, sequence: u64) -> bool {
    let before = sequence.checked_sub(1).map(|before| (sink.to_owned(), before));
    let next = letters.after(Some(sink), before, 1, |_| true);
    next.first().is_some_and(|(_, first, _)| *first == sequence)
}

/// One letter with its record.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetterWithRecord")]
pub(super) struct LetterWithRecord {
    /// What it is.
    #[serde(flatten)]
    letter: Letter,
    /// As a sink of `format: json` would get it.
    #[schemars(with = "Option<Record>")]
    record: Option<Box<RawValue>>,
}

/// One letter with its record, as a sink of `format: json` would get it: `/api/dead-letters/{sink}/{id or sequence}`.
pub(super) async fn show_one(State(asked): State<Asked>, InPath((sink, id)): InPath<(String, String)>) -> Response {
    blocking(move || {
        let is_meant = |(sequence, letter): &(u64, DeadLetter)| letter.id == id || sequence.to_string() == id;
        let found = asked.letters.of(&sink).into_iter().find(is_meant);
        let Some((sequence, letter)) = found else { return Ok(problem(StatusCode::NOT_FOUND, "no such dead letter")) };
        let Some(stored) = asked.letters.event(&sink, sequence)? else {
            return Ok(problem(StatusCode::NOT_FOUND, "it is no dead letter any more"));
        };
        let record = events::record(&stored, &asked.instance);
        Ok(Json(LetterWithRecord { letter: show(&sink, sequence, letter, &stored), record }).into_response())
    })
    .await
}

/// The body of a change: which letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "DeadLetterChoice")]
pub struct Chosen {
    /// Whose.
    pub sink: String,
    /// Their events' ids, or their sequences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Every one, or with `reason` every one of that reason.
    pub all: bool,
    /// Only those of this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Chosen {
    fn sequences(&self, letters: &DeadLetters) -> Result<Vec<u64>, Problem> {
        if self.all != self.ids.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "give either `ids` or `all`".to_owned()));
        }
        let ids: BTreeSet<&str> = self.ids.iter().map(String::as_str).collect();
        let mut found = BTreeSet::new();
        let mut sequences = Vec::new();
        for (sequence, letter) in letters.of(&self.sink) {
            let named = [letter.id.as_str(), &sequence.to_string()].into_iter().find_map(|name| ids.get(name).copied());
            found.extend(named);
            let is_meant = self.reason.as_ref().is_none_or(|reason| *reason == letter.cause.reason);
            if is_meant && (self.all || named.is_some()) {
                sequences.push(sequence);
            }
        }
        if let Some(unknown) = ids.difference(&found).next() {
            let message = format!("sink {:?} has no dead letter {unknown:?}", self.sink);
            return Err((StatusCode::NOT_FOUND, message));
        }
        Ok(sequences)
    }
}

/// `POST /api/dead-letters/retry`: sends them once more; what is confirmed is a letter no more. Told line by line.
pub(super) async fn retry(State(asked): State<Asked>, Change(chosen): Change<Chosen>) -> Response {
    let retrying = match asked.sink(&chosen.sink).map(|handle| handle.retrying()) {
        Ok(Ok(retrying)) => retrying,
        Ok(Err(refused)) => return refusal(&refused),
        Err((status, message)) => return problem(status, message),
    };
    let sequences = match chosen.sequences(&asked.letters) {
        Ok(sequences) => sequences,
        Err((status, message)) => return problem(status, message),
    };
    tracing::info!(sink = chosen.sink, letters = sequences.len(), "dead letters are retried");
    let progress = watch::Sender::default();
    let seen = progress.subscribe();
    tell(async move { retrying.run(sequences, &progress).await.map_err(|refused| refused.to_string()) }, seen)
}

/// `POST /api/dead-letters/drop`: gives them up.
pub(super) async fn drop_some(State(asked): State<Asked>, Change(chosen): Change<Chosen>) -> Response {
    blocking(move || {
        let sequences = match chosen.sequences(&asked.letters) {
            Ok(sequences) => sequences,
            Err((status, message)) => return Ok(problem(status, message)),
        };
        let sink = &chosen.sink;
        let dropped = asked.letters.resolve(sink, &sequences, Resolution::Dropped)?;
        if asked.sinks.get(sink).is_some() {
            asked.metrics.dead_letters_waiting(sink, asked.letters.waiting(sink));
        }
        tracing::warn!(sink, dropped, "dead letters are dropped by an operator");
        Ok(Json(Dropped { dropped }).into_response())
    })
    .await
}
