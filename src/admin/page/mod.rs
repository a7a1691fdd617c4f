//! The status page: `/` of the admin listener.
//!
//! ```text
//! counters, sinks, letters ─► figures ─┐
//! live sets ─► sandboxes ──────────────┼─► Model ─► render ─► one response, readable as it is
//! journal ─► recent ───────────────────┘     └────► live ─► what has changed, to each stream, for page.js
//! ```
//!
//! It counts nothing itself: every figure is a counter's that `/metrics` shows, and the last hour is those counters, looked
//! at again and again. What comes from elsewhere reaches a [`model::Cell`] escaped and cut, HTML by a template that escapes
//! it once more, and the browser's document by `textContent` only. All that a browser needs is in the binary.

mod figures;
mod history;
mod letters;
mod live;
mod model;
mod recent;
mod render;
mod sandboxes;
mod sign_in;
mod words;

use super::gate::Gate;
use super::journal::Journal;
use super::reply::Params;
use crate::deliver::Sinks;
use crate::health::{self, Health};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::sandboxes::Sandboxes;
use crate::shutdown::Shutdown;
use crate::store::{DeadLetters, SinkRegistry};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use history::History;
use live::Live;
use render::Template;
use sandboxes::Wanted;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

const SCRIPT: &str = include_str!("assets/page.js");

/// What the page shows, and by whom it is asked.
pub(super) struct Parts {
    pub(super) gate: Gate,
    pub(super) intake: Arc<Intake>,
    pub(super) metrics: Metrics,
    pub(super) sandboxes: Sandboxes,
    pub(super) health: Health,
    pub(super) registry: SinkRegistry,
    pub(super) letters: DeadLetters,
    pub(super) sinks: Sinks,
    pub(super) journal: Journal,
    /// Ends the streams.
    pub(super) shutdown: Shutdown,
}

/// Cloning shares it.
#[derive(Clone)]
struct Page(Arc<Inner>);

struct Inner {
    parts: Parts,
    template: Template,
    history: Mutex<History>,
    live: Live,
}

impl Inner {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole page, for who may read it.
    ///
    /// Blocks on the disk.
    fn whole(
        &self,
        wanted: &Wanted,
        events: &[crate::event::Stored],
        signed_in: bool,
    ) -> Result<String, render::Error> {
        let now = self.parts.intake.now();
        let view = self.parts.sandboxes.view(None);
        let chosen = wanted.choose(&view);
        self.history().take(Instant::now(), &self.parts.metrics.read());
        let access = self.parts.gate.access();
        self.template.within_bounds(access.token.file(), |bounds| {
            let mut model = figures::tell(&self.parts, &self.history(), now, bounds);
            chosen.tell(&mut model, now, bounds.text);
            model.table("events", recent::rows(events.iter(), bounds.text), bounds);
            render::Shown { model, around: wanted.around(&chosen), signed_in }
        })
    }
}

/// `/` and what it needs. The figures of the last hour are taken until the shutdown.
pub(super) fn routes(parts: Parts) -> Router {
    let (gate, shutdown) = (parts.gate.clone(), parts.shutdown.clone());
    let pulse = parts.health.join("the status page", health::PATIENCE);
    let inner = Inner { parts, template: Template::new(), history: Mutex::default(), live: Live::default() };
    let page = Page(Arc::new(inner));
    tokio::spawn(pulse.keep(live::keep(page.clone(), shutdown)));
    Router::new()
        .route("/", get(show))
        .route("/page.js", get(script))
        .route("/stream", gate.reading(get(live::stream)))
        .route("/login", gate.opening(post(sign_in::sign_in)))
        .route("/logout", gate.changing(post(sign_in::sign_out)))
        .with_state(page)
}

async fn show(State(page): State<Page>, Params(wanted): Params<Wanted>, request: Request) -> Response {
    let Page(inner) = page;
    let gate = &inner.parts.gate;
    if !gate.may_read(&request) {
        let rendered = inner.template.sign_in(gate.access().token.file());
        return inner.dress(StatusCode::UNAUTHORIZED, rendered);
    }
    let signed_in = gate.is_signed_in(request.headers());
    let rendered = match recent::newest(&inner.parts.journal).await {
        Ok(events) => {
            let inner = Arc::clone(&inner);
            let made = tokio::task::spawn_blocking(move || inner.whole(&wanted, &events, signed_in)).await;
            made.unwrap_or_else(|error| Err(io::Error::other(error).into()))
        }
        Err(error) => Err(error.into()),
    };
    inner.dress(StatusCode::OK, rendered)
}

impl Inner {
    /// With what keeps a browser from doing anything but showing it.
    fn dress(&self, status: StatusCode, rendered: Result<String, render::Error>) -> Response {
        let html = match rendered {
            Ok(html) => html,
            Err(error) => {
                tracing::error!(%error, "the status page cannot be made");
                return (StatusCode::INTERNAL_SERVER_ERROR, format!("the status page cannot be made: {error}\n"))
                    .into_response();
            }
        };
        let policy = [
            (header::CONTENT_SECURITY_POLICY, self.template.policy()),
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        ];
        (status, policy, HEADERS, html).into_response()
    }
}

/// Of everything here that a browser shows or runs.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], HEADERS, SCRIPT).into_response()
}
