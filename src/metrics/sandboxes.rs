//! The live sandboxes, and what they use.

use super::series::Series;
use super::{Error, Metrics, counters, gauges, int_gauges};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

/// Values of the label `state`.
const STATES: [&str; 3] = ["running", "paused", "other"];

#[derive(Clone)]
pub(super) struct Sandboxes {
    live: IntGaugeVec,
    unconfirmed: IntCounterVec,
    metrics_gaps: IntCounterVec,
    dropped: IntCounterVec,
    series_omitted: IntGaugeVec,
    /// Without the relay's prefix: what they tell is the sandboxes'.
    registry: Registry,
    series: Series,
    of_template: [GaugeVec; 7],
}

/// What a sandbox, or all of a template, uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Used {
    /// How many sandboxes.
    pub sandboxes: f64,
    /// CPUs that are there.
    pub cpus: f64,
    /// CPU in use: 1 is what a sample calls 100 %; of a template the sum.
    pub cpu_used: f64,
    /// Bytes.
    pub memory_used: f64,
    /// Bytes.
    pub memory_limit: f64,
    /// Bytes.
    pub disk_used: f64,
    /// Bytes.
    pub disk_size: f64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.sandboxes += other.sandboxes;
        self.cpus += other.cpus;
        self.cpu_used += other.cpu_used;
        self.memory_used += other.memory_used;
        self.memory_limit += other.memory_limit;
        self.disk_used += other.disk_used;
        self.disk_size += other.disk_size;
    }
}

impl Sandboxes {
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        let registry = Registry::new();
        let of_template = |name, help| gauges(&registry, name, help, &["source", "template_id"]);
        Ok(Self {
            series: Series::default(),
            of_template: [
                of_template("e2b_template_sandboxes", "Running sandboxes of the template with a recent sample.")?,
                of_template("e2b_template_cpus", "CPUs of these sandboxes, summed.")?,
                of_template(
                    "e2b_template_cpu_used_ratio",
                    "CPU in use of these sandboxes, summed, 1 for 100 % of one.",
                )?,
                of_template("e2b_template_memory_used_bytes", "Memory in use of these sandboxes, summed, in bytes.")?,
                of_template("e2b_template_memory_limit_bytes", "Memory of these sandboxes, summed, in bytes.")?,
                of_template("e2b_template_disk_used_bytes", "Disk in use of these sandboxes, summed, in bytes.")?,
                of_template("e2b_template_disk_size_bytes", "Disk of these sandboxes, summed, in bytes.")?,
            ],
            registry: registry.clone(),
            live: int_gauges(r, "sandboxes", "Sandboxes that live, by state.", &["source", "state"])?,
            unconfirmed: counters(
                r,
                "kills_unconfirmed_total",
                "Killed events after which the API still knew the sandbox.",
                &["source"],
            )?,
            metrics_gaps: counters(
                r,
                "metrics_gaps_total",
                "Spans of time whose samples of a sandbox were missed and are not fetched any more.",
                &["source"],
            )?,
            dropped: counters(
                r,
                "sandboxes_dropped_total",
                "Sandboxes, ends and kills that were no longer followed for want of room.",
                &["source"],
            )?,
            series_omitted: int_gauges(
                r,
                "metrics_series_omitted",
                "Running sandboxes without gauges of their own, by the setting max_series.",
                &["source"],
            )?,
        })
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Those of single sandboxes.
    pub(super) fn write_series(&self, text: &mut String, is_gone: impl Fn(&str) -> bool) {
        self.series.write(text, is_gone);
    }
}

impl Metrics {
    /// Puts every counter of a source's sandboxes at zero.
    pub(super) fn source_sandboxes(&self, source: &str) {
        for state in STATES {
            self.sandboxes.live.with_label_values(&[source, state]);
        }
        self.sandboxes.unconfirmed.with_label_values(&[source]);
        self.sandboxes.metrics_gaps.with_label_values(&[source]);
        self.sandboxes.dropped.with_label_values(&[source]);
        self.sandboxes.series_omitted.with_label_values(&[source]);
    }

    /// How many live: running, paused, other.
    pub fn sandboxes(&self, source: &str, counts: [u64; 3]) {
        for (state, count) in STATES.into_iter().zip(counts) {
            self.sandboxes.live.with_label_values(&[source, state]).set(super::clamp(count));
        }
    }

    /// A sandbox that was killed is still there.
    pub fn kill_unconfirmed(&self, source: &str) {
        self.sandboxes.unconfirmed.with_label_values(&[source]).inc();
    }

    /// Samples were missed for good.
    pub fn metrics_gap(&self, source: &str) {
        self.sandboxes.metrics_gaps.with_label_values(&[source]).inc();
    }

    /// So many were let go for want of room.
    pub fn sandboxes_dropped(&self, source: &str, count: u64) {
        self.sandboxes.dropped.with_label_values(&[source]).inc_by(count);
    }

    /// So many running sandboxes have no gauges of their own.
    pub fn series_omitted(&self, source: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.sandboxes.series_omitted.with_label_values(&[source]).set(count);
    }

    /// What a sandbox uses.
    pub fn sandbox_uses(&self, source: &str, sandbox_id: &str, template_id: &str, used: &Used) {
        self.sandboxes.series.set(source, sandbox_id, template_id, used);
    }

    /// The sandbox is gone, and its gauges with it.
    pub fn sandbox_is_gone(&self, source: &str, sandbox_id: &str, template_id: &str) {
        self.sandboxes.series.remove(source, sandbox_id, template_id);
    }

    /// What the sandboxes of a template use together; `None`: there are none any more.
    pub fn template_uses(&self, source: &str, template_id: &str, used: Option<&Used>) {
        let Some(used) = used else {
            for gauge in &self.sandboxes.of_template {
                let _ = gauge.remove_label_values(&[source, template_id]);
            }
            return;
        };
        let Used { sandboxes, cpus, cpu_used, memory_used, memory_limit, disk_used, disk_size } = *used;
        let values = [sandboxes, cpus, cpu_used, memory_used, memory_limit, disk_used, disk_size];
        for (gauge, value) in self.sandboxes.of_template.iter().zip(values) {
            gauge.with_label_values(&[source, template_id]).set(value);
        }
    }
}
