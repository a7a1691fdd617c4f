//! `/api/sandboxes`: those that live, all of them or a page at a time.

use super::paging::{self, Wanted, given};
use super::reply::{Params, problem};
use crate::sandboxes::{Part, Sandboxes};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Without `limit` and `cursor` the whole list.
pub(super) async fn list(State(sandboxes): State<Sandboxes>, Params(wanted): Params<Wanted>) -> Response {
    let read = |cursor: &str| cursor.split_once(':').map(|(source, id)| (source.to_owned(), id.to_owned()));
    let is_whole = wanted.limit.is_empty() && wanted.cursor.is_empty();
    let limit = if is_whole { Ok(usize::MAX) } else { paging::limit(&wanted.limit) };
    match limit.and_then(|limit| Ok(Part { limit, after: paging::cursor(&wanted.cursor, read)? })) {
        Ok(part) => Json(sandboxes.part(given(&wanted.source), &part)).into_response(),
        Err(message) => problem(StatusCode::BAD_REQUEST, message),
    }
}
