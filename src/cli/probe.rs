//! `check --connect`: asks every API and every sink's peer for a sign of life.

use crate::app;
use crate::e2b::{self, Api, ApiError};
use crate::metrics::Metrics;
use crate::settings::{Settings, SinkKind};
use crate::sink::Sink;
use futures_util::future::join_all;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// For one peer to connect and answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What one peer answered.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The sink's name.
    pub(super) sink: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// Whether it can be sent to.
    pub(super) available: bool,
    /// In the peer's or the client's words.
    pub(super) answer: String,
}

/// What one source's API answered.
#[derive(Debug, Serialize)]
pub(super) struct ApiAnswer {
    /// The source's name.
    pub(super) source: String,
    /// Whether it takes the key and answers.
    pub(super) available: bool,
    /// In its own or the client's words.
    pub(super) answer: String,
}

/// Asks all at once; the answers are in the order of the sources' names.
pub(super) async fn probe_apis(settings: &Settings) -> Vec<ApiAnswer> {
    let apis = settings.sources.iter().filter_map(|(name, source)| Some((name, source.api.as_ref()?)));
    join_all(apis.map(|(name, api)| async move {
        let (available, answer) = in_time(ask(name, api)).await;
        ApiAnswer { source: name.clone(), available, answer }
    }))
    .await
}

async fn ask(name: &str, settings: &e2b::Settings) -> Result<String, String> {
    let metrics = Metrics::new("", "").map_err(|error| error.to_string())?;
    let api = Api::new(name, settings, metrics, fastrand::Rng::new()).map_err(|error| error.to_string())?;
    match api.events(0, 1).await {
        Ok(_) => Ok(format!("{} lists events", api.peer())),
        // A self-hosted installation; its sandboxes can be asked for all the same.
        Err(ApiError::NotOffered { .. }) => match api.sandboxes(None).await {
            Ok(_) => Ok(format!("{} lists sandboxes, and no events: there is nothing to fill gaps from", api.peer())),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Asks all at once; the answers are in the order of the sinks' names.
pub(super) async fn probe(settings: &Settings) -> Vec<Answer> {
    join_all(settings.sinks.iter().map(|(name, sink)| {
        let shares_stream = app::shares_stream(name, &settings.sinks);
        one(name, &sink.kind, app::build_sink(name, sink, shares_stream))
    }))
    .await
}

async fn one(name: &str, kind: &SinkKind, sink: Result<Arc<dyn Sink>, app::SinkError>) -> Answer {
    let probe = async {
        let sink = sink.map_err(|error| error.to_string())?;
        sink.probe().await.map_err(|error| error.to_string())
    };
    let (available, answer) = in_time(probe).await;
    Answer { sink: name.to_owned(), kind: kind.name(), available, answer }
}

/// Whether there was an answer, and what: one line, whatever a peer says.
async fn in_time(answer: impl Future<Output = Result<String, String>>) -> (bool, String) {
    let outcome = tokio::time::timeout(LIMIT, answer).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {}", humantime::format_duration(LIMIT))));
    let plain = |text: String| text.replace(char::is_control, " ");
    outcome.map_or_else(|error| (false, plain(error)), |answer| (true, plain(answer)))
}
