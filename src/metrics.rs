//! Every Prometheus family of the relay, in one place; names and labels are those of the public contract.
//!
//! Counters of a source or sink stand at zero for every label value from the moment [`Metrics::source`] or
//! [`Metrics::sink`] is called, so that a rate over them is right from the first event on.

mod accounts;
mod api;
mod config;
mod process;
mod reading;
mod sandboxes;
mod series;
mod tls;

pub use api::SKIPPED_REASONS;
pub use reading::Reading;
pub use sandboxes::Used;

use accounts::Accounts;
use api::Api;
use config::Config;
use process::Process;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use sandboxes::Sandboxes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tls::Tls;

/// What a delivery came to; label `outcome` of `deliveries_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// On disk, answered 200.
    Accepted,
    /// Known before, answered 200.
    Duplicate,
    /// Not proven genuine, 401.
    BadSignature,
    /// Proven, but another team's, 401.
    WrongTeam,
    /// Proven, but not an event, 400.
    Malformed,
    /// Older than the dedupe window, 400.
    Stale,
    /// More than a day ahead, 400.
    Future,
    /// Body over the limit, 413.
    TooLarge,
    /// Not there in time, 408; or no durable answer in time, 503.
    Timeout,
    /// No room left, 503.
    StoreFull,
    /// Too many in flight, 503.
    Overloaded,
    /// Shutting down, 503.
    Draining,
}

impl DeliveryOutcome {
    const ALL: [Self; 12] = [
        Self::Accepted,
        Self::Duplicate,
        Self::BadSignature,
        Self::WrongTeam,
        Self::Malformed,
        Self::Stale,
        Self::Future,
        Self::TooLarge,
        Self::Timeout,
        Self::StoreFull,
        Self::Overloaded,
        Self::Draining,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::BadSignature => "bad_signature",
            Self::WrongTeam => "wrong_team",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::StoreFull => "store_full",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }
}

/// Values of the label `reason` of the sinks' counters.
pub const SINK_REASONS: [&str; 9] =
    ["connect", "auth", "timeout", "rejected", "too_large", "unroutable", "filter", "template", "other"];

/// Values of the label `reason` of `sink_filtered_total`: why a sink did not want an event.
pub const FILTERED_REASONS: [&str; 6] = ["type", "source", "filter", "filter_absent", "unroutable", "already_sent"];

const BACKFILL: &str = "backfill";
const ORIGINS: [&str; 5] = ["webhook", BACKFILL, "metrics", "reconcile", "relay"];

/// Event types known here; any other counts as `other`, so that a stranger cannot make labels.
const TYPES: [&str; 12] = [
    "sandbox.lifecycle.created",
    "sandbox.lifecycle.updated",
    "sandbox.lifecycle.paused",
    "sandbox.lifecycle.resumed",
    "sandbox.lifecycle.checkpointed",
    "sandbox.lifecycle.killed",
    "sandbox.metrics",
    "sandbox.usage",
    "sandbox.kill_unconfirmed",
    "sandbox.reconciled",
    "relay.gap",
    "other",
];

/// Half a millisecond to ten seconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// The families. Cloning is cheap: a clone counts into the same families.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    deliveries: IntCounterVec,
    delivery_duration: Histogram,
    last_delivery: GaugeVec,
    events: IntCounterVec,
    commit_duration: Histogram,
    commit_events: Histogram,
    store_size: IntGauge,
    store_max_size: IntGauge,
    store_events: IntGauge,
    store_damaged: IntCounter,
    quarantined: IntCounterVec,
    sent: IntCounterVec,
    filtered: IntCounterVec,
    sink_errors: IntCounterVec,
    lag: IntGaugeVec,
    oldest_unsent: GaugeVec,
    dead_letters: IntGaugeVec,
    dead_letters_total: IntCounterVec,
    swallowed: IntCounterVec,
    forwarded: IntCounterVec,
    up: IntGaugeVec,
    accounts: Accounts,
    /// Locked while it is brought up to a total.
    log_lines_dropped: Arc<Mutex<IntCounter>>,
    api: Api,
    sandboxes: Sandboxes,
    process: Process,
    config: Config,
    tls: Tls,
}

/// A family could not be made; a fault of this file, never of the user's.
pub type Error = prometheus::Error;

