//! Whether the configuration was read again with success; and what the present one does not have any more.

use super::{Error, Metrics, gauge, int_gauge};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Registry};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Labels that name what the configuration may drop.
pub(super) const SINK: &str = "sink";
pub(super) const SOURCE: &str = "source";

#[derive(Clone)]
pub(super) struct Config {
    successful: IntGauge,
    at: Gauge,
    needs_restart: IntGauge,
    /// Label and value of what was taken out; its series are not shown, and go on where they were if it is put back.
    gone: Arc<Mutex<BTreeSet<(&'static str, String)>>>,
}

impl Config {
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            successful: int_gauge(
                r,
                "config_last_reload_successful",
                "1 if the configuration was sound when it was read last, else 0: an older one is in force.",
            )?,
            at: gauge(
                r,
                "config_last_reload_success_timestamp_seconds",
                "Unix time at which a sound configuration was read last, in seconds.",
            )?,
            needs_restart: int_gauge(
                r,
                "config_needs_restart",
                "Keys whose new value was read, and counts only after a restart.",
            )?,
            gone: Arc::default(),
        })
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<(&'static str, String)>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_back(&self, label: &'static str, name: &str) {
        self.gone().remove(&(label, name.to_owned()));
    }

    pub(super) fn is_gone(&self, label: &'static str, name: &str) -> bool {
        self.gone().contains(&(label, name.to_owned()))
    }

    /// Leaves out the series of what is gone.
    pub(super) fn present(&self, families: &mut Vec<MetricFamily>) {
        let gone = self.gone();
        if gone.is_empty() {
            return;
        }
        let is_gone = |name: &str, value: &str| gone.iter().any(|(label, gone)| *label == name && gone == value);
        for family in families.iter_mut() {
            family
                .mut_metric()
                .retain(|metric| !metric.get_label().iter().any(|label| is_gone(label.name(), label.value())));
        }
        families.retain(|family| !family.get_metric().is_empty());
    }
}

impl Metrics {
    /// A sound configuration was read at `unix_seconds`; of so many keys the new value has to wait for a restart.
    pub fn config_loaded(&self, unix_seconds: f64, needs_restart: usize) {
        self.config.successful.set(1);
        self.config.at.set(unix_seconds);
        self.config.needs_restart.set(i64::try_from(needs_restart).unwrap_or(i64::MAX));
    }

    /// What was read is not in force.
    pub fn config_refused(&self) {
        self.config.successful.set(0);
    }

    /// A sink is not in the configuration any more: its series end.
    pub fn sink_gone(&self, sink: &str) {
        self.config.gone().insert((SINK, sink.to_owned()));
    }

    /// A source is not in the configuration any more: its series end.
    pub fn source_gone(&self, source: &str) {
        self.config.gone().insert((SOURCE, source.to_owned()));
    }
}
