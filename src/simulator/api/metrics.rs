//! `/sandboxes/metrics` and `/sandboxes/{id}/metrics`, with the provider's traps: a stale sample is no absence, a time
//! left out is the last sample's, and a range has other times than the latest samples have.

use super::params::Params;
use super::{Provider, Refusal, odd};
use crate::simulator::faults::Fault;
use crate::simulator::provider::Shared;
use crate::simulator::samples::{Sample, hash};
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Sandboxes of one request.
const MAX_IDS: usize = 100;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metric {
    timestamp: Timestamp,
    timestamp_unix: i64,
    cpu_count: u32,
    cpu_used_pct: f64,
    mem_used: i64,
    mem_total: i64,
    mem_cache: i64,
    disk_used: i64,
    disk_total: i64,
}

#[derive(Serialize)]
pub(super) struct Batch {
    sandboxes: BTreeMap<String, Value>,
}

/// As it is told by a clock that is `off` by so many seconds.
fn metric(sample: &Sample, off: i64) -> Metric {
    let time = sample.time + off;
    Metric {
        timestamp: Timestamp::from_second(time).unwrap_or_default(),
        timestamp_unix: time,
        cpu_count: sample.cpu_count,
        cpu_used_pct: sample.cpu_used_pct,
        mem_used: sample.mem_used,
        mem_total: sample.mem_total,
        mem_cache: sample.mem_cache,
        disk_used: sample.disk_used,
        disk_total: sample.disk_total,
    }
}

/// By how many seconds the clock is off of the node that the sandbox is on.
fn off(shared: &Shared, sandbox_id: &str) -> i64 {
    let options = &shared.options;
    if options.faults.marks(Fault::WrongClock, hash(sandbox_id)) { options.wrong_clock_by.as_secs() } else { 0 }
}

fn told(shared: &Shared, sandbox_id: &str, sample: &Sample) -> Result<Value, Refusal> {
    let row = serde_json::to_value(metric(sample, off(shared, sandbox_id)));
    row.map(|row| odd::row(shared, sandbox_id, row)).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// The newest sample of each; whoever has none is not in the reply.
pub(super) async fn latest(State(shared): Provider, params: Params) -> Result<Json<Batch>, Refusal> {
    if params.get("sandbox_ids").is_none() {
        return Err(Refusal::bad_request("Query argument sandbox_ids is required, but not found"));
    }
    let ids = params.joined("sandbox_ids");
    if ids.len() > MAX_IDS {
        return Err(Refusal::bad_request(format!("Too many sandboxes requested, maximum is {MAX_IDS}")));
    }
    let ids: Vec<&str> = ids.iter().map(|id| short(id)).collect::<Result<_, _>>()?;
    let (account, now) = (shared.account(), Timestamp::now());
    let newest = |id: &str| {
        let sample = account.samples.latest(id, now)?;
        Some(told(&shared, id, &sample).map(|row| (id.to_owned(), row)))
    };
    Ok(Json(Batch { sandboxes: ids.into_iter().filter_map(newest).collect::<Result<_, _>>()? }))
}

/// An unknown sandbox has no samples, and is no error.
pub(super) async fn range(
    State(shared): Provider,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Vec<Value>>, Refusal> {
    let id = short(&id)?;
    let (start, end) = (params.number("start")?, params.number("end")?);
    if start.is_some_and(i64::is_negative) || end.is_some_and(i64::is_negative) {
        return Err(Refusal::bad_request("start and end must be at least 0"));
    }
    let (account, now) = (shared.account(), Timestamp::now());
    let off = off(&shared, id);
    let (first, last) = account.samples.span(id, now).unwrap_or_default();
    let (start, end) = (start.unwrap_or(first + off), end.unwrap_or(last + off));
    if start > end {
        return Err(Refusal::bad_request("Invalid time range for metrics"));
    }
    let samples = account.samples.range(id, start.saturating_sub(off), end.saturating_sub(off), now);
    samples.iter().map(|sample| told(&shared, id, sample)).collect::<Result<_, _>>().map(Json)
}

/// `<id>-<client id>` is the id; anything else with a dash or a strange letter spoils the whole request.
fn short(id: &str) -> Result<&str, Refusal> {
    let (short, client) = id.split_once('-').unwrap_or((id, "0"));
    let is_sound = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_sound(short) && is_sound(client) {
        return Ok(short);
    }
    Err(Refusal::bad_request(format!("Invalid sandbox ID: {id:?}")))
}
