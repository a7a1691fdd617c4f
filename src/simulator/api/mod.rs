//! The provider's API, one file per area, and beside it `/simulator`: what only a simulated one can tell.

mod deliveries;
mod events;
mod ledger;
mod metrics;
mod odd;
mod params;
mod sandboxes;
mod stats;
mod trouble;
mod webhooks;

use super::provider::Shared;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use std::sync::Arc;

/// What handlers share.
type Provider = State<Arc<Shared>>;

/// Every route.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let provider = Router::new()
        .route("/events/sandboxes", get(events::of_team))
        .route("/events/sandboxes/{id}", get(events::of_sandbox))
        .route("/events/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/events/webhooks/{id}", get(webhooks::get).patch(webhooks::update).delete(webhooks::delete))
        .route("/events/webhooks/{id}/deliveries", get(deliveries::list))
        .route("/events/webhooks/{id}/stats", get(stats::stats))
        .route("/sandboxes", get(sandboxes::running))
        .route("/v2/sandboxes", get(sandboxes::page))
        .route("/sandboxes/metrics", get(metrics::latest))
        .route("/sandboxes/{id}", get(sandboxes::one).delete(sandboxes::kill))
        .route("/sandboxes/{id}/metrics", get(metrics::range))
        .route("/sandboxes/{id}/pause", post(sandboxes::pause))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), trouble::befall));
    let own = Router::new()
        .route("/simulator/ledger", get(ledger::read))
        .route("/simulator/events", post(ledger::happen))
        .route("/simulator/faults", put(ledger::change_faults).get(ledger::faults));
    provider
        .merge(own)
        .fallback(|| async { Refusal::not_found("no such route") })
        .method_not_allowed_fallback(|| async { Refusal(StatusCode::METHOD_NOT_ALLOWED, "method not allowed".into()) })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), check_key))
        .route("/health", get(|| async { "Health check successful" }))
        .with_state(shared)
}

async fn check_key(State(shared): Provider, request: Request, next: Next) -> Response {
    let presented = request.headers().get("x-api-key").map_or(&b""[..], |key| key.as_bytes());
    let is_right = match &shared.options.api_key {
        // A simulated key guards nothing that the time of a comparison could give away.
        Some(key) => key.expose().as_bytes() == presented,
        None => !presented.is_empty(),
    };
    if is_right {
        next.run(request).await
    } else {
        Refusal(StatusCode::UNAUTHORIZED, "Invalid API key, please visit https://e2b.dev/docs/api-key".into())
            .into_response()
    }
}

/// An error as the provider words it: `{"code": 400, "message": "…"}`.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad_request(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, message.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({"code": self.0.as_u16(), "message": self.1});
        (self.0, Json(body)).into_response()
    }
}
