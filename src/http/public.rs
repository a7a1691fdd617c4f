//! What the public listener serves: deliveries, and readiness for load balancers.

use crate::intake::Intake;
use crate::source::webhook::{self, Receiver};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

/// Path of the readiness check; no source can have it.
pub const READY_PATH: &str = "/readyz";

/// Deliveries under their sources' paths, `GET /readyz`, and JSON errors for everything else.
pub fn public(receiver: Arc<Receiver>, intake: Arc<Intake>) -> Public {
    let ready = get(ready).fallback(|| async { webhook::method_not_allowed("GET, HEAD") }).with_state(intake);
    let rest = Router::new().route(READY_PATH, ready).fallback(|| async { webhook::no_such_path() });
    Public { receiver, rest }
}

/// See [`public`].
///
/// The sources' paths are no routes of axum's: what a user configures may hold `{`, and is compared byte for byte. And a
/// delivery is spared the boxes, clones and extensions that a router makes for each request.
#[derive(Clone)]
pub struct Public {
    receiver: Arc<Receiver>,
    rest: Router,
}

impl Service<Request> for Public {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if !self.receiver.serves_path(request.uri().path()) {
            return Box::pin(self.rest.call(request));
        }
        let receiver = Arc::clone(&self.receiver);
        Box::pin(async move { Ok(receiver.receive(request).await) })
    }
}

/// Why it is not ready is the operators' business, who have the admin listener.
async fn ready(State(intake): State<Arc<Intake>>) -> Response {
    match intake.ready() {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], r#"{"success":true}"#).into_response(),
        Err(_) => webhook::error(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    }
}
