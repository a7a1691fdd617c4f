//! A browser shows the operators' token once, and a cookie from then on.

use super::Page;
use crate::admin::reply::{Change, problem};
use crate::admin::session::LIFE;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// The body of `POST /login`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    token: String,
}

/// `POST /login`
pub(super) async fn sign_in(
    State(Page(page)): State<Page>,
    headers: HeaderMap,
    Change(Shown { token }): Change<Shown>,
) -> Response {
    let gate = &page.parts.gate;
    let access = gate.access();
    if !access.token.is(token.trim().as_bytes()) {
        let message = format!("that is not the token; it stands in {}", access.token.file().display());
        return problem(StatusCode::UNAUTHORIZED, message);
    }
    match access.sessions.begin() {
        Ok(value) => answer(&cookie(gate.cookie(), value.expose(), LIFE.as_secs(), &headers)),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, format!("no session can be begun: {error}")),
    }
}

/// `POST /logout`
pub(super) async fn sign_out(State(Page(page)): State<Page>, headers: HeaderMap) -> Response {
    let gate = &page.parts.gate;
    gate.access().sessions.end(&gate.cookies(&headers));
    answer(&cookie(gate.cookie(), "", 0, &headers))
}

fn answer(cookie: &str) -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// TLS ends before this listener, if there is any: that there is the page's origin tells.
fn cookie(name: &str, value: &str, seconds: u64, headers: &HeaderMap) -> String {
    let is_secure = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
