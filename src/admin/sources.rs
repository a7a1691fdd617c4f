//! `/api/sources`: what each source is to do, and how it is doing.

use crate::metrics::Metrics;
use crate::source::backfill::Poll;
use crate::source::webhook::DEFAULT_PATH;
use crate::source::{Shown, Sources};
use crate::verify::Accept;
use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) sources: Sources,
    pub(super) metrics: Metrics,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SourceList {
    /// By name.
    pub sources: Vec<Source>,
}

/// One source.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// In the settings.
    pub name: String,
    /// The team whose events are taken, if only one's are.
    pub team_id: Option<String>,
    /// Paths whose values are taken out before anything is stored.
    pub redact: Vec<String>,
    /// Where deliveries come in; `null` where none do.
    pub webhook: Option<Webhook>,
    /// The provider's API; `null` where none is asked.
    pub api: Option<Api>,
    /// How what deliveries missed is fetched; `null` without an API.
    pub backfill: Option<Backfill>,
    /// The relay's own webhook at the provider; `null` where it keeps none in line.
    pub register: Option<Registration>,
    /// How samples are read; `null` where they are not.
    pub metrics: Option<Samples>,
    /// How the live set is compared with the provider's list; `null` without an API.
    pub reconcile: Option<Reconcile>,
    /// Whether the end of each execution makes a record.
    pub usage: bool,
    /// Whether the API is asked if a killed sandbox is really gone.
    pub verify_kills: bool,
}

/// Signed deliveries.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Webhook {
    /// Of the URL.
    pub path: String,
    /// Which dialects are taken: `auto`, `e2b`, `hmac` or `e2b-hmac`.
    pub signature: String,
    /// How many secrets are taken; more than one while one is rotated.
    pub secrets: usize,
    /// When the last genuine one came; `null` where none has since the start.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_delivery_at: Option<Timestamp>,
}

/// Who is asked.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Api {
    /// Its URL.
    pub url: String,
    /// Most calls within a minute.
    pub max_calls_per_minute: u32,
}

/// What deliveries missed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Backfill {
    /// Whether it looks by itself.
    pub enabled: bool,
    /// Between two looks, in seconds.
    pub interval_seconds: f64,
    /// Everything that is listed and happened before this is in the store; `null` until that is known.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub verified_through: Option<Timestamp>,
    /// `null` before the first.
    pub last_poll: Option<Poll>,
    /// Events that only it has brought, since the start.
    pub recovered: u64,
}

/// The relay's own webhook.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Registration {
    /// Where it delivers to.
    pub url: String,
    /// By which it is known.
    pub name: String,
    /// At the provider, once it is known.
    pub webhook_id: Option<String>,
    /// Whether it is as the settings have it; `null` before the first look, and where the API did not answer.
    pub in_line: Option<bool>,
    /// What is in the way, or stands beside it.
    pub problem: Option<String>,
}

/// Samples of what sandboxes use.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Samples {
    /// Between two looks, in seconds.
    pub interval_seconds: f64,
    /// Whether each becomes a record.
    pub records: bool,
    /// For how many sandboxes there are gauges.
    pub max_series: usize,
}

/// The comparison with the provider's list.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reconcile {
    /// Between two of them, in seconds.
    pub interval_seconds: f64,
    /// Whether what only the list shows becomes a record.
    pub emit: bool,
}

pub(super) async fn list(State(Asked { sources, metrics }): State<Asked>) -> Json<SourceList> {
    let sources = sources.all().into_iter().map(|(name, shown)| show(name, &shown, &metrics));
    Json(SourceList { sources: sources.collect() })
}

fn show(name: String, shown: &Shown, metrics: &Metrics) -> Source {
    let Shown { settings, backfill, registration } = shown;
    let api = settings.api.as_ref();
    let of_backfill = settings.backfill.clone().unwrap_or_default();
    let of_reconcile = settings.reconcile.clone().unwrap_or_default();
    Source {
        team_id: settings.team_id.clone(),
        redact: settings.redact.clone().into(),
        webhook: settings.webhook.as_ref().map(|webhook| Webhook {
            path: webhook.path.clone().unwrap_or_else(|| DEFAULT_PATH.to_owned()),
            signature: word(webhook.signature),
            secrets: webhook.secrets.len(),
            last_delivery_at: metrics.last_delivery(&name).and_then(time),
        }),
        api: api.map(|api| Api {
            url: api.url.clone().unwrap_or_default(),
            max_calls_per_minute: api.max_calls_per_minute,
        }),
        backfill: backfill.as_ref().map(|status| {
            let status = status.borrow().clone();
            Backfill {
                enabled: of_backfill.enabled,
                interval_seconds: of_backfill.interval.as_secs_f64(),
                verified_through: status.verified_through,
                last_poll: status.last_poll,
                recovered: metrics.backfill_recovered(&name),
            }
        }),
        register: settings.register.as_ref().zip(registration.as_ref()).map(|(register, status)| {
            let status = status.borrow().clone();
            Registration {
                url: register.url.clone(),
                name: register.name.clone(),
                webhook_id: status.webhook_id,
                in_line: status.in_line,
                problem: status.problem,
            }
        }),
        metrics: settings.metrics.as_ref().map(|samples| Samples {
            interval_seconds: samples.interval.as_secs_f64(),
            records: samples.records,
            max_series: samples.max_series,
        }),
        reconcile: api
            .map(|_| Reconcile { interval_seconds: of_reconcile.interval.as_secs_f64(), emit: of_reconcile.emit }),
        usage: settings.usage,
        verify_kills: settings.verify_kills,
        name,
    }
}

/// As the settings spell it.
fn word(signature: Accept) -> String {
    let word = serde_json::to_value(signature).ok();
    word.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned()
}

fn time(unix_seconds: f64) -> Option<Timestamp> {
    Timestamp::from_duration(SignedDuration::try_from_secs_f64(unix_seconds).ok()?).ok()
}
