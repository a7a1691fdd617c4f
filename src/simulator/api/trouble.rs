//! What befalls replies: the API's own errors, a load balancer's, and the network's.

use super::{Provider, Refusal};
use crate::simulator::faults::Fault;
use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use futures_util::stream::{self, StreamExt};

/// Longest reply that is cut; all are shorter.
const LONGEST: usize = 64 << 20;

const HTML: &str = "<html><head><title>Error</title></head><body><h1>Error: Server Error</h1></body></html>\n";

pub(super) async fn befall(State(shared): Provider, request: Request, next: Next) -> Response {
    let strikes = |fault| shared.strikes(fault);
    if strikes(Fault::SlowReplies) {
        tokio::time::sleep(shared.options.slow_by).await;
    }
    if strikes(Fault::RateLimitHtml) {
        return (StatusCode::TOO_MANY_REQUESTS, Html(HTML)).into_response();
    }
    if strikes(Fault::HtmlErrors) {
        let status = either(StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT);
        return (status, Html(HTML)).into_response();
    }
    if strikes(Fault::RateLimit) {
        return rate_limited();
    }
    if strikes(Fault::ServerErrors) {
        let status = either(StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE);
        return Refusal(status, "internal server error".into()).into_response();
    }
    if request.uri().path().starts_with("/events/") && strikes(Fault::NoEventsApi) {
        return Refusal::not_found("no matching operation was found").into_response();
    }
    let cut = strikes(Fault::TruncatedReplies);
    let reply = next.run(request).await;
    if cut { truncate(reply).await } else { reply }
}

/// As the provider's middleware words it (e2b-dev/infra `middleware/ratelimit/ratelimit.go`).
fn rate_limited() -> Response {
    let mut reply = Refusal(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded".into()).into_response();
    for (name, value) in
        [("ratelimit-limit", "100"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "1"), ("retry-after", "1")]
    {
        reply.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    reply
}

/// Half of it: as a shorter reply that is no JSON, or as one that stops before its end.
async fn truncate(reply: Response) -> Response {
    let (mut parts, body) = reply.into_parts();
    let whole = body::to_bytes(body, LONGEST).await.unwrap_or_default();
    let half = whole.slice(..whole.len() / 2);
    if either(true, false) {
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::from(half));
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let end = async {
        // What stands in the server's buffer is written while it waits; else not even the header would arrive.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    };
    let broken = stream::once(std::future::ready(Ok(half))).chain(stream::once(end));
    Response::from_parts(parts, Body::from_stream(broken))
}

fn either<T>(a: T, b: T) -> T {
    if fastrand::bool() { a } else { b }
}
