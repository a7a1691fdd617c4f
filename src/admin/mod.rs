//! What operators are served: metrics and health.

mod host;
mod settings;

pub use settings::{NOT_YET, Settings};

use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::sandboxes::{Sandboxes, View};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use host::Hosts;
use serde::Deserialize;
use std::sync::Arc;

/// `/metrics`, `/livez`, `/readyz`, `/api/sandboxes`.
pub fn router(settings: &Settings, intake: Arc<Intake>, metrics: Metrics, sandboxes: Sandboxes) -> Router {
    let hosts = Arc::new(Hosts::new(&settings.hosts));
    let api = if settings.listen.ip().is_loopback() {
        Router::new().route("/api/sandboxes", get(list_sandboxes).with_state(sandboxes))
    } else {
        Router::new().route("/api/sandboxes", get(|| async { (StatusCode::UNAUTHORIZED, NO_TOKEN) }))
    };
    Router::new()
        .merge(api)
        .route("/metrics", get(scrape).with_state(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready).with_state(intake))
        .layer(middleware::from_fn_with_state(hosts, only_our_names))
}

/// The sets hold what users put into metadata; there is no token yet that would tell who may see it.
const NO_TOKEN: &str = "served on a loopback address only; see admin.listen\n";

/// `?source=` for one source's.
async fn list_sandboxes(State(sandboxes): State<Sandboxes>, Query(wanted): Query<Wanted>) -> Json<View> {
    Json(sandboxes.view(wanted.source.as_deref()))
}

#[derive(Deserialize)]
struct Wanted {
    source: Option<String>,
}

/// On every request, so that no page of another site can make a browser read from here by a name that points here.
async fn only_our_names(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    if hosts.allow(&request) {
        next.run(request).await
    } else {
        let message = "the name in Host is not served here; see admin.hosts\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    }
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// A sink that is down does not count: deliveries are taken all the same.
async fn ready(State(intake): State<Arc<Intake>>) -> Response {
    match intake.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}
