//! How much the log says, read and changed.

use super::reply::{Change, problem};
use crate::logging::{self, LevelFilter};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `off`, `error`, `warn`, `info`, `debug` or `trace`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Level {
    level: String,
}

/// What it is now.
pub(super) async fn show() -> Response {
    match logging::level() {
        Some(level) => Json(Level { level: level.to_string() }).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "there is no log"),
    }
}

/// From now on, until the process ends.
pub(super) async fn change(Change(wanted): Change<Level>) -> Response {
    // Only the words: a number would be taken, too.
    let level = wanted.level.parse::<LevelFilter>().ok().filter(|level| level.to_string() == wanted.level);
    let Some(level) = level else {
        return problem(StatusCode::BAD_REQUEST, "level: give off, error, warn, info, debug or trace");
    };
    let Some(before) = logging::level() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "there is no log");
    };
    let say = || tracing::info!(%level, %before, "the log's level is changed");
    // Whichever of the two levels lets it through.
    if before >= LevelFilter::INFO {
        say();
    }
    let changed = logging::set_level(level);
    if before < LevelFilter::INFO {
        say();
    }
    if !changed {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the level could not be changed");
    }
    Json(Level { level: level.to_string() }).into_response()
}
