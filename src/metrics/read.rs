//! Figures that the relay itself shows beside the exposition.

use super::Metrics;
use prometheus::core::Collector;

impl Metrics {
    /// Unix time of a source's last genuine delivery, in seconds; `None` since the start.
    pub fn last_delivery(&self, source: &str) -> Option<f64> {
        // Asked for by its label, a series that is not there would come into being.
        let families = self.last_delivery.collect();
        let series = families.iter().flat_map(|family| family.get_metric());
        let own = series.filter(|series| series.get_label().iter().any(|label| label.value() == source));
        own.map(|series| series.get_gauge().get_value()).next()
    }
}
