//! The gauges: of the oldest sandboxes each, of all sandboxes by template.

use crate::e2b::Sample;
use crate::metrics::{Metrics, Used};
use crate::sandboxes::Wanted;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Templates that are told apart; the rest is `other`.
const MAX_TEMPLATES: usize = 200;
/// A sample that is older than this compared with the newest of all is not what a sandbox uses now. In seconds.
const STALE: i64 = 60;

pub(super) struct Series {
    max: usize,
    latest: HashMap<String, Sample>,
    /// Running sandboxes, the oldest first, with their templates.
    running: Vec<(String, String)>,
    shown: BTreeSet<(String, String)>,
    templates: BTreeSet<String>,
}

impl Series {
    pub(super) fn new(max: usize) -> Self {
        Self { max, latest: HashMap::new(), running: Vec::new(), shown: BTreeSet::new(), templates: BTreeSet::new() }
    }

    /// What a round brought.
    pub(super) fn take(&mut self, wanted: &[Wanted], samples: Vec<(String, Sample)>) {
        let running = wanted.iter().filter(|one| one.running);
        self.running =
            running.map(|one| (one.sandbox_id.clone(), one.template_id.clone().unwrap_or_default())).collect();
        self.latest.extend(samples);
        let newest = self.latest.values().map(|sample| sample.unix_seconds).max().unwrap_or_default();
        let ids: BTreeSet<&str> = self.running.iter().map(|(id, _)| id.as_str()).collect();
        self.latest.retain(|id, sample| ids.contains(id.as_str()) && sample.unix_seconds >= newest - STALE);
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
