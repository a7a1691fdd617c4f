//! The gauges: of the oldest sandboxes each, of all sandboxes by template.

use crate::e2b::Sample;
use crate::metrics::{Metrics, Used};
use crate::sandboxes::Wanted;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Templates that are told apart; the rest is `other`.
const MAX_TEMPLATES: usize = 200;
/// A sample that is older than this is not what a sandbox uses now: compared with the newest of all, but with none from
/// a clock that is ahead of the API's. In seconds.
const STALE: i64 = 60;

pub(super) struct Series {
    max: usize,
    latest: HashMap<String, Sample>,
    /// The API's time when it was last asked with success, Unix seconds.
    asked_at: i64,
    /// Running sandboxes, the oldest first, with their templates.
    running: Vec<(String, String)>,
    shown: BTreeSet<(String, String)>,
    templates: BTreeSet<String>,
}

impl Series {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            latest: HashMap::new(),
            asked_at: i64::MIN,
            running: Vec::new(),
            shown: BTreeSet::new(),
            templates: BTreeSet::new(),
        }
    }

    /// What a round brought; `now` is the API's time, if it answered.
    pub(super) fn take(&mut self, wanted: &[Wanted], samples: Vec<(String, Sample)>, now: Option<i64>) {
        let running = wanted.iter().filter(|one| one.running);
        self.running =
            running.map(|one| (one.sandbox_id.clone(), one.template_id.clone().unwrap_or_default())).collect();
        self.latest.extend(samples);
        self.asked_at = now.unwrap_or(self.asked_at);
        let newest = self.latest.values().map(|sample| sample.unix_seconds).max().unwrap_or_default();
        let newest = newest.min(self.asked_at);
        let ids: BTreeSet<&str> = self.running.iter().map(|(id, _)| id.as_str()).collect();
        self.latest
            .retain(|id, sample| ids.contains(id.as_str()) && sample.unix_seconds >= newest.saturating_sub(STALE));
    }

    /// Sets the gauges, and takes those away that are no more; returns how many sandboxes have none.
    pub(super) fn publish(&mut self, source: &str, metrics: &Metrics) -> usize {
        let mut templates: BTreeMap<&str, Used> = BTreeMap::new();
        let mut show = BTreeMap::new();
        for (place, (id, template)) in self.running.iter().enumerate() {
            let Some(sample) = self.latest.get(id) else { continue };
            let used = used(sample);
            if place < self.max {
                show.insert((id.clone(), template.clone()), used);
            }
            let known = templates.len() < MAX_TEMPLATES || templates.contains_key(template.as_str());
            *templates.entry(if known { template } else { "other" }).or_default() += used;
        }
        for (id, template) in self.shown.iter().filter(|shown| !show.contains_key(*shown)) {
            metrics.sandbox_is_gone(source, id, template);
        }
        for ((id, template), used) in &show {
            metrics.sandbox_uses(source, id, template, used);
        }
        let shown = show.into_keys().collect();
        self.shown = shown;
        for (template, used) in &templates {
            metrics.template_uses(source, template, Some(used));
        }
        let now: BTreeSet<String> = templates.into_keys().map(str::to_owned).collect();
        for template in self.templates.difference(&now) {
            metrics.template_uses(source, template, None);
        }
        self.templates = now;
        self.running.len().saturating_sub(self.max)
    }

    /// Takes all gauges away: nobody keeps them any more.
    pub(super) fn clear(&mut self, source: &str, metrics: &Metrics) {
        self.running.clear();
        self.publish(source, metrics);
    }
}

fn used(sample: &Sample) -> Used {
    Used {
        sandboxes: 1.0,
        cpus: sample.cpu_count as f64,
        cpu_used: sample.cpu_used_pct / 100.0,
        memory_used: sample.mem_used as f64,
        memory_limit: sample.mem_total as f64,
        disk_used: sample.disk_used as f64,
        disk_size: sample.disk_total as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(id: &str) -> Wanted {
        let since = jiff::Timestamp::UNIX_EPOCH;
        Wanted { sandbox_id: id.to_owned(), template_id: None, since, running: true }
    }

    fn sample(id: &str, unix_seconds: i64) -> (String, Sample) {
        let sample = Sample {
            unix_seconds,
            cpu_count: 1,
            cpu_used_pct: 1.0,
            mem_used: 1,
            mem_total: 1,
            mem_cache: None,
            disk_used: 1,
            disk_total: 1,
        };
        (id.to_owned(), sample)
    }

    #[test]
    fn a_sample_is_stale_by_the_newest_of_all_but_not_by_one_from_a_fast_clock() {
        let all: Vec<Wanted> = ["a", "b", "c"].map(wanted).into();
        let mut series = Series::new(10);
        let mut shown = |samples: &[(&str, i64)], now| {
            series.take(&all, samples.iter().map(|(id, time)| sample(id, *time)).collect(), now);
            let mut shown: Vec<&str> = series.latest.keys().map(String::as_str).collect();
            shown.sort_unstable();
            shown.concat()
        };
        assert_eq!(shown(&[("a", 1000), ("b", 940), ("c", 9000)], Some(1000)), "abc");
        assert_eq!(shown(&[("a", 1001)], Some(1001)), "ac", "the second one's is a minute old");
        // Where all of them come late, none is stale.
        assert_eq!(shown(&[("a", 1061), ("b", 1010), ("c", 1005)], Some(2000)), "abc");
        // Without an answer nothing grows older.
        assert_eq!(shown(&[], None), "abc");
    }
}
