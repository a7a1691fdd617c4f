//! An answer that is told line by line, while something is being done.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two lines while it gets on …
const TELL: Duration = Duration::from_millis(500);
/// … and while it waits, so that nobody between here and whoever listens takes the connection for dead.
const STILL_THERE: Duration = Duration::from_secs(5);

/// One line of the answer. The last one is a result or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Line<T> {
    /// So far.
    Progress(T),
    /// It came to its end.
    Result(T),
    /// It did not.
    Error(String),
}

/// The lines of one answer. A reader that does not read has nothing gather here.
struct Telling<T> {
    /// `None` once the last line is told.
    work: Option<BoxFuture<'static, Result<T, String>>>,
    progress: watch::Receiver<T>,
    told: T,
    told_at: Instant,
}

/// Answers with what `work` gets on with and comes to. It is dropped when whoever asked goes away.
pub(super) fn tell<T: Copy + Default + PartialEq + Serialize + Send + Sync + 'static>(
    work: impl Future<Output = Result<T, String>> + Send + 'static,
    progress: watch::Receiver<T>,
) -> Response {
    let telling = Telling { work: Some(Box::pin(work)), progress, told: T::default(), told_at: Instant::now() };
    let body = Body::from_stream(stream::unfold(telling, Telling::next));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

impl<T: Copy + PartialEq + Serialize> Telling<T> {
    /// The next line, once there is something to tell.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let mut work = self.work.take()?;
        let line = loop {
            if let Ok(ended) = tokio::time::timeout(TELL, &mut work).await {
                break ended.map_or_else(Line::Error, Line::Result);
            }
            let so_far = *self.progress.borrow();
            if so_far != self.told || self.told_at.elapsed() >= STILL_THERE {
                (self.told, self.told_at) = (so_far, Instant::now());
                self.work = Some(work);
                break Line::Progress(so_far);
            }
        };
        // Plain data with names for keys: it cannot fail.
        let mut json = serde_json::to_vec(&line).unwrap_or_default();
        json.push(b'\n');
        Some((Ok(Bytes::from(json)), self))
    }
}
