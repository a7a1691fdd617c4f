//! `check --connect`: asks every sink's peer for a sign of life.

use crate::app;
use crate::settings::{Settings, SinkKind};
use crate::sink::Sink;
use futures_util::future::join_all;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// For one sink to connect and answer.
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

/// Asks all at once; the answers are in the order of the sinks' names.
pub(super) async fn probe(settings: &Settings) -> Vec<Answer> {
    join_all(settings.sinks.iter().map(|(name, sink)| {
        let shares_stream = app::shares_stream(name, &settings.sinks);
        one(name, &sink.kind, app::build_sink(name, &sink.kind, shares_stream))
    }))
    .await
}

async fn one(name: &str, kind: &SinkKind, sink: Result<Arc<dyn Sink>, app::SinkError>) -> Answer {
    let outcome = match sink {
        Ok(sink) => match tokio::time::timeout(LIMIT, sink.probe()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(LIMIT))),
        },
        Err(error) => Err(error.to_string()),
    };
    // Whatever a peer answers stays one line.
    let plain = |text: String| text.replace(char::is_control, " ");
    let (available, answer) = outcome.map_or_else(|error| (false, plain(error)), |answer| (true, plain(answer)));
    Answer { sink: name.to_owned(), kind: kind.name(), available, answer }
}
