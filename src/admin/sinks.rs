//! `/api/sinks`: what each sink is and how it is doing; and those that were taken out.

use super::replay::refusal;
use super::reply::{Change, InPath, problem};
use crate::deliver::{About, Gap, Handle, Replay, Sinks, Status};
use crate::store::{DeadLetters, SinkRegistry};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What this and its neighbours ask.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) sinks: Sinks,
    pub(super) registry: SinkRegistry,
    pub(super) letters: DeadLetters,
    /// The store's UUID.
    pub(super) instance: Arc<str>,
    pub(super) metrics: crate::metrics::Metrics,
}

impl Asked {
    /// One of them, or what to answer.
    pub(super) fn sink(&self, name: &str) -> Result<Handle, Problem> {
        self.sinks.get(name).ok_or_else(|| {
            let all = self.sinks.all();
            let names: Vec<&str> = all.keys().map(String::as_str).collect();
            let message = format!("there is no sink {name:?}; there is {}", names.join(", "));
            (StatusCode::NOT_FOUND, message)
        })
    }
}

/// What is answered in place of what was asked for.
pub(super) type Problem = (StatusCode, String);

/// The answer.
#[derive(Serialize, JsonSchema)]
pub(super) struct SinkList {
    /// By name.
    sinks: Vec<Shown>,
    /// Those that were taken out of the settings.
    removed: Vec<Gone>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Sink")]
struct Shown {
    /// In the settings.
    name: String,
    #[serde(flatten)]
    about: About,
    #[serde(flatten)]
    status: Status,
    /// How many wait.
    dead_letters: u64,
    /// The one under way, or the last one.
    replay: Option<Replay>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RemovedSink")]
struct Gone {
    /// As it was in the settings.
    name: String,
    /// Every event up to this sequence was settled.
    position: u64,
    /// When it was taken out.
    #[schemars(with = "String", extend("format" = "date-time"))]
    removed_at: Timestamp,
    /// How many wait.
    dead_letters: u64,
}

pub(super) async fn list(State(asked): State<Asked>) -> Json<SinkList> {
    let Asked { sinks, registry, letters, .. } = &asked;
    let shown = sinks.all().into_iter().map(|(name, handle)| Shown {
        about: handle.about().clone(),
        status: handle.status(),
        dead_letters: letters.waiting(&name),
        replay: handle.replay(),
        name,
    });
    let removed = registry.removed().into_iter().map(|removed| Gone {
        dead_letters: letters.waiting(&removed.name),
        name: removed.name,
        position: removed.position,
        removed_at: removed.removed_at,
    });
    Json(SinkList { sinks: shown.collect(), removed: removed.collect() })
}

/// The body of a change to one sink.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneSink {
    /// Its name.
    pub(super) sink: String,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Forgotten {
    /// The sink.
    forgotten: String,
}

/// `POST /api/sinks/forget`
pub(super) async fn forget(State(asked): State<Asked>, Change(OneSink { sink }): Change<OneSink>) -> Response {
    if asked.sinks.get(&sink).is_some() {
        let message = format!("sink {sink:?} is in the settings; take it out first");
        return problem(StatusCode::CONFLICT, message);
    }
    let letters = asked.letters.waiting(&sink);
    if letters > 0 {
        let message =
            format!("sink {sink:?} has {letters} dead letters; drop them first, or put it back and retry them");
        return problem(StatusCode::CONFLICT, message);
    }
    match asked.registry.forget(&sink).await {
        Ok(true) => {}
        Ok(false) => return problem(StatusCode::NOT_FOUND, format!("nothing is known of a sink {sink:?}")),
        Err(refused) => return problem(StatusCode::SERVICE_UNAVAILABLE, format!("the store: {refused}")),
    }
    tracing::info!(sink, "the position of a sink that was taken out is forgotten");
    Json(Forgotten { forgotten: sink }).into_response()
}

/// The body of `POST /api/sinks/{name}/resume`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resuming {
    /// Has to be true: what is missing in the log is not sent.
    accept_gap: bool,
}

/// At what the sink was halted.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Resumed {
    /// The sink.
    resumed: String,
    /// What it goes on behind.
    gap: Gap,
}

/// `POST /api/sinks/{name}/resume`
pub(super) async fn resume(
    State(asked): State<Asked>,
    InPath(name): InPath<String>,
    Change(Resuming { accept_gap }): Change<Resuming>,
) -> Response {
    let handle = match asked.sink(&name) {
        Ok(handle) => handle,
        Err((status, message)) => return problem(status, message),
    };
    if !accept_gap {
        let message = "accept_gap is not true: a sink goes on behind a gap in the log only if somebody accepts that what \
                       is missing there is not sent";
        return problem(StatusCode::BAD_REQUEST, message);
    }
    match handle.accept_gap().await {
        Ok(gap) => Json(Resumed { resumed: name, gap }).into_response(),
        Err(refused) => refusal(&refused),
    }
}
