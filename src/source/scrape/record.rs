//! A sample as a `sandbox.metrics` record.

use crate::e2b::Sample;
use crate::event::{Timestamp, metrics_id};
use crate::sandboxes::{METRICS, Wanted};
use crate::source::own::Own;
use serde_json::json;

pub(super) fn of<'w>(one: &'w Wanted, execution_id: Option<&'w str>, sample: &Sample) -> Own<'w> {
    let mut data = json!({
        "cpu_used_pct": sample.cpu_used_pct,
        "cpu_count": sample.cpu_count,
        "mem_used": sample.mem_used,
        "mem_total": sample.mem_total,
        "disk_used": sample.disk_used,
        "disk_total": sample.disk_total,
    });
    if let (Some(cache), Some(data)) = (sample.mem_cache, data.as_object_mut()) {
        data.insert("mem_cache".to_owned(), cache.into());
    }
    let time = jiff::Timestamp::from_second(sample.unix_seconds).unwrap_or_default();
    Own {
        id: metrics_id(&one.sandbox_id, sample.unix_seconds),
        kind: METRICS,
        timestamp: Timestamp::from(time),
        sandbox_id: &one.sandbox_id,
        execution_id,
        template_id: one.template_id.as_deref(),
        data,
    }
}
