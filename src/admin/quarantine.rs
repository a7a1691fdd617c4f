//! `/api/quarantine`: copies of bodies that were well signed and yet no events, to be read or dropped.

use super::paging::{self, Wanted, given};
use super::reply::{Change, InPath, Params, blocking, problem};
use crate::store::{Quarantine, Quarantined as Kept};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    /// By which it is shown and dropped; rises by arrival.
    pub id: String,
    /// The source that it came by.
    pub source: String,
    /// When it came.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Why it is no event, as the sender was told; empty where an earlier version has kept it.
    pub reason: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// One copy with its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "QuarantinedWithBody")]
pub struct Whole {
    /// What it is.
    #[serde(flatten)]
    pub about: Quarantined,
    /// The bytes that were signed, less what the source's `redact` takes out, in base64.
    pub body_base64: String,
}

impl Whole {
    /// The bytes; `None` if they are no base64, which only another version could bring about.
    pub fn body(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(&self.body_base64).ok()
    }
}

/// One page, the oldest first.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "QuarantinePage")]
pub struct Page {
    /// At most as many as were asked for.
    pub quarantined: Vec<Quarantined>,
    /// For the page after this one; `null` on the last.
    pub next_cursor: Option<String>,
}

/// The body of a change: which ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "QuarantineDrop")]
pub struct Dropping {
    /// These.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Every one, or with `source` every one of that source.
    pub all: bool,
    /// Only with `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// How many are gone.
    pub dropped: usize,
}

impl From<Kept> for Quarantined {
    fn from(kept: Kept) -> Self {
        Self { id: kept.id.to_string(), at: kept.at(), source: kept.source, reason: kept.reason, bytes: kept.length }
    }
}

pub(super) async fn list(State(quarantine): State<Quarantine>, Params(wanted): Params<Wanted>) -> Response {
    let read = |cursor: &str| cursor.parse::<i64>().ok();
    let asked = paging::limit(&wanted.limit).and_then(|limit| Ok((limit, paging::cursor(&wanted.cursor, read)?)));
    let (limit, after) = match asked {
        Ok(asked) => asked,
        Err(message) => return problem(StatusCode::BAD_REQUEST, message),
    };
    let is_wanted = |one: &Kept| given(&wanted.source).is_none_or(|source| source == one.source);
    let mut kept = quarantine.after(after, limit + 1, is_wanted);
    let next_cursor = paging::cut(&mut kept, limit, |last| last.id.to_string());
    Json(Page { quarantined: kept.into_iter().map(Quarantined::from).collect(), next_cursor }).into_response()
}

/// `/api/quarantine/{id}`
pub(super) async fn show(State(quarantine): State<Quarantine>, InPath(id): InPath<String>) -> Response {
    blocking(move || {
        let found = id.parse().ok().map(|id| quarantine.read(id)).transpose()?.flatten();
        Ok(match found {
            Some((kept, body)) => {
                Json(Whole { about: kept.into(), body_base64: BASE64_STANDARD.encode(body) }).into_response()
            }
            None => problem(StatusCode::NOT_FOUND, format!("nothing of the id {id:?} is in quarantine")),
        })
    })
    .await
}

/// `POST /api/quarantine/drop`
pub(super) async fn drop_some(State(quarantine): State<Quarantine>, Change(dropping): Change<Dropping>) -> Response {
    blocking(move || {
        let ids = match dropping.ids(&quarantine) {
            Ok(ids) => ids,
            Err((status, message)) => return Ok(problem(status, message)),
        };
        let dropped = quarantine.give_up(&ids)?;
        tracing::warn!(dropped, "copies in quarantine are dropped by an operator");
        Ok(Json(Dropped { dropped }).into_response())
    })
    .await
}

impl Dropping {
    fn ids(&self, quarantine: &Quarantine) -> Result<Vec<i64>, (StatusCode, String)> {
        if self.all != self.ids.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "give either `ids` or `all`".to_owned()));
        }
        if self.source.is_some() && !self.all {
            return Err((StatusCode::BAD_REQUEST, "`source` goes with `all`".to_owned()));
        }
        let is_wanted = |one: &Kept| self.source.as_ref().is_none_or(|source| *source == one.source);
        let there: Vec<i64> = quarantine.after(None, usize::MAX, is_wanted).into_iter().map(|one| one.id).collect();
        if self.all {
            return Ok(there);
        }
        let id = |text: &String| {
            let found = text.parse().ok().filter(|id| there.contains(id));
            found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("nothing of the id {text:?} is in quarantine")))
        };
        self.ids.iter().map(id).collect()
    }
}
