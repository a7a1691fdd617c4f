//! Who may read, and who may change.
//!
//! Reading needs no token where both ends are on this machine; anything else needs one. That a page of another site does
//! not make a browser read from here is [`super::host`]'s part; that it does not make one change anything is here: a
//! change is JSON, which no form sends, and an `Origin` that a browser names must be the listener's own.

use super::access::{Access, Keys};
use super::reply::problem;
use super::session::{cookie_name, cookies};
use crate::logging::Occasional;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::MethodRouter;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// The rules of one listener. Cloning shares them.
#[derive(Clone)]
pub(super) struct Gate(Arc<Rules>);

struct Rules {
    /// The listener's address is one of this machine's own network.
    local: bool,
    /// Of the page's sessions.
    cookie: String,
    access: Access,
    /// Strangers may try to sign in as often as they like.
    unopened: Occasional,
}

impl Gate {
    pub(super) fn new(listen: SocketAddr, access: Access) -> Self {
        Self(Arc::new(Rules {
            local: is_loopback(listen),
            cookie: cookie_name(listen.port()),
            access,
            unopened: Occasional::default(),
        }))
    }

    pub(super) fn access(&self) -> Arc<Keys> {
        self.0.access.now()
    }

    /// Lets through to `route` whoever may read.
    pub(super) fn reading<S: Clone + Send + Sync + 'static>(&self, route: MethodRouter<S>) -> MethodRouter<S> {
        route.route_layer(middleware::from_fn_with_state(self.clone(), read))
    }

    /// Lets through to `route` whoever may change what it changes, and logs that.
    pub(super) fn changing<S: Clone + Send + Sync + 'static>(&self, route: MethodRouter<S>) -> MethodRouter<S> {
        route.route_layer(middleware::from_fn_with_state(self.clone(), change))
    }

    /// Lets through to `route` whoever may try to begin a session: from our own page, as JSON.
    pub(super) fn opening<S: Clone + Send + Sync + 'static>(&self, route: MethodRouter<S>) -> MethodRouter<S> {
        route.route_layer(middleware::from_fn_with_state(self.clone(), open))
    }

    /// Whether whoever asks may read.
    pub(super) fn may_read(&self, request: &Request) -> bool {
        self.is_local(request) || self.refusal(request).is_none()
    }

    /// Whether the request shows the cookie of a session.
    pub(super) fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        self.access().sessions.knows(&self.cookies(headers))
    }

    /// The name of the sessions' cookie.
    pub(super) fn cookie(&self) -> &str {
        &self.0.cookie
    }

    /// What the request shows as that.
    pub(super) fn cookies<'h>(&self, headers: &'h HeaderMap) -> Vec<&'h str> {
        cookies(headers, self.cookie())
    }

    /// The answer to who has shown no token, or another; `None` to who has shown the right one.
    fn refusal(&self, request: &Request) -> Option<Response> {
        let presented = credentials(request);
        let access = self.access();
        let token = &access.token;
        // A wrong token is wrong, whatever cookie is beside it.
        let is_right = match presented {
            Some(presented) => token.is(presented),
            None => !request.headers().contains_key(header::AUTHORIZATION) && self.is_signed_in(request.headers()),
        };
        if is_right {
            return None;
        }
        let file = token.file().display();
        let what = if presented.is_some() { "the token is wrong" } else { "a token is needed" };
        let message = format!("{what}: send the one in {file} as `Authorization: Bearer …`");
        let mut response = problem(StatusCode::UNAUTHORIZED, message);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    fn is_local(&self, request: &Request) -> bool {
        self.0.local && peer(request).is_some_and(is_loopback)
    }
}

/// The token that a request shows: besides a session's cookie the one place where anything may stand. Never the URL, which
/// ends up in logs.
fn credentials(request: &Request) -> Option<&[u8]> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (headers.next(), headers.next()) else { return None };
    let (scheme, token) = only.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Who is connected; `None` only where no listener of ours stands before the router.
fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer)
}

/// Of IPv4 within IPv6, too: a dual-stack listener sees `::ffff:127.0.0.1`.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

async fn read(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if !gate.is_local(&request)
        && let Some(refused) = gate.refusal(&request)
    {
        return refused;
    }
    next.run(request).await
}

async fn change(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let refused = foreign(&gate, &request).or_else(|| gate.refusal(&request)).or_else(|| unreadable(&request));
    match refused {
        Some(refused) => refused,
        None => logged(request, next, |_| Some(0)).await,
    }
}

async fn open(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let pass = |status: StatusCode| if status.is_success() { Some(0) } else { gate.0.unopened.pass(Instant::now()) };
    match foreign(&gate, &request).or_else(|| unreadable(&request)) {
        Some(refused) => refused,
        None => logged(request, next, pass).await,
    }
}

/// The answer to a page of another site.
fn foreign(gate: &Gate, request: &Request) -> Option<Response> {
    let message = "a page of another site cannot change anything here; see admin.hosts";
    (!gate.access().hosts.is_own_origin(request)).then(|| problem(StatusCode::FORBIDDEN, message))
}

/// The answer to what a form could have sent.
fn unreadable(request: &Request) -> Option<Response> {
    let message = "a change is sent as `Content-Type: application/json`";
    (!is_json(request)).then(|| problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

/// `pass` says whether an answer of that status is logged, and how many before it were not.
async fn logged(request: Request, next: Next, pass: impl Fn(StatusCode) -> Option<u64>) -> Response {
    let who = peer(&request).map(|peer| peer.to_string()).unwrap_or_default();
    let (method, path): (Method, String) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    if let Some(suppressed) = pass(response.status()) {
        let status = response.status().as_u16();
        tracing::info!(peer = who, %method, path, status, suppressed, "the admin API was asked for a change");
    }
    response
}

/// Whatever parameters stand behind it; several headers are none.
fn is_json(request: &Request) -> bool {
    let mut headers = request.headers().get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (headers.next(), headers.next()) else { return false };
    let essence = only.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
