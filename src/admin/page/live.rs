//! The page kept up to date: one task looks at the counters, and each stream tells its browser what has changed.
//!
//! A stream holds the newest state only, so that nothing gathers for a slow reader: it is told less often. One that does
//! not read at all is closed by the listener (see `http`).

use super::model::{Bounds, Model};
use super::recent::Recent;
use super::sandboxes::Wanted;
use super::{HEADERS, Page, figures};
use crate::admin::reply::{Params, problem};
use crate::sandboxes::View;
use crate::shutdown::Shutdown;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Streams at once.
const STREAMS: usize = 32;
/// Between two looks while somebody looks at the page …
const TICK: Duration = Duration::from_secs(1);
/// … and while nobody does: the last hour is kept all the same.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Streams that begin one after another do not have everything looked at more often than this.
const LEAST: Duration = Duration::from_millis(200);
/// Between two looks at the sandboxes, of which there may be many.
const SANDBOXES: Duration = Duration::from_secs(5);
/// Whoever streams is asked for what opens the listener again after this: the browser asks by itself.
const LONGEST: Duration = Duration::from_secs(600);
/// How much is told of what comes from elsewhere.
const BOUNDS: Bounds = Bounds { text: 64, rows: 40 };

pub(super) struct Live {
    /// What all streams tell; `None` before the first look.
    state: watch::Sender<Option<Arc<Seen>>>,
    places: Arc<Semaphore>,
    begun: Notify,
}

#[derive(Default)]
struct Seen {
    /// Without the sandboxes, of which each stream shows others.
    model: Model,
    sandboxes: Arc<View>,
}

impl Default for Live {
    fn default() -> Self {
        Self { state: watch::Sender::new(None), places: Arc::new(Semaphore::new(STREAMS)), begun: Notify::new() }
    }
}

impl Live {
    fn is_watched(&self) -> bool {
        self.places.available_permits() < STREAMS
    }
}

/// Looks at the counters until the end.
pub(super) async fn keep(page: Page, mut shutdown: Shutdown) {
    let mut recent = Recent::default();
    let mut sandboxes: Option<(Instant, Arc<View>)> = None;
    loop {
        let is_watched = page.0.live.is_watched();
        if is_watched {
            let parts = &page.0.parts;
            if let Err(error) = recent.read_on(&parts.journal).await {
                tracing::warn!(%error, "the journal cannot be read for the status page");
            }
        } else {
            recent.forget();
            sandboxes = None;
        }
        let events = recent.rows(BOUNDS.text);
        let (inner, kept) = (Arc::clone(&page.0), sandboxes.take());
        let looked = tokio::task::spawn_blocking(move || {
            inner.history().take(Instant::now(), &inner.parts.metrics.read());
            if !is_watched {
                return None;
            }
            let mut model = figures::tell(&inner.parts, &inner.history(), inner.parts.intake.now(), BOUNDS);
            model.tables.insert("events", events);
            let kept = kept.filter(|(at, _)| at.elapsed() < SANDBOXES);
            let kept = kept.unwrap_or_else(|| (Instant::now(), Arc::new(inner.parts.sandboxes.view(None))));
            inner.live.state.send_replace(Some(Arc::new(Seen { model, sandboxes: Arc::clone(&kept.1) })));
            Some(kept)
        });
        match looked.await {
            Ok(kept) => sandboxes = kept,
            Err(error) => tracing::error!(%error, "a look at the counters for the status page failed"),
        }
        let rest = async {
            tokio::time::sleep(LEAST).await;
            let rest = if is_watched { TICK } else { IDLE_TICK };
            // Whether in time or not is no matter.
            let _ = tokio::time::timeout(rest.saturating_sub(LEAST), page.0.live.begun.notified()).await;
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = rest => {}
        }
    }
}

/// What one browser is told.
struct Telling {
    page: Page,
    wanted: Wanted,
    state: watch::Receiver<Option<Arc<Seen>>>,
    shutdown: Shutdown,
    until: Instant,
    /// What it knows.
    told: Model,
    /// Of which view its rows are.
    sandboxes: Option<Arc<View>>,
    rows: Model,
    _place: OwnedSemaphorePermit,
}

/// `GET /stream`, with the page's own parameters: server-sent events, each with what has changed.
pub(super) async fn stream(State(page): State<Page>, Params(wanted): Params<Wanted>) -> Response {
    let live = &page.0.live;
    let Ok(place) = Arc::clone(&live.places).try_acquire_owned() else {
        let mut full = problem(StatusCode::SERVICE_UNAVAILABLE, format!("{STREAMS} pages are kept up to date already"));
        full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return full;
    };
    let mut state = live.state.subscribe();
    // What was seen for the stream before this one may be old.
    state.mark_unchanged();
    live.begun.notify_one();
    let shutdown = page.0.parts.shutdown.clone();
    let telling = Telling {
        page,
        wanted,
        state,
        shutdown,
        until: Instant::now() + LONGEST,
        told: Model::default(),
        sandboxes: None,
        rows: Model::default(),
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(telling, Telling::next));
    ([(header::CONTENT_TYPE, "text/event-stream")], HEADERS, body).into_response()
}

impl Telling {
    /// The next event, once there is something new.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let state = tokio::select! {
            biased;
            () = self.shutdown.requested() => return None,
            () = tokio::time::sleep_until(self.until) => return None,
            changed = self.state.changed() => {
                changed.ok()?;
                self.state.borrow_and_update().clone()?
            }
        };
        let mut model = state.model.clone();
        if !self.sandboxes.as_ref().is_some_and(|known| Arc::ptr_eq(known, &state.sandboxes)) {
            self.rows = Model::default();
            let now = self.page.0.parts.intake.now();
            self.wanted.choose(&state.sandboxes).tell(&mut self.rows, now, BOUNDS.text);
            self.sandboxes = Some(Arc::clone(&state.sandboxes));
        }
        model.figures.extend(self.rows.figures.clone());
        model.tables.extend(self.rows.tables.clone());
        // Plain data with names for keys: it cannot fail.
        let json = serde_json::to_string(&model.since(&self.told)).unwrap_or_default();
        self.told = model;
        Some((Ok(Bytes::from(format!("data: {json}\n\n"))), self))
    }
}