impl Metrics {
    /// Makes and registers every family.
    pub fn new(version: &str, revision: &str) -> Result<Self, Error> {
        let registry = Registry::new_custom(Some("e2b_relay".to_owned()), None)?;
        let r = &registry;
        let build_info = int_gauges(
            r,
            "build_info",
            "Version and source revision of the running relay, always 1.",
            &["version", "revision"],
        )?;
        build_info.with_label_values(&[version, revision]).set(1);
        Ok(Self {
            deliveries: counters(
                r,
                "deliveries_total",
                "Webhook deliveries received, by what they came to.",
                &["source", "outcome"],
            )?,
            delivery_duration: histogram(
                r,
                "delivery_duration_seconds",
                "Time from the first byte of a delivery's header to its durable answer, in seconds.",
                &SECONDS,
            )?,
            last_delivery: gauges(
                r,
                "last_delivery_timestamp_seconds",
                "Unix time of the last genuine delivery, in seconds.",
                &["source"],
            )?,
            events: counters(
                r,
                "events_total",
                "Events accepted for the first time, by how they came.",
                &["source", "origin", "type"],
            )?,
            commit_duration: histogram(
                r,
                "store_commit_duration_seconds",
                "Time to write and fdatasync one group of events, in seconds.",
                &SECONDS,
            )?,
            commit_events: histogram(
                r,
                "store_commit_events",
                "Events in one group commit.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0],
            )?,
            store_size: int_gauge(
                r,
                "store_size_bytes",
                "What counts towards store.max_size, in bytes: journal, ids and dead letters.",
            )?,
            store_max_size: int_gauge(r, "store_max_size_bytes", "The setting store.max_size, in bytes.")?,
            store_events: int_gauge(r, "store_events", "Events now kept in the journal.")?,
            store_damaged: counter(
                r,
                "store_damaged_total",
                "Places in the journal and the dead letters found damaged and passed over.",
            )?,
            quarantined: counters(
                r,
                "quarantined_total",
                "Well signed bodies that were no events and of which a copy was kept.",
                &["source"],
            )?,
            sent: counters(r, "sink_sent_total", "Events that the sink's peer confirmed.", &["sink"])?,
            filtered: counters(
                r,
                "sink_filtered_total",
                "Events that the sink does not take, by why.",
                &["sink", "reason"],
            )?,
            sink_errors: counters(r, "sink_errors_total", "Failed attempts to send, by why.", &["sink", "reason"])?,
            swallowed: counters(
                r,
                "sink_swallowed_total",
                "Records that the sink's stream took for repetitions though each was sent for the first time.",
                &["sink"],
            )?,
            forwarded: counters(
                r,
                "sink_dead_letters_forwarded_total",
                "Dead letters that were handed on to where the sink's broker keeps them.",
                &["sink"],
            )?,
            lag: int_gauges(r, "sink_lag_events", "Events accepted but not yet settled for the sink.", &["sink"])?,
            oldest_unsent: gauges(
                r,
                "sink_oldest_unsent_age_seconds",
                "Age of the oldest event not yet settled for the sink, in seconds; 0 when there is none.",
                &["sink"],
            )?,
            dead_letters: int_gauges(
                r,
                "sink_dead_letters",
                "Dead letters of the sink that wait for an operator.",
                &["sink"],
            )?,
            dead_letters_total: counters(
                r,
                "sink_dead_letters_total",
                "Events that became dead letters, by why.",
                &["sink", "reason"],
            )?,
            up: int_gauges(r, "sink_up", "1 while the sink's last attempt succeeded, else 0.", &["sink"])?,
            accounts: Accounts::new(r)?,
            log_lines_dropped: Arc::new(Mutex::new(counter(
                r,
                "log_lines_dropped_total",
                "Lines of the log that were dropped because nobody read standard error.",
            )?)),
            api: Api::new(r)?,
            sandboxes: Sandboxes::new(r)?,
            process: Process::new()?,
            config: Config::new(r)?,
            tls: Tls::new(r)?,
            registry,
        })
    }

    /// Puts every counter of a source's deliveries at zero. A source without a webhook has none: by that alerts know that
    /// its events are not to be delivered.
    pub fn webhook(&self, source: &str) {
        for outcome in DeliveryOutcome::ALL {
            self.deliveries.with_label_values(&[source, outcome.label()]);
        }
        self.quarantined.with_label_values(&[source]);
    }

    /// Puts every other counter of a source at zero.
    pub fn source(&self, source: &str) {
        self.config.is_back(config::SOURCE, source);
        for origin in ORIGINS {
            for kind in TYPES {
                self.events.with_label_values(&[source, origin, kind]);
            }
        }
        self.api.source(source);
        self.source_sandboxes(source);
    }

    /// Puts every counter of a sink at zero.
    pub fn sink(&self, sink: &str) {
        self.config.is_back(config::SINK, sink);
        self.sent.with_label_values(&[sink]);
        for reason in FILTERED_REASONS {
            self.filtered.with_label_values(&[sink, reason]);
        }
        for reason in SINK_REASONS {
            self.sink_errors.with_label_values(&[sink, reason]);
            self.dead_letters_total.with_label_values(&[sink, reason]);
        }
        self.swallowed.with_label_values(&[sink]);
        self.forwarded.with_label_values(&[sink]);
        self.lag.with_label_values(&[sink]);
        self.oldest_unsent.with_label_values(&[sink]);
        self.dead_letters.with_label_values(&[sink]);
        self.up.with_label_values(&[sink]);
        self.accounts.sink(sink);
    }

    /// One delivery was answered.
    pub fn delivery(&self, source: &str, outcome: DeliveryOutcome) {
        self.deliveries.with_label_values(&[source, outcome.label()]).inc();
    }

