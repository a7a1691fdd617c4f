//! What the relay asks the provider's API, what the poll of its events brought, and its own webhook there.

use super::{Error, Metrics, clamp, counters, gauges, int_gauges};
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

/// Values of the label `code` that are there from the start: the statuses and troubles to be expected.
const CODES: [&str; 12] =
    ["200", "401", "403", "404", "429", "500", "502", "503", "504", "timeout", "connect", "broken"];

/// Values of the label `outcome` of `backfill_polls_total`.
const OUTCOMES: [&str; 6] = ["ok", "unauthorized", "rate_limited", "unavailable", "not_offered", "invalid"];

/// Values of the label `reason` of `backfill_skipped_total`.
pub const SKIPPED_REASONS: [&str; 4] = ["too_old", "too_new", "malformed", "wrong_team"];

#[derive(Clone)]
pub(super) struct Api {
    requests: IntCounterVec,
    clock_offset: GaugeVec,
    polls: IntCounterVec,
    rows_skipped: IntCounterVec,
    recovered: IntCounterVec,
    skipped: IntCounterVec,
    verified_through: GaugeVec,
    gaps: IntCounterVec,
    repairs: IntCounterVec,
    conflict: IntGaugeVec,
    foreign: IntGaugeVec,
}

impl Api {
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            requests: counters(
                r,
                "api_requests_total",
                "Requests to the provider's API, by what was asked for and the answer's status, or what came instead.",
                &["source", "endpoint", "code"],
            )?,
            clock_offset: gauges(
                r,
                "api_clock_offset_seconds",
                "The provider's clock less the host's, by the API's header Date, in seconds; only once known.",
                &["source"],
            )?,
            polls: counters(
                r,
                "backfill_polls_total",
                "Sweeps through the provider's list of events, by how they ended.",
                &["source", "outcome"],
            )?,
            rows_skipped: counters(
                r,
                "api_rows_skipped_total",
                "Rows of the API's replies that were not as specified and were passed over, by what was asked for.",
                &["source", "endpoint"],
            )?,
            recovered: counters(
                r,
                "backfill_recovered_total",
                "Events that only the events API brought.",
                &["source"],
            )?,
            skipped: counters(
                r,
                "backfill_skipped_total",
                "Events of the events API that were not taken, by why.",
                &["source", "reason"],
            )?,
            verified_through: gauges(
                r,
                "backfill_verified_through_timestamp_seconds",
                "Unix time up to which everything that the events API lists is in the store, in seconds; only once known.",
                &["source"],
            )?,
            gaps: counters(
                r,
                "gaps_total",
                "Spans of time of which the provider has forgotten what the relay did not see.",
                &["source"],
            )?,
            repairs: counters(
                r,
                "registration_repairs_total",
                "Times that the relay's own webhook at the provider was not as registered, and was put right.",
                &["source"],
            )?,
            conflict: int_gauges(
                r,
                "registration_conflict",
                "1 while other webhooks of the relay's name stand in the way or beside its own, else 0.",
                &["source"],
            )?,
            foreign: int_gauges(
                r,
                "foreign_webhooks",
                "Webhooks at the provider that are not the relay's own; only once known.",
                &["source"],
            )?,
        })
    }

    pub(super) fn recovered(&self, source: &str) {
        self.recovered.with_label_values(&[source]).inc();
    }

    pub(super) fn source(&self, source: &str) {
        self.repairs.with_label_values(&[source]);
    }
}

impl Metrics {
    /// Puts every counter of a source that has an API at zero; `endpoints` are the labels of what can be asked for.
    pub fn api<'e>(&self, source: &str, endpoints: impl IntoIterator<Item = &'e str>) {
        for endpoint in endpoints {
            for code in CODES {
                self.api.requests.with_label_values(&[source, endpoint, code]);
            }
            self.api.rows_skipped.with_label_values(&[source, endpoint]);
        }
        for outcome in OUTCOMES {
            self.api.polls.with_label_values(&[source, outcome]);
        }
        for reason in SKIPPED_REASONS {
            self.api.skipped.with_label_values(&[source, reason]);
        }
        self.api.recovered.with_label_values(&[source]);
        self.api.gaps.with_label_values(&[source]);
    }

    /// One request to the API; `code` is the status, or a word for what came instead.
    pub fn api_request(&self, source: &str, endpoint: &str, code: &str) {
        self.api.requests.with_label_values(&[source, endpoint, code]).inc();
    }

    /// So many rows of a reply were not as specified.
    pub fn api_rows_skipped(&self, source: &str, endpoint: &str, rows: usize) {
        self.api.rows_skipped.with_label_values(&[source, endpoint]).inc_by(rows as u64);
    }

    /// How far the API's clock is ahead of the host's.
    pub fn api_clock_offset(&self, source: &str, seconds: f64) {
        self.api.clock_offset.with_label_values(&[source]).set(seconds);
    }

    /// One sweep ended; `outcome` is a word of the contract.
    pub fn backfill_poll(&self, source: &str, outcome: &str) {
        self.api.polls.with_label_values(&[source, outcome]).inc();
    }

    /// One listed event was not taken; `reason` is one of [`SKIPPED_REASONS`].
    pub fn backfill_skipped(&self, source: &str, reason: &str) {
        self.api.skipped.with_label_values(&[source, reason]).inc();
    }

    /// Everything listed up to `unix_seconds` is in the store.
    pub fn backfill_verified_through(&self, source: &str, unix_seconds: f64) {
        self.api.verified_through.with_label_values(&[source]).set(unix_seconds);
    }

    /// How many events of a source that has an API only its list of events has brought.
    pub fn backfill_recovered(&self, source: &str) -> u64 {
        self.api.recovered.with_label_values(&[source]).get()
    }

    /// A gap was found.
    pub fn gap(&self, source: &str) {
        self.api.gaps.with_label_values(&[source]).inc();
    }

    /// Puts the gauge of a source that registers its webhook at zero.
    pub fn registration(&self, source: &str) {
        self.registration_conflict(source, false);
    }

    /// The relay's own webhook was put right.
    pub fn registration_repaired(&self, source: &str) {
        self.api.repairs.with_label_values(&[source]).inc();
    }

    /// Whether others of the name of the relay's own webhook are there.
    pub fn registration_conflict(&self, source: &str, is_there: bool) {
        self.api.conflict.with_label_values(&[source]).set(i64::from(is_there));
    }

    /// How many webhooks there are besides the relay's own.
    pub fn foreign_webhooks(&self, source: &str, count: usize) {
        self.api.foreign.with_label_values(&[source]).set(clamp(count as u64));
    }
}
