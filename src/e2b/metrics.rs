//! `GET /sandboxes/metrics` (the latest sample of many) and `GET /sandboxes/{id}/metrics` (a span of one).
//!
//! What a sandbox used that has long ended is still given as its latest sample: compare its time with the last one seen.

use super::api::{Request, no_json};
use super::rows;
use super::{Answer, Api, ApiError, Endpoint};
use crate::client::{Reply, encode};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Most sandboxes of one call; the API refuses more.
pub const MAX_SANDBOXES: usize = 100;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Wire")]
pub struct Sample {
    /// When it was taken, Unix seconds; within the range of [`jiff::Timestamp`].
    pub unix_seconds: i64,
    /// Number of CPUs.
    pub cpu_count: i64,
    /// Percent of all of them.
    pub cpu_used_pct: f64,
    /// Bytes.
    pub mem_used: i64,
    /// Bytes.
    pub mem_total: i64,
    /// Bytes; `None` where the installation does not tell.
    pub mem_cache: Option<i64>,
    /// Bytes; 0 may mean that the sandbox does not report it.
    pub disk_used: i64,
    /// Bytes; likewise.
    pub disk_total: i64,
}

/// As it comes; older installations lack `timestampUnix` and `memCache`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    timestamp_unix: Option<i64>,
    #[serde(default)]
    timestamp: Option<jiff::Timestamp>,
    cpu_count: i64,
    cpu_used_pct: f64,
    mem_used: i64,
    mem_total: i64,
    #[serde(default)]
    mem_cache: Option<i64>,
    #[serde(default, deserialize_with = "or_zero")]
    disk_used: i64,
    #[serde(default, deserialize_with = "or_zero")]
    disk_total: i64,
}

fn or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl TryFrom<Wire> for Sample {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let told = wire.timestamp_unix.or_else(|| Some(wire.timestamp?.as_second())).ok_or("no time")?;
        let time = jiff::Timestamp::from_second(told).map_err(|_| "a time beyond the calendar")?;
        Ok(Self {
            unix_seconds: time.as_second(),
            cpu_count: wire.cpu_count,
            cpu_used_pct: wire.cpu_used_pct,
            mem_used: wire.mem_used,
            mem_total: wire.mem_total,
            mem_cache: wire.mem_cache,
            disk_used: wire.disk_used,
            disk_total: wire.disk_total,
        })
    }
}

#[derive(Deserialize)]
struct Latest<'a> {
    /// `None`: it has no sample.
    #[serde(borrow)]
    sandboxes: BTreeMap<String, Option<&'a RawValue>>,
}

impl Api {
    /// The latest sample of each of at most [`MAX_SANDBOXES`] sandboxes; who has none, or one that is not as specified, is
    /// left out. One malformed id has the API refuse all of them.
    pub async fn metrics(&self, sandbox_ids: &[&str]) -> Result<Answer<BTreeMap<String, Sample>>, ApiError> {
        let request = Request::get(Endpoint::Metrics, "/sandboxes/metrics").query("sandbox_ids", sandbox_ids.join(","));
        let understand = |reply: &Reply| {
            let latest: Latest<'_> = serde_json::from_slice(&reply.body).map_err(|error| no_json(&error))?;
            let samples = latest.sandboxes.into_iter().filter_map(|(id, raw)| Some((id, raw?)));
            let row = |(id, raw): (String, &RawValue)| {
                rows::row::<Sample>(raw, |_| Some(id.clone())).map(|sample| (id, sample))
            };
            Ok(rows::apart(samples.map(row)))
        };
        let answer = self.call(request, understand).await?;
        self.pass_over(Endpoint::Metrics, &answer.value.1);
        Ok(answer.map(|(samples, _)| samples.into_iter().collect()))
    }

    /// The samples of one sandbox from `start` to `end` (Unix seconds), ascending; none where it is not known. Above an
    /// hour the API gives maxima of coarser steps.
    pub async fn sandbox_metrics(&self, id: &str, start: i64, end: i64) -> Result<Answer<Vec<Sample>>, ApiError> {
        let path = format!("/sandboxes/{}/metrics", encode(id));
        // Both, always: with one left out the API fills in the sandbox's own, and refuses what is then the wrong way
        // round.
        let request = Request::get(Endpoint::SandboxMetrics, &path).query("start", start).query("end", end);
        let understand = |reply: &Reply| {
            let samples: Vec<&RawValue> = serde_json::from_slice(&reply.body).map_err(|error| no_json(&error))?;
            Ok(rows::apart(samples.into_iter().map(|raw| rows::row::<Sample>(raw, |_| Some(id.to_owned())))))
        };
        match self.call(request, understand).await {
            Err(ApiError::NotFound { .. }) => Ok(Answer { value: Vec::new(), date: None, calls: 1 }),
            Ok(answer) => {
                self.pass_over(Endpoint::SandboxMetrics, &answer.value.1);
                Ok(answer.map(|(samples, _)| samples))
            }
            Err(error) => Err(error),
        }
    }
}
