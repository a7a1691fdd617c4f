//! How the admin API answers and reads: JSON, with `{"error": …}` where something is wrong.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;

/// Below it errors are JSON.
pub(super) const API: &str = "/api/";
/// Largest body of a change, in bytes.
pub(super) const MAX_BODY: usize = 64 << 10;
/// The body must have arrived by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// An error of the API.
pub(super) fn problem(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(serde_json::json!({"error": message.into()}))).into_response()
}

/// An error at `path`: JSON below `/api`, a line of text elsewhere.
pub(super) fn problem_at(path: &str, status: StatusCode, message: &str) -> Response {
    if path.starts_with(API) { problem(status, message) } else { (status, format!("{message}\n")).into_response() }
}

/// The parameters of a URL. What is not known is ignored, a token above all: URLs end up in logs.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejected) => Err(problem(StatusCode::BAD_REQUEST, rejected.body_text())),
        }
    }
}

/// What stands in the path, decoded.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(rejected) => Err(problem(rejected.status(), rejected.body_text())),
        }
    }
}

/// The JSON of a change's body. A member that is not known is an error: it was meant to do something.
pub(super) struct Change<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Change<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = match tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await {
            Err(_) => return Err(problem(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
            Ok(Err(rejected)) => return Err(problem(rejected.status(), rejected.body_text())),
            Ok(Ok(body)) => body,
        };
        let read = serde_json::from_slice(&body).map(Self);
        read.map_err(|error| problem(StatusCode::BAD_REQUEST, format!("the body: {error}")))
    }
}

/// Does what may block on the disk.
pub(super) async fn blocking(work: impl FnOnce() -> io::Result<Response> + Send + 'static) -> Response {
    let failed = |error: io::Error| problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the store: {error}"));
    match tokio::task::spawn_blocking(work).await {
        Ok(answered) => answered.unwrap_or_else(failed),
        Err(error) => failed(io::Error::other(error)),
    }
}
