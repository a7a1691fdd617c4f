//! The families as they stand, for whoever shows figures elsewhere: the very ones that a scrape gets.

use super::Metrics;
use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::collections::{BTreeMap, HashMap};

/// What a scrape at this moment would hold, the gauges of single sandboxes and the process's own aside. Families are
/// named without the relay's prefix.
pub struct Reading(HashMap<String, MetricFamily>);

impl Metrics {
    /// Reads them all.
    pub fn read(&self) -> Reading {
        let mut families = self.registry.gather();
        self.config.present(&mut families);
        let short = |name: &str| name.strip_prefix("e2b_relay_").unwrap_or(name).to_owned();
        Reading(families.into_iter().map(|family| (short(family.name()), family)).collect())
    }

    /// Unix time of a source's last genuine delivery, in seconds; `None` since the start.
    pub fn last_delivery(&self, source: &str) -> Option<f64> {
        // Asked for by its label, a series that is not there would come into being.
        let families = self.last_delivery.collect();
        let series = families.iter().flat_map(|family| family.get_metric());
        let own = series.filter(|series| series.get_label().iter().any(|label| label.value() == source));
        own.map(|series| series.get_gauge().get_value()).next()
    }
}

impl Reading {
    fn series<'r>(&'r self, family: &str, labels: &'r [(&'r str, &'r str)]) -> impl Iterator<Item = (&'r Metric, f64)> {
        let family = self.0.get(family);
        let value = |family: &MetricFamily, metric: &Metric| match family.get_field_type() {
            MetricType::COUNTER => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        };
        let all = family
            .into_iter()
            .flat_map(move |family| family.get_metric().iter().map(move |metric| (metric, value(family, metric))));
        all.filter(move |(metric, _)| labels.iter().all(|(name, value)| label(metric, name) == Some(*value)))
    }

    /// The sum over the series that have these labels; 0 where there are none.
    pub fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        // Not `sum`, which makes -0 of nothing.
        self.series(family, labels).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The value of the series that has these labels, if it is there.
    pub fn value(&self, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.series(family, labels).map(|(_, value)| value).next()
    }

    /// The sums by the values of one label.
    pub fn by(&self, family: &str, name: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (metric, value) in self.series(family, &[]) {
            *sums.entry(label(metric, name).unwrap_or_default().to_owned()).or_default() += value;
        }
        sums
    }

    /// The values of a label of a family's first series: what an `…_info` family tells.
    pub fn label(&self, family: &str, name: &str) -> Option<String> {
        self.series(family, &[]).find_map(|(metric, _)| label(metric, name).map(str::to_owned))
    }

    /// A histogram's buckets: upper bound, and how many observations are not above it, the last one without a bound.
    pub fn buckets(&self, family: &str) -> Vec<(f64, u64)> {
        let Some((metric, _)) = self.series(family, &[]).next() else { return Vec::new() };
        let histogram = metric.get_histogram();
        let bounded = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        bounded.chain([(f64::INFINITY, histogram.get_sample_count())]).collect()
    }
}

fn label<'m>(metric: &'m Metric, name: &str) -> Option<&'m str> {
    metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value())
}