    /// One delivery got its durable answer after `took`.
    pub fn delivery_answered(&self, took: Duration) {
        self.delivery_duration.observe(took.as_secs_f64());
    }

    /// A genuine delivery came at `unix_seconds`.
    pub fn delivery_seen(&self, source: &str, unix_seconds: f64) {
        self.last_delivery.with_label_values(&[source]).set(unix_seconds);
    }

    /// One event was accepted that was not known before.
    pub fn event(&self, source: &str, origin: &str, kind: &str) {
        let kind = if TYPES.contains(&kind) { kind } else { "other" };
        self.events.with_label_values(&[source, origin, kind]).inc();
        if origin == BACKFILL {
            self.api.recovered(source);
        }
    }

    /// One group of `events` was made durable in `took`.
    pub fn commit(&self, took: Duration, events: usize) {
        self.commit_duration.observe(took.as_secs_f64());
        self.commit_events.observe(events as f64);
    }

    /// What the store takes, may take, and holds.
    pub fn store_size(&self, bytes: u64, max_bytes: u64, events: u64) {
        self.store_size.set(clamp(bytes));
        self.store_max_size.set(clamp(max_bytes));
        self.store_events.set(clamp(events));
    }

    /// Damaged groups were found in the journal.
    pub fn store_damaged(&self, groups: u64) {
        self.store_damaged.inc_by(groups);
    }

    /// A copy of a body was put into quarantine.
    pub fn quarantined(&self, source: &str) {
        self.quarantined.with_label_values(&[source]).inc();
    }

    /// The peer confirmed `events`.
    pub fn sink_sent(&self, sink: &str, events: u64) {
        self.sent.with_label_values(&[sink]).inc_by(events);
    }

    /// The sink does not take one event; `reason` is one of [`FILTERED_REASONS`].
    pub fn sink_filtered(&self, sink: &str, reason: &str) {
        self.filtered.with_label_values(&[sink, reason]).inc();
    }

    /// An attempt failed; `reason` is one of [`SINK_REASONS`].
    pub fn sink_error(&self, sink: &str, reason: &str) {
        self.sink_errors.with_label_values(&[sink, reason]).inc();
    }

    /// The peer took `records` for repetitions though they were none.
    pub fn sink_swallowed(&self, sink: &str, records: u64) {
        self.swallowed.with_label_values(&[sink]).inc_by(records);
    }

    /// One dead letter was handed on.
    pub fn dead_letter_forwarded(&self, sink: &str) {
        self.forwarded.with_label_values(&[sink]).inc();
    }

    /// How far behind the sink is.
    pub fn sink_lag(&self, sink: &str, events: u64, oldest_age: Duration) {
        self.lag.with_label_values(&[sink]).set(clamp(events));
        self.oldest_unsent.with_label_values(&[sink]).set(oldest_age.as_secs_f64());
    }

    /// One event became a dead letter; `reason` is one of [`SINK_REASONS`].
    pub fn dead_letter(&self, sink: &str, reason: &str) {
        self.dead_letters_total.with_label_values(&[sink, reason]).inc();
    }

    /// How many dead letters of the sink wait.
    pub fn dead_letters_waiting(&self, sink: &str, count: u64) {
        self.dead_letters.with_label_values(&[sink]).set(clamp(count));
    }

    /// Whether the sink's last attempt succeeded.
    pub fn sink_up(&self, sink: &str, up: bool) {
        self.up.with_label_values(&[sink]).set(i64::from(up));
    }

    /// So many lines of the log were dropped until now.
    pub fn log_lines_dropped(&self, total: u64) {
        let counter = self.log_lines_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// How many events of a source came by `origin` until now.
    pub fn events(&self, source: &str, origin: &str) -> u64 {
        TYPES.iter().map(|kind| self.events.with_label_values(&[source, origin, kind]).get()).sum()
    }

    /// How many events the sink's peer has confirmed until now.
    pub fn sent(&self, sink: &str) -> u64 {
        self.sent.with_label_values(&[sink]).get()
    }

    /// How many events wait for the sink.
    pub fn unsent(&self, sink: &str) -> u64 {
        u64::try_from(self.lag.with_label_values(&[sink]).get()).unwrap_or_default()
    }

    /// Everything in Prometheus' text format.
    pub fn encode(&self) -> Result<String, Error> {
        let mut families = self.registry.gather();
        families.extend(self.process.gather());
        families.extend(self.sandboxes.gather());
        self.config.present(&mut families);
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        let mut text = String::from_utf8(text).map_err(|error| Error::Msg(error.to_string()))?;
        self.sandboxes.write_series(&mut text, |source| self.config.is_gone(config::SOURCE, source));
        Ok(text)
    }

    /// The content type of [`Metrics::encode`].
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    register(registry, IntCounter::new(name, help)?)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn float_counter(registry: &Registry, name: &str, help: &str) -> Result<Counter, Error> {
    register(registry, Counter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge, Error> {
    register(registry, Gauge::new(name, help)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
    register(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn int_gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    register(registry, IntGauge::new(name, help)?)
}

fn int_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}
