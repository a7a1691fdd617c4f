//! Whether what a sink has passed is all accounted for.

use super::{Error, Metrics, clamp, counters, int_gauges};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

#[derive(Clone)]
pub(super) struct Accounts {
    damaged: IntCounterVec,
    unaccounted: IntGaugeVec,
}

impl Accounts {
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            damaged: counters(
                r,
                "sink_damaged_total",
                "Events that the sink passed without them, since the store has lost them by damage that is proven.",
                &["sink"],
            )?,
            unaccounted: int_gauges(
                r,
                "sink_unaccounted_events",
                "Events that the sink has passed and that are neither delivered nor filtered, dead-lettered or damaged; always 0.",
                &["sink"],
            )?,
        })
    }

    pub(super) fn sink(&self, sink: &str) {
        self.damaged.with_label_values(&[sink]);
        self.unaccounted.with_label_values(&[sink]);
    }
}

impl Metrics {
    /// The sink passed `events` that the store has lost by damage.
    pub fn sink_damaged(&self, sink: &str, events: u64) {
        self.accounts.damaged.with_label_values(&[sink]).inc_by(events);
    }

    /// Of so many events that the sink has passed it is not known what became of them.
    pub fn sink_unaccounted(&self, sink: &str, events: u64) {
        self.accounts.unaccounted.with_label_values(&[sink]).set(clamp(events));
    }
}
