//! What the public listener serves: deliveries, and readiness for load balancers.

use crate::intake::Intake;
use crate::source::webhook::{self, Receiver};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// Path of the readiness check; no source can have it.
pub const READY_PATH: &str = "/readyz";

/// Deliveries under their sources' paths, `GET /readyz`, and JSON errors for everything else.
pub fn public(receiver: Arc<Receiver>, intake: Arc<Intake>) -> Router {
    let ready = get(ready).fallback(|| async { webhook::method_not_allowed("GET, HEAD") }).with_state(intake);
    receiver.router().route(READY_PATH, ready)
}

/// Why it is not ready is the operators' business, who have the admin listener.
async fn ready(State(intake): State<Arc<Intake>>) -> Response {
    match intake.ready() {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], r#"{"success":true}"#).into_response(),
        Err(_) => webhook::error(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    }
}
