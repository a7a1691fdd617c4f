//! The contract's table of answers.

use super::body::Unread;
use crate::decode::Malformed;
use crate::intake;
use crate::metrics::DeliveryOutcome;
use crate::verify::Refusal;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;

/// When a sender whom only the load has kept out should come back.
const SOON: Duration = Duration::from_secs(1);

/// When a sender should come back whom something has kept out that takes longer.
const LATER: Duration = Duration::from_secs(5);

/// What a delivery came to.
#[derive(Debug)]
pub(super) enum Answer {
    /// From the door; the event's id.
    Intake(String, intake::Answer),
    Unsigned(Refusal),
    WrongTeam,
    Malformed(Malformed),
    Unread(Unread),
    ContentEncoding,
    Draining,
}

impl Answer {
    pub(super) fn outcome(&self) -> DeliveryOutcome {
        match self {
            Self::Intake(_, answer) => match answer {
                intake::Answer::Accepted => DeliveryOutcome::Accepted,
                intake::Answer::Duplicate => DeliveryOutcome::Duplicate,
                intake::Answer::TooOld { .. } => DeliveryOutcome::Stale,
                intake::Answer::TooNew { .. } => DeliveryOutcome::Future,
                // A store that fails is one that cannot take more, whatever the reason.
                intake::Answer::StoreFull { .. } | intake::Answer::Failed => DeliveryOutcome::StoreFull,
                intake::Answer::Overloaded => DeliveryOutcome::Overloaded,
                intake::Answer::Draining => DeliveryOutcome::Draining,
                intake::Answer::TimedOut => DeliveryOutcome::Timeout,
            },
            Self::Unsigned(_) => DeliveryOutcome::BadSignature,
            Self::WrongTeam => DeliveryOutcome::WrongTeam,
            Self::Malformed(_) | Self::ContentEncoding => DeliveryOutcome::Malformed,
            Self::Unread(Unread::TooLarge) => DeliveryOutcome::TooLarge,
            Self::Unread(Unread::TooSlow | Unread::Broken) => DeliveryOutcome::Timeout,
            Self::Unread(Unread::NoRoom) => DeliveryOutcome::Overloaded,
            Self::Draining => DeliveryOutcome::Draining,
        }
    }

    pub(super) fn into_response(self) -> Response {
        match self {
            Self::Intake(id, answer) => from_intake(&id, &answer),
            Self::Unsigned(refusal) => error(StatusCode::UNAUTHORIZED, &refusal.to_string()),
            Self::WrongTeam => error(StatusCode::UNAUTHORIZED, "another team's event"),
            Self::Malformed(malformed) => error(StatusCode::BAD_REQUEST, &malformed.to_string()),
            Self::Unread(Unread::TooLarge) => closing(error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")),
            Self::Unread(Unread::TooSlow) => {
                closing(error(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time"))
            }
            Self::Unread(Unread::NoRoom) => closing(unavailable("too many bodies are arriving at once", SOON)),
            // Most often nobody is there to read this: the connection broke.
            Self::Unread(Unread::Broken) => {
                closing(error(StatusCode::REQUEST_TIMEOUT, "the request did not arrive as a whole"))
            }
            Self::ContentEncoding => {
                error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only the content-encoding identity is taken")
            }
            Self::Draining => draining(),
        }
    }
}

fn from_intake(id: &str, answer: &intake::Answer) -> Response {
    match answer {
        intake::Answer::Accepted => reply(StatusCode::OK, &Reply { success: true, id: Some(id), ..Reply::default() }),
        intake::Answer::Duplicate => {
            reply(StatusCode::OK, &Reply { success: true, id: Some(id), duplicate: true, ..Reply::default() })
        }
        intake::Answer::TooOld { timestamp, floor } => error(
            StatusCode::BAD_REQUEST,
            &format!("`timestamp` {timestamp} is older than {floor}, where store.dedupe_window begins"),
        ),
        intake::Answer::TooNew { timestamp, ceiling } => error(
            StatusCode::BAD_REQUEST,
            &format!("`timestamp` {timestamp} is later than {ceiling}, 24 h ahead of this host's clock"),
        ),
        intake::Answer::StoreFull { retry_after } => unavailable("the store has no room", *retry_after),
        intake::Answer::Overloaded => unavailable("too many deliveries wait for the disk", SOON),
        intake::Answer::Draining => draining(),
        intake::Answer::TimedOut => unavailable("not on disk in time", LATER),
        intake::Answer::Failed => unavailable("the store has failed", LATER),
    }
}

fn draining() -> Response {
    unavailable("shutting down", LATER)
}

fn unavailable(message: &str, retry_after: Duration) -> Response {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, message);
    // Whole seconds (RFC 9110, section 10.2.3), and never 0, which would be an invitation.
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// What was not read of the body cannot be told from the next request's header.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// `{"success": false, "error": message}`; the message never repeats what was received.
pub fn error(status: StatusCode, message: &str) -> Response {
    reply(status, &Reply { error: Some(message), ..Reply::default() })
}

/// 404.
pub fn no_such_path() -> Response {
    error(StatusCode::NOT_FOUND, "no such path")
}

/// 405, and the methods that there are.
pub fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// The body of every answer, in the contract's order.
#[derive(Default, Serialize)]
struct Reply<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn reply(status: StatusCode, reply: &Reply<'_>) -> Response {
    (status, Json(reply)).into_response()
}
