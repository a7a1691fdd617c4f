//! `/api/replay`: events of the past, sent to one sink once more.

use super::reply::{Change, Params, problem};
use super::sinks::{Asked, OneSink};
use super::time::Since;
use crate::deliver::{Refused, Replay, Wanted};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body: which events, and to which sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ReplayRequest")]
pub struct Order {
    /// The sink.
    pub sink: String,
    /// Received then or later; without it as far back as the journal goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// Received before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Since>,
    /// A glob over the type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of this sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
    /// Of a higher sequence (`relay.sequence` of a record).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Of no higher one than that; at most what the sink has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<u64>,
    /// Only counts them.
    pub dry_run: bool,
}

pub(super) fn refusal(refused: &Refused) -> Response {
    let status = match refused {
        Refused::Busy(_) | Refused::NoGap | Refused::Contradiction => StatusCode::CONFLICT,
        Refused::Invalid(_) => StatusCode::BAD_REQUEST,
        Refused::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::Ending => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, refused.to_string())
}

/// `POST /api/replay`: 202 with the replay, which goes on by itself; with `dry_run` 200 and the count.
pub(super) async fn begin(State(asked): State<Asked>, Change(order): Change<Order>) -> Response {
    let handle = match asked.sink(&order.sink) {
        Ok(handle) => handle,
        Err((status, message)) => return problem(status, message),
    };
    let now = Timestamp::now();
    let Order { since, until, kind, sandbox_id, after, through, dry_run, .. } = order;
    let at = |time: Option<Since>| time.map(|time| time.from(now));
    let wanted = Wanted { since: at(since), until: at(until), kind, sandbox_id, after, through };
    if dry_run {
        return match handle.rehearse(wanted, now).await {
            Ok(found) => Json(found).into_response(),
            Err(refused) => refusal(&refused),
        };
    }
    match handle.begin_replay(wanted, now).await {
        Ok(replay) => (StatusCode::ACCEPTED, Json(replay)).into_response(),
        Err(refused) => refusal(&refused),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Of {
    sink: Option<String>,
}

/// The answer.
#[derive(Serialize, JsonSchema)]
pub(super) struct Replays {
    /// By sink.
    replays: Vec<OfSink>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReplayOfSink")]
struct OfSink {
    /// To which it sends.
    sink: String,
    #[serde(flatten)]
    replay: Replay,
}

/// `GET /api/replay`: of each sink the one that is under way, or the last one.
pub(super) async fn list(State(asked): State<Asked>, Params(Of { sink }): Params<Of>) -> Json<Replays> {
    let is_asked = |name: &String| sink.as_ref().is_none_or(|sink| sink == name);
    let sinks = asked.sinks.all().into_iter().filter(|(name, _)| is_asked(name));
    let replays = sinks.filter_map(|(sink, handle)| Some(OfSink { replay: handle.replay()?, sink }));
    Json(Replays { replays: replays.collect() })
}

/// `POST /api/replay/cancel`
pub(super) async fn cancel(State(asked): State<Asked>, Change(OneSink { sink }): Change<OneSink>) -> Response {
    let handle = match asked.sink(&sink) {
        Ok(handle) => handle,
        Err((status, message)) => return problem(status, message),
    };
    match handle.cancel_replay(Timestamp::now()).await {
        Ok(Some(replay)) => Json(replay).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, format!("no replay to sink {sink:?} is under way")),
        Err(refused) => refusal(&refused),
    }
}
