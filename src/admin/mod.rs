//! What operators are served: metrics and health.

mod host;
mod settings;

pub use settings::{NOT_YET, Settings};

use crate::intake::Intake;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use host::Hosts;
use std::sync::Arc;

/// `/metrics`, `/livez`, `/readyz`.
pub fn router(settings: &Settings, intake: Arc<Intake>, metrics: Metrics) -> Router {
    let hosts = Arc::new(Hosts::new(&settings.hosts));
    Router::new()
        .route("/metrics", get(scrape).with_state(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready).with_state(intake))
        .layer(middleware::from_fn_with_state(hosts, only_our_names))
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
