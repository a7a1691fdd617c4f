//! What operators are served: metrics, health, the status page, and the admin API.
//!
//! ```text
//! request ─► host (421) ─► route (404, 405) ─► gate (403, 401, 415) ─► page, backfill, events, sandboxes
//!                                └─► /metrics, /livez, /readyz, which need no token
//! ```

mod access;
mod backfill;
mod dead_letters;
mod events;
mod gate;
mod host;
mod journal;
mod log_level;
mod openapi;
mod page;
mod paging;
mod quarantine;
mod replay;
mod reply;
mod sandboxes;
mod session;
mod settings;
mod sinks;
mod sources;
mod summary;
mod tap;
mod telling;
mod time;
mod token;

pub use access::Access;
pub use backfill::Asked;
pub use dead_letters::{Chosen, Letter, LetterPage};
pub use quarantine::{Dropped, Dropping, Page as QuarantinePage, Quarantined, Whole};
pub use replay::Order;
pub use settings::Settings;
pub use sources::{Backfill, Registration, Source, SourceList, Webhook};
pub use summary::Summary;
pub use tap::TapLine;
pub use telling::Line;
pub use time::{Since, SinceError};
pub use token::{Token, TokenError};

use crate::deliver::Sinks;
use crate::health::Health;
use crate::intake::Intake;
use crate::logging;
use crate::metrics::Metrics;
use crate::sandboxes::Sandboxes;
use crate::shutdown::Shutdown;
use crate::source::Sources;
use crate::source::backfill::Handles;
use crate::store::{DeadLetters, EventLog, Quarantine, SinkRegistry};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use backfill::Backfills;
use gate::Gate;
use journal::Journal;
use reply::{MAX_BODY, problem_at};
use std::net::SocketAddr;
use std::sync::Arc;
use tap::Taps;

/// What the listener shows, and whom it lets.
pub struct Parts {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may.
    pub access: Access,
    /// For readiness.
    pub intake: Arc<Intake>,
    /// What is counted.
    pub metrics: Metrics,
    /// The live sets.
    pub sandboxes: Sandboxes,
    /// Whether everybody moves.
    pub health: Health,
    /// What is read.
    pub log: EventLog,
    /// Those that were taken out are shown, and forgotten.
    pub registry: SinkRegistry,
    /// They are shown, and dropped.
    pub letters: DeadLetters,
    /// Likewise.
    pub quarantine: Quarantine,
    /// By source: who sweeps its list of events.
    pub backfills: Handles,
    /// Those that are there.
    pub sinks: Sinks,
    /// Those that are there.
    pub sources: Sources,
    /// Ends what is told for as long as somebody listens.
    pub ending: Shutdown,
}

/// `/metrics`, `/livez`, `/readyz`, the status page, and what is below `/api`. Needs a runtime: the page's last hour is
/// taken from now on.
pub fn router(parts: Parts) -> Router {
    let gate = Gate::new(parts.listen, parts.access);
    let journal = Journal::new(parts.log.clone());
    let page = page::routes(page::Parts {
        gate: gate.clone(),
        intake: Arc::clone(&parts.intake),
        metrics: parts.metrics.clone(),
        sandboxes: parts.sandboxes.clone(),
        health: parts.health.clone(),
        registry: parts.registry.clone(),
        letters: parts.letters.clone(),
        sinks: parts.sinks.clone(),
        journal: journal.clone(),
        shutdown: parts.ending.clone(),
    });
    let sinks = sinks::Asked {
        sinks: parts.sinks,
        registry: parts.registry,
        letters: parts.letters,
        instance: parts.log.instance().into(),
        metrics: parts.metrics.clone(),
    };
    let sinks = Router::new()
        .route("/api/sinks", gate.reading(get(sinks::list)))
        .route("/api/sinks/forget", gate.changing(post(sinks::forget)))
        .route("/api/sinks/{name}/resume", gate.changing(post(sinks::resume)))
        .route("/api/dead-letters", gate.reading(get(dead_letters::list)))
        .route("/api/dead-letters/{sink}/{id}", gate.reading(get(dead_letters::show_one)))
        .route("/api/dead-letters/retry", gate.changing(post(dead_letters::retry)))
        .route("/api/dead-letters/drop", gate.changing(post(dead_letters::drop_some)))
        .route("/api/replay", gate.reading(get(replay::list)).merge(gate.changing(post(replay::begin))))
        .route("/api/replay/cancel", gate.changing(post(replay::cancel)))
        .with_state(sinks);
    let quarantine = Router::new()
        .route("/api/quarantine", gate.reading(get(quarantine::list)))
        .route("/api/quarantine/{id}", gate.reading(get(quarantine::show)))
        .route("/api/quarantine/drop", gate.changing(post(quarantine::drop_some)))
        .with_state(parts.quarantine);
    let taps = Taps::new(journal.clone(), parts.ending);
    let backfills = Backfills { handles: parts.backfills, intake: Arc::clone(&parts.intake) };
    let sources = sources::Asked { sources: parts.sources, metrics: parts.metrics.clone() };
    let api = Router::new()
        .route("/api/openapi.json", gate.reading(get(openapi::show)))
        .route("/api/sources", gate.reading(get(sources::list)).with_state(sources))
        .route("/api/sandboxes", gate.reading(get(sandboxes::list)).with_state(parts.sandboxes))
        .route("/api/events", gate.reading(get(events::list)).with_state(journal.clone()))
        .route("/api/tap", gate.reading(get(tap::listen)).with_state(taps))
        .route("/api/events/summary", gate.reading(get(summary::show)).with_state(journal))
        .route("/api/log-level", gate.reading(get(log_level::show)).merge(gate.changing(post(log_level::change))))
        .route("/api/backfill", gate.changing(post(backfill::ask)).with_state(backfills));
    Router::new()
        .merge(page)
        .merge(api)
        .merge(sinks)
        .merge(quarantine)
        .route("/metrics", get(scrape).with_state(parts.metrics))
        .route("/livez", get(alive).with_state(parts.health))
        .route("/readyz", get(ready).with_state(parts.intake))
        .fallback(|uri: Uri| async move { problem_at(uri.path(), StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|uri: Uri| async move {
            problem_at(uri.path(), StatusCode::METHOD_NOT_ALLOWED, "not by this method; `Allow` names those there are")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(gate, only_our_names))
}

/// On every request, so that no page of another site can make a browser read from here by a name that points here.
async fn only_our_names(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if gate.access().hosts.allow(&request) {
        next.run(request).await
    } else {
        let message = "the name in Host is not served here; see admin.hosts";
        problem_at(request.uri().path(), StatusCode::MISDIRECTED_REQUEST, message)
    }
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    metrics.log_lines_dropped(logging::lines_dropped());
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Restarting is what helps whoever stands still, and not who only waits.
async fn alive(State(health): State<Health>) -> Response {
    let still: Vec<String> = health.still().iter().map(|still| format!("not alive: {still}\n")).collect();
    if still.is_empty() {
        "alive\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, still.concat()).into_response()
    }
}

/// A sink that is down does not count: deliveries are taken all the same.
async fn ready(State(intake): State<Arc<Intake>>) -> Response {
    match intake.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}
